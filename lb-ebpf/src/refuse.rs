//! Fast failure: a TCP reset or an ICMP error in the VIP's name, instead of silence.

use bytemuck::Pod;
use lb_common::{Addr, Event, EventKind, Limit, Reason, Veth};

use crate::checksum::{Delta, pseudo};
use crate::frame::Frame;
use crate::headers::{
    ETHERNET, ICMP, ICMPV6, Icmp, Ipv4, Ipv6, TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, TYPE_IPV4,
    TYPE_IPV6, Tcp,
};
use crate::neighbour::ethernet_to;
use crate::outcome::Outcome;
use crate::packet::{Fragment, Kind, Packet};
use crate::tables::{Tables, Work};

const TTL: u8 = 64;

/// Answers a packet that cannot be forwarded for `reason`, unless enough was answered.
///
/// No room ([`Reason::TableFull`], [`Reason::PortsExhausted`]) stays silent: the client tries again.
#[inline(never)]
pub fn refuse(
    frame: &mut impl Frame,
    tables: &impl Tables,
    veth: &Veth,
    work: &mut Work,
    reason: Reason,
) -> Outcome {
    tell(tables, work, reason);
    match answer(frame, tables, veth, work, reason) {
        Ok(outcome) => {
            tables.count(reason);
            outcome
        }
        Err(Reason::RateLimited) => {
            tables.count(reason);
            Outcome::left(Reason::RateLimited)
        }
        Err(_) => Outcome::left(reason),
    }
}

#[inline(always)]
fn answer(
    frame: &mut impl Frame,
    tables: &impl Tables,
    veth: &Veth,
    work: &Work,
    reason: Reason,
) -> Result<Outcome, Reason> {
    let packet = &work.packet;
    let is_silent = matches!(reason, Reason::TableFull | Reason::PortsExhausted)
        || packet.fragment() == Fragment::Later
        || packet.has_tcp(TCP_RST)
        || packet.kind() == Kind::EchoReply;
    if is_silent {
        return Err(reason);
    }
    if !tables.allows(Limit::Refusals, work.now) {
        return Err(Reason::RateLimited);
    }
    let sent = if packet.kind() == Kind::Tcp {
        reset(frame, veth, packet)?;
        Reason::ResetSent
    } else {
        unreachable(frame, veth, packet)?;
        Reason::UnreachableSent
    };
    frame.address_to_host()?;
    Ok(Outcome::deliver(frame.ifindex(), sent))
}

/// Turns a segment into the reset that answers it (RFC 9293 §3.10.7.1).
#[inline(always)]
fn reset(frame: &mut impl Frame, veth: &Veth, packet: &Packet) -> Result<(), Reason> {
    let segment: Tcp = frame.load(packet.l4).ok_or(Reason::Malformed)?;
    let header = (segment.offset >> 4) as u32 * 4;
    let data = frame.len().saturating_sub(packet.l4 + header);
    let length = data + packet.has_tcp(TCP_SYN) as u32 + packet.has_tcp(TCP_FIN) as u32;
    let is_ack = packet.has_tcp(TCP_ACK);
    let next = u32::from_be(segment.sequence).wrapping_add(length);
    let mut answer = Tcp {
        source_port: segment.destination_port,
        destination_port: segment.source_port,
        sequence: if is_ack { segment.acknowledgment } else { 0 },
        acknowledgment: if is_ack { 0 } else { next.to_be() },
        offset: 5 << 4,
        flags: if is_ack { TCP_RST } else { TCP_RST | TCP_ACK },
        window: 0,
        checksum: 0,
        urgent: 0,
    };
    let (from, to) = (packet.flow.destination, packet.flow.source);
    let words: [u32; 5] = bytemuck::cast(answer);
    answer.checksum = pseudo_of(packet, from, to, TCP, Tcp::LENGTH as u16)
        .words([0; 4], [words[0], words[1], words[2], words[3]])
        .plus(words[4])
        .finish();
    put(frame, veth, packet, TCP, &answer)
}

/// Turns a packet into the ICMP error that answers it, with its header and eight bytes more
/// (RFC 792, RFC 4443 §3.1).
#[inline(always)]
fn unreachable(frame: &mut impl Frame, veth: &Veth, packet: &Packet) -> Result<(), Reason> {
    if packet.is_v4() {
        return unreachable_v4(frame, veth, packet);
    }
    unreachable_v6(frame, veth, packet)
}

