//! Frames and tables in memory: the datapath outside the kernel, for tests and `veer explain`.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use bytemuck::Pod;
use lb_common::{
    Addr, Affinity, AffinityKey, BackendCounters, Bucket, Cells, Connection, Endpoint, EndpointId,
    Event, FlowKey, FragmentKey, FragmentPorts, Frontend, FrontendCounters, FrontendKey, Interface,
    Limit, Link, Mac, Network, OpenPort, Reason, RuleCounters, Settings, Slot, SocketBackend,
    SocketKey, SocketReverse, Source, SourceKey, Subnet, SubnetKey, Veth, Zone,
};

use crate::checksum::Delta;
use crate::frame::{Checksum, Frame};
use crate::headers::{ETHERNET, ETHERTYPE, Ipv4, Ipv6, TYPE_IPV4, TYPE_IPV6};
use crate::tables::{Amend, Full, Insert, Store, Tables};
use crate::way::{Route, Way};

/// A way out of the host.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// First address of the destinations.
    pub network: Addr,
    /// Their prefix mask, over all 128 bits.
    pub mask: Addr,
    pub ifindex: u32,
    /// Bytes of the largest network packet.
    pub mtu: u16,
    /// The interface's MAC address and the next hop's, if that one is known.
    pub macs: Option<(Mac, Mac)>,
}

/// A packet in memory, its checksums complete.
#[derive(Clone, Debug, Default)]
pub struct Buffer {
    pub bytes: Vec<u8>,
    pub ifindex: u32,
    /// Interface that it reached the host on, when it is about to leave; 0: the host made it.
    pub came_from: u32,
    /// Nanoseconds since boot.
    pub now: u64,
    /// The host's routes, the more exact ones first.
    pub exits: Vec<Exit>,
}

impl Buffer {
    /// The EtherType of a frame with an Ethernet header; 0 if it is cut short.
    fn protocol_of_frame(&self) -> u16 {
        self.load(ETHERTYPE).unwrap_or(0)
    }

    fn range(&mut self, offset: u32, length: usize) -> Result<&mut [u8], Reason> {
        let start = offset as usize;
        self.bytes
            .get_mut(start..start + length)
            .ok_or(Reason::RewriteFailed)
    }
}

impl Frame for Buffer {
    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    fn came_from(&self) -> u32 {
        self.came_from
    }

    fn segment_size(&self) -> u32 {
        0
    }

    fn route(&self, way: &mut Way) -> Route {
        let to = way.destination();
        let exit = self
            .exits
            .iter()
            .find(|exit| to.matches(&exit.network, &exit.mask));
        exit.map_or(Route::None, |exit| {
            way.answer(exit.ifindex, exit.mtu, exit.macs)
        })
    }

    fn send_out(&mut self, way: &Way, route: Route) -> Result<(), Reason> {
        match route {
            Route::Neighbour => self.store(0, &[way.destination_mac, way.source_mac]),
            Route::Home => self.store(0, &[Mac::NONE; 2]),
            Route::NoNeighbour | Route::TooBig | Route::None => Ok(()),
        }
    }

    fn send_back(&mut self) {}

    fn now(&self) -> u64 {
        self.now
    }

    fn tick(&self) -> u64 {
        self.now
    }

