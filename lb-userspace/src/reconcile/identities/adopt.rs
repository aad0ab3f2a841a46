//! Numbers that are in use already.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::{Addr, Endpoint, EndpointId, Frontend, FrontendKey, Network as Line, Slot};

use super::{Face, Identities, KnownEndpoint, attachment_name};
use crate::config::Config;
use crate::model::{Attachment, Network, NetworkId, Observed};
use crate::reconcile::aliases::aliases;
use crate::reconcile::published_name;
use crate::reconcile::{Fact, State};

impl Identities {
    /// Brings the numbers in line with what the kernel's maps hold. To be called once, after the
    /// first observation and before anything is desired, whether a file was found or not.
    ///
    /// What the maps hold wins over the file. Owners are recognised by what they look like: an
    /// Endpoint by its addresses, MAC address and interface, a Group by its Network and Members.
    /// Numbers whose owner is not recognised rest.
    pub fn adopt(&mut self, actual: &State, observed: &Observed, config: &Config) {
        let scene = Scene::new(observed);
        self.endpoints.retain(|_, known| {
            let found = actual.endpoints.get(&known.id);
            found.is_none_or(|found| found.is_up() && Face::of(found).becomes(&known.face))
        });
        for known in self.endpoints.values() {
            self.endpoint_ids.reserve(known.id);
        }
        self.rules.adopt(actual);
        for fact in actual.facts.values() {
            if let Fact::Network(zone, line) = fact {
                self.networks.avoid_zone(*zone);
                let owner = observed
                    .networks
                    .iter()
                    .find(|network| is_of(line, network));
                if let Some(owner) = owner {
                    self.networks.adopt_zone(&owner.id, *zone);
                }
            }
        }
        for (id, endpoint) in &actual.endpoints {
            self.adopt_endpoint(*id, endpoint, &scene);
        }
        for (key, frontend) in &actual.frontends {
            let offered = actual.slots.get(&frontend.first_slot);
            self.adopt_frontend(key, frontend, offered, &scene, config);
        }
        self.ranges.adopt(actual);
    }

    fn adopt_endpoint(&mut self, id: EndpointId, endpoint: &Endpoint, scene: &Scene<'_>) {
        self.networks.avoid_zone(endpoint.zone);
        self.endpoint_ids.reserve(id);
        let owner = scene.attachments.get(&endpoint.ifindex);
        let owner =
            owner.filter(|owner| endpoint.is_up() && Face::of(endpoint).becomes(&owner.face));
        self.endpoints
            .retain(|name, known| known.id != id || owner.is_some_and(|owner| owner.name == *name));
        let Some(owner) = owner else {
            let retires = u32::from(endpoint.is_up());
            let generation = endpoint.generation.wrapping_add(retires);
            self.endpoint_ids.retire(id, generation);
            return;
        };
        self.networks.adopt_zone(owner.network, endpoint.zone);
        let known = KnownEndpoint {
            id,
            generation: endpoint.generation,
            face: owner.face,
        };
        let before = self.endpoints.insert(owner.name.clone(), known);
        if let Some(before) = before.filter(|before| before.id != id) {
            let next = before.next_generation();
            self.endpoint_ids.retire(before.id, next);
        }
    }

    fn adopt_frontend(
        &mut self,
        key: &FrontendKey,
        frontend: &Frontend,
        offered: Option<&Vec<Slot>>,
        scene: &Scene<'_>,
        config: &Config,
    ) {
        self.frontend_ids.reserve(frontend.id);
        self.networks.disown(frontend.id);
        if key.zone == 0 {
            return self.adopt_published(key, frontend);
        }
        self.published.retain(|_, id| *id != frontend.id);
        self.networks.avoid_zone(key.zone);
        let network = self.networks.network(key.zone).cloned();
        let index = config.vips.index(key.address.get());
        if let (Some(network), Some(index)) = (&network, index)
            && self.networks.alias(network, index).is_none()
            && let Some(alias) = self.resembling(network, offered, scene)
        {
            let frontends = &mut self.frontend_ids;
            self.networks.adopt_vip(network, alias, index, frontends);
        }
        let network = network.as_ref().zip(index);
        let vip = network.and_then(|(network, index)| self.networks.alias(network, index));
        let Some(vip) = vip else {
            self.frontend_ids.retire(frontend.id, 1);
            return;
        };
        let known = match key.address.get() {
            IpAddr::V4(_) => &mut vip.v4,
            IpAddr::V6(_) => &mut vip.v6,
        };
        if let Some(before) = known.replace(frontend.id) {
            self.frontend_ids.retire(before, 1);
        }
    }

