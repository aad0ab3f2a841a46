//! Which range of `slots` each Frontend's table has.

use std::collections::BTreeMap;

use lb_common::{Frontend, Slot};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::reconcile::State;

/// Ranges by first index. A table with other content gets another range; the one before stays taken
/// until no Frontend in the kernel points at it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ranges {
    taken: BTreeMap<u32, Range>,
    /// First index of the range of each Frontend, by Frontend id.
    tables: BTreeMap<u32, u32>,
    /// Where the search for room begins: behind the last range, so that one that was given back is
    /// used again as late as possible.
    cursor: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Range {
    len: u32,
    /// Hash of the table's content.
    content: u64,
    /// The Frontend whose table this is; `None`: to be given back.
    frontend: Option<u32>,
}

impl Ranges {
    /// First index of a range that holds, or may be filled with, this table. `None` if there is no
    /// room in `size` slots.
    pub(super) fn place(&mut self, frontend: u32, slots: &[Slot], size: u32) -> Option<u32> {
        let content = content(slots);
        let len = slots.len() as u32;
        if let Some((first, range)) = self.table(frontend)
            && range.content == content
            && range.len == len
            && first + len <= size
        {
            return Some(first);
        }
        let first = self.room(len, size)?;
        self.retire(frontend);
        self.cursor = first + len;
        let range = Range {
            len,
            content,
            frontend: Some(frontend),
        };
        self.taken.insert(first, range);
        self.tables.insert(frontend, first);
        Some(first)
    }

    /// How many slots the Frontend's table has, 0 if it has none.
    pub(super) fn len(&self, frontend: u32) -> u32 {
        self.table(frontend).map_or(0, |(_, range)| range.len)
    }

    /// The Frontend needs no table any longer.
    pub(super) fn retire(&mut self, frontend: u32) {
        let first = self.tables.remove(&frontend);
        if let Some(range) = first.and_then(|first| self.taken.get_mut(&first)) {
            range.frontend = None;
        }
    }

    /// Keeps the tables of these Frontends only.
    pub(super) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        let gone: Vec<u32> = self
            .tables
            .keys()
            .copied()
            .filter(|id| !keep(*id))
            .collect();
        gone.into_iter().for_each(|id| self.retire(id));
    }

    /// Gives back what no Frontend in `actual` points at.
    pub(super) fn release(&mut self, actual: &State) {
        let published = published(actual);
        self.taken
            .retain(|first, range| range.frontend.is_some() || published.contains_key(first));
    }

    /// Takes the ranges that `actual` publishes. Tables that are in their way get another range.
    pub(super) fn adopt(&mut self, actual: &State) {
        for (first, (len, frontend)) in published(actual) {
            let table = actual.slots.get(&first);
            let content = table.map_or(0, |slots| content(slots));
            let range = Range {
                len,
                content,
                frontend: Some(frontend.id),
            };
            if self.table(frontend.id) != Some((first, range)) {
                self.evict(first, len);
                self.retire(frontend.id);
                self.tables.insert(frontend.id, first);
                self.taken.insert(first, range);
            }
        }
    }

    fn table(&self, frontend: u32) -> Option<(u32, Range)> {
        let first = self.tables.get(&frontend)?;
        self.taken.get(first).map(|range| (*first, *range))
    }

    fn evict(&mut self, first: u32, len: u32) {
        let tables = &mut self.tables;
        self.taken.retain(|&start, range| {
            let apart = start + range.len <= first || start >= first + len;
            if let (false, Some(frontend)) = (apart, range.frontend) {
                tables.remove(&frontend);
            }
            apart
        });
    }

    fn room(&self, len: u32, size: u32) -> Option<u32> {
        let cursor = self.cursor.min(size);
        let wrapped = || self.gap(0, len, size);
        self.gap(cursor, len, size).or_else(wrapped)
    }

    /// The first gap of `len` from `start` on.
    fn gap(&self, start: u32, len: u32, size: u32) -> Option<u32> {
        let before = self.taken.range(..start).next_back();
        let mut first = before.map_or(start, |(first, range)| start.max(first + range.len));
        for (&next, range) in self.taken.range(start..) {
            if first.checked_add(len)? <= next {
                break;
            }
            first = next + range.len;
        }
        (first.checked_add(len)? <= size).then_some(first)
    }
}

fn content(slots: &[Slot]) -> u64 {
    xxh3_64(bytemuck::cast_slice(slots))
}

/// Length and Frontend of each range that a Frontend points at, by first index.
fn published(actual: &State) -> BTreeMap<u32, (u32, Frontend)> {
    let frontends = actual.frontends.values().filter(|f| f.slot_count > 0);
    frontends
        .map(|frontend| (frontend.first_slot, (frontend.slot_count, *frontend)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use lb_common::{Addr, FrontendKey};

    use super::*;

    fn table(endpoints: &[u32]) -> Vec<Slot> {
        let slot = |endpoint: &u32| Slot {
            endpoint: *endpoint,
            ..Default::default()
        };
        endpoints.iter().map(slot).collect()
    }

    fn publishing(first: u32, slots: &[Slot]) -> State {
        let key = FrontendKey::vip(Addr::from(Ipv4Addr::LOCALHOST), 1);
        let frontend = Frontend {
            id: 1,
            first_slot: first,
            slot_count: slots.len() as u32,
            ..Default::default()
        };
        State {
            frontends: [(key, frontend)].into(),
            slots: [(first, slots.to_vec())].into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_table_keeps_its_range_until_its_content_changes() {
        let mut ranges = Ranges::default();

        let first = ranges.place(1, &table(&[1, 2]), 100).unwrap();
        let same = ranges.place(1, &table(&[1, 2]), 100).unwrap();
        let other = ranges.place(1, &table(&[2, 1]), 100).unwrap();

        assert_eq!(first, same);
        assert!(other >= first + 2);
    }

    #[test]
    fn a_range_is_used_again_only_after_no_frontend_points_at_it() {
        let mut ranges = Ranges::default();
        let old = table(&[1, 2, 3]);
        let first = ranges.place(1, &old, 6).unwrap();
        ranges.place(1, &table(&[4, 5, 6]), 6).unwrap();

        ranges.release(&publishing(first, &old));
        assert_eq!(ranges.place(2, &table(&[7, 8, 9]), 6), None);

        ranges.release(&State::default());
        assert_eq!(ranges.place(2, &table(&[7, 8, 9]), 6), Some(first));
    }

    #[test]
    fn what_the_kernel_publishes_is_adopted_and_not_written_over() {
        let mut ranges = Ranges::default();
        ranges.place(7, &table(&[1, 2, 3, 4]), 100);

        ranges.adopt(&publishing(2, &table(&[9])));

        assert_eq!(ranges.place(1, &table(&[9]), 100), Some(2));
        let moved = ranges.place(7, &table(&[1, 2, 3, 4]), 100).unwrap();
        assert!(moved > 2);
    }
}
