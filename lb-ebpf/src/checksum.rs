//! The Internet checksum, changed incrementally (RFC 1624).
//!
//! All sums are over native words read from the wire, never swapped: the ones' complement sum does
//! not care about byte order as long as it is the same on both sides (RFC 1071 §2(B)). A
//! [`Delta`] is what `bpf_csum_diff` returns and what the replace helpers take as a difference.

/// The difference that a change makes to a ones' complement sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delta(u64);

impl Delta {
    /// No change.
    pub const ZERO: Self = Self(0);

    /// `old` became `new`, one aligned word.
    #[inline(always)]
    pub const fn word(self, old: u32, new: u32) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// `old` became `new`, one aligned half-word.
    #[inline(always)]
    pub const fn half(self, old: u16, new: u16) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// Four words became four others: an address.
    #[inline(always)]
    pub const fn words(self, old: [u32; 4], new: [u32; 4]) -> Self {
        self.word(old[0], new[0])
            .word(old[1], new[1])
            .word(old[2], new[2])
            .word(old[3], new[3])
    }

    /// This change and another one.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The words of `new` are added where nothing was.
    #[inline(always)]
    pub const fn plus(self, new: u32) -> Self {
        Self(self.0 + new as u64)
    }

    /// Folded to 32 bits, as the kernel's helpers want it.
    #[inline(always)]
    pub const fn fold(self) -> u32 {
        let once = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        ((once & 0xffff_ffff) + (once >> 32)) as u32
    }

    /// Folded to 16 bits.
    #[inline(always)]
    pub const fn fold_half(self) -> u16 {
        let sum = self.fold();
        let once = (sum & 0xffff) + (sum >> 16);
        ((once & 0xffff) + (once >> 16)) as u16
    }

    /// The checksum field `check` after this change.
    #[inline(always)]
    pub const fn applied_to(self, check: u16) -> u16 {
        !self.plus(!check as u32).fold_half()
    }

    /// The checksum field of data whose sum this is.
    #[inline(always)]
    pub const fn finish(self) -> u16 {
        !self.fold_half()
    }
}

/// The sum of the IPv6 or IPv4 pseudo header (RFC 8200 §8.1, RFC 9293 §3.1). `length` in bytes. What an
/// IPv4 address has in front as an [`lb_common::Addr`] is 0xffff once, which is nothing in a ones'
/// complement sum (RFC 1071 §1).
#[inline(always)]
pub const fn pseudo(source: [u32; 4], destination: [u32; 4], protocol: u8, length: u16) -> Delta {
    let zero = [0; 4];
    Delta::ZERO
        .words(zero, source)
        .words(zero, destination)
        .plus((protocol as u16).to_be() as u32)
        .plus(length.to_be() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 §4.1, written naively.
    fn checksum(bytes: &[u8]) -> u16 {
        let mut sum: u64 = 0;
        for pair in bytes.chunks(2) {
            sum += u64::from(u16::from_ne_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// 0x0000 and 0xffff are the same number in ones' complement.
    fn same(a: u16, b: u16) -> bool {
        a == b || (a == 0 && b == 0xffff) || (a == 0xffff && b == 0)
    }

    proptest! {
        #[test]
        fn a_changed_word_moves_the_checksum_as_recomputing_does(
            mut bytes in proptest::collection::vec(any::<u8>(), 64),
            at in 0usize..15,
            new in any::<u32>(),
        ) {
            let before = checksum(&bytes);
            let delta = Delta::ZERO.word(word(&bytes, at * 4), new);
            bytes[at * 4..at * 4 + 4].copy_from_slice(&new.to_ne_bytes());

            prop_assert!(same(delta.applied_to(before), checksum(&bytes)));
        }

        #[test]
        fn a_changed_half_word_moves_the_checksum_as_recomputing_does(
            mut bytes in proptest::collection::vec(any::<u8>(), 64),
            at in 0usize..31,
            new in any::<u16>(),
        ) {
            let before = checksum(&bytes);
            let old = u16::from_ne_bytes(bytes[at * 2..at * 2 + 2].try_into().unwrap());
            bytes[at * 2..at * 2 + 2].copy_from_slice(&new.to_ne_bytes());

            prop_assert!(same(Delta::ZERO.half(old, new).applied_to(before), checksum(&bytes)));
        }

        #[test]
        fn a_sum_of_words_is_the_checksum(bytes in proptest::collection::vec(any::<u8>(), 40)) {
            let sum = (0..10).fold(Delta::ZERO, |sum, at| sum.plus(word(&bytes, at * 4)));

            prop_assert!(same(sum.finish(), checksum(&bytes)));
        }
    }
}
