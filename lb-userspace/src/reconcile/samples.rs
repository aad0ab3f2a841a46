//! Observations for tests.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::model::{
    Attachment, Container, ContainerId, Elsewhere, Link, Netns, Network, NetworkId, NetworkPolicy,
    Observed, Publishing, RunState,
};

/// A Network without containers, on 10.`number`.0.0/16 and fd00:`number`::/64.
pub(super) fn network(name: &str, number: u8) -> Network {
    Network {
        id: NetworkId(format!("id-of-{name}")),
        name: name.to_string(),
        bridge: format!("br-{name}"),
        subnets: vec![
            format!("10.{number}.0.0/16").parse().unwrap(),
            format!("fd00:{number}::/64").parse().unwrap(),
        ],
        internal: false,
        labels: BTreeMap::new(),
        policy: NetworkPolicy::default(),
    }
}

/// A running container without attachments.
pub(super) fn container(name: &str) -> Container {
    Container {
        id: ContainerId(format!("id-of-{name}")),
        name: name.to_string(),
        hostname: name.to_string(),
        state: RunState::Running,
        labels: BTreeMap::new(),
        netns: Some(Netns {
            path: format!("/run/netns/{name}").into(),
            cookie: name.bytes().fold(7, |sum, b| sum * 31 + u64::from(b)),
        }),
        sharers: Vec::new(),
        dns_servers: Vec::new(),
        elsewhere: Elsewhere::Nothing,
        publishing: Publishing::default(),
        attachments: Vec::new(),
    }
}

impl Container {
    /// The same, attached to the Network of this name, dual-stack. `number` makes its addresses and
    /// its interface.
    pub(super) fn attached(mut self, network: &str, number: u16, aliases: &[&str]) -> Self {
        let [high, low] = number.to_be_bytes();
        self.attachments.push(Attachment {
            network: NetworkId(format!("id-of-{network}")),
            endpoint_id: format!("{}-{network}-{number}", self.name),
            v4: Some(Ipv4Addr::new(10, 1, high, low)),
            v6: Some(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, number)),
            aliases: aliases.iter().map(|alias| alias.to_string()).collect(),
            linked: Vec::new(),
            link: Some(Link {
                host_ifindex: 100 + u32::from(number),
                host_name: format!("veth{number}"),
                container_ifindex: 2,
                container_name: "eth0".to_string(),
                mac: [2, 0, 0, 0, high, low],
                link_local: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number)),
            }),
        });
        self
    }

    pub(super) fn labelled(mut self, label: &str, value: &str) -> Self {
        self.labels.insert(label.to_string(), value.to_string());
        self
    }

    pub(super) fn in_state(mut self, state: RunState) -> Self {
        self.state = state;
        self
    }

    /// The same with its last attachment changed.
    pub(super) fn with(mut self, change: impl FnOnce(&mut Attachment)) -> Self {
        change(self.attachments.last_mut().expect("an attachment"));
        self
    }
}

/// Network `net` with these containers.
pub(super) fn observed(containers: impl Into<Vec<Container>>) -> Observed {
    Observed {
        networks: vec![network("net", 1)],
        containers: containers.into(),
        ..Observed::default()
    }
}

/// Containers `name`1 to `name``number` with alias `alias` on Network `net`.
pub(super) fn members(name: &str, number: u16, alias: &str) -> Vec<Container> {
    let member = |n| container(&format!("{name}{n}")).attached("net", n, &[alias]);
    (1..=number).map(member).collect()
}