    fn len(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn load<T: Pod>(&self, offset: u32) -> Option<T> {
        let start = offset as usize;
        let bytes = self.bytes.get(start..start + size_of::<T>())?;
        Some(bytemuck::pod_read_unaligned(bytes))
    }

    fn store<T: Pod>(&mut self, offset: u32, value: &T) -> Result<(), Reason> {
        self.range(offset, size_of::<T>())?
            .copy_from_slice(bytemuck::bytes_of(value));
        Ok(())
    }

    fn store_summed<T: Pod>(&mut self, offset: u32, value: &T) -> Result<(), Reason> {
        self.store(offset, value)
    }

    fn widen(&mut self, bytes: i32) -> Result<(), Reason> {
        let header = if self.protocol_of_frame() == TYPE_IPV4 {
            Ipv4::LENGTH
        } else {
            Ipv6::LENGTH
        };
        let at = (ETHERNET + header) as usize;
        let less = bytes.min(0).unsigned_abs() as usize;
        let more = vec![0; bytes.max(0) as usize];
        if self.bytes.len() < at + less {
            return Err(Reason::RewriteFailed);
        }
        self.bytes.splice(at..at + less, more);
        Ok(())
    }

    fn patch_l4(
        &mut self,
        offset: u32,
        delta: u32,
        _kind: Checksum,
        udp: bool,
    ) -> Result<(), Reason> {
        let check: u16 = self.load(offset).ok_or(Reason::RewriteFailed)?;
        if udp && check == 0 {
            return Ok(());
        }
        let new = Delta::ZERO.plus(delta).applied_to(check);
        self.store(offset, &if udp && new == 0 { u16::MAX } else { new })
    }

    fn protocol(&self) -> u16 {
        match self.bytes.first().map(|byte| byte >> 4) {
            Some(4) => TYPE_IPV4,
            Some(6) => TYPE_IPV6,
            _ => 0,
        }
    }

    fn dress(&mut self, ethertype: u16) -> Result<(), Reason> {
        self.bytes.splice(0..0, [0; ETHERNET as usize]);
        self.store(ETHERTYPE, &ethertype)
    }

    fn exchange_header(&mut self, to_v4: bool) -> Result<(), Reason> {
        let start = ETHERNET as usize;
        let (old, new, ethertype) = if to_v4 {
            (Ipv6::LENGTH, Ipv4::LENGTH, TYPE_IPV4)
        } else {
            (Ipv4::LENGTH, Ipv6::LENGTH, TYPE_IPV6)
        };
        if self.bytes.len() < start + old as usize {
            return Err(Reason::RewriteFailed);
        }
        let header = vec![0; new as usize];
        self.bytes.splice(start..start + old as usize, header);
        self.store(ETHERTYPE, &ethertype)
    }

    fn resize(&mut self, len: u32) -> Result<(), Reason> {
        self.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn address_to_host(&mut self) -> Result<(), Reason> {
        Ok(())
    }
}

/// All tables of a datapath in memory. Fill the public fields, run packets, look at what changed.
#[derive(Debug, Default)]
pub struct Memory {
    pub settings: Settings,
    pub veths: HashMap<u32, Veth>,
    pub endpoints: HashMap<EndpointId, Endpoint>,
    pub frontends: HashMap<FrontendKey, Frontend>,
    pub slots: HashMap<u32, Slot>,
    pub ports: HashMap<u32, Cells>,
    pub sources: HashMap<SourceKey, Source>,
    pub rule_counters: RefCell<HashMap<u16, RuleCounters>>,
    pub locals: HashSet<Addr>,
    pub interfaces: HashMap<u32, Interface>,
    /// When the daemon last was alive, in nanoseconds since boot.
    pub heartbeat: u64,
    pub networks: HashMap<Zone, Network>,
    pub subnets: HashMap<SubnetKey, Subnet>,
    pub open_ports: HashSet<OpenPort>,
    pub links: HashSet<Link>,
    pub sockets: RefCell<HashMap<SocketKey, SocketReverse>>,
    pub socket_backends: RefCell<HashMap<SocketKey, SocketBackend>>,
    pub connections: RefCell<HashMap<FlowKey, Connection>>,
    pub half_open: RefCell<HashMap<FlowKey, Connection>>,
    /// Most entries in `connections`; `None`: no limit.
    pub capacity: Option<usize>,
    pub turns: RefCell<HashMap<u32, u64>>,
    pub loads: RefCell<HashMap<EndpointId, u64>>,
    pub affinity: RefCell<HashMap<AffinityKey, Affinity>>,
    pub fragments: RefCell<HashMap<FragmentKey, FragmentPorts>>,
    pub reasons: RefCell<HashMap<Reason, u64>>,
    pub frontend_counters: RefCell<HashMap<u32, FrontendCounters>>,
    pub backend_counters: RefCell<HashMap<EndpointId, BackendCounters>>,
    pub limits: RefCell<[Bucket; Limit::COUNT as usize]>,
    pub events: RefCell<Vec<Event>>,
    /// State of the pseudo-random numbers.
    pub seed: Cell<u32>,
}

impl Memory {
    fn store(&self, store: Store) -> &RefCell<HashMap<FlowKey, Connection>> {
        match store {
            Store::Connections => &self.connections,
            Store::HalfOpen => &self.half_open,
        }
    }

    /// How often `reason` was counted.
    pub fn reason(&self, reason: Reason) -> u64 {
        self.reasons.borrow().get(&reason).copied().unwrap_or(0)
    }
}

fn get<K: Hash + Eq, V: Copy>(map: &RefCell<HashMap<K, V>>, key: &K) -> Option<V> {
    map.borrow().get(key).copied()
}

fn change<K: Hash + Eq + Copy, V: Default>(
    map: &RefCell<HashMap<K, V>>,
    key: K,
    f: impl FnOnce(&mut V),
) {
    f(map.borrow_mut().entry(key).or_default());
}

impl Tables for Memory {
    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }

    fn veth(&self, ifindex: u32) -> Option<&Veth> {
        self.veths.get(&ifindex)
    }

    fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(&id)
    }

