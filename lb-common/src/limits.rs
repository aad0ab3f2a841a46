//! Token buckets that bound what the datapath does on behalf of strangers.

use bytemuck::{Pod, Zeroable};

use crate::map_types;

/// One token bucket, per CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Bucket {
    /// When tokens were last added, in nanoseconds since boot.
    pub filled: u64,
    pub tokens: u64,
}

impl Bucket {
    /// Takes one token if there is one. `rate` is tokens per second and also the bucket's size;
    /// `now` is nanoseconds since boot.
    #[inline(always)]
    pub fn take(&mut self, rate: u32, now: u64) -> bool {
        let rate = rate as u64;
        let elapsed = now.saturating_sub(self.filled);
        if elapsed >= 1_000_000_000 {
            self.tokens = rate;
            self.filled = now;
        } else {
            let added = elapsed * rate / 1_000_000_000;
            if added > 0 {
                self.tokens = core::cmp::min(self.tokens + added, rate);
                self.filled = now;
            }
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

/// What is limited: the index of its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Limit {
    /// TCP resets and ICMP errors that the datapath sends.
    Refusals = 0,
    /// Records in the `events` ring buffer.
    Events = 1,
}

impl Limit {
    /// How many there are.
    pub const COUNT: u32 = 2;
}

map_types!(Bucket: 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_and_then_refills() {
        let mut bucket = Bucket::default();
        let start = 5_000_000_000;

        let first = (0..20).filter(|_| bucket.take(10, start)).count();
        let later = (0..20)
            .filter(|_| bucket.take(10, start + 500_000_000))
            .count();

        assert_eq!((first, later), (10, 5));
    }
}
