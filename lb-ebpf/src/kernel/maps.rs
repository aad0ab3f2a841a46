//! All maps, and every access to them.
//!
//! `lb_common::maps` lists them. Values that other CPUs may replace are copied at once: a hash
//! element is reused as soon as it is deleted, whoever still looks at it.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::bindings::{BPF_ANY, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use lb_common::{
    Addr, Affinity, AffinityKey, BackendCounters, Bucket, Cells, Connection, Endpoint, EndpointId,
    Event, FlowKey, FragmentKey, FragmentPorts, Frontend, FrontendCounters, FrontendKey, Interface,
    Limit, Link, Local, Network, OpenPort, Reason, Resolver, RuleCounters, Settings, Slot,
    SocketBackend, SocketKey, SocketReverse, Source, SourceKey, Subnet, Veth, Zone, maps as size,
};
use lb_ebpf::{Amend, Full, Insert, Store, Tables, Work};

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
static VETHS: HashMap<u32, Veth> = HashMap::with_max_entries(size::VETHS, BPF_F_NO_PREALLOC);
#[map]
static VETH_CHANGES: Array<u64> = Array::with_max_entries(1, 0);
/// Not pinned: the veths that packets came from of late, for as long as `VETHS` is as it was.
#[map]
static NEAR_VETHS: PerCpuArray<NearVeth> = PerCpuArray::with_max_entries(NEAR, 0);
#[map]
static ENDPOINTS: Array<Endpoint> = Array::with_max_entries(size::ENDPOINTS, BPF_F_MMAPABLE);
#[map]
static FRONTENDS: HashMap<FrontendKey, Frontend> =
    HashMap::with_max_entries(size::FRONTENDS, BPF_F_NO_PREALLOC);
#[map]
static PORTS: Array<Cells> = Array::with_max_entries(size::PORTS, BPF_F_MMAPABLE);
#[map]
static SOURCES: LpmTrie<SourceData, Source> =
    LpmTrie::with_max_entries(size::SOURCES, BPF_F_NO_PREALLOC);
#[map]
static RULE_COUNTERS: PerCpuArray<RuleCounters> = PerCpuArray::with_max_entries(size::RULES, 0);
#[map]
static LOCALS: HashMap<Addr, Local> = HashMap::with_max_entries(size::LOCALS, BPF_F_NO_PREALLOC);
#[map]
static INTERFACES: HashMap<u32, Interface> =
    HashMap::with_max_entries(size::INTERFACES, BPF_F_NO_PREALLOC);
#[map]
static NETWORKS: Array<Network> = Array::with_max_entries(size::NETWORKS, 0);
#[map]
static SUBNETS: LpmTrie<Addr, Subnet> = LpmTrie::with_max_entries(size::SUBNETS, BPF_F_NO_PREALLOC);
#[map]
static OPEN_PORTS: HashMap<OpenPort, u32> =
    HashMap::with_max_entries(size::OPEN_PORTS, BPF_F_NO_PREALLOC);
#[map]
static LINKS: HashMap<Link, u32> = HashMap::with_max_entries(size::LINKS, BPF_F_NO_PREALLOC);
#[map]
static SOCKET_BACKENDS: LruHashMap<SocketKey, SocketBackend> =
    LruHashMap::with_max_entries(size::SOCKET_BACKENDS, 0);
#[map]
static SOCKET_REVERSE: LruHashMap<SocketKey, SocketReverse> =
    LruHashMap::with_max_entries(size::SOCKET_REVERSE, 0);
#[map]
static SLOTS: Array<Slot> = Array::with_max_entries(size::SLOTS, BPF_F_MMAPABLE);
#[map]
static TURNS: Array<u64> = Array::with_max_entries(size::FRONTENDS, BPF_F_MMAPABLE);
#[map]
static LOADS: Array<u64> = Array::with_max_entries(size::ENDPOINTS, BPF_F_MMAPABLE);
#[map]
static CONNECTIONS: HashMap<FlowKey, Connection> =
    HashMap::with_max_entries(size::CONNECTIONS, BPF_F_NO_PREALLOC);
#[map]
static HALF_OPEN: LruHashMap<FlowKey, Connection> =
    LruHashMap::with_max_entries(size::HALF_OPEN, 0);
