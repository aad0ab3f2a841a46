//! The map of veths, and how often it was changed: as long as that number stands, each CPU goes by the
//! veths that it looked up before.

use lb_common::Veth;

use super::error::DatapathError;
use super::maps::{Array, Table};

/// The host-side veths, by their interface index.
#[derive(Debug)]
pub struct Veths {
    table: Table<u32, Veth>,
    changes: Array<u64>,
}

impl Veths {
    /// What somebody else has written before counts as a change: that one may have ended before it was
    /// counted.
    pub(super) fn new(table: Table<u32, Veth>, changes: Array<u64>) -> Result<Self, DatapathError> {
        let veths = Self { table, changes };
        veths.changed()?;
        Ok(veths)
    }

    /// Inserts or replaces, in one step for everybody who reads.
    pub fn put(&self, ifindex: u32, veth: &Veth) -> Result<(), DatapathError> {
        self.table.put(&ifindex, veth)?;
        self.changed()
    }

    /// Removes, if there is anything.
    pub fn remove(&self, ifindex: u32) -> Result<(), DatapathError> {
        self.table.remove(&ifindex)?;
        self.changed()
    }

    /// The veth with this index.
    pub fn get(&self, ifindex: u32) -> Result<Option<Veth>, DatapathError> {
        self.table.get(&ifindex)
    }

    /// Every veth, in no order.
    pub fn entries(&self) -> Result<Vec<(u32, Veth)>, DatapathError> {
        self.table.entries()
    }

    /// How many veths there is room for.
    pub fn capacity(&self) -> u32 {
        self.table.capacity()
    }

    /// Says that the table is another one now. The daemon alone writes, so that nothing is missed.
    fn changed(&self) -> Result<(), DatapathError> {
        let changes = self.changes.get(0)?;
        self.changes.put(0, &changes.wrapping_add(1))
    }
}