    fn frontend(&self, key: &FrontendKey) -> Option<Frontend> {
        self.frontends.get(key).copied()
    }

    fn cell(&self, protocol: u8, port: u16) -> u16 {
        let cells = Cells::index(protocol, port).and_then(|index| self.ports.get(&index));
        cells.map_or(0, |cells| cells.get(port))
    }

    fn source(&self, key: &SourceKey) -> Option<Source> {
        let of_list = self
            .sources
            .iter()
            .filter(|(rule, _)| rule.list == key.list);
        let matching = of_list.filter(|(rule, _)| {
            let mask = Addr::mask((rule.prefix_length - 32) as u8);
            key.address.matches(&rule.address, &mask)
        });
        let longest = matching.max_by_key(|(rule, _)| rule.prefix_length);
        longest.map(|(_, source)| *source)
    }

    fn count_rule(&self, rule: u16, now: u64) {
        change(&self.rule_counters, rule, |counters| {
            counters.connections += 1;
            counters.last = now;
        });
    }

    fn is_local(&self, address: &Addr) -> bool {
        self.locals.contains(address)
    }

    fn interface(&self, ifindex: u32) -> Option<&Interface> {
        self.interfaces.get(&ifindex)
    }

    fn heartbeat(&self) -> u64 {
        self.heartbeat
    }

    fn network(&self, zone: Zone) -> Option<&Network> {
        self.networks.get(&zone)
    }

    fn subnet(&self, address: &Addr) -> Option<Zone> {
        let matching = self.subnets.iter().filter(|(subnet, _)| {
            let mask = Addr::mask(subnet.prefix_length as u8);
            address.matches(&subnet.address, &mask)
        });
        let longest = matching.max_by_key(|(subnet, _)| subnet.prefix_length);
        longest.map(|(_, subnet)| subnet.zone)
    }

    fn is_open(&self, port: &OpenPort) -> bool {
        self.open_ports.contains(port)
    }

    fn is_linked(&self, link: &Link) -> bool {
        self.links.contains(link)
    }

    fn socket(&self, key: &SocketKey) -> Option<SocketReverse> {
        get(&self.sockets, key)
    }

    fn set_socket(&self, key: &SocketKey, value: &SocketReverse) {
        self.sockets.borrow_mut().insert(*key, *value);
    }

    fn socket_backend(&self, key: &SocketKey) -> Option<SocketBackend> {
        get(&self.socket_backends, key)
    }

    fn set_socket_backend(&self, key: &SocketKey, value: &SocketBackend) {
        self.socket_backends.borrow_mut().insert(*key, *value);
    }

