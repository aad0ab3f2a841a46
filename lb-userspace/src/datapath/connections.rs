//! Which Connections there are.

use std::collections::BTreeSet;

use bytemuck::Pod;
use lb_common::{Addr, Connection, ConnectionFlags, EndpointId, FlowKey, Zone};

use super::bpf::Cursor;
use super::clock;
use super::error::DatapathError;
use super::maps::{Maps, Table};

/// Which Connections are asked for; `None`: any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub client: Option<Addr>,
    pub zone: Option<Zone>,
    /// [`lb_common::Frontend::id`].
    pub frontend: Option<u32>,
    pub backend: Option<EndpointId>,
    /// Only established ones, or only half-open ones.
    pub established: Option<bool>,
}

impl Filter {
    /// Whether the client's entry of a Connection is asked for.
    fn admits(&self, key: &FlowKey, half: &Connection) -> bool {
        half.has(ConnectionFlags::FORWARD)
            && self.client.is_none_or(|client| client == key.source)
            && self.zone.is_none_or(|zone| zone == key.zone)
            && self
                .frontend
                .is_none_or(|frontend| frontend == half.frontend)
            && self.backend.is_none_or(|backend| backend == half.backend)
    }
}

/// Entries copied at once while a table is gone through.
const SLICE: usize = 4_096;

/// The clients' entries of at most `limit` Connections, established ones first.
pub(super) fn list(
    maps: &Maps,
    filter: &Filter,
    limit: usize,
) -> Result<Vec<(FlowKey, Connection)>, DatapathError> {
    let mut found = Vec::new();
    let tables = [(&maps.connections, true), (&maps.half_open, false)];
    for (table, established) in tables {
        if filter
            .established
            .is_none_or(|wanted| wanted == established)
        {
            visit(table, |key, half| {
                if filter.admits(key, half) {
                    found.push((*key, *half));
                }
                found.len() < limit
            })?;
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// The longest affinity that can be configured, a day, in nanoseconds.
const LONGEST_AFFINITY: u64 = 86_400 * 1_000_000_000;

/// What Connections hold on to, from one look at both tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Backends and clients: their ids are not free.
    pub endpoints: BTreeSet<EndpointId>,
    /// [`lb_common::Frontend::id`]s: they are not free.
    pub frontends: BTreeSet<u32>,
    /// Entries, two for each established Connection.
    pub established: usize,
    /// Entries, two for each half-open Connection.
    pub half_open: usize,
}

/// What Connections hold on to. Goes through both tables wholly.
pub(super) fn held(maps: &Maps) -> Result<Held, DatapathError> {
    let mut held = Held::default();
    let mut note = |half: &Connection| {
        held.endpoints.extend([half.target, half.backend]);
        held.frontends.insert(half.frontend);
        true
    };
    let (mut established, mut half_open) = (0, 0);
    for (table, count) in [
        (&maps.connections, &mut established),
        (&maps.half_open, &mut half_open),
    ] {
        visit(table, |_, half| {
            *count += 1;
            note(half)
        })?;
    }
    // What a client had at one Frontend would be a stranger's Backend at the next of this number.
    let now = clock::now().unwrap_or(u64::MAX);
    visit(&maps.affinity, |key, last| {
        if now.saturating_sub(last.last_used) <= LONGEST_AFFINITY {
            held.frontends.insert(key.frontend);
        }
        true
    })?;
    Ok(Held {
        established,
        half_open,
        ..held
    })
}

/// Shows `visitor` every entry, as long as it wants more.
fn visit<K: Pod, V: Pod>(
    table: &Table<K, V>,
    mut visitor: impl FnMut(&K, &V) -> bool,
) -> Result<(), DatapathError> {
    let mut place = Some(Cursor::default());
    let mut entries = Vec::new();
    while let Some(from) = place {
        entries.clear();
        place = table.slice(from, SLICE, &mut entries)?;
        for (key, half) in &entries {
            if !visitor(key, half) {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_filter_admits_the_clients_entries_of_what_is_asked_for() {
        let key = FlowKey {
            source: Ipv4Addr::new(10, 0, 0, 2).into(),
            zone: 3,
            ..FlowKey::default()
        };
        let half = Connection {
            frontend: 5,
            backend: 7,
            flags: ConnectionFlags::FORWARD | ConnectionFlags::ESTABLISHED,
            ..Connection::default()
        };
        let any = Filter::default();
        let exact = Filter {
            client: Some(key.source),
            zone: Some(3),
            frontend: Some(5),
            backend: Some(7),
            established: None,
        };

        assert!(any.admits(&key, &half) && exact.admits(&key, &half));
        assert!(!any.admits(&key, &Connection { flags: 0, ..half }));
        for other in [
            Filter {
                zone: Some(4),
                ..any
            },
            Filter {
                frontend: Some(6),
                ..any
            },
            Filter {
                backend: Some(8),
                ..any
            },
            Filter {
                client: Some(key.destination),
                ..any
            },
        ] {
            assert!(!other.admits(&key, &half), "{other:?}");
        }
    }
}
