//! Who has which number: zones, Endpoint ids, VIPs, Frontend ids and ranges of slots.
//!
//! The kernel knows Networks, Endpoints and Groups by numbers only, and Connections hold on to
//! them. So a number stays with its owner while that one is there, whoever else comes and goes, and
//! across restarts of the daemon, which keeps [`Identities`] in a file. After that it rests until
//! nothing in the kernel holds it.
//!
//! # Why
//! The file may be lost or older than the kernel's maps, which live on without the daemon. What the
//! maps hold then wins ([`Identities::adopt`]): a number that is in use there is never given to
//! somebody else.

mod adopt;
mod ids;
mod networks;
mod ranges;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use lb_common::{Algorithm, EndpointId, Slot, Zone};
use serde::{Deserialize, Serialize};

use self::ids::Ids;
pub(super) use self::ids::Numbered;
use self::networks::Networks;
pub(super) use self::networks::Present;
use self::ranges::Ranges;
use self::rules::Rules;
use super::State;
use super::tables::{Candidate, Tables};
use crate::config::{Config, FirewallRule, Maps};
use crate::model::{Attachment, Container, NetworkId};

/// The numbers of everything. To be kept in a file; its content changes only when a number is
/// given or taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identities {
    networks: Networks,
    /// By [`attachment_name`].
    endpoints: BTreeMap<String, KnownEndpoint>,
    /// Frontend ids of published ports, by what they are known by.
    published: BTreeMap<String, u32>,
    endpoint_ids: Ids,
    frontend_ids: Ids,
    ranges: Ranges,
    rules: Rules,
    #[serde(skip)]
    tables: Tables,
}

/// An attachment that has an Endpoint id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KnownEndpoint {
    id: EndpointId,
    generation: u32,
    face: Face,
}

/// What others know an Endpoint by. Where one of these changes, it is another Endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Face {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
    pub mac: [u8; 6],
    /// Of the host-side veth.
    pub ifindex: u32,
}

/// What a Group's VIP has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupNumbers {
    pub index: u32,
    /// Frontend ids of the families that were asked for.
    pub v4: Option<u32>,
    pub v6: Option<u32>,
}

/// There is no number left, and which key in the configuration makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("all 4,095 network numbers are taken; remove networks that are not used")]
    Zones,
    #[error("all {size} endpoint ids are taken or held by connections; raise [maps] endpoints")]
    Endpoints { size: u32 },
    #[error("no virtual address is left; set larger pools, [vips] ipv4 and ipv6")]
    Vips,
    #[error("all {size} frontend ids are taken or held by connections; raise [maps] frontends")]
    Frontends { size: u32 },
    #[error("no room for {needed} slots among {size}; raise [maps] slots")]
    Slots { needed: usize, size: u32 },
    #[error("all {size} interfaces are taken; raise [maps] veths")]
    Veths { size: u32 },
}

impl Identities {
    /// Frees the Endpoint ids that no longer have an owner and are not in `held`: the Endpoints
    /// that Connections and client affinity name, from one complete sweep. An id is free after two
    /// sweeps without it.
    pub fn release_endpoints(&mut self, held: &BTreeSet<EndpointId>) {
        self.endpoint_ids.release(held);
    }

    /// The same for Frontend ids.
    pub fn release_frontends(&mut self, held: &BTreeSet<u32>) {
        self.frontend_ids.release(held);
    }

    /// Frees the ranges of slots that were given up and that no Frontend in `actual` points at. To
    /// be called after each Plan that was carried out.
    pub fn release_slots(&mut self, actual: &State) {
        self.ranges.release(actual);
    }

    /// Begins a round: notes which Networks and Groups with VIP are there.
    pub(super) fn begin(&mut self, present: &Present<'_>, config: &Config) {
        self.networks
            .begin(present, &config.vips, &mut self.frontend_ids);
    }

    pub(super) fn zone(&mut self, network: &NetworkId) -> Result<Zone, Full> {
        self.networks.zone(network).ok_or(Full::Zones)
    }

    /// The Endpoint id of an attachment.
    pub(super) fn endpoint(
        &mut self,
        name: &str,
        face: Face,
        maps: &Maps,
    ) -> Result<Numbered, Full> {
        if let Some(known) = self.endpoints.get_mut(name) {
            if known.id < maps.endpoints && known.face.becomes(&face) {
                known.face = face;
                let (id, generation) = (known.id, known.generation);
                return Ok(Numbered { id, generation });
            }
            let known = *known;
            self.endpoints.remove(name);
            self.endpoint_ids.retire(known.id, known.next_generation());
        }
        let size = maps.endpoints;
        let number = self.endpoint_ids.take(size);
        let number = number.ok_or(Full::Endpoints { size })?;
        let known = KnownEndpoint {
            id: number.id,
            generation: number.generation,
            face,
        };
        self.endpoints.insert(name.to_string(), known);
        Ok(number)
    }

