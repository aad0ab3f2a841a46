//! The signals that Docker's API names.

use std::str::FromStr;

use nix::sys::signal;

/// A signal's number on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signal(pub(super) i32);

impl Signal {
    pub(super) const KILL: Self = Self(9);
    /// What Docker sends first where the image does not say otherwise.
    pub(super) const TERM: Self = Self(15);

    /// The first and the last real-time signal that programs may use (the C library keeps two).
    const REAL_TIME: (i32, i32) = (34, 64);

    /// Reads what an image's STOPSIGNAL or an event may say: `15`, `TERM`, `SIGTERM`, `RTMIN+3`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse() {
            return Some(Self(number));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(offset) = name.strip_prefix("RTMIN") {
            return Some(Self(Self::REAL_TIME.0 + real_time_offset(offset)?));
        }
        if let Some(offset) = name.strip_prefix("RTMAX") {
            return Some(Self(Self::REAL_TIME.1 + real_time_offset(offset)?));
        }
        let known = signal::Signal::from_str(&format!("SIG{name}")).ok()?;
        Some(Self(known as i32))
    }
}

/// The number in `+3` or `-3`; nothing at all is 0.
fn real_time_offset(text: &str) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_however_it_is_written() {
        for (text, number) in [
            ("15", 15),
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigquit", 3),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(Signal::parse(text), Some(Signal(number)), "{text}");
        }
        assert_eq!(Signal::parse("SIGNONSENSE"), None);
    }
}
