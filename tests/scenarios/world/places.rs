//! Who and what there is in the world, and under which addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::{Addr, Mac, VIP_MAC};
use lb_ebpf::native::Exit;
use veer_tests::packets::End;

use crate::engine::{At, Hook};

/// The Network of most containers, and another one.
pub const ZONE: u16 = 7;
pub const OTHER_ZONE: u16 = 8;

/// The host's way outside, and the bridges of its Networks.
pub const UPLINK: u32 = 50;
pub const BRIDGE: u32 = 60;
pub const OTHER_BRIDGE: u32 = 61;
/// The uplink's, the router's and the bridges' MAC addresses.
pub const UPLINK_MAC: Mac = Mac::new([0x02, 0x50, 0, 0, 0, 1]);
pub const ROUTER_MAC: Mac = Mac::new([0x02, 0x50, 0, 0, 0, 0xfe]);
pub const BRIDGE_MAC: Mac = Mac::new([0x02, 0x60, 0, 0, 0, 1]);
pub const OTHER_BRIDGE_MAC: Mac = Mac::new([0x02, 0x61, 0, 0, 0, 1]);
/// Ports that masqueraded packets leave from.
pub const MASQUERADE: (u16, u16) = (61_000, 65_535);
/// Bytes of the largest packet on the way to [`NARROW`].
pub const NARROW_MTU: u16 = 1_300;

/// IPv4 or IPv6: every scenario that can is written for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// A container: its number is its Endpoint id, 100 more its veth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host(pub u32);

/// The client of most scenarios.
pub const CLIENT: Host = Host(1);
pub const ONE: Host = Host(2);
pub const TWO: Host = Host(3);
pub const OTHER: Host = Host(4);
/// On the other Network.
pub const FAR: Host = Host(20);

/// Somebody outside, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranger(pub u8);

/// Behind the router, whose MAC address is known.
pub const OUTSIDER: Stranger = Stranger(7);
/// Behind the router and a narrow link.
pub const NARROW: Stranger = Stranger(200);

impl Stranger {
    pub fn addr(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(203, 0, 113, self.0).into(),
            Family::V6 => Ipv6Addr::new(
                0x2001,
                0xdb8,
                0x113,
                u16::from(self.0 / 128),
                0,
                0,
                0,
                u16::from(self.0),
            )
            .into(),
        }
    }

    /// This host as an end of a packet: behind the router.
    pub fn end(self, family: Family, port: u16) -> End {
        End {
            mac: ROUTER_MAC,
            addr: self.addr(family),
            port,
        }
    }
}

/// The host's own address on the uplink.
pub fn host_addr(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// The host on its uplink, as an end of a packet.
pub fn host_end(family: Family, port: u16) -> End {
    End {
        mac: UPLINK_MAC,
        addr: host_addr(family),
        port,
    }
}

/// A Network's gateway: its bridge's own address.
pub fn gateway(zone: u16, family: Family) -> IpAddr {
    match (zone, family) {
        (ZONE, Family::V4) => Ipv4Addr::new(10, 9, 0, 1).into(),
        (ZONE, Family::V6) => Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1).into(),
        (_, Family::V4) => Ipv4Addr::new(10, 10, 0, 1).into(),
        (_, Family::V6) => Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// The address of an address without a route.
pub fn nowhere(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(100, 64, 0, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// An address behind a router that has not answered yet.
pub fn unresolved(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(198, 51, 100, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 1).into(),
    }
}

/// The host's routes, as `surroundings` makes them for the kernel.
pub fn exits() -> Vec<Exit> {
    let exit = |network: &str, bits: u8, ifindex, mtu, macs| {
        let network: IpAddr = network.parse().expect("an address");
        let bits = if network.is_ipv4() { 96 + bits } else { bits };
        Exit {
            network: network.into(),
            mask: Addr::mask(bits),
            ifindex,
            mtu,
            macs,
        }
    };
    let router = Some((UPLINK_MAC, ROUTER_MAC));
    let far = Some((OTHER_BRIDGE_MAC, FAR.mac()));
    vec![
        exit("203.0.113.128", 25, UPLINK, NARROW_MTU, router),
        exit("2001:db8:113:1::", 64, UPLINK, NARROW_MTU, router),
        exit("203.0.113.0", 24, UPLINK, 1_500, router),
        exit("2001:db8:113::", 64, UPLINK, 1_500, router),
        exit("198.51.100.0", 24, UPLINK, 1_500, None),
        exit("2001:db8:100::", 64, UPLINK, 1_500, None),
        exit("10.10.0.0", 24, OTHER_BRIDGE, 1_500, far),
        exit("fd10::", 64, OTHER_BRIDGE, 1_500, far),
    ]
}

/// A VIP by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vip(pub u8);

/// Members `ONE` and `TWO`, round robin.
pub const PAIR: Vip = Vip(1);
/// Member `ONE` alone.
pub const SINGLE: Vip = Vip(2);
/// No Member.
pub const EMPTY: Vip = Vip(3);
/// Member `CLIENT` alone: it calls itself.
pub const SELF: Vip = Vip(4);
/// Member `ONE` alone, on port 8080.
pub const PORTED: Vip = Vip(5);
/// In the VIP range, no Group has it.
pub const NOBODY: Vip = Vip(99);

impl Host {
    pub fn zone(self) -> u16 {
        if self.0 < 20 { ZONE } else { OTHER_ZONE }
    }

    /// Where its packets are met.
    pub fn at(self) -> At {
        At::entering(Hook::EndpointIn, self.veth())
    }

    pub fn veth(self) -> u32 {
        100 + self.0
    }

    pub fn mac(self) -> Mac {
        Mac::new([0x02, 0x42, 0x0a, 0x09, 0, self.0 as u8])
    }

    pub fn v4(self) -> Ipv4Addr {
        let network = if self.zone() == ZONE { 9 } else { 10 };
        Ipv4Addr::new(10, network, 0, 1 + self.0 as u8)
    }

    pub fn v6(self) -> Ipv6Addr {
        let network = if self.zone() == ZONE { 0xfd09 } else { 0xfd10 };
        Ipv6Addr::new(network, 0, 0, 0, 0, 0, 0, 1 + self.0 as u16)
    }

    pub fn link_local(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0x42, 0xaff, 0xfe09, self.0 as u16)
    }

    pub fn addr(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4().into(),
            Family::V6 => self.v6().into(),
        }
    }

    /// This container as an end of a packet.
    pub fn end(self, family: Family, port: u16) -> End {
        End {
            mac: self.mac(),
            addr: self.addr(family),
            port,
        }
    }
}

impl Vip {
    pub fn v4(self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 0, self.0)
    }

    pub fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd76, 0x6565, 0x7200, 0, 0, 0, 0, u16::from(self.0))
    }

    pub fn addr(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4().into(),
            Family::V6 => self.v6().into(),
        }
    }

    /// This VIP as an end of a packet.
    pub fn end(self, family: Family, port: u16) -> End {
        End {
            mac: VIP_MAC,
            addr: self.addr(family),
            port,
        }
    }
}
