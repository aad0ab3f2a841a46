//! From what is observed to what is wanted.

mod endpoints;
mod groups;
mod policy;
mod ports;
mod sources;
mod surroundings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use lb_common::{Addr, Mode as Beside, Resolver, Settings, Zone};

use self::groups::Draft;
pub(super) use self::ports::published_name;
use self::surroundings::{Linked, Surroundings};
use super::aliases::aliases;
use super::desired::{Desired, ServedNamespace, VipRoute};
use super::identities::{Identities, Present, attachment_name};
use super::{Fact, State};
use crate::config::{Config, Mode, Vips};
use crate::model::{
    Attachment, Container, ContainerId, Elsewhere, EndpointMode, Gate, Host, HostInterface,
    LabelPolicy, Network, NetworkId, Notice, Observed,
};

/// What follows from an observation: the datapath's state, the Groups, the routes that lead to
/// VIPs, and what the operator should know.
///
/// The same observation gives the same result, and leaves `identities` as it is.
pub fn desire(
    observed: &Observed,
    host: &Host,
    config: &Config,
    identities: &mut Identities,
) -> Desired {
    let beside = is_beside(host, config);
    let mut desired = Desired {
        notices: observed.notices.clone(),
        ..Default::default()
    };
    desired.state.settings = settings(config, host, beside);
    let networks = served_networks(observed, config, &mut desired.notices);
    let served = served(observed, &networks, &mut desired.notices);
    let mut drafts = groups::drafts(&served, config, &mut desired.notices);
    if host.is_confined {
        desired.notices.push(confined());
        for draft in &mut drafts {
            draft.policy.endpoint_mode = EndpointMode::Dnsrr;
        }
    }
    identities.begin(&present(&networks, &drafts), config);
    let zones = zones(&networks, identities, &mut desired.notices);

    let placed = endpoints::program(&served, &zones, config, identities, &mut desired);
    let mut tables = groups::publish(&drafts, &placed, config, identities, &mut desired);
    let published = ports::publish(observed, &drafts, &placed, config, identities, &mut desired);
    tables.extend(published.tables);
    let surroundings = Surroundings {
        host,
        config,
        networks: &networks,
        zones: &zones,
        left: left(observed, &networks),
        beside,
    };
    surroundings.program(&placed, &mut desired.state);
    desired.sysctls = surroundings.sysctls(&desired.state.settings, &published.unheld);
    desired.rules = surroundings.rules();
    desired.notices.extend(surroundings.notices());
    let names = placed.iter().filter(|placed| placed.id != 0);
    let names = names.map(|placed| placed.served.name.as_str()).collect();
    identities.end(&names, &tables);

    desired.endpoints = placed.iter().map(endpoints::Placed::listed).collect();
    desired.resolvers = resolvers(observed, host, &placed, config, identities);
    desired
        .resolvers
        .extend(arriving(observed, &networks, config));
    desired.notices.sort();
    desired.notices.dedup();
    desired
}

/// `actual` with guards on the bridges that Docker may have made and nothing is known about: what is
/// wanted before the first observation. Everything else stays.
pub fn guard(actual: &State, host: &Host, config: &Config) -> State {
    let mut guarded = State::default();
    let (networks, zones) = (Networks::new(), Zones::new());
    let surroundings = Surroundings {
        host,
        config,
        networks: &networks,
        zones: &zones,
        left: BTreeSet::new(),
        beside: is_beside(host, config),
    };
    surroundings.program(&[], &mut guarded);
    let mut state = actual.clone();
    state.settings = settings(config, host, surroundings.beside);
    for (place, fact) in guarded.facts {
        // What is known to be the bridge of a Network stays that.
        let known = match state.facts.get(&place) {
            Some(Fact::Interface(_, interface)) => interface.zone != 0,
            Some(_) => true,
            None => false,
        };
        if !known {
            state.facts.insert(place, fact);
        }
    }
    state.attached.extend(guarded.attached);
    state
}

fn is_beside(host: &Host, config: &Config) -> bool {
    match config.ports.mode {
        Mode::Auto => host.has_docker_rules,
        Mode::Beside => true,
        Mode::Replace => false,
    }
}

/// Bridges of the Networks that are left to Docker.
fn left<'a>(observed: &'a Observed, networks: &Networks<'_>) -> BTreeSet<&'a str> {
    let all = observed.networks.iter();
    let left = all.filter(|network| !networks.contains_key(&network.id));
    left.map(|network| network.bridge.as_str()).collect()
}

