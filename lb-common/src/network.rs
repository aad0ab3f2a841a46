//! The host's surroundings: its Networks, interfaces, own addresses and whose subnets are whose.

use bytemuck::{Pod, Zeroable};

use crate::{Addr, Mac, Zone, map_types};

/// Value of the `networks` array, indexed by zone: one Network and what its containers may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Network {
    /// First address of the IPv4 subnet, or [`Addr::NONE`].
    pub subnet_v4: Addr,
    /// Prefix mask of the IPv4 subnet, over all 128 bits.
    pub subnet_v4_mask: Addr,
    /// First address of the IPv6 subnet, or [`Addr::NONE`].
    pub subnet_v6: Addr,
    /// Prefix mask of the IPv6 subnet.
    pub subnet_v6_mask: Addr,
    /// The bridge's own IPv4 address, or [`Addr::NONE`].
    pub gateway_v4: Addr,
    /// The bridge's own IPv6 address, or [`Addr::NONE`].
    pub gateway_v6: Addr,
    /// Source to masquerade with in place of the outgoing interface's address, or [`Addr::NONE`].
    pub host_v4: Addr,
    /// The same for IPv6.
    pub host_v6: Addr,
    /// Interface index of the bridge.
    pub bridge: u32,
    /// A set of [`NetworkFlags`].
    pub flags: u32,
    /// MAC address of the bridge.
    pub mac: Mac,
    /// Always zero.
    pub _pad: u16,
}

/// Bits of [`Network::flags`].
#[derive(Debug)]
pub struct NetworkFlags;

impl NetworkFlags {
    /// This element is filled in. Without it, packets that are neither to a VIP nor of a Connection
    /// are left to the bridge.
    pub const SERVED: u32 = 1;
    /// Nothing leaves the Network and nothing comes in (`--internal`).
    pub const INTERNAL: u32 = 1 << 1;
    /// Containers do not reach each other (`enable_icc=false`).
    pub const NO_ICC: u32 = 1 << 2;
    /// IPv4 to the outside is masqueraded.
    pub const MASQUERADE_V4: u32 = 1 << 3;
    /// IPv6 to the outside is masqueraded.
    pub const MASQUERADE_V6: u32 = 1 << 4;
    /// Published ports and ICMP are reached at the containers' own IPv4 addresses.
    pub const ROUTED_V4: u32 = 1 << 5;
    /// The same for IPv6.
    pub const ROUTED_V6: u32 = 1 << 6;
    /// Every port is reached at the containers' own IPv4 addresses.
    pub const UNPROTECTED_V4: u32 = 1 << 7;
    /// The same for IPv6.
    pub const UNPROTECTED_V6: u32 = 1 << 8;
    /// The host is not reached by IPv4: it has no such address on the bridge.
    pub const ISOLATED_V4: u32 = 1 << 9;
    /// The same for IPv6.
    pub const ISOLATED_V6: u32 = 1 << 11;
    /// What leaves goes through the host's stack, where a rule of nftables masquerades it.
    pub const KERNEL_MASQUERADE: u32 = 1 << 10;
}

impl NetworkFlags {
    /// The flag that says that a family is masqueraded.
    #[inline(always)]
    pub const fn masquerade(is_v4: bool) -> u32 {
        if is_v4 {
            Self::MASQUERADE_V4
        } else {
            Self::MASQUERADE_V6
        }
    }

    /// The flag that says that a family is routed.
    #[inline(always)]
    pub const fn routed(is_v4: bool) -> u32 {
        if is_v4 {
            Self::ROUTED_V4
        } else {
            Self::ROUTED_V6
        }
    }

    /// The flag that says that a family is unprotected.
    #[inline(always)]
    pub const fn unprotected(is_v4: bool) -> u32 {
        if is_v4 {
            Self::UNPROTECTED_V4
        } else {
            Self::UNPROTECTED_V6
        }
    }
}

impl NetworkFlags {
    /// The flag that says that the host is not reached by a family.
    #[inline(always)]
    pub const fn isolated(is_v4: bool) -> u32 {
        if is_v4 {
            Self::ISOLATED_V4
        } else {
            Self::ISOLATED_V6
        }
    }
}

impl Network {
    /// Whether `address` is the bridge's own.
    #[inline(always)]
    pub fn is_gateway(&self, address: &Addr) -> bool {
        *address == self.gateway_v4 || *address == self.gateway_v6
    }

    /// Whether `flag` is set.
    #[inline(always)]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag == flag
    }

    /// Whether `address` is in a subnet of this Network.
    #[inline(always)]
    pub const fn contains(&self, address: &Addr) -> bool {
        if address.is_v4() {
            !self.subnet_v4.is_none() && address.matches(&self.subnet_v4, &self.subnet_v4_mask)
        } else {
            !self.subnet_v6.is_none() && address.matches(&self.subnet_v6, &self.subnet_v6_mask)
        }
    }
}

/// Value of the `interfaces` map, keyed by interface index (u32): an interface of the host that is no
/// container's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Interface {
    /// Primary IPv4 address, or [`Addr::NONE`]: what leaves here is masqueraded with it.
    pub v4: Addr,
    /// Primary global IPv6 address, or [`Addr::NONE`].
    pub v6: Addr,
    pub mac: Mac,
    /// The Network, of a bridge; 0 otherwise.
    pub zone: Zone,
    /// A set of [`InterfaceFlags`].
    pub flags: u32,
}

/// Bits of [`Interface::flags`].
#[derive(Debug)]
pub struct InterfaceFlags;

impl InterfaceFlags {
    /// Published ports are served here.
    pub const UPLINK: u32 = 1;
    /// Packets have no Ethernet header here.
    pub const NO_ETHERNET: u32 = 1 << 2;
    /// The bridge of a Network.
    pub const BRIDGE: u32 = 1 << 3;
}

impl Interface {
    /// Whether `flag` is set.
    #[inline(always)]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag == flag
    }
}

/// Key of the `subnets` map, a longest-prefix match: which Network an address belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct SubnetKey {
    /// Leading bits of `address` that count: for an IPv4 prefix of n bits 96 + n.
    pub prefix_length: u32,
    pub address: Addr,
}

impl SubnetKey {
    /// The key that finds the longest prefix of `address`.
    #[inline(always)]
    pub const fn of(address: Addr) -> Self {
        Self {
            prefix_length: 128,
            address,
        }
    }
}

/// Value of the `subnets` map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Subnet {
    pub zone: Zone,
    /// Always zero.
    pub _pad: u16,
}

/// Value of the `locals` map, keyed by address: an address of the host's own. 127.0.0.0/8 and ::1 are
/// not in the map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Local {
    /// Always zero.
    pub _pad: u32,
}

map_types!(Network: 144, Interface: 44, SubnetKey: 20, Subnet: 4, Local: 4);

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn a_network_contains_its_subnets_alone() {
        let network = Network {
            subnet_v4: Ipv4Addr::new(10, 9, 0, 0).into(),
            subnet_v4_mask: Addr::mask(96 + 16),
            ..Network::default()
        };

        assert!(network.contains(&Ipv4Addr::new(10, 9, 255, 1).into()));
        assert!(!network.contains(&Ipv4Addr::new(10, 10, 0, 1).into()));
        assert!(!network.contains(&Ipv6Addr::LOCALHOST.into()));
        assert!(!Network::default().contains(&Ipv4Addr::new(10, 9, 0, 1).into()));
    }
}
