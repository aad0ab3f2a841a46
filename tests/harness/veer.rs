//! veer's datapath on a test's host, without a daemon: the real object, written by real Steps.

mod small;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use lb_common::{
    Addr, Algorithm, Connection, Endpoint, EndpointId, EndpointState, FlowKey, Frontend,
    FrontendKey, Interface, InterfaceFlags, Mac, Network, NetworkFlags, Port, Reason, Slot, Veth,
    VethFlags,
};
use lb_userspace::config::{Lead, Maps};
use lb_userspace::datapath::{Datapath, Filter, Hook, OBJECT, Options};
use lb_userspace::instance::Instance;
use lb_userspace::reconcile::{Fact, Role, Run, State, plan};
use tempfile::TempDir;

use crate::host::{Host, TestNetwork};
use crate::station::{Family, Station};
use small::{VIPS_V4, VIPS_V6, settings, sizes, slice_v4, slice_v6};

/// Index of the loopback interface, in every namespace.
const LOOPBACK: u32 = 1;

/// The host on its uplink.
const HOST_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// veer on one host. Everything that it loaded and pinned goes when the value is dropped.
#[derive(Debug)]
pub struct Veer<'h> {
    host: &'h Host,
    options: Options,
    /// `None` while the daemon is away.
    datapath: Option<Datapath>,
    wanted: State,
    groups: Vec<Group>,
    /// Ids by index of the host-side veth.
    ids: BTreeMap<u32, EndpointId>,
    last_id: EndpointId,
    next_slot: u32,
    _folder: TempDir,
}

/// The two VIPs of one Group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vip {
    /// Index of the Group.
    group: usize,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

#[derive(Debug)]
struct Group {
    vip: Vip,
    zone: u16,
    algorithm: Algorithm,
    /// Indexes of host-side veths.
    members: Vec<u32>,
}

impl Vip {
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }
}

impl<'h> Veer<'h> {
    /// The datapath of `host`, serving nothing yet.
    pub fn on(host: &'h Host) -> Self {
        Self::with_hook(host, None)
    }

    /// The same, attached to veths by `hook`; `None`: by the best that the kernel has.
    pub fn with_hook(host: &'h Host, hook: Option<Hook>) -> Self {
        Self::with(host, hook, sizes())
    }

    /// The same, with maps of these sizes.
    pub fn with_sizes(host: &'h Host, sizes: Maps) -> Self {
        Self::with(host, None, sizes)
    }