    /// Published ports are known by their place, which the key and the Frontend have.
    fn adopt_published(&mut self, key: &FrontendKey, frontend: &Frontend) {
        // Single addresses of a rule have the Frontend of the wildcard.
        let known = self.published.values().any(|id| *id == frontend.id);
        if known && !key.address.get().is_unspecified() {
            return;
        }
        let name = published_name(key.protocol, key.address.get(), frontend.origin.get());
        self.published
            .retain(|other, id| *id != frontend.id || *other == name);
        if let Some(before) = self.published.insert(name, frontend.id)
            && before != frontend.id
        {
            self.frontend_ids.retire(before, 1);
        }
    }

    /// The smallest Group without VIP that every Endpoint in the table is in.
    fn resembling<'a>(
        &self,
        network: &NetworkId,
        offered: Option<&Vec<Slot>>,
        scene: &'a Scene<'_>,
    ) -> Option<&'a str> {
        let offered: BTreeSet<EndpointId> = offered?.iter().map(|slot| slot.endpoint).collect();
        let known = |name: &String| self.endpoints.get(name).map(|known| known.id);
        let groups = scene.groups.iter();
        let fits = groups.filter(|((owner, alias), members)| {
            let members: BTreeSet<EndpointId> = members.iter().filter_map(known).collect();
            *owner == network
                && members.is_superset(&offered)
                && !self.networks.has_vip(network, alias)
        });
        let smallest = fits.min_by_key(|(_, members)| members.len());
        smallest.map(|((_, alias), _)| alias.as_str())
    }
}

/// Whether the line that was found has the Network's subnets.
fn is_of(line: &Line, network: &Network) -> bool {
    let first = |is_v4: bool| {
        let mut subnets = network.subnets.iter();
        let subnet = subnets.find(|net| net.addr().is_ipv4() == is_v4);
        subnet.map_or(Addr::NONE, |net| net.network().into())
    };
    (line.subnet_v4, line.subnet_v6) == (first(true), first(false))
}

/// What is observed, by what it is recognised by.
struct Scene<'a> {
    /// By index of the host-side veth.
    attachments: BTreeMap<u32, Owner<'a>>,
    /// Names of the attachments in each Group.
    groups: BTreeMap<(&'a NetworkId, String), Vec<String>>,
}

struct Owner<'a> {
    name: String,
    network: &'a NetworkId,
    face: Face,
}

impl<'a> Scene<'a> {
    fn new(observed: &'a Observed) -> Self {
        let mut scene = Self {
            attachments: BTreeMap::new(),
            groups: BTreeMap::new(),
        };
        for container in &observed.containers {
            for attachment in &container.attachments {
                let name = attachment_name(container, attachment);
                for alias in aliases(container, attachment) {
                    let members = scene.groups.entry((&attachment.network, alias));
                    members.or_default().push(name.clone());
                }
                scene.add(name, attachment);
            }
        }
        scene
    }

    fn add(&mut self, name: String, attachment: &'a Attachment) {
        if let Some(face) = Face::seen(attachment) {
            let network = &attachment.network;
            let owner = Owner {
                name,
                network,
                face,
            };
            self.attachments.insert(face.ifindex, owner);
        }
    }
}

impl Face {
    /// What the attachment looks like. `None` while its interface is not there.
    pub(in crate::reconcile) fn seen(attachment: &Attachment) -> Option<Self> {
        let link = attachment.link.as_ref()?;
        Some(Self {
            v4: attachment.v4,
            v6: attachment.v6,
            mac: link.mac,
            ifindex: link.host_ifindex,
        })
    }

    fn of(endpoint: &Endpoint) -> Self {
        let known = |addr: Addr| (!addr.is_none()).then(|| addr.get());
        let v4 = known(endpoint.v4).and_then(|addr| match addr {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        });
        let v6 = known(endpoint.v6).and_then(|addr| match addr {
            IpAddr::V6(v6) => Some(v6),
            IpAddr::V4(_) => None,
        });
        Self {
            v4,
            v6,
            mac: endpoint.mac.bytes(),
            ifindex: endpoint.ifindex,
        }
    }
}
