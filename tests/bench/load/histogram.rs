//! Durations by their size, at a cost that does not show.

/// Buckets for each doubling: what is read is at most one in 32 too high.
const STEPS: u64 = 32;
/// Doublings from one nanosecond on.
const DOUBLINGS: u64 = 40;

/// Counts durations in nanoseconds.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self {
            buckets: vec![0; (STEPS * DOUBLINGS) as usize],
            count: 0,
        }
    }

    pub(super) fn record(&mut self, nanoseconds: u64) {
        let last = self.buckets.len() - 1;
        self.buckets[bucket(nanoseconds).min(last)] += 1;
        self.count += 1;
    }

    /// A duration that this share of all do not exceed; 0 if there are none.
    pub(super) fn quantile(&self, share: f64) -> u64 {
        let rank = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= rank {
                return upper(index as u64);
            }
        }
        0
    }
}

fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let shift = u64::from(value.ilog2() - STEPS.ilog2());
    (shift * STEPS + (value >> shift)) as usize
}

/// The largest value of a bucket.
fn upper(index: u64) -> u64 {
    if index < 2 * STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    ((index % STEPS + STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_own_upper_bound_and_the_next_one_begins_after_it() {
        for index in 0..600 {
            assert_eq!(bucket(upper(index)) as u64, index);
            assert_eq!(bucket(upper(index) + 1) as u64, index + 1);
        }
    }

    #[test]
    fn quantiles_are_at_most_one_in_thirty_two_too_high() {
        let mut histogram = Histogram::new();
        (1..=10_000).for_each(|value| histogram.record(value));

        for (share, exact) in [(0.5, 5_000), (0.99, 9_900), (1.0, 10_000)] {
            let found = histogram.quantile(share);
            assert!((exact..=exact + exact / 32).contains(&found), "{found}");
        }
        assert_eq!(Histogram::new().quantile(0.5), 0);
    }
}
