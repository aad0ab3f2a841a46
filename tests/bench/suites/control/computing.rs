//! What a machine makes of work that needs nothing but a processor.
//!
//! Where others have the processors too, what takes little often takes long at times, whoever does it: no
//! daemon is quicker than this.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// About as much as the Engine and the daemon compute for one connection.
const WORK: Duration = Duration::from_millis(3);

/// What it takes at p99 where it has the CPU when it wants to.
pub(super) const QUIET: Duration = Duration::from_micros(4_500);

/// What the work is measured with before.
const TRIAL: u64 = 1_000_000;

/// The same work, again and again.
pub(super) struct Computing {
    steps: u64,
    pub(super) times: Vec<Duration>,
}

impl Computing {
    /// Work that takes [`WORK`] when nobody disturbs.
    pub(super) fn new() -> Self {
        let trials = (0..50).map(|_| work(TRIAL));
        let best = trials.min().unwrap_or(WORK).max(Duration::from_nanos(1));
        Self {
            steps: steps(best),
            times: Vec::new(),
        }
    }

    pub(super) fn take(&mut self) {
        self.times.push(work(self.steps));
    }
}

/// How many take [`WORK`], if a trial takes `trial`.
fn steps(trial: Duration) -> u64 {
    (TRIAL as f64 * WORK.as_secs_f64() / trial.as_secs_f64()) as u64
}

fn work(steps: u64) -> Duration {
    let begun = Instant::now();
    let mut sum = 0_u64;
    for step in 0..steps {
        sum = black_box(sum.wrapping_add(step));
    }
    begun.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_takes_time() {
        let mut computing = Computing::new();
        computing.take();

        assert!(computing.steps > 0 && computing.times.len() == 1);
        assert!(computing.times[0] > Duration::ZERO);
        assert_eq!(steps(WORK / 3), 3 * TRIAL);
    }
}
