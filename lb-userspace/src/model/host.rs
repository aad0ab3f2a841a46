//! The host: the network namespace that veer serves.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The host's interfaces, by index, without the ports of bridges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The kernel's cookie of the namespace (`SO_NETNS_COOKIE`).
    pub cookie: u64,
    pub interfaces: Vec<HostInterface>,
    /// Whether Docker's own rules guard its networks.
    pub has_docker_rules: bool,
    /// Whether who is outside may reach published ports at containers' own addresses.
    pub allows_direct_routing: bool,
    /// Whether veer may not enter containers' namespaces.
    #[serde(default)]
    pub is_confined: bool,
}

/// One interface of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInterface {
    pub ifindex: u32,
    pub name: String,
    /// All zero where the interface has none.
    pub mac: [u8; 6],
    pub kind: HostInterfaceKind,
    /// The first one of each family is what the host itself sends from.
    pub addresses: Vec<IpNet>,
    /// Of either family.
    pub has_default_route: bool,
}

/// What sort of interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostInterfaceKind {
    Loopback,
    Bridge,
    Ethernet,
    /// Its packets begin with their IP header: a tunnel.
    Bare,
    /// Its packets begin with something else, by the number of the kernel's `ARPHRD_` constant.
    Unread(u16),
}

impl Host {
    /// The bridge of this name.
    pub fn bridge(&self, name: &str) -> Option<&HostInterface> {
        self.bridges().find(|one| one.name == name)
    }

    /// Every bridge.
    pub fn bridges(&self) -> impl Iterator<Item = &HostInterface> {
        let interfaces = self.interfaces.iter();
        interfaces.filter(|one| one.kind == HostInterfaceKind::Bridge)
    }

    /// Every address of the host.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let addresses = self.interfaces.iter().flat_map(|one| &one.addresses);
        addresses.map(IpNet::addr)
    }
}
