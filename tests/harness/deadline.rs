//! Waiting for what must become true, without guessing how long it takes.

use std::thread;
use std::time::{Duration, Instant};

/// Long enough for a busy machine, short enough for a person.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const TICK: Duration = Duration::from_millis(2);

/// Waits until `condition` holds. Panics with `what` when it does not within [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// Waits until `condition` holds. Panics with `what` when it does not within `limit`.
#[track_caller]
pub fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(TICK);
    }
}
