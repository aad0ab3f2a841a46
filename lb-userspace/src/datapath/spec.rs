//! What each map must be: the userspace half of the agreement in [`lb_common::maps`].

use lb_common::{
    Addr, Affinity, AffinityKey, BackendCounters, Bucket, Cells, Connection, Endpoint, FlowKey,
    FragmentKey, FragmentPorts, Frontend, FrontendCounters, FrontendKey, Gate, Guest, Interface,
    Limit, Link, Local, Network, OpenPort, Reason, Resolver, RuleCounters, Settings, Slot,
    SocketBackend, SocketKey, SocketReverse, Source, SourceKey, Subnet, SubnetKey, Veth, dns,
    maps as size,
};

use super::bpf::MapInfo;
use crate::config::Maps as Sizes;

/// One map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    /// Its name in the object, and of its pin.
    pub(super) name: &'static str,
    kind: Kind,
    key_size: u32,
    value_size: u32,
    size: Size,
}

#[derive(Clone, Copy, Debug)]
#[repr(u32)]
enum Kind {
    Hash = 1,
    Array = 2,
    PerCpuArray = 6,
    LruHash = 9,
    LongestPrefix = 11,
    Sockets = 15,
    SocketStorage = 24,
    RingBuffer = 27,
}

/// What decides how many entries a map has.
#[derive(Clone, Copy, Debug)]
enum Size {
    Fixed(u32),
    Configured(&'static str, fn(&Sizes) -> u32),
}

/// How a pinned map differs from what the programs expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// An `enum bpf_map_type`.
    pub kind: u32,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
}

macro_rules! maps {
    ($($(#[$doc:meta])* $constant:ident: $kind:ident $key:ty => $value:ty, $size:expr;)+) => {
        $($(#[$doc])* pub(super) const $constant: Spec = Spec {
            name: stringify!($constant),
            kind: Kind::$kind,
            key_size: size_of::<$key>() as u32,
            value_size: size_of::<$value>() as u32,
            size: $size,
        };)+

        /// Every map.
        pub(super) const ALL: &[Spec] = &[$($constant,)+];
    };
}

macro_rules! configured {
    ($key:ident) => {
        Size::Configured(concat!("maps.", stringify!($key)), |sizes| sizes.$key)
    };
}

maps! {
    SETTINGS: Array u32 => Settings, Size::Fixed(1);
    VETHS: Hash u32 => Veth, configured!(veths);
    VETH_CHANGES: Array u32 => u64, Size::Fixed(1);
    ENDPOINTS: Array u32 => Endpoint, configured!(endpoints);
    FRONTENDS: Hash FrontendKey => Frontend, configured!(frontends);
    PORTS: Array u32 => Cells, Size::Fixed(size::PORTS);
    SOURCES: LongestPrefix SourceKey => Source, Size::Fixed(size::SOURCES);
    RULE_COUNTERS: PerCpuArray u32 => RuleCounters, Size::Fixed(size::RULES);
    LOCALS: Hash Addr => Local, Size::Fixed(size::LOCALS);
    INTERFACES: Hash u32 => Interface, Size::Fixed(size::INTERFACES);
    NETWORKS: Array u32 => Network, Size::Fixed(size::NETWORKS);
    SUBNETS: LongestPrefix SubnetKey => Subnet, Size::Fixed(size::SUBNETS);
    OPEN_PORTS: Hash OpenPort => u32, Size::Fixed(size::OPEN_PORTS);
    LINKS: Hash Link => u32, Size::Fixed(size::LINKS);
    SOCKET_BACKENDS: LruHash SocketKey => SocketBackend, Size::Fixed(size::SOCKET_BACKENDS);
    SOCKET_REVERSE: LruHash SocketKey => SocketReverse, Size::Fixed(size::SOCKET_REVERSE);
    SLOTS: Array u32 => Slot, configured!(slots);
    TURNS: Array u32 => u64, configured!(frontends);
    LOADS: Array u32 => u64, configured!(endpoints);
    CONNECTIONS: Hash FlowKey => Connection, configured!(connections);
    HALF_OPEN: LruHash FlowKey => Connection, configured!(half_open);
    AFFINITY: LruHash AffinityKey => Affinity, configured!(affinity);
    FRAGMENTS: LruHash FragmentKey => FragmentPorts, configured!(fragments);
    REASONS: PerCpuArray u32 => u64, Size::Fixed(Reason::COUNT);
    FRONTEND_COUNTERS: PerCpuArray u32 => FrontendCounters, configured!(frontends);
    BACKEND_COUNTERS: PerCpuArray u32 => BackendCounters, configured!(endpoints);
    LIMITS: PerCpuArray u32 => Bucket, Size::Fixed(Limit::COUNT);
    EVENTS: RingBuffer () => (), configured!(events);
    RESOLVERS: Hash u64 => Resolver, configured!(resolvers);
    DNS_LEADS: Hash u64 => Resolver, configured!(resolvers);
    HEARTBEAT: Array u32 => u64, Size::Fixed(1);
    DNS_VIEWS: Hash u64 => dns::View, configured!(resolvers);
    DNS_ANSWERS: Hash dns::AnswerKey => dns::NamedAnswer, configured!(dns_answers);
    DNS_COUNTS: PerCpuArray u32 => dns::Counts, Size::Fixed(dns::COUNTED);
    DNS_SAMPLES: RingBuffer () => (), Size::Fixed(size::DNS_SAMPLES);
    DNS_SOCKETS: SocketStorage i32 => u64, Size::Fixed(0);
    DNS_GATES: Hash Gate => Guest, configured!(resolvers);
    DNS_DAEMON: Sockets u32 => i32, Size::Fixed(1);
}

impl Spec {
    /// The number of entries that `sizes` asks for; of a ring buffer, bytes.
    pub(super) fn entries(&self, sizes: &Sizes) -> u32 {
        match self.size {
            Size::Fixed(entries) => entries,
            Size::Configured(_, of) => of(sizes),
        }
    }

    /// The configuration key that says the number of entries, where there is one.
    pub(super) fn config_key(&self) -> Option<&'static str> {
        match self.size {
            Size::Fixed(_) => None,
            Size::Configured(key, _) => Some(key),
        }
    }

    /// What the programs expect.
    pub(super) fn shape(&self) -> Shape {
        Shape {
            kind: self.kind as u32,
            key_size: self.key_size,
            value_size: self.value_size,
        }
    }
}

impl From<MapInfo> for Shape {
    fn from(info: MapInfo) -> Self {
        Self {
            kind: info.kind,
            key_size: info.key_size,
            value_size: info.value_size,
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kind,
            key_size,
            value_size,
        } = self;
        write!(
            f,
            "type {kind}, keys of {key_size} bytes, values of {value_size} bytes"
        )
    }
}
