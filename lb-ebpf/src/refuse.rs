//! Fast failure: a TCP reset or an ICMP error in the VIP's name, instead of silence.

use lb_common::{Addr, Event, EventKind, Limit, Reason, Veth};

use crate::checksum::{Delta, pseudo};
use crate::frame::Frame;
use crate::headers::{
    ETHERNET, Ethernet, ICMP, ICMPV6, Icmp, Ipv4, Ipv6, TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN,
    TYPE_IPV4, TYPE_IPV6, Tcp,
};
use crate::neighbour::ethernet_to;
use crate::outcome::{Outcome, Verdict};
use crate::packet::{Fragment, Kind, Packet};
use crate::tables::{Tables, Work};

const TTL: u8 = 64;

/// Drops a packet for `reason` and answers it, unless that is to stay silent or enough was answered.
///
/// No room ([`Reason::TableFull`], [`Reason::PortsExhausted`]) stays silent: the client tries again. So
/// does what is forbidden: nobody is told what there is behind.
#[inline(always)]
pub fn refuse(
    frame: &mut impl Frame,
    tables: &impl Tables,
    veth: &Veth,
    work: &mut Work,
    reason: Reason,
) -> Outcome {
    let reason = Reason::from_index(work.blur(reason as u64) as u32);
    if reason == Reason::HopsExceeded {
        name_router(tables, veth, work);
    }
    // Each answer is a BPF function of its own, called from here, so that their stacks do not add up.
    let answer = judge(tables, work, reason);
    let answer = Answer(work.blur(answer.0));
    let outcome = if answer == Answer::RESET {
        reset(frame, veth, work)
    } else if answer == Answer::LIMITED {
        tables.count(reason);
        return Outcome::left(Reason::RateLimited);
    } else if answer == Answer::SILENCE {
        return Outcome::left(reason);
    } else if work.packet.is_v4() {
        complain_v4(frame, veth, work, answer)
    } else if quote_v6(frame, work) {
        complain_v6(frame, veth, work, answer)
    } else {
        return Outcome::left(reason);
    };
    if outcome.verdict() == Verdict::Drop {
        return Outcome::left(reason);
    }
    if outcome.reason() != reason {
        tables.count(reason);
    }
    outcome
}

/// What answers a packet: in one word, because BPF functions cannot return more. Anything else than the
/// constants are the two words of an ICMP error.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
struct Answer(u64);

impl Answer {
    const SILENCE: Self = Self(0);
    /// Silence, because enough was answered.
    const LIMITED: Self = Self(1);
    const RESET: Self = Self(2);

    #[inline(always)]
    const fn error(kind: u8, code: u8, mtu: u16) -> Self {
        let first = u32::from_ne_bytes([kind, code, 0, 0]);
        Self((first as u64) << 32 | (mtu as u32).to_be() as u64)
    }

    #[inline(always)]
    const fn words(self) -> [u32; 2] {
        [(self.0 >> 32) as u32, self.0 as u32]
    }

    /// What is counted for an ICMP error.
    #[inline(always)]
    const fn reason(self) -> Reason {
        match self.words()[0].to_ne_bytes() {
            [3, 4, ..] | [2, ..] => Reason::TooBigSent,
            _ => Reason::UnreachableSent,
        }
    }
}

/// Tells userspace, and says what answers the packet.
#[inline(never)]
fn judge(tables: &impl Tables, work: &mut Work, reason: Reason) -> Answer {
    tell(tables, work, reason);
    let packet = &work.packet;
    let is_silent = !is_answered(reason)
        || packet.fragment() == Fragment::Later
        || packet.has_tcp(TCP_RST)
        || matches!(packet.kind(), Kind::EchoReply | Kind::IcmpError);
    if is_silent {
        return Answer::SILENCE;
    }
    if !tables.allows(Limit::Refusals, work.now) {
        return Answer::LIMITED;
    }
    match (reason, packet.is_v4(), packet.kind()) {
        // RFC 792, RFC 4443 §3.3.
        (Reason::HopsExceeded, true, _) => Answer::error(11, 0, 0),
        (Reason::HopsExceeded, false, _) => Answer::error(3, 0, 0),
        // RFC 1191, RFC 8201.
        (Reason::TooBigSent, true, _) => Answer::error(3, 4, work.way.fits()),
        (Reason::TooBigSent, false, _) => Answer::error(2, 0, work.way.fits()),
        // Destination unreachable: the network, or the port, or what else is missing.
        (Reason::NoRoute | Reason::NoSourceAddress, true, _) => Answer::error(3, 0, 0),
        (Reason::NoRoute | Reason::NoSourceAddress, false, _) => Answer::error(1, 0, 0),
        (_, _, Kind::Tcp) => Answer::RESET,
        (_, true, Kind::Udp) => Answer::error(3, 3, 0),
        (_, true, Kind::EchoRequest) => Answer::error(3, 1, 0),
        (_, true, _) => Answer::error(3, 2, 0),
        (_, false, Kind::Udp) => Answer::error(1, 4, 0),
        (_, false, _) => Answer::error(1, 3, 0),
    }
}

