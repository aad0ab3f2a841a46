//! Networks, containers and Groups that tests make records of.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use lb_common::Zone;
use proptest::prelude::*;

use super::Records;
use crate::dns::Rules;
use crate::model::{
    Attachment, Container, ContainerId, Elsewhere, EndpointMode, Group, Member, MemberState, Netns,
    Network, NetworkId, Observed, Policy, PortRange, Protocol, RunState,
};

pub(in crate::dns) const FRONT: &str = "front";
pub(in crate::dns) const BACK: &str = "back";

pub(in crate::dns) fn network(name: &str) -> Network {
    Network {
        id: NetworkId(name.to_string()),
        name: name.to_string(),
        bridge: format!("br-{name}"),
        subnets: Vec::new(),
        internal: false,
        labels: BTreeMap::new(),
        policy: Default::default(),
    }
}

/// A container with the cookie `n`, attached to the Networks in this order, the i-th of them with
/// 10.i.0.n and, unless it is called `back`, fd00::i:n.
pub(in crate::dns) fn container(name: &str, n: u8, networks: &[&str]) -> Container {
    let attachment = |(index, network): (usize, &&str)| Attachment {
        network: NetworkId(network.to_string()),
        endpoint_id: format!("{name}-{network}"),
        v4: Some(Ipv4Addr::new(10, index as u8, 0, n)),
        v6: (*network != BACK).then(|| v6(index as u16, n)),
        aliases: Vec::new(),
        linked: Vec::new(),
        link: None,
    };
    Container {
        id: ContainerId(format!("{n:064x}").chars().rev().collect()),
        name: name.to_string(),
        hostname: format!("host-{name}"),
        state: RunState::Running,
        labels: BTreeMap::new(),
        netns: Some(Netns {
            path: "/dev/null".into(),
            cookie: n.into(),
        }),
        sharers: Vec::new(),
        dns_servers: Vec::new(),
        elsewhere: Elsewhere::Nothing,
        publishing: Default::default(),
        attachments: networks.iter().enumerate().map(attachment).collect(),
    }
}

pub(in crate::dns) fn v6(index: u16, n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, index, n.into())
}

pub(in crate::dns) fn observed(containers: Vec<Container>) -> Observed {
    Observed {
        networks: vec![network(FRONT), network(BACK)],
        containers,
        ..Observed::default()
    }
}

pub(in crate::dns) fn group(
    network: &str,
    alias: &str,
    mode: EndpointMode,
    members: &[&Container],
) -> Group {
    let member = |container: &&Container| {
        let on = |attachment: &&Attachment| attachment.network.0 == network;
        let attachment = container
            .attachments
            .iter()
            .find(on)
            .expect("a Member is attached");
        Member {
            container: container.id.clone(),
            name: container.name.clone(),
            endpoint: 1,
            v4: attachment.v4,
            v6: attachment.v6,
            weight: 1,
            state: MemberState::Active,
        }
    };
    Group {
        network: NetworkId(network.to_string()),
        network_name: network.to_string(),
        zone: Zone::default(),
        alias: alias.to_string(),
        policy: Policy {
            endpoint_mode: mode,
            ..Policy::default()
        },
        vip_v4: Some(VIP4),
        vip_v6: Some(VIP6),
        frontend_v4: Some(1),
        frontend_v6: Some(2),
        members: members.iter().map(member).collect(),
    }
}

pub(in crate::dns) const VIP4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
pub(in crate::dns) const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd76, 0x6565, 0x7200, 0, 0, 0, 0, 1);

/// Records of few containers with names that may clash, on some of three Networks.
pub(in crate::dns) fn arbitrary() -> impl Strategy<Value = Records> {
    const NETWORKS: [&str; 3] = [FRONT, "cache.front", "Upper"];
    let some = || prop::sample::subsequence(&NETWORKS[..], 0..=NETWORKS.len());
    let name = prop::sample::select(&["web", "db", "db.cache", "a.front"][..]);
    let containers = prop::collection::vec((name, some(), 0..3_u16), 0..6);
    (some(), containers, any::<bool>(), 1..3_u32).prop_map(
        |(networks, containers, grouped, ttl)| {
            let containers: Vec<_> = (1..)
                .zip(containers)
                .map(|(n, (name, networks, ports))| {
                    let mut container = container(name, n, &networks);
                    container.publishing.exposed.push(PortRange {
                        protocol: Protocol::Tcp,
                        first: 79,
                        count: ports,
                    });
                    container
                })
                .collect();
            let on_front =
                |one: &&Container| one.attachments.iter().any(|it| it.network.0 == FRONT);
            let members: Vec<_> = containers.iter().filter(on_front).collect();
            let group = group(FRONT, "db", EndpointMode::Vip, &members);
            let observed = Observed {
                networks: networks.into_iter().map(network).collect(),
                ..observed(containers.clone())
            };
            let rules = Rules {
                ttl,
                ..Rules::default()
            };
            let groups = grouped.then_some(group);
            Records::build(&observed, groups.as_slice(), &rules)
        },
    )
}

/// `web` and `db.cache` on the Network `front`, `db` on `cache.front` and on `Upper`, and the alias
/// `many` of thirteen Members on `front`. The namespace with this cookie is on all of them.
pub(in crate::dns) fn sample(rules: &Rules, cookie: u64) -> Records {
    sample_and(rules, cookie, &[])
}

/// The same, and containers of these names on the Network `front`.
pub(in crate::dns) fn sample_and(rules: &Rules, cookie: u64, others: &[&str]) -> Records {
    const CACHE: &str = "cache.front";
    const UPPER: &str = "Upper";
    let asker = |name: &str| {
        let mut container = container(name, 1, &[FRONT, CACHE, UPPER]);
        container.netns = container.netns.map(|netns| Netns { cookie, ..netns });
        container
    };
    let mut containers = vec![
        asker("web"),
        container("db.cache", 2, &[FRONT]),
        container("db", 3, &[CACHE, UPPER]),
    ];
    for (container, first, count) in [(0, 80, 1), (2, 5_000, 40), (1, 53, 2)] {
        let protocol = Protocol::Tcp;
        let exposed = vec![PortRange {
            protocol,
            first,
            count,
        }];
        containers[container].publishing.exposed = exposed;
    }
    containers.extend((0..13).map(|n| container(&format!("m{n}"), 20 + n, &[FRONT])));
    let mut many = group(
        FRONT,
        "many",
        EndpointMode::Dnsrr,
        &containers[3..].iter().collect::<Vec<_>>(),
    );
    many.members.iter_mut().for_each(|member| member.v6 = None);
    containers.extend(
        (100..)
            .zip(others)
            .map(|(n, name)| container(name, n, &[FRONT])),
    );
    let observed = Observed {
        networks: [FRONT, CACHE, UPPER].map(network).into(),
        ..observed(containers)
    };
    Records::build(&observed, &[many], rules)
}
