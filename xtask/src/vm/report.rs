//! What a run that is over tells the user.

use std::time::Duration;

use super::kernel::KernelId;
use super::outcome::Outcome;
use crate::process;

/// So much of the console's end is shown when something went wrong, in bytes.
const CONSOLE_TAIL: usize = 6000;

/// What is known about a run that is over.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) outcome: Outcome,
    /// From start to command; `None` when it did not come to that.
    pub(super) booted: Option<Duration>,
    pub(super) total: Duration,
    pub(super) console: String,
}

impl Report {
    /// Says on stderr how the run went, with the end of the console if it did not go well.
    pub(super) fn explain(&self, kernel: KernelId) {
        process::say(&format!("kernel {kernel}: {}", self.story()));
        if matches!(self.outcome, Outcome::Exited(_)) {
            for fault in faults(&self.console) {
                process::say(&format!("kernel {kernel}: {fault}"));
            }
        } else {
            let tail = tail(&self.console);
            process::say(&format!("kernel {kernel}: end of its console:\n{tail}"));
        }
    }

    fn story(&self) -> String {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let total = seconds(self.total);
        let Some(booted) = self.booted else {
            return format!("the command was not started in {total}");
        };
        let ran = seconds(self.total.saturating_sub(booted));
        let booted = seconds(booted);
        match self.outcome {
            Outcome::Exited(status) => {
                format!("booted in {booted}, ran {ran}, exit status {status}")
            }
            Outcome::TimedOut => format!("the command did not end in {ran}"),
            Outcome::Crashed => format!("the machine ended while the command ran, after {ran}"),
        }
    }
}

fn tail(console: &str) -> &str {
    let start = console.len().saturating_sub(CONSOLE_TAIL);
    let start = (start..console.len()).find(|&index| console.is_char_boundary(index));
    console[start.unwrap_or(0)..].trim_end()
}

/// Lines of a kernel log that tell of a fault, whatever the command's own status says.
pub(super) fn faults(console: &str) -> Vec<&str> {
    const SIGNS: &[&str] = &[
        "BUG: ",
        "WARNING: ",
        "Oops",
        "general protection fault",
        "Kernel panic",
        "soft lockup",
        "detected stall",
        "blocked for more than",
        "veer vm: ",
    ];
    let is_fault = |line: &&str| SIGNS.iter().any(|sign| line.contains(sign));
    console
        .lines()
        .map(str::trim_end)
        .filter(is_fault)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcome: Outcome, booted: Option<u64>) -> Report {
        Report {
            outcome,
            booted: booted.map(Duration::from_secs),
            total: Duration::from_secs(9),
            console: String::new(),
        }
    }

    #[test]
    fn each_ending_has_its_story() {
        let story = |outcome, booted| report(outcome, booted).story();

        assert_eq!(
            story(Outcome::Exited(3), Some(7)),
            "booted in 7.0 s, ran 2.0 s, exit status 3"
        );
        assert_eq!(
            story(Outcome::TimedOut, Some(7)),
            "the command did not end in 2.0 s"
        );
        assert_eq!(
            story(Outcome::Crashed, Some(7)),
            "the machine ended while the command ran, after 2.0 s"
        );
        assert_eq!(
            story(Outcome::Crashed, None),
            "the command was not started in 9.0 s"
        );
    }

    #[test]
    fn the_consoles_tail_starts_at_a_whole_character() {
        let console = "é".repeat(CONSOLE_TAIL);

        assert_eq!(tail(&console), "é".repeat(CONSOLE_TAIL / 2));
        assert_eq!(tail("x\n"), "x");
    }

    #[test]
    fn faults_are_picked_from_the_kernel_log() {
        let log = "[ 1.0] Run /init as init process\n\
                   [ 2.0] WARNING: CPU: 0 PID: 1 at kernel/bpf/verifier.c:1\r\n\
                   [ 3.0] veth0: entered promiscuous mode\n";

        assert_eq!(
            faults(log),
            ["[ 2.0] WARNING: CPU: 0 PID: 1 at kernel/bpf/verifier.c:1"]
        );
    }
}