/// Whether the sender of a packet that is dropped for `reason` is told.
#[inline(always)]
const fn is_answered(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoFrontend
            | Reason::NoBackend
            | Reason::NoConnection
            | Reason::BackendGone
            | Reason::UnsupportedProtocol
            | Reason::NoRoute
            | Reason::NoSourceAddress
            | Reason::TooBigSent
            | Reason::HopsExceeded
    )
}

/// Lets the answer to a container come from its gateway, which is the hop where the packet ends. To
/// somebody outside it is the host that was asked, and its address is the packet's destination.
#[inline(never)]
fn name_router(tables: &impl Tables, veth: &Veth, work: &mut Work) {
    let Some(network) = tables.network(veth.zone).filter(|_| veth.endpoint != 0) else {
        return;
    };
    let gateway = if work.packet.is_v4() {
        network.gateway_v4
    } else {
        network.gateway_v6
    };
    if !gateway.is_none() {
        work.packet.flow.destination = gateway;
    }
}

/// Gives the answer, which is in the frame, to whoever sent the packet.
#[inline(always)]
fn hand_back(frame: &mut impl Frame, veth: &Veth, sent: Reason) -> Result<Outcome, Reason> {
    if veth.endpoint == 0 {
        frame.send_back();
        return Ok(Outcome::leave(frame.ifindex(), sent));
    }
    frame.address_to_host()?;
    Ok(Outcome::deliver(frame.ifindex(), sent))
}

/// Turns a segment into the reset that answers it (RFC 9293 §3.10.7.1).
#[inline(never)]
fn reset(frame: &mut impl Frame, veth: &Veth, work: &Work) -> Outcome {
    let put = put_reset(frame, veth, &work.packet);
    put.and_then(|()| hand_back(frame, veth, Reason::ResetSent))
        .into()
}

#[inline(always)]
fn put_reset(frame: &mut impl Frame, veth: &Veth, packet: &Packet) -> Result<(), Reason> {
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
    answer.checksum = pseudo(from.words(), to.words(), TCP, Tcp::LENGTH as u16)
        .words([0; 4], [words[0], words[1], words[2], words[3]])
        .plus(words[4])
        .finish();
    let at = put(frame, veth, packet, TCP, Tcp::LENGTH)?;
    frame.store(at, &answer)
}

/// Turns a packet into the ICMP error that answers it, with its header and eight bytes more
/// (RFC 792, RFC 4443 §3.1).
#[inline(never)]
fn complain_v4(frame: &mut impl Frame, veth: &Veth, work: &mut Work, answer: Answer) -> Outcome {
    let put = put_v4(frame, veth, work, answer.words());
    put.and_then(|()| hand_back(frame, veth, answer.reason()))
        .into()
}

/// As [`complain_v4`]: a BPF function of its own, so that their stacks do not add up.
#[inline(never)]
fn complain_v6(frame: &mut impl Frame, veth: &Veth, work: &mut Work, answer: Answer) -> Outcome {
    let put = put_v6(frame, veth, work, answer.words());
    put.and_then(|()| hand_back(frame, veth, answer.reason()))
        .into()
}

#[inline(always)]
fn put_v4(
    frame: &mut impl Frame,
    veth: &Veth,
    work: &mut Work,
    complaint: [u32; 2],
) -> Result<(), Reason> {
    let packet = &work.packet;
    // Options would make the quotation's length vary, and nobody sends them.
    if packet.l4 != ETHERNET + Ipv4::LENGTH {
        return Err(Reason::Malformed);
    }
    let quoted: [u32; 7] = frame.load(ETHERNET).ok_or(Reason::Malformed)?;
    let sum = Delta::ZERO
        .plus(complaint[0])
        .plus(complaint[1])
        .plus(quoted[0])
        .words([0; 4], [quoted[1], quoted[2], quoted[3], quoted[4]])
        .plus(quoted[5])
        .plus(quoted[6]);
    let at = put(frame, veth, packet, ICMP, Icmp::LENGTH + 28)?;
    frame.store(at, &complaint)?;
    frame.store(at + Icmp::CHECKSUM, &sum.finish())?;
    frame.store(at + Icmp::LENGTH, &quoted)
}

