//! How much of the Connection tables is looked at, and when. Pure.

use std::mem::take;
use std::time::Duration;

/// Time from one look to the next in the middle of a pass.
const TICK: Duration = Duration::from_millis(100);
/// Time from the end of one pass to the beginning of the next, at least and at most.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// Share of a CPU that looking may take: one in a hundred; one in two thousand where nearly all that
/// is looked at is empty.
const SHARE: u32 = 100;
const EMPTY_SHARE: u32 = 2_000;
/// Fewest and most entries in one slice.
const FEWEST: usize = 256;
const MOST: usize = 65_536;
/// A pass that takes longer than this for each entry has mostly looked at empty places.
const ENTRY: Duration = Duration::from_micros(10);

/// Passes over tables that nothing can be in that are left out, at most, one after the other.
const SKIPS: u32 = 10;

/// Chooses the size of each slice from what the last one took, and when the next one comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    slice: usize,
    /// Packets that the programs had touched when the pass under way, or else the last one, began.
    touched: u64,
    /// Whether no pass is under way; and whether the last one found nothing.
    is_between: bool,
    is_empty: bool,
    /// Passes left out since the last one.
    skipped: u32,
    /// What the pass under way has found, and taken.
    found: usize,
    taken: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            slice: FEWEST,
            touched: 0,
            is_between: true,
            is_empty: false,
            skipped: 0,
            found: 0,
            taken: Duration::ZERO,
        }
    }
}

impl Pace {
    /// How many entries to look at.
    pub(super) fn slice(&self) -> usize {
        self.slice
    }

    /// Whether the next slice begins a pass.
    pub(super) fn is_between_passes(&self) -> bool {
        self.is_between
    }

    /// Leaves a pass out, and returns how long to wait before the next: where the last one found nothing,
    /// and no packet has been touched since it began. `touched` counts them.
    pub(super) fn skip(&mut self, touched: u64) -> Option<Duration> {
        let is_idle = self.is_empty && self.touched == touched && self.skipped < SKIPS;
        self.touched = touched;
        self.skipped = if is_idle { self.skipped + 1 } else { 0 };
        is_idle.then_some(REST.1)
    }

    /// Notes that `examined` entries took `elapsed`, and whether that was the end of a pass. Returns
    /// how long to wait before the next look.
    pub(super) fn note(&mut self, examined: usize, elapsed: Duration, finished: bool) -> Duration {
        let allowed = TICK / SHARE;
        let next = if elapsed > allowed {
            self.slice / 2
        } else if examined >= self.slice && elapsed < allowed / 2 {
            self.slice * 2
        } else {
            self.slice
        };
        self.slice = next.clamp(FEWEST, MOST);
        self.found += examined;
        self.taken += elapsed;
        // Even the smallest slice may be too much for a busy machine.
        let share = (elapsed * SHARE).max(TICK);
        self.is_between = finished;
        if !finished {
            return share;
        }
        let (found, taken) = (take(&mut self.found), take(&mut self.taken));
        self.is_empty = found == 0;
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        let rest = if taken > ENTRY.saturating_mul(found) {
            taken * EMPTY_SHARE
        } else {
            Duration::ZERO
        };
        rest.clamp(REST.0, REST.1).max(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    #[test]
    fn slices_grow_while_they_are_cheap_and_shrink_when_they_are_not() {
        let mut pace = Pace::default();
        let first = pace.slice();

        pace.note(first, 100 * MICROSECOND, false);
        let second = pace.slice();
        pace.note(second, 1_500 * MICROSECOND, false);
        let third = pace.slice();

        assert_eq!((first, second, third), (FEWEST, FEWEST * 2, FEWEST));
    }

    #[test]
    fn a_finished_pass_rests() {
        let mut pace = Pace::default();

        let within = pace.note(3, MICROSECOND, false);
        let after = pace.note(3, MICROSECOND, true);

        assert_eq!((within, after), (TICK, REST.0));
    }

    #[test]
    fn empty_tables_are_looked_at_less_often_but_in_time() {
        let mut pace = Pace::default();
        let full = pace.note(50_000, 2_000 * MICROSECOND, true);
        let empty = pace.note(10, 2_000 * MICROSECOND, true);
        let huge = pace.note(10, 20_000 * MICROSECOND, true);

        assert_eq!(full, REST.0);
        assert_eq!(empty, 4_000_000 * MICROSECOND);
        assert_eq!(huge, REST.1);
    }

    #[test]
    fn tables_that_nothing_can_be_in_are_looked_at_now_and_then() {
        let mut pace = Pace::default();
        let empty_pass = |pace: &mut Pace| pace.note(0, MICROSECOND, true);

        assert_eq!(pace.skip(7), None, "nobody has looked yet");
        empty_pass(&mut pace);
        let skips = (0..100).take_while(|_| pace.skip(7) == Some(REST.1));
        assert_eq!(skips.count(), SKIPS as usize);
        empty_pass(&mut pace);
        assert_eq!(pace.skip(7), Some(REST.1));
        assert_eq!(pace.skip(8), None, "a packet may have opened a Connection");
        pace.note(1, MICROSECOND, true);
        assert_eq!(pace.skip(8), None, "there is one");
    }

    #[test]
    fn a_pass_is_under_way_until_it_has_ended() {
        let mut pace = Pace::default();

        let between = [false, false, true].map(|finished| {
            pace.note(1, MICROSECOND, finished);
            pace.is_between_passes()
        });

        assert_eq!(between, [false, false, true]);
    }

    #[test]
    fn looking_never_takes_more_than_its_share() {
        for elapsed in [10, 900, 1_100, 5_000, 80_000].map(|n| n * MICROSECOND) {
            for finished in [false, true] {
                let mut pace = Pace::default();
                let mut waited = Duration::ZERO;
                for _ in 0..200 {
                    let slice = pace.slice();
                    waited += pace.note(slice, elapsed, finished);
                }

                let share = (200 * elapsed).as_secs_f64() / waited.as_secs_f64();
                assert!(share <= 0.0101, "{elapsed:?}: {share}");
            }
        }
    }
}
