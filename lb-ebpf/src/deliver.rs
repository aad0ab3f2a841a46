//! Rewriting a packet as its Connection entry says, and handing it on.

use lb_common::{Addr, Connection, ConnectionFlags as Flags, Port, Reason};

use crate::checksum::Delta;
use crate::frame::{Checksum, Frame};
use crate::headers::{ETHERNET, ICMPV6, Icmp, Ipv4, Ipv4End, Ipv6, TCP, Tcp, UDP, Udp};
use crate::outcome::Outcome;
use crate::packet::{Fragment, Kind, Packet};
use crate::tables::{Tables, Work};
use crate::{family, fragment, track};

/// Hands the packet to the Endpoint that `work.this` says: track, rewrite, count. The caller has made
/// sure that the entry's target still is what it was.
#[inline(always)]
pub fn deliver(
    frame: &mut impl Frame,
    tables: &impl Tables,
    work: &mut Work,
) -> Result<Outcome, Reason> {
    track::track(tables, work);
    if work.packet.fragment() == Fragment::First {
        fragment::learn(tables, &work.packet, work.now);
    }
    let target = tables
        .endpoint(work.this.target)
        .ok_or(Reason::BackendGone)?;
    tables.count_packet(work.this.backend, frame.len());
    frame.store(0, &target.mac)?;
    frame.address_to_host()?;
    if work.this.has(Flags::OTHER_FAMILY) {
        family::exchange(frame, work)?;
    } else {
        rewrite(frame, &work.packet, &work.this)?;
    }
    // In a hairpin the Backend's replies go to the VIP, too.
    let reason = if work.this.has(Flags::FORWARD) {
        Reason::Forwarded
    } else {
        Reason::Replied
    };
    Ok(Outcome::deliver(target.ifindex, reason))
}

/// Gives the packet the addresses and ports of `entry`, and takes a hop where it crosses zones.
#[inline(always)]
pub fn rewrite(frame: &mut impl Frame, packet: &Packet, entry: &Connection) -> Result<(), Reason> {
    let hops = packet.hops_after(entry);
    let addresses = put_addresses(frame, packet, &entry.source, &entry.destination, hops)?;
    if packet.fragment() == Fragment::Later {
        return Ok(());
    }
    let Some(checksum) = checksum_offset(packet) else {
        return Ok(());
    };
    let is_udp = packet.kind() == Kind::Udp;
    // ICMP has no pseudo header (RFC 792), ICMPv6 has (RFC 4443 §2.3).
    if !(packet.is_v4() && is_echo(packet)) {
        frame.patch_l4(checksum, addresses.fold(), Checksum::Pseudo, is_udp)?;
    }
    put_ports(frame, packet, entry, checksum)
}

/// Gives the packet's IP header other addresses and that many hops, and says what that does to the
/// checksums of the layers above. With as few writes as there can be: each costs as much as a lookup.
#[inline(always)]
pub fn put_addresses(
    frame: &mut impl Frame,
    packet: &Packet,
    source: &Addr,
    destination: &Addr,
    hops: u8,
) -> Result<Delta, Reason> {
    let flow = &packet.flow;
    if packet.is_v4() {
        let (source, destination) = (source.v4_word(), destination.v4_word());
        let delta = Delta::ZERO
            .word(flow.source.v4_word(), source)
            .word(flow.destination.v4_word(), destination);
        let checksum = frame.load(ETHERNET + Ipv4::CHECKSUM);
        let header = delta.half(ttl(packet, packet.hops), ttl(packet, hops));
        let end = Ipv4End {
            ttl: hops,
            protocol: flow.protocol,
            checksum: header.applied_to(checksum.ok_or(Reason::RewriteFailed)?),
            source,
            destination,
        };
        return frame.store(ETHERNET + Ipv4::TTL, &end).map(|()| delta);
    }
    if hops != packet.hops {
        frame.store_summed(ETHERNET + Ipv6::HOP_LIMIT, &hops)?;
    }
    // As they lie in their tables: there is no stack for copies.
    if *source != flow.source {
        frame.store(ETHERNET + Ipv6::SOURCE, source)?;
    }
    if *destination != flow.destination {
        frame.store(ETHERNET + Ipv6::DESTINATION, destination)?;
    }
    Ok(Delta::ZERO
        .words(flow.source.words(), source.words())
        .words(flow.destination.words(), destination.words()))
}

/// The half-word of an IPv4 header that has the time to live in it.
#[inline(always)]
const fn ttl(packet: &Packet, hops: u8) -> u16 {
    u16::from_ne_bytes([hops, packet.flow.protocol])
}

#[inline(always)]
fn put_ports(
    frame: &mut impl Frame,
    packet: &Packet,
    entry: &Connection,
    checksum: u32,
) -> Result<(), Reason> {
    let flow = &packet.flow;
    if entry.source_port == flow.source_port && entry.destination_port == flow.destination_port {
        return Ok(());
    }
    let delta = Delta::ZERO
        .half(flow.source_port.wire(), entry.source_port.wire())
        .half(flow.destination_port.wire(), entry.destination_port.wire());
    if is_echo(packet) {
        // One of the two is the identifier, the other is zero before and after.
        let id = entry.source_port.wire() | entry.destination_port.wire();
        frame.store(packet.l4 + Icmp::ID, &id)?;
    } else {
        let ports: [Port; 2] = [entry.source_port, entry.destination_port];
        frame.store(packet.l4, &ports)?;
    }
    frame.patch_l4(
        checksum,
        delta.fold(),
        Checksum::Segment,
        packet.kind() == Kind::Udp,
    )
}

#[inline(always)]
const fn is_echo(packet: &Packet) -> bool {
    matches!(packet.kind(), Kind::EchoRequest | Kind::EchoReply)
}

/// Where the transport checksum is, for what is balanced.
#[inline(always)]
pub const fn checksum_offset(packet: &Packet) -> Option<u32> {
    match packet.flow.protocol {
        TCP => Some(packet.l4 + Tcp::CHECKSUM),
        UDP => Some(packet.l4 + Udp::CHECKSUM),
        crate::headers::ICMP | ICMPV6 => Some(packet.l4 + Icmp::CHECKSUM),
        _ => None,
    }
}
