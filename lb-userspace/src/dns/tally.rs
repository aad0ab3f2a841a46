//! Answers by Network, by who gave them, and by what they said.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who gave an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    Kernel,
    /// From the records.
    Daemon,
    /// From what a name server had said before.
    Cache,
    /// The same, although it had run out.
    Stale,
    /// A name server.
    Upstream,
    /// Nobody: the client was told so.
    Nobody,
}

/// What an answer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Records,
    /// The name is there, and has nothing of the type.
    Empty,
    /// There is no such name.
    Absent,
    Failed,
    Refused,
    Other,
}

/// The numbers.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    /// By the Network's name.
    networks: HashMap<String, Counts>,
    /// Of names of others.
    others: Counts,
}

type Counts = BTreeMap<(Path, Outcome), u64>;

impl Path {
    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Daemon => "daemon",
            Self::Cache => "cache",
            Self::Stale => "stale",
            Self::Upstream => "upstream",
            Self::Nobody => "nobody",
        }
    }
}

impl Outcome {
    /// What the bytes of a reply say.
    pub(super) fn of(reply: &[u8]) -> Self {
        let (Some(code), Some(&[high, low])) = (reply.get(3), reply.get(6..8)) else {
            return Self::Other;
        };
        Self::coded(*code, u16::from_be_bytes([high, low]))
    }

    /// The same of the fourth byte of the header and the number of answers.
    pub(super) fn coded(code: u8, answers: u16) -> Self {
        match (code & 0x0f, answers) {
            (0, 0) => Self::Empty,
            (0, _) => Self::Records,
            (2, _) => Self::Failed,
            (3, _) => Self::Absent,
            (5, _) => Self::Refused,
            _ => Self::Other,
        }
    }

    /// The name in tables, as `dig` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Records => "NOERROR",
            Self::Empty => "NODATA",
            Self::Absent => "NXDOMAIN",
            Self::Failed => "SERVFAIL",
            Self::Refused => "REFUSED",
            Self::Other => "other",
        }
    }
}

impl Tally {
    /// Counts a reply.
    pub(super) fn note(&self, network: Option<&str>, path: Path, reply: &[u8]) {
        let entry = (path, Outcome::of(reply));
        let add = |counts: &mut Counts| *counts.entry(entry).or_default() += 1;
        let mut numbers = self.lock();
        let Some(name) = network else {
            return add(&mut numbers.others);
        };
        match numbers.networks.get_mut(name) {
            Some(counts) => add(counts),
            None => add(numbers.networks.entry(name.to_owned()).or_default()),
        }
    }

    /// All numbers, none of them 0.
    pub(super) fn all(&self) -> Vec<(Option<String>, Path, Outcome, u64)> {
        let numbers = self.lock();
        let others = (None, &numbers.others);
        let networks = numbers.networks.iter();
        let networks = networks.map(|(name, counts)| (Some(name), counts));
        let all = networks.chain([others]).flat_map(|(network, counts)| {
            let counts = counts.iter();
            counts.map(move |((path, outcome), count)| (network.cloned(), *path, *outcome, *count))
        });
        let mut all: Vec<_> = all.collect();
        all.sort();
        all
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with this code and number of answers.
    fn header(code: u8, answers: u8) -> [u8; 12] {
        [0, 0, 0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]
    }

    #[test]
    fn answers_are_counted_by_network_path_and_outcome() {
        let tally = Tally::default();
        for (network, path, reply) in [
            (Some("app"), Path::Daemon, header(0, 1)),
            (Some("app"), Path::Daemon, header(0, 2)),
            (Some("app"), Path::Daemon, header(0, 0)),
            (None, Path::Upstream, header(3, 0)),
            (None, Path::Nobody, header(2, 0)),
            (None, Path::Nobody, header(5, 0)),
        ] {
            tally.note(network, path, &reply);
        }

        let app = || Some("app".to_string());
        let expected = [
            (None, Path::Upstream, Outcome::Absent, 1),
            (None, Path::Nobody, Outcome::Failed, 1),
            (None, Path::Nobody, Outcome::Refused, 1),
            (app(), Path::Daemon, Outcome::Records, 2),
            (app(), Path::Daemon, Outcome::Empty, 1),
        ];
        assert_eq!(tally.all(), expected);
    }
}
