//! What the datapath's maps hold and where its programs are attached: found or wanted.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{Endpoint, EndpointId, Frontend, FrontendKey, Settings, Slot, Veth};

use super::{Cells, Fact, Place, Role, Run, Step};

/// The state of the datapath. Actual and Desired have the same shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub settings: Settings,
    /// Each under its own place.
    pub facts: BTreeMap<Place, Fact>,
    /// By index of the host-side veth.
    pub veths: BTreeMap<u32, Veth>,
    /// Wanted: those that are served. Found: also those that are down, as long as their id was ever
    /// used (generation above 0).
    pub endpoints: BTreeMap<EndpointId, Endpoint>,
    /// First index of each table, and the table. Found: those that a Frontend points at.
    pub slots: BTreeMap<u32, Vec<Slot>>,
    pub frontends: BTreeMap<FrontendKey, Frontend>,
    /// Ports of the host.
    pub cells: Cells,
    /// Indexes of the interfaces that programs are attached to, and what those do there.
    pub attached: BTreeSet<(Role, u32)>,
}

/// Something that points at something that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dangling {
    #[error("frontend {frontend:?} points at slots from {first} on, which are not written")]
    Slots { frontend: FrontendKey, first: u32 },
    #[error("frontend {frontend:?} offers endpoint {endpoint}, which is not there")]
    Backend {
        frontend: FrontendKey,
        endpoint: EndpointId,
    },
    #[error("veth {ifindex} belongs to endpoint {endpoint}, which is not there")]
    Owner { ifindex: u32, endpoint: EndpointId },
    #[error("a program is attached to interface {ifindex}, which nothing describes")]
    Interface { role: Role, ifindex: u32 },
    #[error("ports from {first} on belong to cell {cell}, which no frontend has")]
    Cell { first: u16, cell: u16 },
    #[error("frontend {frontend:?} serves list {list} of clients, which is not there")]
    Sources { frontend: FrontendKey, list: u32 },
}

/// Everything in `state` that points at something that is not there.
pub fn dangling(state: &State) -> Vec<Dangling> {
    let mut found = Vec::new();
    for (key, frontend) in state.frontends.iter().filter(|(_, f)| f.slot_count > 0) {
        found.extend(state.dangling_frontend(*key, frontend));
    }
    for (&ifindex, veth) in &state.veths {
        let endpoint = veth.endpoint;
        if !state.is_up(endpoint) {
            found.push(Dangling::Owner { ifindex, endpoint });
        }
    }
    let bare = state.attached.iter().filter(|(role, ifindex)| match role {
        Role::Endpoint => !state.veths.contains_key(ifindex),
        Role::Bridge | Role::Uplink | Role::BareUplink => {
            !state.facts.contains_key(&Place::Interface(*ifindex))
        }
        // Every namespace has one, and there is nothing to say of it.
        Role::Loopback => false,
    });
    found.extend(bare.map(|&(role, ifindex)| Dangling::Interface { role, ifindex }));
    found.extend(dangling_cells(state));
    found.extend(dangling_sources(state));
    found
}

fn dangling_cells(state: &State) -> impl Iterator<Item = Dangling> {
    let published = state.frontends.keys().filter(|key| key.zone == 0);
    let known: BTreeSet<_> = published
        .map(|key| (key.protocol, key.port.get()))
        .collect();
    let lost = move |run: &&Run| !known.contains(&(run.protocol, run.cell));
    let dangling = |run: &Run| Dangling::Cell {
        first: run.first,
        cell: run.cell,
    };
    state.cells.runs().filter(lost).map(dangling)
}

fn dangling_sources(state: &State) -> impl Iterator<Item = Dangling> {
    let lists = state.facts.keys().filter_map(|place| match place {
        Place::Source(key) => Some(key.list),
        _ => None,
    });
    let known: BTreeSet<u32> = lists.chain([0]).collect();
    let lost = state
        .frontends
        .iter()
        .filter(move |(_, f)| !known.contains(&f.sources));
    lost.map(|(key, frontend)| Dangling::Sources {
        frontend: *key,
        list: frontend.sources,
    })
}

impl State {
    /// Carries out `step`, as the datapath does.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::PutSettings(settings) => self.settings = *settings,
            Step::PutFact(fact) => {
                self.facts.insert(fact.place(), *fact);
            }
            Step::RemoveFact(place) => {
                self.facts.remove(place);
            }
            Step::PutPorts(run) => self.cells.put(*run),
            Step::PutEndpoint(id, endpoint) | Step::RetireEndpoint(id, endpoint) => {
                self.endpoints.insert(*id, *endpoint);
            }
            Step::PutVeth(ifindex, veth) => {
                self.veths.insert(*ifindex, *veth);
            }
            Step::Attach(role, ifindex) => {
                self.attached.insert((*role, *ifindex));
            }
            Step::PutSlots { first, slots } => self.write_slots(*first, slots),
            Step::PutFrontend(key, frontend) => {
                self.frontends.insert(*key, *frontend);
            }
            Step::RemoveFrontend(key) => {
                self.frontends.remove(key);
            }
            Step::ReleaseSlots { first } => {
                self.slots.remove(first);
            }
            Step::Detach(role, ifindex) => {
                self.attached.remove(&(*role, *ifindex));
            }
            Step::RemoveVeth(ifindex) => {
                self.veths.remove(ifindex);
            }
        }
    }

    /// The same without the Endpoints that are down: what an Actual state is compared by.
    pub fn served(mut self) -> Self {
        self.endpoints.retain(|_, endpoint| endpoint.is_up());
        self
    }

    /// The tables that share an index with `first..first + len`, by their first index.
    pub(super) fn tables_within(&self, first: u32, len: usize) -> Vec<u32> {
        let end = u64::from(first) + len as u64;
        let within = |(start, slots): &(&u32, &Vec<Slot>)| {
            u64::from(**start) < end && u64::from(**start) + slots.len() as u64 > u64::from(first)
        };
        let mut tables: Vec<u32> = Vec::new();
        // Tables do not overlap each other, so the first one from the right that ends before
        // `first` is the last one to look at.
        for table in self
            .slots
            .range(..end.min(u64::from(u32::MAX)) as u32)
            .rev()
        {
            if !within(&table) {
                break;
            }
            tables.push(*table.0);
        }
        tables
    }

    fn write_slots(&mut self, first: u32, slots: &[Slot]) {
        for overwritten in self.tables_within(first, slots.len()) {
            self.slots.remove(&overwritten);
        }
        self.slots.insert(first, slots.to_vec());
    }

    fn is_up(&self, id: EndpointId) -> bool {
        self.endpoints.get(&id).is_some_and(Endpoint::is_up)
    }

    fn dangling_frontend(&self, key: FrontendKey, frontend: &Frontend) -> Vec<Dangling> {
        let table = self.slots.get(&frontend.first_slot);
        let offered = table.and_then(|table| table.get(..frontend.slot_count as usize));
        let Some(offered) = offered else {
            return vec![Dangling::Slots {
                frontend: key,
                first: frontend.first_slot,
            }];
        };
        let gone = offered.iter().filter(|slot| !self.is_up(slot.endpoint));
        gone.map(|slot| Dangling::Backend {
            frontend: key,
            endpoint: slot.endpoint,
        })
        .collect()
    }
}
