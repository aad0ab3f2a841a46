//! The world of the scenarios: four containers of one Network and the tables that say so.

mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::{
    Addr, Algorithm, Cells, Endpoint, EndpointState, Frontend, FrontendKey, Interface,
    InterfaceFlags, Link, Mac, Network, NetworkFlags, OpenPort, Port, Settings, Slot, Source,
    SourceKey, Subnet, SubnetKey, Timeouts, Veth, VethFlags,
};

pub use places::*;

/// The tables that userspace owns.
#[derive(Clone, Debug)]
pub struct World {
    pub settings: Settings,
    pub veths: BTreeMap<u32, Veth>,
    pub endpoints: BTreeMap<u32, Endpoint>,
    pub frontends: BTreeMap<FrontendKey, Frontend>,
    pub slots: BTreeMap<u32, Slot>,
    pub ports: BTreeMap<u32, Cells>,
    pub sources: BTreeMap<SourceKey, Source>,
    pub locals: BTreeSet<Addr>,
    pub interfaces: BTreeMap<u32, Interface>,
    pub networks: BTreeMap<u16, Network>,
    pub subnets: BTreeMap<SubnetKey, Subnet>,
    pub open_ports: BTreeSet<OpenPort>,
    pub links: BTreeSet<Link>,
    /// When the daemon last was alive, in nanoseconds since boot.
    pub heartbeat: u64,
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
            ports: BTreeMap::new(),
            sources: BTreeMap::new(),
            locals: BTreeSet::new(),
            interfaces: BTreeMap::new(),
            networks: BTreeMap::new(),
            subnets: BTreeMap::new(),
            open_ports: BTreeSet::new(),
            links: BTreeSet::new(),
            // At any time it was a moment ago.
            heartbeat: u64::MAX,
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
                zone: host.zone(),
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
                zone: host.zone(),
                state: EndpointState::Active as u8,
                ..Endpoint::default()
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

    /// The same on a host with an uplink and two Networks that are masqueraded, and with published
    /// ports: 8080 → 80 of `ONE` on every address, 8053/udp → 53 of `ONE`, 5000 to 5009 → 6000 to 6009
    /// of `ONE`, 9000 → 80 of `FAR`, 8443 → 443 of `ONE` on the uplink's addresses alone, 7000 → 70 of
    /// nobody, 8081 → 80 of `CLIENT`.
    pub fn hosting() -> Self {
        let mut world = Self::new();
        world.attach(FAR);
        (
            world.settings.masquerade_first,
            world.settings.masquerade_last,
        ) = MASQUERADE;
        world.network(ZONE, BRIDGE, BRIDGE_MAC);
        world.network(OTHER_ZONE, OTHER_BRIDGE, OTHER_BRIDGE_MAC);
        world.interface(UPLINK, UPLINK_MAC, 0, InterfaceFlags::UPLINK, host_addr);
        for family in [Family::V4, Family::V6] {
            let wildcard = FrontendKey::wildcard(family == Family::V4);
            let exact = host_addr(family).into();
            world.publish(wildcard, 6, 8_080..=8_080, Some((ONE, 80)));
            world.publish(wildcard, 17, 8_053..=8_053, Some((ONE, 53)));
            world.publish(wildcard, 6, 5_000..=5_009, Some((ONE, 6_000)));
            world.publish(wildcard, 6, 9_000..=9_000, Some((FAR, 80)));
            world.publish(exact, 6, 8_443..=8_443, Some((ONE, 443)));
            world.publish(wildcard, 6, 7_000..=7_000, None);
            world.publish(wildcard, 6, 8_081..=8_081, Some((CLIENT, 80)));
            world.publish(wildcard, 132, 3_868..=3_868, Some((ONE, 3_868)));
        }
        world
    }

    fn network(&mut self, zone: u16, bridge: u32, mac: Mac) {
        let [v4, v6] = [Family::V4, Family::V6].map(|family| gateway(zone, family));
        let masks = (Addr::mask(96 + 24), Addr::mask(64));
        let network = Network {
            subnet_v4: v4.into(),
            subnet_v4_mask: masks.0,
            subnet_v6: v6.into(),
            subnet_v6_mask: masks.1,
            gateway_v4: v4.into(),
            gateway_v6: v6.into(),
            bridge,
            flags: NetworkFlags::SERVED | NetworkFlags::MASQUERADE_V4 | NetworkFlags::MASQUERADE_V6,
            mac,
            ..Network::default()
        };
        self.networks.insert(zone, network);
        for (address, prefix_length) in [(v4, 96 + 24), (v6, 64)] {
            let key = SubnetKey {
                prefix_length,
                address: address.into(),
            };
            self.subnets.insert(key, Subnet { zone, _pad: 0 });
        }
        self.interface(bridge, mac, zone, InterfaceFlags::BRIDGE, |family| {
            gateway(zone, family)
        });
    }

    fn interface(
        &mut self,
        ifindex: u32,
        mac: Mac,
        zone: u16,
        flags: u32,
        address: impl Fn(Family) -> IpAddr,
    ) {
        let [v4, v6] = [Family::V4, Family::V6].map(|family| Addr::from(address(family)));
        self.locals.extend([v4, v6]);
        let interface = Interface {
            v4,
            v6,
            mac,
            zone,
            flags,
        };
        self.interfaces.insert(ifindex, interface);
    }

    /// Publishes a range of host ports; the Backend's ports begin at the one that is given.
    pub fn publish(
        &mut self,
        address: Addr,
        protocol: u8,
        range: std::ops::RangeInclusive<u16>,
        backend: Option<(Host, u16)>,
    ) {
        let first = *range.start();
        for port in range {
            if let Some(index) = Cells::index(protocol, port) {
                let cells = self.ports.entry(index).or_default();
                *cells = cells.with(port, first);
            }
        }
        let id = 200 + self.frontends.len() as u32 % 50;
        let first_slot = id * 100;
        if let Some((host, port)) = backend {
            let slot = Slot {
                endpoint: host.0,
                port: Port::new(port),
                _pad: 0,
            };
            self.slots.insert(first_slot, slot);
        }
        let frontend = Frontend {
            id,
            first_slot,
            slot_count: u32::from(backend.is_some()),
            origin: Port::new(first),
            ..Frontend::default()
        };
        let key = FrontendKey::published(address, Port::new(first), protocol);
        self.frontends.insert(key, frontend);
    }

    /// The daemon is away, and has never known of this interface.
    pub fn unattended(mut self, unknown: u32) -> Self {
        self.heartbeat = 0;
        self.interfaces.remove(&unknown);
        self
    }

    /// Port 80 of `host` is published and may be reached at its own address, by what comes from `interface`;
    /// 0: from everywhere.
    pub fn open(mut self, host: Host, zone: u16, interface: u32) -> Self {
        for family in [Family::V4, Family::V6] {
            self.open_ports.insert(OpenPort {
                address: host.addr(family).into(),
                port: Port::new(80),
                zone,
                protocol: 6,
                _pad: [0; 3],
                interface,
            });
        }
        self
    }

    /// Sets flags of a Network.
    pub fn flag(mut self, zone: u16, flags: u32) -> Self {
        self.networks.get_mut(&zone).expect("a Network").flags |= flags;
        self
    }

    /// Clears flags of a Network.
    pub fn unflag(mut self, zone: u16, flags: u32) -> Self {
        self.networks.get_mut(&zone).expect("a Network").flags &= !flags;
        self
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
