//! The key of a Connection: one direction of one flow.

use bytemuck::{Pod, Zeroable};

use crate::{Addr, Port, map_types};

/// The number of a Network: what keeps equal addresses of different Networks apart. 0 is the uplink.
pub type Zone = u16;

/// One direction of one flow, as its packets arrive: before anything is rewritten.
///
/// ICMP echo has no ports: a request carries its identifier as `source_port`, a reply as
/// `destination_port`, the other one is 0, so that reversing works as it does for TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct FlowKey {
    pub source: Addr,
    pub destination: Addr,
    pub source_port: Port,
    pub destination_port: Port,
    /// Zone of the interface that the packet arrived on.
    pub zone: Zone,
    /// IP protocol number; ICMPv6 is 58.
    pub protocol: u8,
    /// Always zero.
    pub _pad: u8,
}

impl FlowKey {
    /// The key of the packets that answer this one, if nothing is rewritten.
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            zone: self.zone,
            protocol: self.protocol,
            _pad: 0,
        }
    }
}

map_types!(FlowKey: 40);
