//! How a run ended, and what the guest says about it.

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The command ended with this status (128 + n when signal n ended it).
    Exited(u8),
    /// The command, or the boot, took too long.
    TimedOut,
    /// The guest did not boot, panicked or was switched off.
    Crashed,
}

impl Outcome {
    pub(super) const SUCCESS: Self = Self::Exited(0);

    /// Our own exit status.
    pub(super) fn status(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::TimedOut => 124,
            Self::Crashed => 125,
        }
    }

    pub(super) fn is_success(self) -> bool {
        self == Self::SUCCESS
    }
}

/// A line from the guest's control port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The command is about to start.
    Booted,
    /// The command ended with this status.
    Exited(u8),
}

impl Message {
    pub(super) fn parse(line: &str) -> Option<Self> {
        match line.trim_end() {
            "booted" => Some(Self::Booted),
            line => Some(Self::Exited(line.strip_prefix("exited ")?.parse().ok()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_own_status_is_ours() {
        for (line, status) in [("exited 0", 0), ("exited 1\r\n", 1), ("exited 139", 139)] {
            let Some(Message::Exited(parsed)) = Message::parse(line) else {
                panic!("{line}")
            };
            assert_eq!(Outcome::Exited(parsed).status(), status);
        }
    }

    #[test]
    fn a_timeout_is_124_and_a_crash_125() {
        assert_eq!(Outcome::TimedOut.status(), 124);
        assert_eq!(Outcome::Crashed.status(), 125);
        assert!(!Outcome::TimedOut.is_success() && !Outcome::Crashed.is_success());
    }

    #[test]
    fn the_guest_says_that_it_is_up() {
        assert_eq!(Message::parse("booted\n"), Some(Message::Booted));
    }

    #[test]
    fn other_lines_say_nothing() {
        for line in [
            "",
            "exited",
            "exited 256",
            "exited -1",
            "exit 0",
            "exited x",
        ] {
            assert_eq!(Message::parse(line), None, "{line}");
        }
    }
}
