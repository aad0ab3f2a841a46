//! The numbers of Networks and the VIPs of their Groups.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::Zone;
use serde::{Deserialize, Serialize};

use super::ids::Ids;
use crate::config::Vips;
use crate::model::NetworkId;

/// The last zone: `lb_common::maps::NETWORKS` is one more.
const LAST_ZONE: Zone = (lb_common::maps::NETWORKS - 1) as Zone;

/// How many Networks that are gone are remembered.
const REMEMBERED: usize = 256;

/// Networks by id. Those that are gone, and Groups that are gone, keep what they had until it is
/// needed for others: who is gone longest gives first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Networks {
    known: BTreeMap<NetworkId, Numbers>,
    /// The zone that was given last.
    last_zone: Zone,
    /// How often something has gone: what "longest" is measured by.
    departures: u64,
}

/// What one Network has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Numbers {
    zone: Zone,
    /// When it went; `None` while it is there.
    gone: Option<u64>,
    slices: BTreeSet<u32>,
    /// The index that was given last: the search goes on behind it.
    last_index: u32,
    /// By alias.
    vips: BTreeMap<String, Vip>,
}

/// The VIP of one Group: its index in the pools and the ids of its Frontends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Vip {
    pub index: u32,
    pub v4: Option<u32>,
    pub v6: Option<u32>,
    /// When its Group went; `None` while it is there.
    gone: Option<u64>,
}

/// The Networks that are there, and the aliases of each one's Groups with a VIP.
pub(in crate::reconcile) type Present<'a> = BTreeMap<&'a NetworkId, BTreeSet<&'a str>>;

impl Networks {
    /// Notes who is there and who is gone, gives zones, and forgets what the pools no longer have.
    /// Ids of forgotten Frontends go to quarantine in `frontends`.
    pub(super) fn begin(&mut self, present: &Present<'_>, vips: &Vips, frontends: &mut Ids) {
        self.note_departures(present);
        for network in present.keys() {
            self.zone(network);
        }
        self.forget(|slice| slice >= vips.slices(), frontends);
        while let Some(network) = self.forgettable() {
            if let Some(numbers) = self.known.remove(&network) {
                numbers.vips.values().for_each(|vip| vip.retire(frontends));
            }
        }
    }

    /// The zone of a Network, its own from now on. `None` if all 4,095 are taken.
    pub(super) fn zone(&mut self, network: &NetworkId) -> Option<Zone> {
        if let Some(numbers) = self.known.get(network).filter(|n| n.zone != 0) {
            return Some(numbers.zone);
        }
        let taken: BTreeSet<Zone> = self.known.values().map(|n| n.zone).collect();
        let after = self.last_zone.saturating_add(1)..=LAST_ZONE;
        let zone = after
            .chain(1..=self.last_zone)
            .find(|zone| !taken.contains(zone))?;
        self.last_zone = zone;
        self.known.entry(network.clone()).or_default().zone = zone;
        Some(zone)
    }

    /// The VIP of a Group, its own from now on. `None` if the pools have none left.
    pub(super) fn vip(
        &mut self,
        network: &NetworkId,
        alias: &str,
        vips: &Vips,
        frontends: &mut Ids,
    ) -> Option<&mut Vip> {
        let known = self.known.get(network)?.vips.contains_key(alias);
        if !known {
            let index = self.free_index(network, vips, frontends)?;
            let vip = Vip {
                index,
                v4: None,
                v6: None,
                gone: None,
            };
            let numbers = self.known.get_mut(network)?;
            numbers.vips.insert(alias.to_string(), vip);
        }
        self.known.get_mut(network)?.vips.get_mut(alias)
    }

    /// The slices that the Network owns.
    pub(super) fn slices(&self, network: &NetworkId) -> impl Iterator<Item = u32> {
        let numbers = self.known.get(network);
        numbers.into_iter().flat_map(|n| n.slices.iter().copied())
    }

    /// Gives up the VIP of the Group that is gone longest. Returns whether there was one.
    pub(super) fn forget_oldest_vip(&mut self, frontends: &mut Ids) -> bool {
        let vips = self.known.iter().flat_map(|(network, numbers)| {
            let vips = numbers.vips.iter();
            vips.filter_map(move |(alias, vip)| Some((vip.gone?, network, alias)))
        });
        let Some((_, network, alias)) = vips.min() else {
            return false;
        };
        let (network, alias) = (network.clone(), alias.clone());
        let numbers = self.known.get_mut(&network);
        if let Some(vip) = numbers.and_then(|n| n.vips.remove(&alias)) {
            vip.retire(frontends);
        }
        true
    }

    /// Takes a zone for a Network as it was found in use.
    pub(super) fn adopt_zone(&mut self, network: &NetworkId, zone: Zone) {
        for (other, numbers) in &mut self.known {
            if numbers.zone == zone && other != network {
                numbers.zone = 0;
            }
        }
        self.last_zone = self.last_zone.max(zone);
        self.known.entry(network.clone()).or_default().zone = zone;
    }

    /// Makes sure that a zone that was found in use, by nobody that is there, is given to none.
    pub(super) fn avoid_zone(&mut self, zone: Zone) {
        self.last_zone = self.last_zone.max(zone);
    }

    /// The Network that has this zone.
    pub(super) fn network(&self, zone: Zone) -> Option<&NetworkId> {
        let mut known = self.known.iter();
        known.find(|(_, n)| n.zone == zone).map(|(id, _)| id)
    }

    /// The alias that has the VIP with this index, and the VIP.
    pub(super) fn alias(&mut self, network: &NetworkId, index: u32) -> Option<&mut Vip> {
        let vips = &mut self.known.get_mut(network)?.vips;
        vips.values_mut().find(|vip| vip.index == index)
    }

