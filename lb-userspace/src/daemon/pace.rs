//! How much of the Connection tables is looked at, and when. Pure.

use std::time::Duration;

/// Time between two looks.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// Share of a CPU that looking may take: one in a hundred.
const SHARE: u32 = 100;
/// Fewest and most entries in one slice.
const FEWEST: usize = 256;
const MOST: usize = 65_536;
/// Ticks between the beginnings of two passes over tables that one slice covers.
const TICKS_A_PASS: u32 = 10;

/// Chooses the size of each slice from what the last one took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    slice: usize,
    /// Ticks to wait before the next pass.
    rest: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            slice: FEWEST,
            rest: 0,
        }
    }
}

impl Pace {
    /// How many entries to look at in this tick; `None`: nothing.
    pub(super) fn next(&mut self) -> Option<usize> {
        if self.rest > 0 {
            self.rest -= 1;
            return None;
        }
        Some(self.slice)
    }

    /// Notes that `examined` entries took `elapsed`, and whether that was the end of a pass.
    pub(super) fn note(&mut self, examined: usize, elapsed: Duration, finished: bool) {
        let allowed = TICK / SHARE;
        let next = if elapsed > allowed {
            self.slice / 2
        } else if examined >= self.slice && elapsed < allowed / 2 {
            self.slice * 2
        } else {
            self.slice
        };
        self.slice = next.clamp(FEWEST, MOST);
        if finished {
            self.rest = TICKS_A_PASS;
        }
        // Even the smallest slice may be too much for a busy machine.
        let ticks = elapsed.as_nanos() / allowed.as_nanos().max(1);
        let overrun = u32::try_from(ticks).unwrap_or(u32::MAX);
        self.rest = self.rest.max(overrun.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    #[test]
    fn slices_grow_while_they_are_cheap_and_shrink_when_they_are_not() {
        let mut pace = Pace::default();
        let first = pace.next().unwrap();

        pace.note(first, 100 * MICROSECOND, false);
        let second = pace.next().unwrap();
        pace.note(second, 1_500 * MICROSECOND, false);
        let third = pace.next().unwrap();

        assert_eq!((first, second, third), (FEWEST, FEWEST * 2, FEWEST));
    }

    #[test]
    fn a_finished_pass_rests() {
        let mut pace = Pace::default();

        pace.note(3, MICROSECOND, true);

        let ticks = (0..).position(|_| pace.next().is_some());
        assert_eq!(ticks, Some(TICKS_A_PASS as usize));
    }

    #[test]
    fn looking_never_takes_more_than_its_share() {
        for elapsed in [10, 900, 1_100, 5_000, 80_000].map(|n| n * MICROSECOND) {
            let mut pace = Pace::default();
            let (mut spent, mut ticks) = (Duration::ZERO, 0);
            for _ in 0..2_000 {
                ticks += 1;
                if let Some(slice) = pace.next() {
                    spent += elapsed;
                    pace.note(slice, elapsed, false);
                }
            }

            let share = spent.as_secs_f64() / (TICK * ticks).as_secs_f64();
            assert!(share <= 0.021, "{elapsed:?}: {share}");
        }
    }
}