/// An attachment of a container to a Network that is served.
struct Served<'a> {
    container: &'a Container,
    attachment: &'a Attachment,
    network: &'a Network,
    labels: LabelPolicy,
    /// Names of the Groups that it is in.
    aliases: BTreeSet<String>,
    /// What [`Identities`] know it by.
    name: String,
    linked: Vec<Linked<'a>>,
}

type Networks<'a> = BTreeMap<&'a NetworkId, &'a Network>;
type Zones<'a> = BTreeMap<&'a NetworkId, Zone>;

fn settings(config: &Config, host: &Host, beside: bool) -> Settings {
    // Whoever masquerades: clients of IPv6 are led to containers of IPv4 from these ports.
    let ports = &config.ports.masquerade_ports;
    let Vips { ipv4, ipv6 } = config.vips;
    Settings {
        vips_v4: Addr::from(ipv4.network()),
        vips_v4_mask: Addr::mask(96 + ipv4.prefix_len()),
        vips_v6: Addr::from(ipv6.network()),
        vips_v6_mask: Addr::mask(ipv6.prefix_len()),
        timeouts: config.timeouts,
        refusals: config.limits.refusals_per_second,
        events: config.limits.events_per_second,
        masquerade_first: *ports.start(),
        masquerade_last: *ports.end(),
        mode: if beside { Beside::BESIDE } else { 0 },
        dns_samples: config.dns.query_log,
        host_netns: host.cookie,
    }
}

/// The Networks that veer balances on: not those that are left to Docker, and not those whose own
/// addresses would be taken for VIPs.
fn served_networks<'a>(
    observed: &'a Observed,
    config: &Config,
    notices: &mut Vec<Notice>,
) -> Networks<'a> {
    let mut networks = Networks::new();
    for network in observed.networks.iter().filter(|n| config.serves(&n.name)) {
        let clash = |subnet: &IpNet| Some((config.vips.clash(subnet)?, *subnet));
        let Some(((key, pool), subnet)) = network.subnets.iter().find_map(clash) else {
            networks.insert(&network.id, network);
            continue;
        };
        notices.push(Notice {
            subject: format!("network {}", network.name),
            message: format!(
                "not served: its subnet {subnet} shares addresses with the pool {pool}; \
                 set [vips] {key} to a range that nothing else uses"
            ),
        });
    }
    networks
}

/// By name of the container, its id, and name of the Network: the order of Members everywhere.
fn served<'a>(
    observed: &'a Observed,
    networks: &Networks<'a>,
    notices: &mut Vec<Notice>,
) -> Vec<Served<'a>> {
    let mut served = Vec::new();
    for container in &observed.containers {
        let attachments = container.attachments.iter();
        let mut attachments = attachments
            .filter_map(|attachment| Some((attachment, *networks.get(&attachment.network)?)))
            .peekable();
        if attachments.peek().is_none() {
            continue;
        }
        let labels = policy::labels(container, notices);
        served.extend(attachments.map(|(attachment, network)| Served {
            container,
            attachment,
            network,
            labels,
            aliases: aliases(container, attachment),
            name: attachment_name(container, attachment),
            linked: surroundings::linked(container, &network.id, &observed.containers),
        }));
    }
    served.sort_by_key(|s: &Served<'_>| (&s.container.name, &s.container.id, &s.network.name));
    served
}

fn present<'a>(networks: &Networks<'a>, drafts: &'a [Draft<'a>]) -> Present<'a> {
    let mut present: Present<'a> = networks.keys().map(|id| (*id, BTreeSet::new())).collect();
    for draft in drafts {
        if draft.policy.endpoint_mode == EndpointMode::Vip {
            let aliases = present.entry(&draft.network.id).or_default();
            aliases.insert(&draft.alias);
        }
    }
    present
}

fn zones<'a>(
    networks: &Networks<'a>,
    identities: &mut Identities,
    notices: &mut Vec<Notice>,
) -> Zones<'a> {
    let mut zones = Zones::new();
    for (id, network) in networks {
        match identities.zone(id) {
            Ok(zone) => {
                zones.insert(id, zone);
            }
            Err(full) => notices.push(Notice {
                subject: format!("network {}", network.name),
                message: format!("not served: {full}"),
            }),
        }
    }
    zones
}

/// What is not done by a veer that may not enter namespaces.
fn confined() -> Notice {
    Notice {
        subject: "capabilities".to_owned(),
        message:
            "without CAP_SYS_ADMIN containers get no routes to VIPs, so that aliases give the \
                  addresses of Members; who has name servers of its own asks Docker's resolver"
                .to_owned(),
    }
}

