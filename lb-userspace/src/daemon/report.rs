//! From what is observed, desired and counted to the rows that operators see. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use lb_common::{
    Addr, Algorithm, BackendCounters, Connection, ConnectionFlags, EndpointId, FlowKey,
    FrontendCounters, FrontendKey, Mac,
};

use crate::api::{
    ConnectionPhase, ConnectionRow, Counts, EndpointRow, FrontendRow, GroupRow, MemberRow,
    NetworkRow, Side,
};
use crate::model::{EndpointMode, Group, Member, MemberState, Network, Observed};
use crate::reconcile::{Desired, ServedEndpoint, ServedPorts};

/// What is served at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) observed: Arc<Observed>,
    pub(super) desired: Arc<Desired>,
}

/// Counters of the objects in a [`View`]. What is missing counts as zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    pub(super) frontends: BTreeMap<u32, FrontendCounters>,
    pub(super) backends: BTreeMap<EndpointId, BackendCounters>,
    /// Established Connections.
    pub(super) loads: BTreeMap<EndpointId, u64>,
}

impl Counted {
    fn frontend(&self, id: u32) -> FrontendCounters {
        self.frontends.get(&id).copied().unwrap_or_default()
    }

    fn backend(&self, id: EndpointId) -> BackendCounters {
        self.backends.get(&id).copied().unwrap_or_default()
    }

    fn load(&self, id: EndpointId) -> u64 {
        self.loads.get(&id).copied().unwrap_or_default()
    }
}

impl View {
    /// Ids of the Endpoints whose counters the rows need.
    pub(super) fn endpoint_ids(&self) -> impl Iterator<Item = EndpointId> {
        let ids = self.desired.endpoints.iter().map(|endpoint| endpoint.id);
        ids.filter(|id| *id != 0)
    }

