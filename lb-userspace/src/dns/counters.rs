//! What the DNS server did since it started.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// One number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

/// The numbers as they are counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) answered: Counter,
    pub(super) cached: Counter,
    pub(super) stale: Counter,
    pub(super) forwarded: Counter,
    pub(super) failed: Counter,
    pub(super) malformed: Counter,
}

/// The numbers at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Queries answered from the records.
    pub answered: u64,
    /// Queries answered with what a name server had answered before.
    pub cached: u64,
    /// The same although it had run out, because no name server answered.
    pub stale: u64,
    /// Queries that a name server answered.
    pub forwarded: u64,
    /// Queries for strangers' names that no name server answered, or that were too many.
    pub failed: u64,
    /// Messages that are no queries.
    pub malformed: u64,
}

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn counts(&self) -> Counts {
        Counts {
            answered: self.answered.get(),
            cached: self.cached.get(),
            stale: self.stale.get(),
            forwarded: self.forwarded.get(),
            failed: self.failed.get(),
            malformed: self.malformed.get(),
        }
    }
}