#[map]
static AFFINITY: LruHashMap<AffinityKey, Affinity> =
    LruHashMap::with_max_entries(size::AFFINITY, 0);
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts> =
    LruHashMap::with_max_entries(size::FRAGMENTS, 0);
#[map]
static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT, 0);
#[map]
static FRONTEND_COUNTERS: PerCpuArray<FrontendCounters> =
    PerCpuArray::with_max_entries(size::FRONTENDS, 0);
#[map]
static BACKEND_COUNTERS: PerCpuArray<BackendCounters> =
    PerCpuArray::with_max_entries(size::ENDPOINTS, 0);
#[map]
static LIMITS: PerCpuArray<Bucket> = PerCpuArray::with_max_entries(Limit::COUNT, 0);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(size::EVENTS, 0);
#[map]
static RESOLVERS: HashMap<u64, Resolver> =
    HashMap::with_max_entries(size::RESOLVERS, BPF_F_NO_PREALLOC);
#[map]
static HEARTBEAT: Array<u64> = Array::with_max_entries(1, 0);
/// Not pinned: room for one packet each of `endpoint_in` and `collect`, which may
/// interrupt each other.
#[map]
static WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(2, 0);

/// Veths that are kept near: a power of two.
const NEAR: u32 = 256;

/// An element of `VETHS`, and how often that had been changed before it was looked up.
#[derive(Clone, Copy)]
#[repr(C)]
struct NearVeth {
    changes: u64,
    ifindex: u32,
    veth: Veth,
}

/// What a [`lb_common::SourceKey`] has after the length of its prefix.
#[derive(Clone, Copy)]
#[repr(C)]
struct SourceData {
    list: u32,
    address: Addr,
}

/// The BPF maps as [`Tables`].
pub struct Maps;

impl Maps {
    /// Room for the packet that this CPU handles.
    #[inline(always)]
    pub fn work<'a>() -> Option<&'a mut Work> {
        Self::room(0)
    }

    /// Room for the packet of `collect`.
    #[inline(always)]
    pub fn spare_work<'a>() -> Option<&'a mut Work> {
        Self::room(1)
    }

    #[inline(always)]
    fn room<'a>(index: u32) -> Option<&'a mut Work> {
        let work = WORK.get_ptr_mut(index)?;
        // SAFETY: per-CPU, and the program of this index does not interrupt itself: soft interrupts
        // do not nest, and migration is disabled while a program runs.
        Some(unsafe { &mut *work })
    }

    /// Where the queries of the namespace with this cookie go.
    #[inline(always)]
    pub fn resolver<'a>(cookie: u64) -> Option<&'a Resolver> {
        // SAFETY: an element that is replaced meanwhile stays readable until the program ends.
        unsafe { RESOLVERS.get(cookie) }
    }

    /// When the daemon last was alive, in nanoseconds since boot.
    #[inline(always)]
    pub fn heartbeat() -> u64 {
        HEARTBEAT.get(0).copied().unwrap_or(0)
    }

    /// One in so many DNS answers is told; 0: none.
    #[inline(always)]
    pub fn dns_samples() -> u32 {
        SETTINGS.get(0).map_or(0, |settings| settings.dns_samples)
    }
}

#[inline(always)]
fn entry(store: Store, key: &FlowKey) -> Option<*mut Connection> {
    match store {
        Store::Connections => CONNECTIONS.get_ptr_mut(key),
        Store::HalfOpen => HALF_OPEN.get_ptr_mut(key),
    }
}

/// Adds to a counter that all CPUs share; the value before.
#[inline(always)]
fn add(counter: *mut u64, by: u64) -> u64 {
    // SAFETY: `counter` is an aligned element of an array map, which is never freed while a program
    // that uses the map runs.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(counter, by) }
}