    /// Ids of the Frontends whose counters the rows need.
    pub(super) fn frontend_ids(&self) -> impl Iterator<Item = u32> {
        let published = self.desired.ports.iter().map(|ports| ports.frontend);
        let vips = self.desired.groups.iter().flat_map(frontend_ids);
        vips.chain(published)
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            networks: self.zones().len(),
            containers: self.desired.resolvers.len(),
            endpoints: self.desired.state.endpoints.len(),
            groups: self.desired.groups.len(),
            frontends: self.desired.state.frontends.len(),
        }
    }

    pub(super) fn networks(&self) -> Vec<NetworkRow> {
        let zones = self.zones();
        let served = self.observed.networks.iter().filter_map(|network| {
            let zone = *zones.get(network.id.0.as_str())?;
            Some(self.network(network, zone))
        });
        served.collect()
    }

    /// Zone of each Network that is served, by the Network's id.
    fn zones(&self) -> BTreeMap<&str, u16> {
        let endpoints = self.desired.endpoints.iter();
        endpoints
            .map(|endpoint| (endpoint.network.0.as_str(), endpoint.zone))
            .collect()
    }

    fn network(&self, network: &Network, zone: u16) -> NetworkRow {
        let (endpoints, groups) = (&self.desired.endpoints, &self.desired.groups);
        let endpoints = endpoints
            .iter()
            .filter(|endpoint| endpoint.network == network.id);
        let groups = groups.iter().filter(|group| group.network == network.id);
        NetworkRow {
            name: network.name.clone(),
            id: network.id.0.clone(),
            zone,
            bridge: network.bridge.clone(),
            subnets: network.subnets.clone(),
            internal: network.internal,
            vip_ranges: self.vip_ranges(network).into_iter().collect(),
            endpoints: endpoints.count(),
            groups: groups.count(),
        }
    }

    /// Where the routes inside the Network's containers lead.
    fn vip_ranges(&self, network: &Network) -> BTreeSet<IpNet> {
        let mut ranges = BTreeSet::new();
        for container in &self.observed.containers {
            let links = container
                .attachments
                .iter()
                .filter(|attachment| attachment.network == network.id)
                .filter_map(|attachment| attachment.link.as_ref());
            let indexes: BTreeSet<_> = links.map(|link| link.container_ifindex).collect();
            let spaces = &self.desired.resolvers;
            let mine = spaces
                .iter()
                .filter(|space| space.container == container.id);
            let routes = mine.flat_map(|space| &space.routes);
            let routes = routes.filter(|route| indexes.contains(&route.container_ifindex));
            ranges.extend(routes.map(|route| route.to));
        }
        ranges
    }

    pub(super) fn endpoints(&self, counted: &Counted) -> Vec<EndpointRow> {
        let row = |endpoint: &ServedEndpoint| {
            let counters = counted.backend(endpoint.id);
            let interface = endpoint.interface.as_ref();
            EndpointRow {
                id: endpoint.id,
                container: endpoint.container_name.clone(),
                container_id: endpoint.container.short().to_owned(),
                network: endpoint.network_name.clone(),
                v4: endpoint.v4.map(IpAddr::V4),
                v6: endpoint.v6.map(IpAddr::V6),
                mac: interface
                    .map(|i| Mac::new(i.mac).to_string())
                    .unwrap_or_default(),
                interface: interface.map(|i| i.name.clone()).unwrap_or_default(),
                ifindex: interface.map_or(0, |i| i.ifindex),
                generation: endpoint.generation,
                state: state_name(endpoint.state).to_owned(),
                connections: counters.connections,
                established: counted.load(endpoint.id),
                packets: counters.packets,
                bytes: counters.bytes,
            }
        };
        self.desired.endpoints.iter().map(row).collect()
    }

    pub(super) fn groups(&self, counted: &Counted) -> Vec<GroupRow> {
        let groups = self.desired.groups.iter();
        groups.map(|group| group_row(group, counted)).collect()
    }

    pub(super) fn frontends(&self, counted: &Counted) -> Vec<FrontendRow> {
        let vips = self.desired.state.frontends.iter();
        let vips = vips.filter(|(key, _)| key.zone != 0);
        let row = |(key, frontend): (&FrontendKey, &lb_common::Frontend)| {
            let group = self.group_of(frontend.id);
            let counters = counted.frontend(frontend.id);
            FrontendRow {
                id: frontend.id,
                address: key.address.get(),
                port: (!key.port.is_none()).then(|| key.port.get()),
                last_port: None,
                protocol: (key.protocol != 0).then(|| protocol_name(key.protocol)),
                network: group.map(|g| g.network_name.clone()).unwrap_or_default(),
                group: group.map(|g| g.alias.clone()).unwrap_or_default(),
                algorithm: Algorithm::from_u8(frontend.algorithm).to_string(),
                affinity_seconds: frontend.affinity,
                backends: self.backends(frontend),
                slots: frontend.slot_count,
                connections: counters.connections,
                refused: counters.refused,
            }
        };
        let published = self.desired.ports.iter();
        let published = published.map(|ports| self.published(ports, counted));
        vips.map(row).chain(published).collect()
    }

    fn published(&self, ports: &ServedPorts, counted: &Counted) -> FrontendRow {
        let counters = counted.frontend(ports.frontend);
        let backends = ports.endpoints.iter();
        FrontendRow {
            id: ports.frontend,
            address: ports.address,
            port: Some(ports.first),
            last_port: (ports.last > ports.first).then_some(ports.last),
            protocol: Some(ports.protocol.to_string()),
            network: "host".to_owned(),
            group: ports.target.clone(),
            algorithm: ports.algorithm.to_string(),
            affinity_seconds: 0,
            backends: backends.map(|id| self.container_of(*id)).collect(),
            slots: ports.endpoints.len() as u32,
            connections: counters.connections,
            refused: counters.refused,
        }
    }

    /// Names of the containers in a Frontend's table, each once, in its order.
    fn backends(&self, frontend: &lb_common::Frontend) -> Vec<String> {
        let table = self.desired.state.slots.get(&frontend.first_slot);
        let mut seen = BTreeSet::new();
        let slots = table
            .filter(|_| frontend.slot_count > 0)
            .into_iter()
            .flatten();
        let new = slots.filter(|slot| seen.insert(slot.endpoint));
        new.map(|slot| self.container_of(slot.endpoint)).collect()
    }

    /// Name of the container behind an Endpoint.
    pub(super) fn container_of(&self, id: EndpointId) -> String {
        let found = self
            .desired
            .endpoints
            .iter()
            .find(|endpoint| endpoint.id == id);
        found.map_or_else(|| format!("endpoint {id}"), |e| e.container_name.clone())
    }

    /// Ids of the Frontends of every Group with this alias.
    pub(super) fn frontends_of(&self, alias: &str) -> Vec<u32> {
        let groups = self.desired.groups.iter();
        let named = groups.filter(|group| group.alias.eq_ignore_ascii_case(alias));
        named.flat_map(frontend_ids).collect()
    }

    fn group_of(&self, frontend: u32) -> Option<&Group> {
        let mut groups = self.desired.groups.iter();
        groups.find(|group| frontend_ids(group).any(|id| id == frontend))
    }

    /// The Connection that a forward entry stands for. `now` is nanoseconds since boot.
    pub(super) fn connection(&self, key: &FlowKey, entry: &Connection, now: u64) -> ConnectionRow {
        let group = self.group_of(entry.frontend);
        let network = self.desired.endpoints.iter().find(|e| e.zone == key.zone);
        let seconds_since = |then: u64| now.saturating_sub(then) / 1_000_000_000;
        ConnectionRow {
            protocol: protocol_name(key.protocol),
            network: network.map_or_else(|| key.zone.to_string(), |e| e.network_name.clone()),
            group: group.map(|g| g.alias.clone()).unwrap_or_default(),
            client: self.side(key.source, key.source_port.get(), key.zone),
            frontend: self.side(key.destination, key.destination_port.get(), key.zone),
            backend: self.side(entry.destination, entry.destination_port.get(), key.zone),
            phase: phase(entry),
            age_seconds: seconds_since(entry.created),
            idle_seconds: seconds_since(entry.last_seen),
            timeout_seconds: entry.timeout,
        }
    }

    fn side(&self, address: Addr, port: u16, zone: u16) -> Side {
        let address = address.get();
        let owner = self.endpoint_at(address, |endpoint| endpoint.zone == zone);
        Side {
            address,
            port,
            container: owner.map(|endpoint| endpoint.container_name.clone()),
        }
    }

    /// The Endpoint with this address among those that `accept` takes.
    pub(super) fn endpoint_at(
        &self,
        address: IpAddr,
        accept: impl Fn(&ServedEndpoint) -> bool,
    ) -> Option<&ServedEndpoint> {
        let mut endpoints = self.desired.endpoints.iter();
        endpoints.find(|endpoint| owns(endpoint, address) && accept(endpoint))
    }

    /// The Endpoints of the container with this name, id or short id, or the one with this address.
    pub(super) fn endpoints_of(&self, who: &str) -> Vec<&ServedEndpoint> {
        let address: Option<IpAddr> = who.parse().ok();
        let matches = |endpoint: &&ServedEndpoint| match address {
            Some(address) => owns(endpoint, address),
            None => {
                endpoint.container_name == who
                    || endpoint.container.0 == who
                    || (who.len() >= 12 && endpoint.container.0.starts_with(who))
            }
        };
        self.desired.endpoints.iter().filter(matches).collect()
    }
}

