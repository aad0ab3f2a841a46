//! The processes of a lab's containers: started once, found again by any later command.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::priority;

/// How long a process has to end by itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// A process, told from another one that later has the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// Clock ticks after boot.
    started: u64,
}

impl Process {
    /// Starts `command` as the leader of a group of its own, without input, with `log` as output.
    /// Inherits the namespaces of the calling thread, which waits like any other afterwards: it is no
    /// longer the daemon's.
    pub(super) fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        priority::give_way()?;
        let log = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let stat = Stat::of(pid).ok_or_else(|| io::Error::other("it ended at once"))?;
        Ok(Self {
            pid,
            started: stat.started,
        })
    }

    /// The process that `path` tells of; `None` if there is no such file, or nothing useful in it.
    pub(super) fn load(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
        })
    }

    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        fs::write(path, format!("{} {}\n", self.pid, self.started))
    }

    /// Whether it still runs.
    pub(super) fn is_alive(&self) -> bool {
        let Some(stat) = Stat::of(self.pid).filter(|stat| stat.started == self.started) else {
            return false;
        };
        if stat.is_zombie {
            // It is a child of ours only if this very process started it; its end is news enough.
            let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
        }
        !stat.is_zombie
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match killpg(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Ends all of `processes`: asks first, and after a grace time does not ask.
pub(super) fn stop_all(processes: &[Process]) -> io::Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let alive: Vec<_> = processes.iter().filter(|p| p.is_alive()).collect();
        for process in &alive {
            process.signal(signal)?;
        }
        let deadline = Instant::now() + GRACE;
        while alive.iter().any(|process| process.is_alive()) {
            if Instant::now() > deadline {
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
    match processes.iter().find(|process| process.is_alive()) {
        Some(process) => Err(io::Error::other(format!(
            "process {} does not end, not even by SIGKILL",
            process.pid
        ))),
        None => Ok(()),
    }
}

/// What `/proc/<pid>/stat` says.
struct Stat {
    is_zombie: bool,
    started: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the command in parentheses, with spaces or parentheses of its own.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        Some(Self {
            is_zombie: fields.next()? == "Z",
            started: fields.nth(18)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_again_by_its_file_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let mut command = Command::new("sleep");
        command.arg("1000");
        let started = Process::start(&mut command, &folder.path().join("log")).unwrap();
        started.save(&file).unwrap();

        let found = Process::load(&file).unwrap();

        assert_eq!(found, started);
        assert!(found.is_alive());
        stop_all(&[found]).unwrap();
        assert!(!found.is_alive());
    }

    #[test]
    fn a_later_process_of_the_same_number_is_another_one() {
        let own = i32::try_from(std::process::id()).unwrap();
        let started = Stat::of(own).unwrap().started;

        let before = Process {
            pid: own,
            started: started - 1,
        };

        assert!(!before.is_alive());
        assert!(Process { pid: own, started }.is_alive());
    }
}
