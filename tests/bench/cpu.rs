//! CPU time: of processes, and of the soft interrupts on their core.
//!
//! What is compared is the work done for each second of CPU time, with everything on one core: it
//! holds still where wall-clock figures do not, because what others do on the machine does not count.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Keeps the calling process on `cpu`.
pub(crate) fn stay_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("name CPU {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("stay on CPU {cpu}"))
}

/// Keeps a process, with all its threads, on `cpu`; on any, if `None`.
pub(crate) fn keep(process: u32, cpu: Option<usize>) -> Result<()> {
    let mut set = CpuSet::new();
    for number in 0..=last() {
        if cpu.is_none_or(|cpu| cpu == number) {
            set.set(number)?;
        }
    }
    let folder = format!("/proc/{process}/task");
    let threads = fs::read_dir(&folder).with_context(|| format!("read {folder}"))?;
    for thread in threads {
        let number: i32 = thread?.file_name().to_string_lossy().parse()?;
        // A thread may end while it is looked at.
        let _ = sched_setaffinity(Pid::from_raw(number), &set);
    }
    Ok(())
}

/// The last CPU, where the fewest interrupts are.
pub(crate) fn last() -> usize {
    std::thread::available_parallelism().map_or(0, |count| count.get() - 1)
}

/// The CPU time of this process, of some others, and of a core's soft interrupts.
#[derive(Debug)]
pub(crate) struct Clock {
    processes: Vec<u32>,
}

impl Clock {
    pub(crate) fn new(others: &[u32], cpu: Option<usize>) -> Self {
        let mut processes = vec![std::process::id()];
        processes.extend(others);
        processes.extend(cpu.and_then(soft_interrupts));
        Self { processes }
    }

    /// Nanoseconds since the processes began.
    pub(crate) fn read(&self) -> Result<u64> {
        let times = self.processes.iter().map(|process| time_of(*process));
        times.sum()
    }
}

/// Of all its threads, those that have ended as well, from the scheduler's own figures.
fn time_of(process: u32) -> Result<u64> {
    let attempt = || format!("read the CPU time of process {process}");
    let clock = clock_getcpuclockid(Pid::from_raw(process.cast_signed()));
    let time = clock.and_then(clock_gettime).with_context(attempt)?;
    u64::try_from(Duration::from(time).as_nanos()).with_context(attempt)
}

/// The thread that handles soft interrupts of `cpu` when they are too many to be handled at once.
fn soft_interrupts(cpu: usize) -> Option<u32> {
    let name = format!("ksoftirqd/{cpu}");
    let processes = fs::read_dir("/proc").ok()?;
    let mut numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.find(|number: &u32| {
        let comm = fs::read_to_string(Path::new("/proc").join(number.to_string()).join("comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_took_counts_when_it_has_ended() {
        let clock = Clock::new(&[], None);
        let before = clock.read().unwrap();

        let within = std::thread::spawn(move || {
            while clock.read().unwrap() - before < 5_000_000 {}
            clock
        });
        let clock = within.join().unwrap();

        assert!(clock.read().unwrap() - before >= 5_000_000);
    }

    #[test]
    fn the_scheduler_counts_what_this_process_does() {
        let clock = Clock::new(&[], Some(0));
        let before = clock.read().unwrap();
        let mut sum = 0_u64;

        while clock.read().unwrap() - before < 1_000_000 {
            sum = std::hint::black_box(sum + 1);
        }

        assert!(sum > 0);
        assert_eq!(clock.processes.len(), 2, "ksoftirqd/0 is there");
    }
}
