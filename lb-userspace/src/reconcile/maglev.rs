//! Consistent hashing: a table that hardly changes when one Backend comes or goes.
//!
//! Every Candidate visits slots in an order of its own, as fast as its weight says, takes those that
//! are free, and stops when it has its share. A slot belongs to who came first, so when a Candidate
//! goes, its slots go to who came second, and all others stay but for the few that make the shares
//! even again.
//!
//! # Why
//! In the table that Google's Maglev paper describes, Candidates take one free slot each in turn. It
//! is as even, but whoever loses a slot takes another one's later: in a table of 16,381 slots for 40
//! Candidates 1.4 times as many slots change as have to when one goes, and 2.4 times for 100. Here
//! it is 1.2 and 1.6 times, for the same work.

use lb_common::Slot;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::tables::Candidate;

/// Lengths of tables, prime, so that no pattern in the hashes of flows meets one in the table.
const LENGTHS: [u32; 5] = [4_093, 16_381, 65_521, 262_139, 1_048_573];

/// Slots for each Candidate, if all weigh the same: shares are then exact to one in a hundred.
const SLOTS_EACH: u64 = 100;

/// The table of this length for these Candidates. It depends on their keys, ports and weights, not
/// on their order or on the Endpoint ids.
pub(super) fn table(candidates: &[Candidate<'_>], length: u32) -> Vec<Slot> {
    let mut sorted: Vec<&Candidate<'_>> = candidates.iter().collect();
    sorted.sort_by_key(|candidate| (candidate.key, candidate.port));
    let slot = |owner: u16| sorted[usize::from(owner)].slot();
    owners(&sorted, length).into_iter().map(slot).collect()
}

/// How long the table is: as the Candidates need it. `before` is how many slots it had until now:
/// that length is kept unless it is too small or far too large, because with the length everything
/// changes.
pub(super) fn length(candidates: &[Candidate<'_>], before: u32) -> u32 {
    if candidates.is_empty() {
        return 0;
    }
    let needed = needed(candidates);
    let fits = |factor: u64| {
        let fitting = LENGTHS
            .into_iter()
            .find(|l| u64::from(*l) >= factor * needed);
        fitting.unwrap_or(LENGTHS[LENGTHS.len() - 1])
    };
    if LENGTHS.contains(&before) && (fits(1)..=fits(2)).contains(&before) {
        return before;
    }
    fits(1)
}

/// Slots that keep shares exact and changes few: as many as hundred each, and four times the square
/// of their number as long as that is not too much.
fn needed(candidates: &[Candidate<'_>]) -> u64 {
    let weights = || candidates.iter().map(weight);
    let smallest = weights().min().unwrap_or(1);
    let each = SLOTS_EACH * weights().sum::<u64>().div_ceil(smallest);
    let number = candidates.len() as u64;
    let steady = (4 * number * number).min(u64::from(LENGTHS[3]));
    each.min(u64::from(LENGTHS[3]))
        .max(steady)
        .max(SLOTS_EACH * number)
}

/// Index of the Candidate that has each slot.
fn owners(candidates: &[&Candidate<'_>], length: u32) -> Vec<u16> {
    const FREE: u16 = u16::MAX;
    let mut visitors = visitors(candidates, length);
    let mut owners = vec![FREE; length as usize];
    while let Some(fastest) = visitors.iter().map(|visitor| visitor.weight).max() {
        for visitor in &mut visitors {
            visitor.pace += visitor.weight;
            while visitor.pace >= fastest && visitor.wants > 0 {
                visitor.pace -= fastest;
                let slot = &mut owners[visitor.next_slot(length)];
                if *slot == FREE {
                    *slot = visitor.index;
                    visitor.wants -= 1;
                }
            }
        }
        visitors.retain(|visitor| visitor.wants > 0);
    }
    owners
}

/// A Candidate on its way through the slots.
struct Visitor {
    index: u16,
    weight: u64,
    /// Goes up by the weight in every round, and down by the greatest weight with every visit.
    pace: u64,
    /// Says which slots it visits.
    seed: u64,
    visits: u64,
    /// How many slots it has still to take.
    wants: u64,
}

impl Visitor {
    /// The next slot on its way, any with equal chance, some twice and some never.
    fn next_slot(&mut self, length: u32) -> usize {
        self.visits += 1;
        let place = mixed(self.seed.wrapping_add(self.visits.wrapping_mul(GOLDEN)));
        ((u128::from(place) * u128::from(length)) >> 64) as usize
    }
}

/// 2^64 divided by the golden ratio: multiples of it are spread evenly.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number in which every bit depends on every bit of `x`.
fn mixed(mut x: u64) -> u64 {
    const ODD: u64 = 0xd6e8_feb8_6659_fd93;
    x = (x ^ (x >> 32)).wrapping_mul(ODD);
    x = (x ^ (x >> 32)).wrapping_mul(ODD);
    x ^ (x >> 32)
}

/// One Visitor for each Candidate. What they want adds up to the whole table: their exact shares,
/// rounded up for those that come first.
fn visitors(candidates: &[&Candidate<'_>], length: u32) -> Vec<Visitor> {
    let total: u64 = candidates.iter().map(|c| weight(c)).sum();
    let length = u64::from(length);
    let mut sum = 0;
    let visitor = |(index, candidate): (usize, &&Candidate<'_>)| {
        let before = sum * length / total;
        sum += weight(candidate);
        Visitor {
            index: index as u16,
            weight: weight(candidate),
            pace: 0,
            seed: xxh3_64_with_seed(candidate.key.as_bytes(), candidate.port.get().into()),
            visits: 0,
            wants: sum * length / total - before,
        }
    };
    candidates.iter().enumerate().map(visitor).collect()
}

fn weight(candidate: &Candidate<'_>) -> u64 {
    u64::from(candidate.weight.max(1))
}

#[cfg(test)]
mod tests {
    use lb_common::Port;
    use proptest::prelude::*;

    use super::*;

    fn candidates<'a>(keys: &'a [String], weights: &[u16]) -> Vec<Candidate<'a>> {
        let candidate = |(index, key): (usize, &'a String)| Candidate {
            key,
            endpoint: index as u32 + 1,
            port: Port::NONE,
            weight: weights[index % weights.len()],
        };
        keys.iter().enumerate().map(candidate).collect()
    }

    fn keys(seed: u64, number: usize) -> Vec<String> {
        let key = |index| format!("{:016x}", mixed(seed + index as u64));
        (0..number).map(key).collect()
    }

    fn made(candidates: &[Candidate<'_>], before: u32) -> Vec<Slot> {
        table(candidates, length(candidates, before))
    }

    /// Which part of the slots changes Backend when the one at `gone` goes.
    fn changed(candidates: &[Candidate<'_>], gone: usize) -> f64 {
        let before = made(candidates, 0);
        let mut fewer = candidates.to_vec();
        fewer.remove(gone);
        let after = made(&fewer, before.len() as u32);
        assert_eq!(before.len(), after.len());
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        changed as f64 / before.len() as f64
    }

    fn deviation(candidates: &[Candidate<'_>]) -> f64 {
        let slots = made(candidates, 0);
        let total: u64 = candidates.iter().map(weight).sum();
        let deviation = |candidate: &Candidate<'_>| {
            let own = slots.iter().filter(|s| s.endpoint == candidate.endpoint);
            let share = own.count() as f64 / slots.len() as f64;
            (share * total as f64 / weight(candidate) as f64 - 1.0).abs()
        };
        candidates.iter().map(deviation).fold(0.0, f64::max)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn few_slots_change_when_one_of_n_goes(
            seed in any::<u32>(), number in 2..50usize, gone in 0..50usize
        ) {
            let keys = keys(seed.into(), number);

            let changed = changed(&candidates(&keys, &[1]), gone % number);

            let due = 1.0 / number as f64;
            prop_assert!(changed <= 1.5 * due, "{changed} changed, {due} are due");
        }

        #[test]
        fn shares_are_even(seed in any::<u32>(), number in 1..50usize) {
            let keys = keys(seed.into(), number);

            prop_assert!(deviation(&candidates(&keys, &[1])) <= 0.02);
        }

        #[test]
        fn shares_are_as_the_weights_say(
            seed in any::<u32>(), weights in prop::collection::vec(1..20u16, 2..10)
        ) {
            let keys = keys(seed.into(), weights.len());

            prop_assert!(deviation(&candidates(&keys, &weights)) <= 0.02);
        }

        #[test]
        fn the_order_and_the_endpoint_ids_do_not_matter(
            seed in any::<u32>(), number in 1..20usize
        ) {
            let keys = keys(seed.into(), number);
            let candidates = candidates(&keys, &[1, 2, 3]);
            let mut others = candidates.clone();
            others.reverse();
            others.iter_mut().for_each(|other| other.endpoint += 100);

            let mut other_slots = made(&others, 0);

            other_slots.iter_mut().for_each(|slot| slot.endpoint -= 100);
            prop_assert_eq!(made(&candidates, 0), other_slots);
        }
    }

    #[test]
    fn few_slots_change_among_hundred() {
        let keys = keys(1, 100);

        assert!(changed(&candidates(&keys, &[1]), 50) <= 0.015);
    }

    #[test]
    fn a_table_has_a_hundred_slots_for_each() {
        for number in [1, 40, 41, 127, 300] {
            let keys = keys(2, number);
            let length = length(&candidates(&keys, &[1]), 0);

            assert!(length as usize >= 100 * number && LENGTHS.contains(&length));
        }
    }

    #[test]
    fn the_length_stays_while_the_number_of_candidates_goes_up_and_down_a_little() {
        let keys = keys(3, 40);
        let candidates = candidates(&keys, &[1]);

        let many = length(&candidates, 0);
        let fewer = length(&candidates[..28], many);
        let few = length(&candidates[..4], fewer);

        assert_eq!((many, fewer, few), (16_381, 16_381, 4_093));
    }
}
