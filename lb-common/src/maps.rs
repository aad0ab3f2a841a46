//! Names, kinds and default sizes of the maps, as both sides know them.
//!
//! | map | kind | key | value |
//! |---|---|---|---|
//! | `SETTINGS` | array of 1 | 0 | [`crate::Settings`] |
//! | `VETHS` | hash | interface index | [`crate::Veth`] |
//! | `ENDPOINTS` | array, mmap | Endpoint id | [`crate::Endpoint`] |
//! | `FRONTENDS` | hash | [`crate::FrontendKey`] | [`crate::Frontend`] |
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
//! | `HEARTBEAT` | array of 1 | 0 | u64: nanoseconds since boot |

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