fn owns(endpoint: &ServedEndpoint, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => endpoint.v4 == Some(v4),
        IpAddr::V6(v6) => endpoint.v6 == Some(v6),
    }
}

fn frontend_ids(group: &Group) -> impl Iterator<Item = u32> {
    group.frontend_v4.into_iter().chain(group.frontend_v6)
}

fn group_row(group: &Group, counted: &Counted) -> GroupRow {
    let vips = group.vip_v4.map(IpAddr::V4).into_iter();
    let counters: Vec<_> = frontend_ids(group).map(|id| counted.frontend(id)).collect();
    GroupRow {
        alias: group.alias.clone(),
        network: group.network_name.clone(),
        vips: vips.chain(group.vip_v6.map(IpAddr::V6)).collect(),
        mode: mode_name(group.policy.endpoint_mode).to_owned(),
        algorithm: group.policy.algorithm.to_string(),
        affinity_seconds: group.policy.affinity,
        connections: counters.iter().map(|counters| counters.connections).sum(),
        refused: counters.iter().map(|counters| counters.refused).sum(),
        members: group
            .members
            .iter()
            .map(|member| member_row(member, counted))
            .collect(),
    }
}

fn member_row(member: &Member, counted: &Counted) -> MemberRow {
    MemberRow {
        container: member.name.clone(),
        endpoint: member.endpoint,
        v4: member.v4.map(IpAddr::V4),
        v6: member.v6.map(IpAddr::V6),
        state: state_name(member.state).to_owned(),
        weight: member.weight,
        connections: counted.backend(member.endpoint).connections,
        established: counted.load(member.endpoint),
    }
}

const fn mode_name(mode: EndpointMode) -> &'static str {
    match mode {
        EndpointMode::Vip => "vip",
        EndpointMode::Dnsrr => "dnsrr",
    }
}

const fn state_name(state: MemberState) -> &'static str {
    match state {
        MemberState::Active => "active",
        MemberState::Draining => "draining",
        MemberState::Down => "down",
    }
}

/// The name of an IP protocol number, or the number.
fn protocol_name(number: u8) -> String {
    match number {
        1 | 58 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => other.to_string(),
    }
}

const fn phase(entry: &Connection) -> ConnectionPhase {
    let one_side = ConnectionFlags::FIN_CLIENT | ConnectionFlags::FIN_BACKEND;
    if entry.is_over() {
        ConnectionPhase::Closed
    } else if entry.flags & one_side != 0 {
        ConnectionPhase::Closing
    } else if entry.has(ConnectionFlags::REPLIED) {
        ConnectionPhase::Established
    } else {
        ConnectionPhase::New
    }
}

#[cfg(test)]
mod tests;