    fn slot(&self, index: u32) -> Option<Slot> {
        self.slots.get(&index).copied()
    }

    fn find(&self, store: Store, key: &FlowKey, into: &mut Connection) -> bool {
        let Some(entry) = get(self.store(store), key) else {
            return false;
        };
        *into = entry;
        true
    }

    fn meet(&self, key: &FlowKey, now: u64, into: &mut Connection) -> bool {
        match self.connections.borrow_mut().get_mut(key) {
            Some(entry) => {
                entry.pass(now);
                *into = *entry;
                true
            }
            None => false,
        }
    }

    fn has(&self, store: Store, key: &FlowKey) -> bool {
        self.store(store).borrow().contains_key(key)
    }

    fn insert(
        &self,
        store: Store,
        key: &FlowKey,
        value: &Connection,
        how: Insert,
    ) -> Result<(), Full> {
        let mut map = self.store(store).borrow_mut();
        let exists = map.contains_key(key);
        let is_full = store == Store::Connections
            && !exists
            && self.capacity.is_some_and(|capacity| map.len() >= capacity);
        if is_full || (exists && how == Insert::New) {
            return Err(Full);
        }
        map.insert(*key, *value);
        Ok(())
    }

    fn amend(&self, store: Store, key: &FlowKey, amend: &Amend) {
        if let Some(entry) = self.store(store).borrow_mut().get_mut(key) {
            amend.apply(entry);
        }
    }

    fn remove(&self, store: Store, key: &FlowKey) -> bool {
        self.store(store).borrow_mut().remove(key).is_some()
    }

    fn take_turn(&self, frontend: u32) -> u64 {
        let mut turn = 0;
        change(&self.turns, frontend, |next| {
            turn = *next;
            *next += 1;
        });
        turn
    }

    /// A linear congruential generator (Numerical Recipes §7.1), its high bits.
    fn random(&self) -> u32 {
        self.seed.set(
            self.seed
                .get()
                .wrapping_mul(1_664_525)
                .wrapping_add(1_013_904_223),
        );
        self.seed.get() >> 8
    }

    fn load(&self, endpoint: EndpointId) -> u64 {
        get(&self.loads, &endpoint).unwrap_or(0)
    }

    fn add_load(&self, endpoint: EndpointId, opened: bool) {
        change(&self.loads, endpoint, |load: &mut u64| {
            *load = if opened {
                *load + 1
            } else {
                load.saturating_sub(1)
            };
        });
    }

    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        get(&self.affinity, key)
    }

    fn set_affinity(&self, key: &AffinityKey, value: &Affinity) {
        self.affinity.borrow_mut().insert(*key, *value);
    }

    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        get(&self.fragments, key)
    }

    fn set_fragment(&self, key: &FragmentKey, value: &FragmentPorts) {
        self.fragments.borrow_mut().insert(*key, *value);
    }

    fn allows(&self, limit: Limit, now: u64) -> bool {
        let rate = match limit {
            Limit::Refusals => self.settings.refusals,
            Limit::Events => self.settings.events,
        };
        self.limits.borrow_mut()[limit as usize].take(rate, now)
    }

    fn count(&self, reason: Reason) {
        change(&self.reasons, reason, |count| *count += 1);
    }

    fn count_opened(&self, frontend: u32, backend: EndpointId) {
        change(&self.frontend_counters, frontend, |counters| {
            counters.connections += 1
        });
        change(&self.backend_counters, backend, |counters| {
            counters.connections += 1
        });
    }

    fn count_refused(&self, frontend: u32) {
        change(&self.frontend_counters, frontend, |counters| {
            counters.refused += 1
        });
    }

    fn count_packet(&self, backend: EndpointId, bytes: u32) {
        change(&self.backend_counters, backend, |counters| {
            counters.packets += 1;
            counters.bytes += u64::from(bytes);
        });
    }

    fn emit(&self, event: &Event) {
        self.events.borrow_mut().push(*event);
    }
}
