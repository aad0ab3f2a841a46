//! Names, kinds and default sizes of the maps, as both sides know them.
//!
//! | map | kind | key | value |
//! |---|---|---|---|
//! | `SETTINGS` | array of 1 | 0 | [`crate::Settings`] |
//! | `VETHS` | hash | interface index | [`crate::Veth`] |
//! | `VETH_CHANGES` | array of 1 | 0 | u64: how often `VETHS` was changed |
//! | `ENDPOINTS` | array, mmap | Endpoint id | [`crate::Endpoint`] |
//! | `FRONTENDS` | hash | [`crate::FrontendKey`] | [`crate::Frontend`] |
//! | `PORTS` | array, mmap | [`crate::Cells::index`] | [`crate::Cells`] |
//! | `SOURCES` | longest-prefix match | [`crate::SourceKey`] | [`crate::Source`] |
//! | `RULE_COUNTERS` | per-CPU array | [`crate::Source::rule`] | [`crate::RuleCounters`] |
//! | `LOCALS` | hash | [`crate::Addr`] | [`crate::Local`] |
//! | `INTERFACES` | hash | interface index | [`crate::Interface`] |
//! | `NETWORKS` | array | zone | [`crate::Network`] |
//! | `SUBNETS` | longest-prefix match | [`crate::SubnetKey`] | [`crate::Subnet`] |
//! | `OPEN_PORTS` | hash | [`crate::OpenPort`] | u32: 0 |
//! | `LINKS` | hash | [`crate::Link`] | u32: 0 |
//! | `SOCKET_BACKENDS` | LRU hash | [`crate::SocketKey`] | [`crate::SocketBackend`] |
//! | `SOCKET_REVERSE` | LRU hash | [`crate::SocketKey`] | [`crate::SocketReverse`] |
//! | `SLOTS` | array, mmap | index | [`crate::Slot`] |
//! | `TURNS` | array, mmap | Frontend id | u64: Connections opened in turn so far |
//! | `LOADS` | array, mmap | Endpoint id | u64: established Connections as a Backend |
//! | `CONNECTIONS` | hash | [`crate::FlowKey`] | [`crate::Connection`], established |
//! | `HALF_OPEN` | LRU hash | [`crate::FlowKey`] | [`crate::Connection`], not yet established |
//! | `AFFINITY` | LRU hash | [`crate::AffinityKey`] | [`crate::Affinity`] |
//! | `FRAGMENTS` | LRU hash | [`crate::FragmentKey`] | [`crate::FragmentPorts`] |
//! | `REASONS` | per-CPU array | [`crate::Reason`] | u64 |
//! | `FRONTEND_COUNTERS` | per-CPU array | Frontend id | [`crate::FrontendCounters`] |
//! | `BACKEND_COUNTERS` | per-CPU array | Endpoint id | [`crate::BackendCounters`] |
//! | `LIMITS` | per-CPU array | [`crate::Limit`] | [`crate::Bucket`] |
//! | `EVENTS` | ring buffer | | [`crate::Event`] |
//! | `RESOLVERS` | hash | namespace cookie | [`crate::Resolver`] |
//! | `DNS_LEADS` | hash | namespace cookie | [`crate::Resolver`], where no program on sockets leads to it |
//! | `HEARTBEAT` | array of 1 | 0 | u64: nanoseconds since boot |
//! | `DNS_VIEWS` | hash | namespace cookie | [`crate::dns::View`] |
//! | `DNS_ANSWERS` | hash | [`crate::dns::Question`] | [`crate::dns::Answer`] |
//! | `DNS_COUNTS` | per-CPU array | table | [`crate::dns::Counts`] |
//! | `DNS_SAMPLES` | ring buffer | | [`crate::dns::Sample`] |
//! | `DNS_SOCKETS` | socket storage | descriptor of a socket | u64: cookie of its namespace |
//! | `DNS_GATES` | hash | [`crate::Gate`] | [`crate::Guest`] |
//! | `DNS_DAEMON` | sockets | 0 | descriptor of a socket that is open as long as the daemon answers |

/// Host-side veths.
pub const VETHS: u32 = 16_384;
/// Endpoint ids.
pub const ENDPOINTS: u32 = 65_536;
/// Frontends, and Frontend ids.
pub const FRONTENDS: u32 = 65_536;
/// Slots of all Frontends together.
pub const SLOTS: u32 = 1 << 20;
/// Entries of established Connections, two for each.
pub const CONNECTIONS: u32 = 1 << 20;
/// Entries of half-open Connections, two for each.
pub const HALF_OPEN: u32 = 1 << 16;
/// Clients with affinity.
pub const AFFINITY: u32 = 1 << 16;
/// Fragmented packets under way.
pub const FRAGMENTS: u32 = 1 << 13;
/// Bytes of the event ring buffer: a power of two, and a multiple of the page size.
pub const EVENTS: u32 = 1 << 18;
/// Containers whose DNS is taken over.
pub const RESOLVERS: u32 = 16_384;
/// Elements of [`crate::Cells`]: every port of TCP and UDP.
pub const PORTS: u32 = 2 * 65_536 / crate::Cells::WIDTH;
/// Rules of all lists of clients together.
pub const SOURCES: u32 = 65_536;
/// Counters of rules.
pub const RULES: u32 = 4_096;
/// Addresses of the host's own.
pub const LOCALS: u32 = 16_384;
/// Interfaces of the host that are no container's.
pub const INTERFACES: u32 = 4_096;
/// Networks, and zones.
pub const NETWORKS: u32 = 4_096;
/// Subnets of all Networks.
pub const SUBNETS: u32 = 16_384;
/// Ports of containers that are reached at their own addresses.
pub const OPEN_PORTS: u32 = 65_536;
/// Ports that links open.
pub const LINKS: u32 = 16_384;
/// Sockets of host processes that talk to Backends.
pub const SOCKET_REVERSE: u32 = 65_536;
/// Sockets of host processes that send datagrams to published ports.
pub const SOCKET_BACKENDS: u32 = 16_384;
/// DNS answers in the kernel: three for each name of a Network.
pub const DNS_ANSWERS: u32 = 1 << 18;
/// Bytes of the ring buffer of sampled DNS answers: a power of two, and a multiple of the page size.
pub const DNS_SAMPLES: u32 = 1 << 16;
