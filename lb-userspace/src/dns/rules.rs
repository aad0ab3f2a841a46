//! What the operator chose about answers.

use std::time::Duration;

/// How names of ours are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Seconds that clients may keep an answer.
    pub ttl: u32,
    /// Whether `tasks.<alias>` gives the addresses of all Members.
    pub tasks: bool,
    /// Whether `_port._protocol.name` gives a known port of a name.
    pub srv: bool,
    /// Whether other types than addresses are asked outside for names of ours, as Docker does.
    pub leak: bool,
    /// Whether the addresses of unknown names without a dot are asked for outside.
    pub single_labels: bool,
}

/// How names of others are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// Queries of one container at a time.
    pub in_flight: usize,
    /// Answers that are kept.
    pub cache: usize,
    /// How long an answer that has run out is still given if no server answers.
    pub stale: Duration,
    /// Whether the fastest server is asked first, and not the first one listed.
    pub fastest_first: bool,
    /// Whether letters are sent in random case.
    pub random_case: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            ttl: 5,
            tasks: true,
            srv: true,
            leak: false,
            single_labels: true,
        }
    }
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            in_flight: 1_024,
            cache: 10_000,
            stale: Duration::from_secs(3_600),
            fastest_first: false,
            random_case: true,
        }
    }
}
