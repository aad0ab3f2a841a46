//! What is wanted: the datapath's state, and what goes with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use lb_common::{Algorithm, EndpointId, Zone};
use serde::{Deserialize, Serialize};

use super::State;
use crate::config::FirewallRule;
use crate::model::{ContainerId, Gate, Group, MemberState, Netns, NetworkId, Notice, Protocol};
use crate::sysctl::Sysctl;

/// Everything that follows from one observation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    pub state: State,
    /// By name of the Network, then alias.
    pub groups: Vec<Group>,
    /// Every attachment to a served Network, by name of the container, then of the Network.
    pub endpoints: Vec<ServedEndpoint>,
    /// One for each network namespace that can be entered.
    pub resolvers: Vec<ServedNamespace>,
    /// Published ports, those of one Frontend together.
    pub ports: Vec<ServedPorts>,
    /// The rules about clients of published ports, in their order.
    pub firewall: Vec<ServedRule>,
    /// Kernel settings that the way out needs.
    pub sysctls: Vec<Sysctl>,
    /// The table in nftables that masquerades, where the kernel does that.
    pub rules: Option<String>,
    pub notices: Vec<Notice>,
}

/// One attachment, as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedEndpoint {
    /// 0 while it is not programmed.
    pub id: EndpointId,
    pub generation: u32,
    pub container: ContainerId,
    pub container_name: String,
    pub network: NetworkId,
    pub network_name: String,
    pub zone: Zone,
    pub state: MemberState,
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
    /// `None` while the interface is not there.
    pub interface: Option<ServedInterface>,
    /// Aliases of the Groups it is in, lower-case.
    pub groups: Vec<String>,
}

/// The host's end of an attachment, and the container's address on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedInterface {
    pub ifindex: u32,
    pub name: String,
    /// Of the container's interface.
    pub mac: [u8; 6],
}

/// A rule about clients of published ports, and the number of its counter; 0: it shares the one of
/// Frontends' own lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedRule {
    pub rule: FirewallRule,
    pub number: u16,
}

/// Consecutive ports of an address of the host, as the operator sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedPorts {
    /// [`lb_common::Frontend::id`].
    pub frontend: u32,
    /// As people write it, `0.0.0.0:8080/tcp`.
    pub place: String,
    /// The unspecified address stands for every one of its family.
    pub address: IpAddr,
    pub protocol: Protocol,
    pub first: u16,
    pub last: u16,
    /// Where the first Backend listens for the first one; 0: there is none.
    pub port: u16,
    /// Who is published, such as `container web`.
    pub target: String,
    /// Those that get new Connections.
    pub endpoints: Vec<EndpointId>,
    #[serde(skip)]
    pub algorithm: Algorithm,
}

/// A network namespace that is served: its names and its ways to VIPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedNamespace {
    pub netns: Netns,
    pub container: ContainerId,
    /// The routes this namespace should have, no more.
    pub routes: Vec<VipRoute>,
    /// Whether veer knows every name that its container may ask for, and so may answer it.
    pub knows_names: bool,
    /// Name servers that its container asks by itself, whose place veer takes.
    pub servers: Vec<Ipv4Addr>,
    /// Where it may be answered on the host; `None` if none of its Networks has an address of the host's.
    pub gate: Option<Gate>,
}

/// A route inside a container's namespace: a Network's VIPs are on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VipRoute {
    /// Index of the container's interface in its own namespace.
    pub container_ifindex: u32,
    pub to: IpNet,
}
