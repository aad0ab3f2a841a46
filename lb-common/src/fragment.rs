//! IP fragments: the first one teaches the ports, the others have none.

use bytemuck::{Pod, Zeroable};

use crate::{Addr, Port, Zone, map_types};

/// One fragmented packet (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct FragmentKey {
    pub source: Addr,
    pub destination: Addr,
    /// Identification as on the wire: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    pub zone: Zone,
    /// IP protocol number of the fragmented packet.
    pub protocol: u8,
    /// Always zero.
    pub _pad: u8,
}

/// What the first fragment said, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FragmentPorts {
    /// Nanoseconds since boot.
    pub seen: u64,
    pub source_port: Port,
    pub destination_port: Port,
    /// Always zero.
    pub _pad: u32,
}

map_types!(FragmentKey: 40, FragmentPorts: 16);
