//! A container, its network namespace and its attachments to Networks.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::NetworkId;

/// The identity of a container, as its provider gives it (Docker: 64 hexadecimal digits).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl ContainerId {
    /// The first twelve characters, the form that people and DNS use.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A container that is attached to at least one Network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub id: ContainerId,
    /// Name without Docker's leading slash.
    pub name: String,
    pub hostname: String,
    pub state: RunState,
    pub labels: BTreeMap<String, String>,
    /// `None` while the namespace cannot be entered yet.
    pub netns: Option<Netns>,
    /// Other containers that live in this one's namespace (`--net container:`), by name.
    pub sharers: Vec<String>,
    /// Whether the container brings its own DNS servers (`--dns`): those are asked from inside its
    /// namespace, in this order, in place of the host's.
    pub dns_servers: Vec<std::net::IpAddr>,
    /// One for each Network, in the order in which DNS asks them.
    pub attachments: Vec<Attachment>,
    #[serde(default)]
    pub elsewhere: Elsewhere,
    #[serde(default)]
    pub publishing: Publishing,
}

/// What a container offers to others than its Networks, and which Network it leaves by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publishing {
    pub ports: Vec<PublishedPorts>,
    /// Ports that its image or its user names, published or not.
    pub exposed: Vec<PortRange>,
    /// The network that leads outside, served or not, and has the published ports; per family.
    pub gateway_v4: Option<NetworkId>,
    pub gateway_v6: Option<NetworkId>,
    /// Names or ids of the containers whose exposed ports it may reach on a Network whose containers
    /// do not reach each other (`--link`).
    pub links: Vec<String>,
}

/// Consecutive ports of a container as they can be reached from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishedPorts {
    pub protocol: Protocol,
    /// An address of the host; `0.0.0.0` and `::` are all of their family, `None` is all of both.
    pub host: Option<IpAddr>,
    /// The first one on the host; `None`: at the container's own address only (routed).
    pub host_port: Option<u16>,
    /// The first one of the container.
    pub port: u16,
    /// How many.
    pub count: u16,
}

/// Consecutive ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    pub protocol: Protocol,
    pub first: u16,
    pub count: u16,
}

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The name, as Docker writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The protocol of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The protocol with this IP protocol number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a container has on networks that veer does not serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Elsewhere {
    #[default]
    Nothing,
    /// A way out, but no names: Docker's default bridge.
    WayOut,
    /// Names that only the Engine's own resolver knows: it has to answer the container.
    Names,
}

/// What a container can do at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Attached, its process not yet running: served like a running one.
    Starting,
    Running,
    /// Stays in DNS and in its Groups, as under Docker.
    Paused,
    /// Has been told to stop: no new Connections, existing ones kept.
    Stopping,
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netns {
    /// A path that `setns` accepts after opening.
    pub path: PathBuf,
    /// The kernel's cookie of the namespace (`SO_NETNS_COOKIE`), unique until reboot.
    pub cookie: u64,
}

/// A container's attachment to one Network: what becomes an Endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub network: NetworkId,
    /// Identity of this attachment; a reconnected container gets another one.
    pub endpoint_id: String,
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
    /// Aliases the user gave on this Network, in the user's case; neither the container's name nor
    /// its short id nor its hostname.
    pub aliases: Vec<String>,
    /// Names that this container alone has for others on the Network (`--link`).
    #[serde(default)]
    pub linked: Vec<Linked>,
    /// `None` until the interface pair exists.
    pub link: Option<Link>,
}

/// A name that one container has for another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// In the user's case, which counts.
    pub alias: String,
    /// A name of the other container.
    pub target: String,
}

/// The veth pair of an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Index of the host-side veth in the host's namespace.
    pub host_ifindex: u32,
    /// Name of the host-side veth.
    pub host_name: String,
    /// Index of the container's interface in its own namespace.
    pub container_ifindex: u32,
    /// Name of the container's interface, such as `eth0`.
    pub container_name: String,
    /// MAC address of the container's interface.
    pub mac: [u8; 6],
    pub link_local: Option<Ipv6Addr>,
}
