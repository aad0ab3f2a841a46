//! How long changes take from their cause until they are served.

use std::time::Duration;

use crate::api::Latency;

/// Buckets for each doubling: a quantile is at most an eighth too high.
const STEPS: usize = 8;
/// Doublings from one microsecond on; the last bucket takes what is longer than 18 minutes.
const DOUBLINGS: usize = 30;

/// Durations, counted by their size. Takes the same room whatever it is given.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; STEPS * DOUBLINGS],
            count: 0,
            max: 0,
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub(super) fn record(&mut self, duration: Duration) {
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(microseconds)] += 1;
        self.count += 1;
        self.max = self.max.max(microseconds);
    }

    /// The figures for `veer status`.
    pub(super) fn report(&self) -> Latency {
        Latency {
            count: self.count,
            p50_microseconds: self.quantile(50),
            p99_microseconds: self.quantile(99),
            max_microseconds: self.max,
        }
    }

    /// A duration that `percent` of all do not exceed, in microseconds.
    fn quantile(&self, percent: u64) -> u64 {
        let rank = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank && *count > 0 {
                return upper(index).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(microseconds: u64) -> usize {
    let value = microseconds.max(1);
    let doubling = value.ilog2() as usize;
    let within = ((value - (1 << doubling)) as usize * STEPS) >> doubling;
    (doubling * STEPS + within).min(STEPS * DOUBLINGS - 1)
}

/// The end of a bucket.
fn upper(index: usize) -> u64 {
    let (doubling, within) = (index / STEPS, index % STEPS);
    let width = (1_u64 << doubling) as f64 / STEPS as f64;
    ((1_u64 << doubling) as f64 + width * (within + 1) as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_measured_is_zero() {
        assert_eq!(Histogram::default().report(), Latency::default());
    }

    #[test]
    fn quantiles_are_at_most_an_eighth_too_high() {
        let mut histogram = Histogram::default();
        for milliseconds in 1..=1_000 {
            histogram.record(Duration::from_millis(milliseconds));
        }

        let report = histogram.report();

        assert_eq!((report.count, report.max_microseconds), (1_000, 1_000_000));
        let near = |found: u64, exact: u64| found >= exact && found <= exact + exact / 8;
        assert!(near(report.p50_microseconds, 500_000), "{report:?}");
        assert!(near(report.p99_microseconds, 990_000), "{report:?}");
    }

    #[test]
    fn a_single_outlier_shows_in_the_maximum_only() {
        let mut histogram = Histogram::default();
        for _ in 0..199 {
            histogram.record(Duration::from_micros(800));
        }
        histogram.record(Duration::from_secs(10_000));

        let report = histogram.report();

        assert!(report.p99_microseconds < 1_000, "{report:?}");
        assert_eq!(report.max_microseconds, 10_000_000_000);
    }
}
