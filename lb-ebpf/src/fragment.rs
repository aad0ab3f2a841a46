//! Fragments: the first one teaches the ports, the later ones recall them.

use lb_common::{FragmentKey, FragmentPorts};

use crate::packet::Packet;
use crate::tables::Tables;

/// How long a reassembling host waits: nothing older can belong to the same packet (RFC 8200 §4.5).
const LIFETIME: u64 = 60_000_000_000;

#[inline(always)]
fn key(packet: &Packet) -> FragmentKey {
    FragmentKey {
        source: packet.flow.source,
        destination: packet.flow.destination,
        id: packet.fragment_id,
        zone: packet.flow.zone,
        protocol: packet.flow.protocol,
        _pad: 0,
    }
}

/// Remembers the ports of a first fragment. `now` in nanoseconds since boot.
#[inline(always)]
pub fn learn(tables: &impl Tables, packet: &Packet, now: u64) {
    let ports = FragmentPorts {
        seen: now,
        source_port: packet.flow.source_port,
        destination_port: packet.flow.destination_port,
        _pad: 0,
    };
    tables.set_fragment(&key(packet), &ports);
}

/// Gives a later fragment the ports of its first one; whether they are known. `now` in nanoseconds
/// since boot.
#[inline(always)]
pub fn recall(tables: &impl Tables, packet: &mut Packet, now: u64) -> bool {
    let Some(ports) = tables.fragment(&key(packet)) else {
        return false;
    };
    if now.saturating_sub(ports.seen) > LIFETIME {
        return false;
    }
    packet.flow.source_port = ports.source_port;
    packet.flow.destination_port = ports.destination_port;
    true
}
