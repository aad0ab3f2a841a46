//! Numbers that something outside may still hold after their owner is gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

/// Hands out the numbers from 1 on, and takes one back only after nobody holds it.
///
/// Every number below `next` is with an owner, in quarantine or free. Each has a generation, raised
/// whenever its owner goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ids {
    /// Every number from here on was never used.
    next: u32,
    quarantine: BTreeMap<u32, Quarantined>,
    /// The one that is free longest first.
    free: VecDeque<Numbered>,
}

/// A number and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::reconcile) struct Numbered {
    pub id: u32,
    pub generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Quarantined {
    generation: u32,
    /// Whether the last sweep found nobody that holds it.
    unheld: bool,
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            next: 1,
            quarantine: BTreeMap::new(),
            free: VecDeque::new(),
        }
    }
}

impl Ids {
    /// A number below `limit`, with its generation. `None` if all are used or in quarantine.
    pub(super) fn take(&mut self, limit: u32) -> Option<Numbered> {
        if self.next < limit {
            let id = self.next;
            self.next += 1;
            return Some(Numbered { id, generation: 1 });
        }
        // The limit may have been lowered since a number was given back.
        let position = self.free.iter().position(|free| free.id < limit)?;
        self.free.remove(position)
    }

    /// Takes a number back from its owner, for quarantine. `generation` is the one that its next
    /// owner gets.
    pub(super) fn retire(&mut self, id: u32, generation: u32) {
        let unheld = false;
        self.quarantine
            .insert(id, Quarantined { generation, unheld });
    }

    /// Frees what two sweeps in a row did not find: the first of them may have begun before the
    /// number was taken back, and have missed who got it after it had looked.
    pub(super) fn release(&mut self, held: &BTreeSet<u32>) {
        let free = &mut self.free;
        self.quarantine.retain(|&id, entry| {
            let unheld = !held.contains(&id);
            let release = unheld && entry.unheld;
            entry.unheld = unheld;
            if release {
                let generation = entry.generation;
                free.push_back(Numbered { id, generation });
            }
            !release
        });
    }

    /// Makes sure that `id`, found in use, is not handed out. It becomes its finder's.
    pub(super) fn reserve(&mut self, id: u32) {
        while self.next <= id {
            let generation = 1;
            let id = self.next;
            self.free.push_back(Numbered { id, generation });
            self.next += 1;
        }
        self.free.retain(|free| free.id != id);
        self.quarantine.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_after_two_sweeps_without_it() {
        let mut ids = Ids::default();
        let first = ids.take(3).unwrap();
        ids.take(3).unwrap();
        ids.retire(first.id, first.generation + 1);

        assert_eq!(ids.take(3), None);
        ids.release(&BTreeSet::new());
        assert_eq!(ids.take(3), None);
        ids.release(&BTreeSet::from([first.id]));
        ids.release(&BTreeSet::new());
        assert_eq!(ids.take(3), None);
        ids.release(&BTreeSet::new());

        let id = first.id;
        assert_eq!(ids.take(3), Some(Numbered { id, generation: 2 }));
    }

    #[test]
    fn a_reserved_number_is_not_handed_out_and_those_below_are() {
        let mut ids = Ids::default();

        ids.reserve(3);

        let handed_out: Vec<_> = std::iter::from_fn(|| ids.take(6)).map(|n| n.id).collect();
        assert_eq!(handed_out, [4, 5, 1, 2]);
    }
}