    /// Whether the Group of this alias has a VIP.
    pub(super) fn has_vip(&self, network: &NetworkId, alias: &str) -> bool {
        let numbers = self.known.get(network);
        numbers.is_some_and(|n| n.vips.contains_key(alias))
    }

    /// Takes a Frontend id from whoever has it.
    pub(super) fn disown(&mut self, frontend: u32) {
        for vip in self.known.values_mut().flat_map(|n| n.vips.values_mut()) {
            vip.v4.take_if(|id| *id == frontend);
            vip.v6.take_if(|id| *id == frontend);
        }
    }

    /// Takes a VIP for a Group as it was found in use.
    pub(super) fn adopt_vip(
        &mut self,
        network: &NetworkId,
        alias: &str,
        index: u32,
        frontends: &mut Ids,
    ) -> Option<&mut Vip> {
        let slice = index / Vips::SLICE;
        let owned = self.slices(network).any(|own| own == slice);
        if !owned {
            self.forget(|other| other == slice, frontends);
        }
        let numbers = self.known.get_mut(network)?;
        numbers.slices.insert(slice);
        let vip = Vip {
            index,
            v4: None,
            v6: None,
            gone: None,
        };
        if let Some(before) = numbers.vips.insert(alias.to_string(), vip) {
            before.retire(frontends);
        }
        numbers.vips.get_mut(alias)
    }

    fn note_departures(&mut self, present: &Present<'_>) {
        let now = self.departures;
        for (network, numbers) in &mut self.known {
            let aliases = present.get(network);
            note(
                &mut numbers.gone,
                aliases.is_some(),
                now,
                &mut self.departures,
            );
            for (alias, vip) in &mut numbers.vips {
                let there = aliases.is_some_and(|aliases| aliases.contains(alias.as_str()));
                note(&mut vip.gone, there, now, &mut self.departures);
            }
        }
    }

    /// The Network that is gone longest, if more than enough of them are remembered.
    fn forgettable(&self) -> Option<NetworkId> {
        let gone = || self.known.iter().filter_map(|(id, n)| Some((n.gone?, id)));
        (gone().count() > REMEMBERED)
            .then(|| gone().min().map(|(_, id)| id.clone()))
            .flatten()
    }

    /// Takes slices, and the VIPs in them, from whoever owns them.
    fn forget(&mut self, slice: impl Fn(u32) -> bool, frontends: &mut Ids) {
        for numbers in self.known.values_mut() {
            numbers.slices.retain(|owned| !slice(*owned));
            numbers.vips.retain(|_, vip| {
                let forget = slice(vip.index / Vips::SLICE);
                if forget {
                    vip.retire(frontends);
                }
                !forget
            });
        }
    }

    fn free_index(&mut self, network: &NetworkId, vips: &Vips, frontends: &mut Ids) -> Option<u32> {
        if let Some(index) = self.known.get_mut(network)?.unused_index() {
            return Some(index);
        }
        if let Some(slice) = self.free_slice(vips) {
            self.forget(|other| other == slice, frontends);
            let numbers = self.known.get_mut(network)?;
            numbers.slices.insert(slice);
            return numbers.unused_index();
        }
        self.known.get_mut(network)?.recycle(frontends)
    }

    /// A slice that nobody owns; otherwise the one whose last Group is gone longest.
    fn free_slice(&self, vips: &Vips) -> Option<u32> {
        let known = || self.known.values();
        let taken: BTreeSet<u32> = known().flat_map(|n| n.slices.iter().copied()).collect();
        let mut slices = 0..vips.slices();
        slices.find(|slice| !taken.contains(slice)).or_else(|| {
            let idle = known().flat_map(Numbers::idle_slices);
            idle.min().map(|(_, slice)| slice)
        })
    }
}

impl Numbers {
    fn unused_index(&mut self) -> Option<u32> {
        let indexes = || {
            self.slices.iter().flat_map(|slice| {
                let first = slice * Vips::SLICE;
                first + 1..first + Vips::SLICE - 1
            })
        };
        let behind = indexes().filter(|index| *index > self.last_index);
        let before = indexes().filter(|index| *index <= self.last_index);
        let unused = |index: &u32| self.vips.values().all(|vip| vip.index != *index);
        let index = behind.chain(before).find(unused)?;
        self.last_index = index;
        Some(index)
    }

    /// The slices none of whose Groups is there, each with when the last one went.
    fn idle_slices(&self) -> impl Iterator<Item = (u64, u32)> {
        self.slices.iter().filter_map(|slice| {
            let vips = self.vips.values();
            let mut within = vips.filter(|vip| vip.index / Vips::SLICE == *slice);
            let since = within.try_fold(0, |since, vip| Some(since.max(vip.gone?)))?;
            Some((since, *slice))
        })
    }

    /// The index of the Group that is gone longest.
    fn recycle(&mut self, frontends: &mut Ids) -> Option<u32> {
        let gone = self.vips.iter();
        let gone = gone.filter_map(|(alias, vip)| Some((vip.gone?, alias)));
        let (_, alias) = gone.min()?;
        let alias = alias.clone();
        let vip = self.vips.remove(&alias)?;
        vip.retire(frontends);
        Some(vip.index)
    }
}

impl Vip {
    fn retire(&self, frontends: &mut Ids) {
        for id in [self.v4, self.v6].into_iter().flatten() {
            frontends.retire(id, 1);
        }
    }
}

/// Sets or clears the time of departure.
fn note(gone: &mut Option<u64>, there: bool, now: u64, departures: &mut u64) {
    if there {
        *gone = None;
    } else if gone.is_none() {
        *gone = Some(now);
        *departures = now + 1;
    }
}
