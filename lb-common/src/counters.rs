//! Per-CPU counters.

use bytemuck::{Pod, Zeroable};

use crate::map_types;

/// What a Frontend has seen, indexed by [`crate::Frontend::id`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FrontendCounters {
    /// Connections opened.
    pub connections: u64,
    /// Packets that found no Backend and were refused.
    pub refused: u64,
}

/// What a Backend has seen, indexed by Endpoint id. Packets and bytes (whole frames) of both
/// directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BackendCounters {
    /// Connections opened.
    pub connections: u64,
    pub packets: u64,
    pub bytes: u64,
}

/// What a rule about clients has judged, indexed by [`crate::Source::rule`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RuleCounters {
    /// Connections that were about to open.
    pub connections: u64,
    /// When it judged the last one, in nanoseconds since boot.
    pub last: u64,
    /// Which rule this is about, by its content; 0: none.
    pub identity: u64,
}

map_types!(FrontendCounters: 16, BackendCounters: 24, RuleCounters: 24);