/// Length of the ICMPv6 error with what it quotes: the network header and eight bytes more.
const LENGTH_V6: u32 = Icmp::LENGTH + 48;

#[inline(always)]
fn put_v6(
    frame: &mut impl Frame,
    veth: &Veth,
    work: &mut Work,
    complaint: [u32; 2],
) -> Result<(), Reason> {
    let at = put(frame, veth, &work.packet, ICMPV6, LENGTH_V6)?;
    let sum = Delta::ZERO
        .plus(work.sum)
        .plus(complaint[0])
        .plus(complaint[1]);
    frame.store(at, &complaint)?;
    frame.store(at + Icmp::CHECKSUM, &sum.finish())?;
    frame.store(at + Icmp::LENGTH, &work.quoted)
}

/// Takes what an ICMPv6 error quotes to `work.quoted`, and the sum of that and of the pseudo header to
/// `work.sum`. A BPF function of its own, because the compiler keeps every word of it on the stack.
#[inline(never)]
fn quote_v6(frame: &impl Frame, work: &mut Work) -> bool {
    if work.packet.l4 != ETHERNET + Ipv6::LENGTH {
        return false;
    }
    let Some(quoted) = frame.load::<[u32; 12]>(ETHERNET) else {
        return false;
    };
    work.quoted = quoted;
    let (from, to) = (work.packet.flow.destination, work.packet.flow.source);
    work.sum = pseudo(from.words(), to.words(), ICMPV6, LENGTH_V6 as u16)
        .words([0; 4], [quoted[0], quoted[1], quoted[2], quoted[3]])
        .words([0; 4], [quoted[4], quoted[5], quoted[6], quoted[7]])
        .words([0; 4], [quoted[8], quoted[9], quoted[10], quoted[11]])
        .fold();
    true
}

/// Replaces the frame by the headers of a packet from its destination to its source with this many
/// bytes of payload; where the payload begins.
#[inline(always)]
fn put(
    frame: &mut impl Frame,
    veth: &Veth,
    packet: &Packet,
    protocol: u8,
    length: u32,
) -> Result<u32, Reason> {
    let (from, to) = (packet.flow.destination, packet.flow.source);
    if packet.is_v4() {
        let ethernet = ethernet_back(frame, veth, TYPE_IPV4)?;
        frame.resize(ETHERNET + Ipv4::LENGTH + length)?;
        frame.store(0, &ethernet)?;
        let total = Ipv4::LENGTH as u16 + length as u16;
        let ip = ipv4(from, to, protocol, total, TTL);
        frame.store(ETHERNET, &ip)?;
        return Ok(ETHERNET + Ipv4::LENGTH);
    }
    let ethernet = ethernet_back(frame, veth, TYPE_IPV6)?;
    frame.resize(ETHERNET + Ipv6::LENGTH + length)?;
    frame.store(0, &ethernet)?;
    let ip = Ipv6 {
        version_class_flow: 0x6000_0000_u32.to_be(),
        payload_length: (length as u16).to_be(),
        next_header: protocol,
        hop_limit: TTL,
        source: from.words(),
        destination: to.words(),
    };
    frame.store(ETHERNET, &ip)?;
    Ok(ETHERNET + Ipv6::LENGTH)
}

/// The Ethernet header of an answer: to the container from a VIP, or back to where it came from.
#[inline(always)]
fn ethernet_back(frame: &impl Frame, veth: &Veth, ethertype: u16) -> Result<Ethernet, Reason> {
    if veth.endpoint != 0 {
        return Ok(ethernet_to(veth, ethertype));
    }
    let asked: Ethernet = frame.load(0).ok_or(Reason::Malformed)?;
    Ok(Ethernet {
        destination: asked.source,
        source: asked.destination,
        ethertype,
    })
}

/// An IPv4 header without options, its checksum complete.
#[inline(always)]
pub fn ipv4(from: Addr, to: Addr, protocol: u8, total_length: u16, ttl: u8) -> Ipv4 {
    let mut ip = Ipv4 {
        version_ihl: 0x45,
        tos: 0,
        total_length: total_length.to_be(),
        id: 0,
        fragment: Ipv4::DO_NOT_FRAGMENT,
        ttl,
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

/// Tells userspace that a packet was dropped for `reason`.
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
