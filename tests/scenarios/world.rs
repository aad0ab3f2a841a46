//! The world of the scenarios: four containers of one Network and the tables that say so.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::{
    Addr, Algorithm, Endpoint, EndpointState, Frontend, FrontendKey, Mac, Port, Settings, Slot,
    Timeouts, VIP_MAC, Veth, VethFlags,
};
use veer_tests::packets::End;

pub const ZONE: u16 = 7;

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
    pub fn veth(self) -> u32 {
        100 + self.0
    }

    pub fn mac(self) -> Mac {
        Mac::new([0x02, 0x42, 0x0a, 0x09, 0, self.0 as u8])
    }

    pub fn v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 9, 0, 1 + self.0 as u8)
    }

    pub fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1 + self.0 as u16)
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

/// The tables that userspace owns.
#[derive(Clone, Debug)]
pub struct World {
    pub settings: Settings,
    pub veths: BTreeMap<u32, Veth>,
    pub endpoints: BTreeMap<u32, Endpoint>,
    pub frontends: BTreeMap<FrontendKey, Frontend>,
    pub slots: BTreeMap<u32, Slot>,
}

impl World {
    /// Four containers and five Groups.
    pub fn new() -> Self {
        let mut world = Self {
            settings: Settings {
                vips_v4: Ipv4Addr::new(198, 18, 0, 0).into(),
                vips_v4_mask: Addr::mask(96 + 15),
                vips_v6: Ipv6Addr::new(0xfd76, 0x6565, 0x7200, 0, 0, 0, 0, 0).into(),
                vips_v6_mask: Addr::mask(48),
                timeouts: Timeouts::default(),
                refusals: 1_000,
                events: 1_000,
                ..Settings::default()
            },
            veths: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            frontends: BTreeMap::new(),
            slots: BTreeMap::new(),
        };
        for host in [CLIENT, ONE, TWO, OTHER] {
            world.attach(host);
        }
        world.group(PAIR, &[ONE, TWO]);
        world.group(SINGLE, &[ONE]);
        world.group(EMPTY, &[]);
        world.group(SELF, &[CLIENT]);
        world.group(PORTED, &[ONE]);
        world.each_slot(PORTED, |slot| slot.port = Port::new(8080));
        world
    }

    fn attach(&mut self, host: Host) {
        let (v4, v6) = (host.v4().into(), host.v6().into());
        self.veths.insert(
            host.veth(),
            Veth {
                v4,
                v6,
                link_local: host.link_local().into(),
                endpoint: host.0,
                generation: 1,
                mac: host.mac(),
                zone: ZONE,
                flags: VethFlags::ANTI_SPOOFING,
                _pad: 0,
            },
        );
        self.endpoints.insert(
            host.0,
            Endpoint {
                v4,
                v6,
                ifindex: host.veth(),
                generation: 1,
                mac: host.mac(),
                zone: ZONE,
                state: EndpointState::Active as u8,
                _pad: [0; 15],
            },
        );
    }

    /// Publishes a Group; each family has a Frontend and a range of slots of its own.
    pub fn group(&mut self, vip: Vip, members: &[Host]) {
        for (index, family) in [Family::V4, Family::V6].into_iter().enumerate() {
            let id = u32::from(vip.0) * 2 + index as u32;
            let first_slot = id * 100;
            for (slot, host) in members.iter().enumerate() {
                let slot = first_slot + slot as u32;
                self.slots.insert(
                    slot,
                    Slot {
                        endpoint: host.0,
                        ..Slot::default()
                    },
                );
            }
            let key = FrontendKey::vip(vip.addr(family).into(), ZONE);
            let slot_count = members.len() as u32;
            self.frontends.insert(
                key,
                Frontend {
                    id,
                    first_slot,
                    slot_count,
                    ..Frontend::default()
                },
            );
        }
    }

    /// Changes both families' Frontends of a Group.
    pub fn each_frontend(&mut self, vip: Vip, change: impl Fn(&mut Frontend)) {
        for family in [Family::V4, Family::V6] {
            let key = FrontendKey::vip(vip.addr(family).into(), ZONE);
            change(self.frontends.get_mut(&key).expect("a Group of this world"));
        }
    }

    /// Changes every slot of a Group.
    pub fn each_slot(&mut self, vip: Vip, change: impl Fn(&mut Slot)) {
        for family in [Family::V4, Family::V6] {
            let key = FrontendKey::vip(vip.addr(family).into(), ZONE);
            let frontend = self.frontends[&key];
            let range = frontend.first_slot..frontend.first_slot + frontend.slot_count;
            self.slots
                .range_mut(range)
                .for_each(|(_, slot)| change(slot));
        }
    }

    /// Balances a Group otherwise.
    pub fn balance(mut self, vip: Vip, algorithm: Algorithm) -> Self {
        self.each_frontend(vip, |frontend| frontend.algorithm = algorithm as u8);
        self
    }

    /// The container is gone: its Endpoint is down, whatever was pinned to it is void.
    pub fn retire(&mut self, host: Host) {
        let endpoint = self
            .endpoints
            .get_mut(&host.0)
            .expect("a container of this world");
        endpoint.state = EndpointState::Down as u8;
        endpoint.generation += 1;
    }

    /// Another container gets this one's addresses, MAC and veth, but not its Endpoint id.
    pub fn replace(&mut self, host: Host) {
        self.retire(host);
        let new = host.0 + 10;
        let endpoint = Endpoint {
            generation: 1,
            state: EndpointState::Active as u8,
            ..self.endpoints[&host.0]
        };
        self.endpoints.insert(new, endpoint);
        self.veths
            .get_mut(&host.veth())
            .expect("a container of this world")
            .endpoint = new;
    }

    /// The container has been told to stop.
    pub fn drain(&mut self, host: Host) {
        let endpoint = self
            .endpoints
            .get_mut(&host.0)
            .expect("a container of this world");
        endpoint.state = EndpointState::Draining as u8;
    }
}