    fn with(host: &'h Host, hook: Option<Hook>, sizes: Maps) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            instance: Instance::of(host.namespace.cookie().unwrap()),
            bpffs: PathBuf::from("/sys/fs/bpf"),
            folder: folder.path().to_path_buf(),
            sizes,
            // No cgroup: nothing here asks for names, and the real root belongs to everybody.
            cgroup: Some(folder.path().to_path_buf()),
            lead: Lead::Sockets,
            hook,
            object: OBJECT,
            log: false,
        };
        let mut veer = Self {
            host,
            options,
            datapath: None,
            wanted: State {
                settings: settings(),
                ..State::default()
            },
            groups: Vec::new(),
            ids: BTreeMap::new(),
            last_id: 0,
            next_slot: 0,
            _folder: folder,
        };
        veer.returns();
        veer
    }

    /// The daemon goes, as if killed. What is pinned stays.
    pub fn goes_away(&mut self) {
        self.datapath = None;
    }

    /// The daemon is there again, and adopts what is pinned.
    pub fn returns(&mut self) {
        let open = || Datapath::open(&self.options);
        let (datapath, _adopted) = self.host.namespace.run(open).unwrap().unwrap();
        self.datapath = Some(datapath);
        self.apply();
    }

    /// Serves these containers: their veths are programmed, and VIPs are on their links. One that was
    /// retired is served anew.
    pub fn serve(&mut self, stations: &[&Station]) {
        for station in stations {
            self.add(station);
        }
        self.apply();
        for station in stations {
            let slice = u32::from(station.zone) - 1;
            station.add_route(slice_v4(slice));
            station.add_route(slice_v6(slice));
        }
    }

    /// A new Group of `members`, in turn. There must be one, for the Network's sake.
    pub fn group(&mut self, members: &[&Station]) -> Vip {
        self.group_with(Algorithm::RoundRobin, members)
    }

    /// A new Group of `members`.
    pub fn group_with(&mut self, algorithm: Algorithm, members: &[&Station]) -> Vip {
        let zone = members.first().expect("a Member says which Network").zone;
        let own = self
            .groups
            .iter()
            .filter(|group| group.zone == zone)
            .count() as u32
            + 1;
        let vip = self.next_vip(zone, own);
        self.groups.push(Group {
            vip,
            zone,
            algorithm,
            members: members.iter().map(|member| member.host_ifindex).collect(),
        });
        self.apply();
        vip
    }

    /// The VIPs of the Group that comes next, with this number on its Network.
    fn next_vip(&self, zone: u16, own: u32) -> Vip {
        let slice = u32::from(zone) - 1;
        let mut v6 = VIPS_V6.segments();
        (v6[3], v6[7]) = (slice as u16, own as u16);
        Vip {
            group: self.groups.len(),
            v4: Ipv4Addr::from(u32::from(VIPS_V4) + slice * 1_024 + own),
            v6: v6.into(),
        }
    }

    /// So many Groups more, of Networks that nobody here is on.
    pub fn more_groups(&mut self, count: u16, members: &[&Station]) {
        let members: Vec<_> = members.iter().map(|member| member.host_ifindex).collect();
        for number in 0..count {
            let (slice, own) = (1 + u32::from(number) / 1_000, 1 + u32::from(number) % 1_000);
            let zone = slice as u16 + 1;
            let vip = self.next_vip(zone, own);
            self.groups.push(Group {
                vip,
                zone,
                algorithm: Algorithm::RoundRobin,
                members: members.clone(),
            });
        }
        self.apply();
    }

    /// The host has an uplink, by which its networks are masqueraded and published ports are reached.
    pub fn faces(&mut self, uplink: u32, network: &TestNetwork) {
        self.faces_as(Role::Uplink, uplink, network);
    }

    /// The same, where programs do as this role on the uplink.
    pub fn faces_as(&mut self, role: Role, uplink: u32, network: &TestNetwork) {
        let zone = u16::from(network.number);
        let [v4, v6] = [false, true].map(|is_v6| network.gateway(is_v6));
        let served = Network {
            subnet_v4: v4.into(),
            subnet_v4_mask: Addr::mask(96 + 24),
            subnet_v6: v6.into(),
            subnet_v6_mask: Addr::mask(64),
            gateway_v4: v4.into(),
            gateway_v6: v6.into(),
            bridge: network.bridge,
            flags: NetworkFlags::SERVED | NetworkFlags::MASQUERADE_V4 | NetworkFlags::MASQUERADE_V6,
            ..Network::default()
        };
        let bridge = Interface {
            v4: v4.into(),
            v6: v6.into(),
            zone,
            flags: InterfaceFlags::BRIDGE,
            ..Interface::default()
        };
        let way_out = Interface {
            v4: HOST_V4.into(),
            v6: HOST_V6.into(),
            flags: InterfaceFlags::UPLINK,
            ..Interface::default()
        };
        let own = [v4.into(), v6.into(), HOST_V4.into(), HOST_V6.into()];
        let facts = [
            Fact::Network(zone, served),
            Fact::Interface(network.bridge, bridge),
            Fact::Interface(uplink, way_out),
        ];
        for fact in facts.into_iter().chain(own.map(Fact::Local)) {
            self.wanted.facts.insert(fact.place(), fact);
        }
        let settings = &mut self.wanted.settings;
        (settings.masquerade_first, settings.masquerade_last) = (61_000, 65_535);
        self.wanted
            .attached
            .extend([(role, uplink), (Role::Bridge, network.bridge)]);
        self.apply();
    }

    /// Processes of the host that are bound to a loopback address reach published ports.
    pub fn hears_itself(&mut self) {
        self.wanted.attached.insert((Role::Loopback, LOOPBACK));
        self.apply();
        let settings = ["route_localnet", "accept_local"];
        let allow = || {
            for key in settings {
                fs::write(format!("/proc/sys/net/ipv4/conf/lo/{key}"), "1").unwrap();
            }
        };
        self.host.namespace.run(allow).unwrap();
    }

    /// Publishes `port` of the container, TCP and UDP, on every address of the host.
    pub fn publish(&mut self, host_port: u16, station: &Station, port: u16) {
        self.wish_published(host_port, station, port);
        self.apply();
    }

    /// Publishes a port of SCTP, which keeps its number, on every address of the host.
    pub fn publish_sctp(&mut self, port: u16, station: &Station) {
        let first_slot = self.wish_slot(station, port);
        self.wish_frontends(port, 132, 50, first_slot);
        self.apply();
    }

    /// The same for many ports under the container's own numbers, each with Frontends of its own.
    pub fn publish_same(&mut self, ports: RangeInclusive<u16>, station: &Station) {
        for port in ports {
            self.wish_published(port, station, port);
        }
        self.apply();
    }

    fn wish_published(&mut self, host_port: u16, station: &Station, port: u16) {
        let first_slot = self.wish_slot(station, port);
        for (protocol, id) in [(6, 40), (17, 42)] {
            self.wanted.cells.put(Run {
                protocol,
                first: host_port,
                last: host_port,
                cell: host_port,
            });
            self.wish_frontends(host_port, protocol, id, first_slot);
        }
    }

    /// A table with the container's `port` alone: the index of its slot.
    fn wish_slot(&mut self, station: &Station, port: u16) -> u32 {
        let slot = Slot {
            endpoint: self.id(station),
            port: Port::new(port),
            _pad: 0,
        };
        let first_slot = self.next_slot;
        self.next_slot += 1;
        self.wanted.slots.insert(first_slot, vec![slot]);
        first_slot
    }

    /// Frontends of both families, with this id and the next one.
    fn wish_frontends(&mut self, host_port: u16, protocol: u8, id: u32, first_slot: u32) {
        for is_v4 in [true, false] {
            let address = FrontendKey::wildcard(is_v4);
            let key = FrontendKey::published(address, Port::new(host_port), protocol);
            let frontend = Frontend {
                id: id + u32::from(is_v4),
                first_slot,
                slot_count: 1,
                origin: Port::new(host_port),
                ..Frontend::default()
            };
            self.wanted.frontends.insert(key, frontend);
        }
    }

    /// veer forgets that the container has an IPv6 address.
    pub fn without_ipv6(&mut self, station: &Station) {
        let id = self.id(station);
        let endpoint = self.wanted.endpoints.get_mut(&id).unwrap();
        endpoint.v6 = Addr::NONE;
        self.apply();
    }

    /// Makes `members` the Members of the Group.
    pub fn set_members(&mut self, vip: Vip, members: &[&Station]) {
        let members = members.iter().map(|member| member.host_ifindex).collect();
        self.groups[vip.group].members = members;
        self.apply();
    }

    /// The container is told to stop: no new Connections to it.
    pub fn drain(&mut self, station: &Station) {
        let id = self.id(station);
        let endpoint = self.wanted.endpoints.get_mut(&id).unwrap();
        endpoint.state = EndpointState::Draining as u8;
        self.leave_groups(station);
        self.apply();
    }

    /// The container is gone: its Endpoint is retired, its veth no longer programmed.
    pub fn retire(&mut self, station: &Station) {
        let id = self.id(station);
        self.wanted.endpoints.remove(&id);
        self.wanted.veths.remove(&station.host_ifindex);
        self.wanted
            .attached
            .remove(&(Role::Endpoint, station.host_ifindex));
        self.leave_groups(station);
        self.apply();
    }

    /// How often `reason` was counted.
    pub fn count(&self, reason: Reason) -> u64 {
        let reasons = self.datapath().reasons().unwrap();
        let found = reasons.iter().find(|(counted, _)| *counted == reason);
        found.map_or(0, |(_, count)| *count)
    }

    /// The clients' entries of the Connections that there are.
    pub fn connections(&self) -> Vec<(FlowKey, Connection)> {
        let all = Filter::default();
        self.datapath().connections(&all, usize::MAX).unwrap()
    }

    /// The container's Endpoint id.
    pub fn id(&self, station: &Station) -> EndpointId {
        self.ids[&station.host_ifindex]
    }

    pub fn datapath(&self) -> &Datapath {
        self.datapath.as_ref().expect("the daemon is there")
    }

    fn leave_groups(&mut self, station: &Station) {
        for group in &mut self.groups {
            group
                .members
                .retain(|member| *member != station.host_ifindex);
        }
    }

    fn add(&mut self, station: &Station) {
        self.last_id += 1;
        let id = self.last_id;
        self.ids.insert(station.host_ifindex, id);
        let (v4, v6, mac) = (station.v4.into(), station.v6.into(), Mac::new(station.mac));
        let endpoint = Endpoint {
            v4,
            v6,
            ifindex: station.host_ifindex,
            generation: 1,
            mac,
            zone: station.zone,
            state: EndpointState::Active as u8,
            ..Endpoint::default()
        };
        let veth = Veth {
            v4,
            v6,
            link_local: station.link_local().map_or(Addr::NONE, Addr::from),
            endpoint: id,
            generation: 1,
            mac,
            zone: station.zone,
            flags: VethFlags::ANTI_SPOOFING,
            _pad: 0,
        };
        self.wanted.endpoints.insert(id, endpoint);
        self.wanted.veths.insert(station.host_ifindex, veth);
        self.wanted
            .attached
            .insert((Role::Endpoint, station.host_ifindex));
    }

    /// Publishes every Group's table, and carries out what is missing.
    fn apply(&mut self) {
        self.write_tables();
        let wanted = &self.wanted;
        let datapath = self.datapath.as_mut().expect("the daemon is there");
        // What is attached is asked of the interfaces, which are the host's.
        let carry_out = || {
            for step in &plan(&datapath.actual().unwrap(), wanted) {
                datapath.apply(step).unwrap();
            }
            datapath.actual().unwrap()
        };
        let actual = self.host.namespace.run(carry_out).unwrap();
        assert_eq!(actual.served(), *wanted);
    }

    fn write_tables(&mut self) {
        for group in &self.groups {
            let members = group.members.iter().map(|ifindex| self.ids[ifindex]);
            let table: Vec<Slot> = members
                .map(|endpoint| Slot {
                    endpoint,
                    ..Slot::default()
                })
                .collect();
            for address in [Addr::from(group.vip.v4), Addr::from(group.vip.v6)] {
                let key = FrontendKey::vip(address, group.zone);
                let known = self.wanted.frontends.get(&key);
                let number = group.vip.group as u32 * 2 + 1 + u32::from(!address.is_v4());
                if known.is_some_and(|f| self.wanted.slots.get(&f.first_slot) == Some(&table)) {
                    continue;
                }
                if let Some(known) = known {
                    self.wanted.slots.remove(&known.first_slot);
                }
                let first_slot = if table.is_empty() { 0 } else { self.next_slot };
                let frontend = Frontend {
                    id: number,
                    first_slot,
                    slot_count: table.len() as u32,
                    affinity: 0,
                    algorithm: group.algorithm as u8,
                    ..Frontend::default()
                };
                self.wanted.frontends.insert(key, frontend);
                if !table.is_empty() {
                    self.wanted.slots.insert(first_slot, table.clone());
                    self.next_slot += table.len() as u32;
                }
            }
        }
    }
}

impl Drop for Veer<'_> {
    fn drop(&mut self) {
        self.datapath = None;
        let uninstall = || Datapath::uninstall(&self.options);
        match self.host.namespace.run(uninstall) {
            Ok(Ok(_uninstalled)) => {}
            Ok(Err(error)) => eprintln!("{error}"),
            Err(error) => eprintln!("{error}"),
        }
    }
}
