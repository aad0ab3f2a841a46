//! A Network: one Docker network that veer serves.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The identity of a Network, as its provider gives it (Docker: 64 hexadecimal digits).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(pub String);

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One bridge network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: NetworkId,
    /// The name that operators and DNS use; case matters.
    pub name: String,
    /// Name of the bridge interface.
    pub bridge: String,
    pub subnets: Vec<IpNet>,
    /// Without a way out: DNS queries for strangers' names are not forwarded.
    pub internal: bool,
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub policy: NetworkPolicy,
}

/// What may pass between a Network, the host and the outside: Docker's options of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPolicy {
    /// Docker's `bridge`, which has no names and no aliases.
    pub is_default_bridge: bool,
    pub gateway_v4: Option<Ipv4Addr>,
    pub gateway_v6: Option<Ipv6Addr>,
    /// Whether its containers reach each other (`enable_icc`).
    pub icc: bool,
    pub mode_v4: GatewayMode,
    pub mode_v6: GatewayMode,
    /// Whether what leaves gets an address of the host (`enable_ip_masquerade`).
    pub masquerade: bool,
    /// The address that it gets, if not the one of the interface that it leaves by (`host_ipv4`).
    pub host_v4: Option<Ipv4Addr>,
    pub host_v6: Option<Ipv6Addr>,
    /// Names of the host's interfaces from which published ports are reached at the containers' own
    /// addresses (`trusted_host_interfaces`).
    pub trusted_interfaces: Vec<String>,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self {
            is_default_bridge: false,
            gateway_v4: None,
            gateway_v6: None,
            icc: true,
            mode_v4: GatewayMode::Nat,
            mode_v6: GatewayMode::Nat,
            masquerade: true,
            host_v4: None,
            host_v6: None,
            trusted_interfaces: Vec::new(),
        }
    }
}

/// How a Network and the outside reach each other (`gateway_mode_ipv4`, `gateway_mode_ipv6`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// By addresses of the host alone.
    #[default]
    Nat,
    /// As with NAT, and every port at the containers' own addresses besides.
    NatUnprotected,
    /// By the containers' own addresses: published ports and ICMP.
    Routed,
    /// Not at all: the bridge has no address.
    Isolated,
}

impl GatewayMode {
    /// The mode that Docker calls so.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "nat" => Some(Self::Nat),
            "nat-unprotected" => Some(Self::NatUnprotected),
            "routed" => Some(Self::Routed),
            "isolated" => Some(Self::Isolated),
            _ => None,
        }
    }
}
