//! The table that a Frontend's Connections are balanced over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lb_common::{Algorithm, EndpointId, Port, Slot};
use xxhash_rust::xxh3::Xxh3;

use super::maglev;

/// A Backend that new Connections may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidate<'a> {
    /// What the Backend is known by everywhere and for ever: the container's id.
    pub key: &'a str,
    pub endpoint: EndpointId,
    /// [`Port::NONE`]: the port that was asked for.
    pub port: Port,
    /// At least 1.
    pub weight: u16,
}

/// Slots of a weighted table, unless there are more Candidates than fit eight times.
const WEIGHTED_SLOTS: u64 = 4_096;

/// Makes tables, and remembers those that take long to make.
///
/// Compares equal to every other one: what it remembers follows from what it is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    /// By hash of what the table was made from.
    made: BTreeMap<u128, Arc<[Slot]>>,
    /// Hashes of the tables that were asked for in this round.
    asked: BTreeSet<u128>,
}

impl Tables {
    /// The table for these Candidates, in their order. `before` is how many slots the table had
    /// until now, 0 if there was none.
    pub(super) fn table(
        &mut self,
        algorithm: Algorithm,
        candidates: &[Candidate<'_>],
        before: u32,
    ) -> Vec<Slot> {
        match algorithm {
            Algorithm::RoundRobin | Algorithm::Random | Algorithm::LeastConnections => {
                candidates.iter().map(Candidate::slot).collect()
            }
            Algorithm::WeightedRoundRobin => self.made(candidates, 0, || interleaved(candidates)),
            Algorithm::Maglev => {
                let length = maglev::length(candidates, before);
                self.made(candidates, length, || maglev::table(candidates, length))
            }
        }
    }

    /// Ends a round: forgets what was not asked for in it.
    pub(super) fn end(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        self.made.retain(|hash, _| asked.contains(hash));
    }

    fn made(
        &mut self,
        candidates: &[Candidate<'_>],
        length: u32,
        make: impl FnOnce() -> Vec<Slot>,
    ) -> Vec<Slot> {
        let hash = hash(candidates, length);
        self.asked.insert(hash);
        let table = self.made.entry(hash).or_insert_with(|| make().into());
        table.to_vec()
    }
}

impl PartialEq for Tables {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Tables {}

fn hash(candidates: &[Candidate<'_>], length: u32) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&length.to_ne_bytes());
    for candidate in candidates {
        // A key has no NUL: what follows it cannot be taken for a part of it.
        hasher.update(candidate.key.as_bytes());
        hasher.update(&[0]);
        hasher.update(&candidate.endpoint.to_ne_bytes());
        hasher.update(&candidate.port.get().to_ne_bytes());
        hasher.update(&candidate.weight.to_ne_bytes());
    }
    hasher.digest128()
}

impl Candidate<'_> {
    pub(super) fn slot(&self) -> Slot {
        Slot {
            endpoint: self.endpoint,
            port: self.port,
            _pad: 0,
        }
    }
}

/// Each Candidate as often as its weight says, spread as evenly as can be: in every slot the one
/// that is furthest behind its share.
fn interleaved(candidates: &[Candidate<'_>]) -> Vec<Slot> {
    let weights = turns(candidates);
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0; weights.len()];
    let mut slots = Vec::with_capacity(total as usize);
    for _ in 0..total {
        let mut richest = 0;
        for (index, weight) in weights.iter().enumerate() {
            credit[index] += weight;
            if credit[index] > credit[richest] {
                richest = index;
            }
        }
        credit[richest] -= total;
        slots.push(candidates[richest].slot());
    }
    slots
}

/// How many slots each Candidate gets: its weight without what all have in common, scaled down
/// where the table would be too long.
fn turns(candidates: &[Candidate<'_>]) -> Vec<i64> {
    let weights = || candidates.iter().map(|c| u64::from(c.weight.max(1)));
    let common = weights().fold(0, gcd).max(1);
    let total: u64 = weights().map(|weight| weight / common).sum();
    let bound = WEIGHTED_SLOTS.max(8 * candidates.len() as u64);
    let turn = |weight: u64| {
        let turns = weight / common;
        if total <= bound {
            return turns as i64;
        }
        ((turns * bound + total / 2) / total).max(1) as i64
    };
    weights().map(turn).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(weights: &[u16]) -> Vec<Candidate<'static>> {
        let candidate = |(index, weight): (usize, &u16)| Candidate {
            key: "x",
            endpoint: index as u32 + 1,
            port: Port::NONE,
            weight: *weight,
        };
        weights.iter().enumerate().map(candidate).collect()
    }

    fn endpoints(algorithm: Algorithm, weights: &[u16]) -> Vec<u32> {
        let slots = Tables::default().table(algorithm, &candidates(weights), 0);
        slots.iter().map(|slot| slot.endpoint).collect()
    }

    #[test]
    fn without_weights_each_has_one_slot_in_the_given_order() {
        for algorithm in [
            Algorithm::RoundRobin,
            Algorithm::Random,
            Algorithm::LeastConnections,
        ] {
            assert_eq!(endpoints(algorithm, &[5, 1, 9]), [1, 2, 3]);
        }
    }

    #[test]
    fn turns_by_weight_are_interleaved() {
        let slots = endpoints(Algorithm::WeightedRoundRobin, &[5, 1, 1]);

        assert_eq!(slots, [1, 1, 2, 1, 3, 1, 1]);
    }

    #[test]
    fn a_table_is_no_longer_than_the_weights_need() {
        assert_eq!(
            endpoints(Algorithm::WeightedRoundRobin, &[300, 100]).len(),
            4
        );
        assert_eq!(
            endpoints(Algorithm::WeightedRoundRobin, &[7, 7, 7]).len(),
            3
        );
    }

    #[test]
    fn weights_that_need_a_longer_table_than_there_may_be_keep_their_shares() {
        let weights: Vec<u16> = (0..100).map(|i| 500 + i * 5).collect();
        let slots = endpoints(Algorithm::WeightedRoundRobin, &weights);
        let total: u32 = weights.iter().map(|w| u32::from(*w)).sum();

        assert!(slots.len() <= WEIGHTED_SLOTS as usize + weights.len());
        for (index, weight) in weights.iter().enumerate() {
            let share = slots.iter().filter(|e| **e == index as u32 + 1).count() as f64;
            let exact = slots.len() as f64 * f64::from(*weight) / f64::from(total);
            assert!(
                (share - exact).abs() <= 1.0,
                "{share} slots, {exact} are due"
            );
        }
    }

    #[test]
    fn a_table_that_is_remembered_is_the_one_for_these_candidates() {
        let mut tables = Tables::default();
        let (few, many) = (candidates(&[3, 1]), candidates(&[3, 2]));
        let mut table = |candidates: &[Candidate<'_>]| {
            let table = tables.table(Algorithm::WeightedRoundRobin, candidates, 0);
            tables.end();
            table.len()
        };

        assert_eq!([&few, &few, &many, &few].map(|c| table(c)), [4, 4, 5, 4]);
    }

    #[test]
    fn nobody_to_choose_from_is_an_empty_table() {
        for algorithm in Algorithm::ALL {
            assert!(endpoints(algorithm, &[]).is_empty());
        }
    }
}
