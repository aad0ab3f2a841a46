//! What is to be published: bindings of containers, and Groups by configuration and label.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::{Algorithm, Port};

use crate::config::{Config, PublishConfig};
use crate::model::{
    Container, ContainerId, MemberState, NetworkId, Notice, Observed, Protocol, PublishLabel,
    PublishedPorts, label,
};
use crate::reconcile::desire::endpoints::Placed;
use crate::reconcile::desire::groups::Draft;
use crate::reconcile::desire::sources::Clients;
use crate::reconcile::tables::Candidate;

/// Consecutive ports of one address of the host, and who is behind them.
#[derive(Debug)]
pub(super) struct Offer<'a> {
    pub protocol: Protocol,
    /// The unspecified address stands for every one of its family.
    pub address: IpAddr,
    pub first: u16,
    pub last: u16,
    /// With the ports that answer `first`.
    pub candidates: Vec<Candidate<'a>>,
    pub algorithm: Algorithm,
    /// Seconds.
    pub affinity: u32,
    pub clients: Clients<'a>,
    /// Whether the Engine holds the ports, so that the kernel gives them to nobody else.
    pub is_held: bool,
    /// Who is published, for people.
    pub target: String,
}

/// Everything that is to be published: what the Engine has bound first.
pub(super) fn offers<'a>(
    observed: &'a Observed,
    drafts: &'a [Draft<'a>],
    placed: &'a [Placed<'a>],
    config: &'a Config,
    notices: &mut Vec<Notice>,
) -> Vec<Offer<'a>> {
    let mut offers = Vec::new();
    let places: Places<'_> = placed
        .iter()
        .map(|placed| {
            (
                (&placed.served.container.id, &placed.served.network.id),
                placed,
            )
        })
        .collect();
    let ports_of = |container: &'a Container| {
        let ports = container.publishing.ports.iter();
        ports.map(move |ports| (container, ports))
    };
    let bound = observed.containers.iter().flat_map(ports_of);
    // Whoever names a family has its port there before who takes what there is.
    let (named, anywhere): (Vec<_>, Vec<_>) = bound.partition(|(_, ports)| ports.host.is_some());
    for (container, ports) in named.into_iter().chain(anywhere) {
        offers.extend(of_container(container, ports, &places, notices));
    }
    for publish in &config.publish {
        offers.extend(of_group(publish, drafts, placed, notices));
    }
    for container in &observed.containers {
        offers.extend(of_labels(container, drafts, placed, notices));
    }
    offers
}

type Places<'a> = BTreeMap<(&'a ContainerId, &'a NetworkId), &'a Placed<'a>>;

const ALL_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ALL_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The addresses that are meant: of both families where none is named.
fn addresses(named: Option<IpAddr>) -> Vec<IpAddr> {
    named.map_or_else(|| vec![ALL_V4, ALL_V6], |one| vec![one])
}

fn of_container<'a>(
    container: &'a Container,
    ports: &PublishedPorts,
    places: &Places<'a>,
    notices: &mut Vec<Notice>,
) -> Vec<Offer<'a>> {
    // Without a port of the host it is reached at its own address only.
    let Some(first) = ports.host_port else {
        return Vec::new();
    };
    let target = format!("container {}", container.name);
    if ports.protocol == Protocol::Sctp && first != ports.port {
        notices.push(Notice {
            subject: target,
            message: format!(
                "SCTP port {} is not published at {first}: its checksum covers the ports; publish it \
                 at its own number, {1}:{1}/sctp",
                ports.port, ports.port
            ),
        });
        return Vec::new();
    }
    let offer = |address: IpAddr| {
        let placed = places.get(&(&container.id, gateway(container, address)?))?;
        let candidate = candidate(placed, Port::new(ports.port));
        Some(Offer {
            protocol: ports.protocol,
            address,
            first,
            last: first.saturating_add(ports.count.saturating_sub(1)),
            candidates: candidate.into_iter().collect(),
            algorithm: Algorithm::RoundRobin,
            affinity: 0,
            clients: Clients::default(),
            is_held: true,
            target: target.clone(),
        })
    };
    addresses(ports.host)
        .into_iter()
        .filter_map(offer)
        .collect()
}

/// The network that has the ports of this family. Where none leads outside by IPv6, IPv6 clients of
/// the host itself are served by IPv4.
fn gateway(container: &Container, address: IpAddr) -> Option<&NetworkId> {
    let publishing = &container.publishing;
    match address {
        IpAddr::V4(_) => publishing.gateway_v4.as_ref(),
        IpAddr::V6(_) => publishing
            .gateway_v6
            .as_ref()
            .or(publishing.gateway_v4.as_ref()),
    }
}

/// `None` while the Endpoint cannot take new Connections.
fn candidate<'a>(placed: &Placed<'a>, port: Port) -> Option<Candidate<'a>> {
    (placed.id != 0 && placed.state == MemberState::Active).then(|| Candidate {
        key: &placed.served.container.id.0,
        endpoint: placed.id,
        port,
        weight: placed.served.weight().max(1),
    })
}