/// Each namespace, with a route to each slice of VIPs of each Network that its container is
/// attached to, in the families that it has there.
fn resolvers(
    observed: &Observed,
    host: &Host,
    placed: &[endpoints::Placed<'_>],
    config: &Config,
    identities: &Identities,
) -> Vec<ServedNamespace> {
    let mut routes: BTreeMap<_, Vec<VipRoute>> = BTreeMap::new();
    let named = |placed: &&endpoints::Placed<'_>| has_names(placed.served.network, config);
    for placed in placed.iter().filter(named) {
        let routes = routes.entry(&placed.served.container.id).or_default();
        if !host.is_confined {
            routes.extend(vip_routes(placed.served, config, identities));
        }
    }
    let gates = gates(placed, host);
    let resolver = |container: &Container| {
        Some(ServedNamespace {
            routes: routes.get(&container.id)?.clone(),
            netns: container.netns.clone()?,
            container: container.id.clone(),
            knows_names: container.elsewhere != Elsewhere::Names,
            servers: own_servers(container, observed),
            gate: gates
                .get(&container.id)
                // Its own name servers are asked from its namespace.
                .filter(|_| !host.is_confined || container.dns_servers.is_empty())
                .cloned(),
        })
    };
    observed.containers.iter().filter_map(resolver).collect()
}

/// The namespaces of containers that may ask for names before it is known what they are: their queries
/// wait until it is.
fn arriving(
    observed: &Observed,
    networks: &Networks<'_>,
    config: &Config,
) -> impl Iterator<Item = ServedNamespace> {
    let has_names = |id| {
        let network = networks.get(id);
        network.is_some_and(|network| has_names(network, config))
    };
    let arriving = observed.arriving.iter();
    let named = arriving.filter(move |arriving| arriving.networks.iter().any(has_names));
    named.map(|arriving| ServedNamespace {
        netns: arriving.netns.clone(),
        container: arriving.container.clone(),
        routes: Vec::new(),
        knows_names: true,
        servers: Vec::new(),
        gate: None,
    })
}

/// Where each container is answered on the host: on the first of its Networks where it can be.
fn gates<'a>(placed: &'a [endpoints::Placed<'_>], host: &Host) -> BTreeMap<&'a ContainerId, Gate> {
    let bridges: BTreeMap<_, _> = host.bridges().map(|one| (&*one.name, one)).collect();
    let mut gates = BTreeMap::new();
    for placed in placed {
        let served = &placed.served;
        let bridge = bridges.get(&*served.network.bridge);
        if let Some(gate) = bridge.and_then(|bridge| gate(served, bridge)) {
            gates.entry(&served.container.id).or_insert(gate);
        }
    }
    gates
}

/// The host's address on the Network, if it has one on its bridge and the container an interface.
fn gate(served: &Served<'_>, bridge: &HostInterface) -> Option<Gate> {
    served.attachment.link.as_ref()?;
    let guest = served.attachment.v4?;
    let gateway = bridge.addresses.iter().find_map(|address| match address {
        IpNet::V4(address) => address.contains(&guest).then_some(address.addr()),
        IpNet::V6(_) => None,
    });
    Some(Gate {
        bridge: bridge.name.clone(),
        ifindex: bridge.ifindex,
        gateway: gateway?,
        guest,
    })
}

/// Whether containers of the Network are known by name.
fn has_names(network: &Network, config: &Config) -> bool {
    config.dns.default_bridge || !network.policy.is_default_bridge
}

/// The servers that Docker has a container ask that is on the default bridge alone; 127.0.0.11 is
/// asked by all others.
fn own_servers(container: &Container, observed: &Observed) -> Vec<Ipv4Addr> {
    let mut networks = observed.networks.iter();
    let default = networks.find(|network| network.policy.is_default_bridge);
    let is_default = |on: &Attachment| default.is_some_and(|network| network.id == on.network);
    if !container.attachments.iter().all(is_default) {
        return Vec::new();
    }
    let servers = container.dns_servers.iter();
    let servers = servers.filter_map(|server| match server {
        IpAddr::V4(server) if !server.is_loopback() => Some(*server),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    });
    servers.take(Resolver::SERVERS).collect()
}

fn vip_routes(served: &Served<'_>, config: &Config, identities: &Identities) -> Vec<VipRoute> {
    let attachment = served.attachment;
    let Some(link) = &attachment.link else {
        return Vec::new();
    };
    let container_ifindex = link.container_ifindex;
    let slices = identities.slices(&attachment.network);
    let routes = slices.flat_map(|slice| {
        let v4 = attachment.v4.map(|_| config.vips.slice_v4(slice));
        let v6 = attachment.v6.map(|_| config.vips.slice_v6(slice));
        v4.into_iter().chain(v6)
    });
    routes
        .map(|to| VipRoute {
            container_ifindex,
            to,
        })
        .collect()
}

#[cfg(test)]
mod tests;