impl Tables for Maps {
    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        SETTINGS.get(0)
    }

    #[inline(always)]
    fn veth(&self, ifindex: u32) -> Option<&Veth> {
        // Read before the element is, so that what is older is never taken for newer.
        let changes = *VETH_CHANGES.get(0)?;
        let near = NEAR_VETHS.get_ptr_mut(ifindex % NEAR)?;
        // SAFETY: per-CPU, and programs do not interrupt each other: soft interrupts do not nest.
        let near = unsafe { &mut *near };
        if near.ifindex != ifindex || near.changes != changes {
            near.changes = changes;
            near.ifindex = 0;
            // SAFETY: copied at once. An element changes only when its interface comes or goes; a packet
            // that meets this moment is judged by the old values or dropped.
            near.veth = *unsafe { VETHS.get(ifindex) }?;
            near.ifindex = ifindex;
        }
        Some(&near.veth)
    }

    #[inline(always)]
    fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        ENDPOINTS.get(id)
    }

    #[inline(always)]
    fn frontend(&self, key: &FrontendKey) -> Option<Frontend> {
        // SAFETY: copied at once.
        unsafe { FRONTENDS.get(key).copied() }
    }

    #[inline(always)]
    fn cell(&self, protocol: u8, port: u16) -> u16 {
        let cells = Cells::index(protocol, port).and_then(|index| PORTS.get(index));
        cells.map_or(0, |cells| cells.get(port))
    }

    #[inline(always)]
    fn source(&self, key: &SourceKey) -> Option<Source> {
        let data = SourceData {
            list: key.list,
            address: key.address,
        };
        SOURCES.get(Key::new(key.prefix_length, data)).copied()
    }

    #[inline(always)]
    fn count_rule(&self, rule: u16, now: u64) {
        if let Some(counters) = RULE_COUNTERS.get_ptr_mut(u32::from(rule)) {
            // SAFETY: per-CPU.
            let counters = unsafe { &mut *counters };
            counters.connections += 1;
            counters.last = now;
        }
    }

    #[inline(always)]
    fn is_local(&self, address: &Addr) -> bool {
        LOCALS.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn interface(&self, ifindex: u32) -> Option<&Interface> {
        // SAFETY: an element changes only when its interface or its addresses do; a packet that meets
        // this moment goes by the old values or the new ones.
        unsafe { INTERFACES.get(ifindex) }
    }

    #[inline(always)]
    fn heartbeat(&self) -> u64 {
        Self::heartbeat()
    }

    #[inline(always)]
    fn network(&self, zone: Zone) -> Option<&Network> {
        NETWORKS.get(u32::from(zone))
    }

    #[inline(always)]
    fn subnet(&self, address: &Addr) -> Option<Zone> {
        let subnet = SUBNETS.get(Key::new(128, *address));
        subnet.map(|subnet| subnet.zone)
    }

    #[inline(always)]
    fn is_open(&self, port: &OpenPort) -> bool {
        OPEN_PORTS.get_ptr(port).is_some()
    }

    #[inline(always)]
    fn is_linked(&self, link: &Link) -> bool {
        LINKS.get_ptr(link).is_some()
    }

    #[inline(always)]
    fn socket(&self, key: &SocketKey) -> Option<SocketReverse> {
        // SAFETY: copied at once.
        unsafe { SOCKET_REVERSE.get(key).copied() }
    }

    #[inline(always)]
    fn set_socket(&self, key: &SocketKey, value: &SocketReverse) {
        // Without room the process sees the container's address, and works nevertheless.
        let _ = SOCKET_REVERSE.insert(key, value, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn socket_backend(&self, key: &SocketKey) -> Option<SocketBackend> {
        // SAFETY: copied at once.
        unsafe { SOCKET_BACKENDS.get(key).copied() }
    }

    #[inline(always)]
    fn set_socket_backend(&self, key: &SocketKey, value: &SocketBackend) {
        // Without an entry the next datagram may go elsewhere.
        let _ = SOCKET_BACKENDS.insert(key, value, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<Slot> {
        SLOTS.get(index).copied()
    }

    #[inline(always)]
    fn find(&self, store: Store, key: &FlowKey, into: &mut Connection) -> bool {
        let Some(entry) = entry(store, key) else {
            return false;
        };
        // SAFETY: the element is readable until the program ends; copied at once.
        unsafe { core::ptr::copy_nonoverlapping(entry, into, 1) };
        true
    }

    #[inline(always)]
    fn meet(&self, key: &FlowKey, now: u64, into: &mut Connection) -> bool {
        let Some(entry) = CONNECTIONS.get_ptr_mut(key) else {
            return false;
        };
        // SAFETY: as in `find`.
        unsafe { core::ptr::copy_nonoverlapping(entry, into, 1) };
        if into.pass(now) {
            // SAFETY: as in `amend`.
            unsafe { (*entry).last_seen = now };
        }
        true
    }

    #[inline(always)]
    fn has(&self, store: Store, key: &FlowKey) -> bool {
        entry(store, key).is_some()
    }

    #[inline(always)]
    fn insert(
        &self,
        store: Store,
        key: &FlowKey,
        value: &Connection,
        how: Insert,
    ) -> Result<(), Full> {
        let flags = u64::from(if how == Insert::New {
            BPF_NOEXIST
        } else {
            BPF_ANY
        });
        let result = match store {
            Store::Connections => CONNECTIONS.insert(key, value, flags),
            Store::HalfOpen => HALF_OPEN.insert(key, value, flags),
        };
        result.map_err(|_| Full)
    }

    #[inline(always)]
    fn amend(&self, store: Store, key: &FlowKey, amend: &Amend) {
        if let Some(entry) = entry(store, key) {
            // SAFETY: the element is writable until the program ends. Two CPUs may write at once; each
            // field is one aligned word, and the next packet repairs what is lost.
            amend.apply(unsafe { &mut *entry });
        }
    }

    #[inline(always)]
    fn remove(&self, store: Store, key: &FlowKey) -> bool {
        let result = match store {
            Store::Connections => CONNECTIONS.remove(key),
            Store::HalfOpen => HALF_OPEN.remove(key),
        };
        result.is_ok()
    }

    #[inline(always)]
    fn take_turn(&self, frontend: u32) -> u64 {
        TURNS.get_ptr_mut(frontend).map_or(0, |turn| add(turn, 1))
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper has no arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn load(&self, endpoint: EndpointId) -> u64 {
        LOADS.get(endpoint).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn add_load(&self, endpoint: EndpointId, opened: bool) {
        if let Some(load) = LOADS.get_ptr_mut(endpoint) {
            add(load, if opened { 1 } else { u64::MAX });
        }
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        // SAFETY: copied at once.
        unsafe { AFFINITY.get(key).copied() }
    }

    #[inline(always)]
    fn set_affinity(&self, key: &AffinityKey, value: &Affinity) {
        // Without room the client has no affinity this time, which is what an LRU is for.
        let _ = AFFINITY.insert(key, value, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        // SAFETY: copied at once.
        unsafe { FRAGMENTS.get(key).copied() }
    }

    #[inline(always)]
    fn set_fragment(&self, key: &FragmentKey, value: &FragmentPorts) {
        // Without room the later fragments are dropped and counted.
        let _ = FRAGMENTS.insert(key, value, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn allows(&self, limit: Limit, now: u64) -> bool {
        let Some(settings) = self.settings() else {
            return false;
        };
        let rate = match limit {
            Limit::Refusals => settings.refusals,
            Limit::Events => settings.events,
        };
        let Some(bucket) = LIMITS.get_ptr_mut(limit as u32) else {
            return false;
        };
        // SAFETY: per-CPU.
        unsafe { &mut *bucket }.take(rate, now)
    }

    #[inline(always)]
    fn count(&self, reason: Reason) {
        if let Some(counter) = REASONS.get_ptr_mut(reason as u32) {
            // SAFETY: per-CPU.
            unsafe { *counter += 1 };
        }
    }

    #[inline(always)]
    fn count_opened(&self, frontend: u32, backend: EndpointId) {
        if let Some(counters) = FRONTEND_COUNTERS.get_ptr_mut(frontend) {
            // SAFETY: per-CPU.
            unsafe { (*counters).connections += 1 };
        }
        if let Some(counters) = BACKEND_COUNTERS.get_ptr_mut(backend) {
            // SAFETY: per-CPU.
            unsafe { (*counters).connections += 1 };
        }
    }

    #[inline(always)]
    fn count_refused(&self, frontend: u32) {
        if let Some(counters) = FRONTEND_COUNTERS.get_ptr_mut(frontend) {
            // SAFETY: per-CPU.
            unsafe { (*counters).refused += 1 };
        }
    }

    #[inline(always)]
    fn count_packet(&self, backend: EndpointId, bytes: u32) {
        if let Some(counters) = BACKEND_COUNTERS.get_ptr_mut(backend) {
            // SAFETY: per-CPU.
            let counters = unsafe { &mut *counters };
            counters.packets += 1;
            counters.bytes += u64::from(bytes);
        }
    }

    #[inline(always)]
    fn emit(&self, event: &Event) {
        if EVENTS.output::<Event>(event, 0).is_err() {
            self.count(Reason::EventLost);
        }
    }
}