fn of_group<'a>(
    publish: &'a PublishConfig,
    drafts: &'a [Draft<'a>],
    placed: &'a [Placed<'a>],
    notices: &mut Vec<Notice>,
) -> Vec<Offer<'a>> {
    let name = format!("{}/{}", publish.group.network, publish.group.alias);
    let Some(draft) = drafts.iter().find(|draft| draft.name() == name) else {
        notices.push(Notice {
            subject: format!("group {name}"),
            message: "published by the configuration, and no container is in it".to_string(),
        });
        return Vec::new();
    };
    let wanted = Wanted {
        address: publish.address,
        first: *publish.ports.start(),
        last: *publish.ports.end(),
        protocol: publish.protocol,
        target_port: publish.target_port,
        algorithm: publish.algorithm.unwrap_or(draft.policy.algorithm),
        clients: Clients {
            allow: &publish.allow,
            deny: &publish.deny,
        },
    };
    wanted.offers(draft, placed)
}

fn of_labels<'a>(
    container: &'a Container,
    drafts: &'a [Draft<'a>],
    placed: &'a [Placed<'a>],
    notices: &mut Vec<Notice>,
) -> Vec<Offer<'a>> {
    let Some(labels) = container.labels.get(label::PUBLISH) else {
        return Vec::new();
    };
    // One that cannot be read is told with the other labels.
    let labels = PublishLabel::parse_all(labels).unwrap_or_default();
    let is_member = |draft: &&Draft<'_>| {
        let mut members = draft.members.iter().filter_map(|index| placed.get(*index));
        members.any(|member| member.served.container.id == container.id)
    };
    let own: Vec<_> = drafts.iter().filter(is_member).collect();
    let mut offers = Vec::new();
    for wanted in labels {
        let fits = |draft: &&&Draft<'_>| wanted.alias.as_ref().is_none_or(|a| *a == draft.alias);
        let fitting: Vec<_> = own.iter().filter(fits).collect();
        let [draft] = fitting[..] else {
            notices.push(Notice {
                subject: format!("container {}", container.name),
                message: format!(
                    "label {} fits {} of its groups; name one of them as in 80@alias",
                    label::PUBLISH,
                    fitting.len()
                ),
            });
            continue;
        };
        // Each Member says the same: the first one does it.
        let first = draft.members.iter().filter_map(|index| placed.get(*index));
        let mut first = first.filter(|p| p.served.container.labels.contains_key(label::PUBLISH));
        if first
            .next()
            .is_none_or(|placed| placed.served.container.id != container.id)
        {
            continue;
        }
        let wanted = Wanted {
            address: wanted.address,
            first: wanted.first,
            last: wanted.last,
            protocol: wanted.protocol,
            target_port: wanted.target_port,
            algorithm: draft.policy.algorithm,
            clients: Clients::default(),
        };
        offers.extend(wanted.offers(draft, placed));
    }
    offers
}

/// Ports of the host for a Group.
struct Wanted<'a> {
    address: Option<IpAddr>,
    first: u16,
    last: u16,
    protocol: Protocol,
    target_port: Option<u16>,
    algorithm: Algorithm,
    clients: Clients<'a>,
}

impl<'a> Wanted<'a> {
    /// One for each address that some Member has the family of.
    fn offers(&self, draft: &'a Draft<'a>, placed: &'a [Placed<'a>]) -> Vec<Offer<'a>> {
        let members: Vec<_> = draft
            .members
            .iter()
            .filter_map(|index| placed.get(*index))
            .collect();
        let has_family = |placed: &Placed<'_>, address: IpAddr| match address {
            IpAddr::V4(_) => placed.served.attachment.v4.is_some(),
            IpAddr::V6(_) => placed.served.attachment.v6.is_some(),
        };
        let offer = |address: IpAddr| {
            let fitting = members.iter().filter(|placed| has_family(placed, address));
            let candidates = fitting.clone().filter(|placed| placed.served.weight() > 0);
            let candidates = candidates.filter_map(|placed| candidate(placed, self.port(placed)));
            fitting.clone().next()?;
            Some(Offer {
                protocol: self.protocol,
                address,
                first: self.first,
                last: self.last,
                candidates: candidates.collect(),
                algorithm: self.algorithm,
                affinity: draft.policy.affinity,
                clients: self.clients,
                is_held: false,
                target: format!("group {}", draft.name()),
            })
        };
        addresses(self.address)
            .into_iter()
            .filter_map(offer)
            .collect()
    }

    /// SCTP goes to the port that was asked for.
    fn port(&self, placed: &Placed<'_>) -> Port {
        if self.protocol == Protocol::Sctp {
            return Port::new(self.first);
        }
        let port = self.target_port.or(placed.served.labels.port);
        Port::new(port.unwrap_or(self.first))
    }
}