    /// The VIP of a Group, with Frontend ids for the families it has.
    pub(super) fn vip(
        &mut self,
        network: &NetworkId,
        alias: &str,
        families: Families,
        config: &Config,
    ) -> Result<GroupNumbers, Full> {
        let size = config.maps.frontends;
        let frontends = &mut self.frontend_ids;
        let vip = self.networks.vip(network, alias, &config.vips, frontends);
        let vip = vip.ok_or(Full::Vips)?;
        let index = vip.index;
        let v4 = frontend(&mut vip.v4, families.v4, frontends, size);
        let v6 = frontend(&mut vip.v6, families.v6, frontends, size);
        if v4.is_err() || v6.is_err() {
            // Room for the next round.
            self.networks.forget_oldest_vip(frontends);
        }
        let (v4, v6) = (v4?, v6?);
        Ok(GroupNumbers { index, v4, v6 })
    }

    /// The table of a Frontend, and the first index of the range for it; 0 for an empty table.
    pub(super) fn table(
        &mut self,
        frontend: u32,
        algorithm: Algorithm,
        candidates: &[Candidate<'_>],
        maps: &Maps,
    ) -> Result<(u32, Vec<Slot>), Full> {
        let before = self.ranges.len(frontend);
        let slots = self.tables.table(algorithm, candidates, before);
        if slots.is_empty() {
            return Ok((0, slots));
        }
        let (needed, size) = (slots.len(), maps.slots);
        let first = self.ranges.place(frontend, &slots, size);
        Ok((first.ok_or(Full::Slots { needed, size })?, slots))
    }

    /// The number of each rule's counter, 0 where there is none left, and what tells the rule from others.
    pub(super) fn rules(&mut self, firewall: &[FirewallRule]) -> Vec<(u16, u64)> {
        self.rules.number(firewall)
    }

    /// The Frontend id of published ports.
    pub(super) fn published(&mut self, name: &str, maps: &Maps) -> Result<u32, Full> {
        let size = maps.frontends;
        if let Some(unfit) = self.published.get(name).copied().filter(|id| *id >= size) {
            self.published.remove(name);
            self.frontend_ids.retire(unfit, 1);
        }
        if let Some(known) = self.published.get(name) {
            return Ok(*known);
        }
        let number = self.frontend_ids.take(size);
        let id = number.ok_or(Full::Frontends { size })?.id;
        self.published.insert(name.to_string(), id);
        Ok(id)
    }

    /// Keeps the Frontend ids of these published ports only.
    pub(super) fn end_published(&mut self, names: &BTreeSet<String>) {
        let ids = &mut self.frontend_ids;
        self.published.retain(|name, id| {
            let keep = names.contains(name);
            if !keep {
                ids.retire(*id, 1);
            }
            keep
        });
    }

    /// The slices of VIPs that a Network owns.
    pub(super) fn slices(&self, network: &NetworkId) -> impl Iterator<Item = u32> {
        self.networks.slices(network)
    }

    /// Ends a round: what nobody asked for in it loses its number. `endpoints` are the names, and
    /// `tables` the ids of the Frontends with a table, that were asked for.
    pub(super) fn end(&mut self, endpoints: &BTreeSet<&str>, tables: &BTreeSet<u32>) {
        let ids = &mut self.endpoint_ids;
        self.endpoints.retain(|name, known| {
            let keep = endpoints.contains(name.as_str());
            if !keep {
                ids.retire(known.id, known.next_generation());
            }
            keep
        });
        self.ranges.retain(|frontend| tables.contains(&frontend));
        self.tables.end();
    }
}

/// The families that a Group's Members have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Families {
    pub v4: bool,
    pub v6: bool,
}

/// What an attachment is known by.
pub(super) fn attachment_name(container: &Container, attachment: &Attachment) -> String {
    let (network, endpoint) = (&attachment.network, &attachment.endpoint_id);
    format!("{}/{network}/{endpoint}", container.id)
}

impl KnownEndpoint {
    /// The generation of whoever gets the id next.
    fn next_generation(&self) -> u32 {
        self.generation.wrapping_add(1)
    }
}

impl Face {
    /// Whether the Endpoint is the same after it has become `new`. An address may be added.
    fn becomes(&self, new: &Self) -> bool {
        self.mac == new.mac
            && self.ifindex == new.ifindex
            && (self.v4.is_none() || self.v4 == new.v4)
            && (self.v6.is_none() || self.v6 == new.v6)
    }
}

/// The Frontend id of one family, if it is wanted.
fn frontend(
    known: &mut Option<u32>,
    wanted: bool,
    ids: &mut Ids,
    size: u32,
) -> Result<Option<u32>, Full> {
    if !wanted {
        return Ok(None);
    }
    if let Some(unfit) = known.take_if(|id| *id >= size) {
        ids.retire(unfit, 1);
    }
    if known.is_none() {
        *known = ids.take(size).map(|number| number.id);
    }
    known.map(Some).ok_or(Full::Frontends { size })
}

#[cfg(test)]
mod tests;