#[inline(always)]
fn unreachable_v4(frame: &mut impl Frame, veth: &Veth, packet: &Packet) -> Result<(), Reason> {
    // Options would make the quotation's length vary, and nobody sends them.
    if packet.l4 != ETHERNET + Ipv4::LENGTH {
        return Err(Reason::Malformed);
    }
    let quoted: [u32; 7] = frame.load(ETHERNET).ok_or(Reason::Malformed)?;
    // Destination unreachable: port, host, protocol.
    let code = match packet.kind() {
        Kind::Udp => 3,
        Kind::EchoRequest => 1,
        _ => 2,
    };
    let mut words = [0; 9];
    words[0] = u32::from_ne_bytes([3, code, 0, 0]);
    words[2] = quoted[0];
    words[3] = quoted[1];
    words[4] = quoted[2];
    words[5] = quoted[3];
    words[6] = quoted[4];
    words[7] = quoted[5];
    words[8] = quoted[6];
    let sum = Delta::ZERO
        .words([0; 4], [words[0], words[2], words[3], words[4]])
        .words([0; 4], [words[5], words[6], words[7], words[8]]);
    put(frame, veth, packet, ICMP, &words)?;
    frame.store(ETHERNET + Ipv4::LENGTH + Icmp::CHECKSUM, &sum.finish())
}

#[inline(always)]
fn unreachable_v6(frame: &mut impl Frame, veth: &Veth, packet: &Packet) -> Result<(), Reason> {
    if packet.l4 != ETHERNET + Ipv6::LENGTH {
        return Err(Reason::Malformed);
    }
    let quoted: [u32; 12] = frame.load(ETHERNET).ok_or(Reason::Malformed)?;
    // Destination unreachable: port, address.
    let code = if packet.kind() == Kind::Udp { 4 } else { 3 };
    let first = u32::from_ne_bytes([1, code, 0, 0]);
    let (from, to) = (packet.flow.destination, packet.flow.source);
    let length = Icmp::LENGTH as u16 + 48;
    let sum = pseudo(from.words(), to.words(), ICMPV6, length)
        .plus(first)
        .words([0; 4], [quoted[0], quoted[1], quoted[2], quoted[3]])
        .words([0; 4], [quoted[4], quoted[5], quoted[6], quoted[7]])
        .words([0; 4], [quoted[8], quoted[9], quoted[10], quoted[11]]);
    let mut words = [0; 14];
    words[0] = first;
    let mut index = 0;
    while index < 12 {
        words[index + 2] = quoted[index];
        index += 1;
    }
    put(frame, veth, packet, ICMPV6, &words)?;
    frame.store(ETHERNET + Ipv6::LENGTH + Icmp::CHECKSUM, &sum.finish())
}

#[inline(always)]
fn pseudo_of(packet: &Packet, from: Addr, to: Addr, protocol: u8, length: u16) -> Delta {
    if packet.is_v4() {
        let source = [0, 0, 0, from.v4_word()];
        return pseudo(source, [0, 0, 0, to.v4_word()], protocol, length);
    }
    pseudo(from.words(), to.words(), protocol, length)
}

/// Replaces the frame by a packet from its destination to its source with this payload.
#[inline(always)]
fn put<T: Pod>(
    frame: &mut impl Frame,
    veth: &Veth,
    packet: &Packet,
    protocol: u8,
    payload: &T,
) -> Result<(), Reason> {
    let (from, to) = (packet.flow.destination, packet.flow.source);
    let length = size_of::<T>() as u32;
    if packet.is_v4() {
        frame.resize(ETHERNET + Ipv4::LENGTH + length)?;
        frame.store(0, &ethernet_to(veth, TYPE_IPV4))?;
        let ip = ipv4(from, to, protocol, Ipv4::LENGTH as u16 + length as u16);
        frame.store(ETHERNET, &ip)?;
        return frame.store(ETHERNET + Ipv4::LENGTH, payload);
    }
    frame.resize(ETHERNET + Ipv6::LENGTH + length)?;
    frame.store(0, &ethernet_to(veth, TYPE_IPV6))?;
    let ip = Ipv6 {
        version_class_flow: 0x6000_0000_u32.to_be(),
        payload_length: (length as u16).to_be(),
        next_header: protocol,
        hop_limit: TTL,
        source: from.words(),
        destination: to.words(),
    };
    frame.store(ETHERNET, &ip)?;
    frame.store(ETHERNET + Ipv6::LENGTH, payload)
}

#[inline(always)]
fn ipv4(from: Addr, to: Addr, protocol: u8, total_length: u16) -> Ipv4 {
    let mut ip = Ipv4 {
        version_ihl: 0x45,
        tos: 0,
        total_length: total_length.to_be(),
        id: 0,
        fragment: Ipv4::DO_NOT_FRAGMENT,
        ttl: TTL,
        protocol,
        checksum: 0,
        source: from.v4_word(),
        destination: to.v4_word(),
    };
    let words: [u32; 5] = bytemuck::cast(ip);
    ip.checksum = Delta::ZERO
        .words([0; 4], [words[0], words[1], words[2], words[3]])
        .plus(words[4])
        .finish();
    ip
}

#[inline(always)]
fn tell(tables: &impl Tables, work: &mut Work, reason: Reason) {
    work.event = Event {
        at: work.now,
        flow: work.packet.flow,
        backend: 0,
        frontend: 0,
        kind: EventKind::Dropped as u8,
        reason: reason as u8,
        _pad: [0; 6],
    };
    if tables.allows(Limit::Events, work.now) {
        tables.emit(&work.event);
    }
}
