//! What the kernel's answers are to be made anew for. Pure.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use super::render::has_full_names;
use crate::dns::records::{Records, Table};
use crate::model::NetworkId;

/// What two editions of the records say differently.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    /// What is asked for: names, by themselves and with their Network's.
    pub(super) texts: BTreeSet<Cow<'a, str>>,
    pub(super) addresses: BTreeSet<(&'a NetworkId, IpAddr)>,
}

impl<'a> Changes<'a> {
    /// Everything that there is.
    pub(super) fn all(records: &'a Records) -> Self {
        let mut changes = Self::default();
        for table in records.tables() {
            changes.add(table, None);
        }
        changes
    }

    pub(super) fn between(old: &'a Records, new: &'a Records) -> Self {
        let all = old.rules() != new.rules();
        let before: HashMap<_, _> = old.tables().iter().map(|one| (&one.id, one)).collect();
        let after: HashMap<_, _> = new.tables().iter().map(|one| (&one.id, one)).collect();
        let mut changes = Self::default();
        for table in new.tables() {
            let other = before.get(&table.id).copied();
            changes.add(table, other.filter(|_| !all));
        }
        for table in old.tables() {
            let other = after.get(&table.id).copied();
            changes.add(table, other.filter(|_| !all));
        }
        changes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.addresses.is_empty()
    }

    /// Adds what `table` has and `other` has not, or has otherwise.
    fn add(&mut self, table: &'a Table, other: Option<&Table>) {
        let other = other.filter(|other| other.network == table.network);
        for name in differing(&table.names, other.map(|other| &other.names)) {
            self.texts.insert(Cow::Borrowed(name));
            if has_full_names(table) {
                let full = format!("{name}.{}", table.network);
                self.texts.insert(Cow::Owned(full));
            }
        }
        let addresses = differing(&table.owners, other.map(|other| &other.owners));
        self.addresses
            .extend(addresses.map(|address| (&table.id, *address)));
    }
}

/// The keys of `map` that `other` has not, or with another value.
fn differing<'a, K: Eq + Hash, V: PartialEq>(
    map: &'a HashMap<K, V>,
    other: Option<&HashMap<K, V>>,
) -> impl Iterator<Item = &'a K> {
    let is_same = move |key: &K, value: &V| other.and_then(|other| other.get(key)) == Some(value);
    let all = map.iter();
    all.filter_map(move |(key, value)| (!is_same(key, value)).then_some(key))
}
