//! ICMP errors between a client of one family and a Backend of the other: message and quotation are
//! written anew in the other family (RFC 7915 §4.2, §5.2), with eight bytes of the quoted transport
//! header (RFC 792), by which their receiver knows its Connection.

use lb_common::{Port, Reason};

use crate::checksum::{Delta, pseudo};
use crate::family::DIFFERENCE;
use crate::frame::Frame;
use crate::headers::{ETHERNET, ICMP, ICMPV6, Icmp, Ipv4, Ipv6, Ipv6Beginning, UDP};
use crate::icmp_error::{reach, way_out};
use crate::outcome::Outcome;
use crate::refuse::ipv4;
use crate::tables::{Tables, Work};

/// Bytes of the quoted transport header.
const QUOTED: u32 = 8;
/// Length of an ICMPv6 error with its quotation.
const LENGTH_V6: u32 = Icmp::LENGTH + Ipv6::LENGTH + QUOTED;
const LENGTH_V4: u32 = Icmp::LENGTH + Ipv4::LENGTH + QUOTED;
/// Where the quotation's network header is.
const QUOTED_V6: u32 = ETHERNET + Ipv6::LENGTH + Icmp::LENGTH;
const QUOTED_V4: u32 = ETHERNET + Ipv4::LENGTH + Icmp::LENGTH;

/// The smallest packet that every IPv6 link takes (RFC 8200 §5).
const LEAST_V6: u16 = 1_280;

/// Sends an error about the Connection of `work.this` on in the other family. It comes from whom its
/// receiver talks to: who wrote it has no name there.
#[inline(always)]
pub fn exchange(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Outcome {
    // Two BPF functions, called one after the other, so that their stacks do not add up.
    if !translate(frame, work) {
        return Outcome::left(Reason::IcmpErrorUnknown);
    }
    send(frame, tables, work)
}

#[inline(never)]
fn send(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Outcome {
    sent(frame, tables, work).into()
}

#[inline(always)]
fn sent(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Result<Outcome, Reason> {
    let route = way_out(frame, tables, work)?;
    put(frame, work)?;
    reach(frame, tables, work, route)
}

/// Takes what the error says to `work.quoted`, in the other family's words: the two words of the
/// message, length and hops of what is quoted, and the second word of its transport header.
#[inline(never)]
fn translate(frame: &impl Frame, work: &mut Work) -> bool {
    translated(frame, work).is_some()
}

#[inline(always)]
fn translated(frame: &impl Frame, work: &mut Work) -> Option<()> {
    let icmp: Icmp = frame.load(work.packet.l4)?;
    let l3 = work.packet.l4 + Icmp::LENGTH;
    let (message, length, hops) = if work.packet.is_v4() {
        let ip: Ipv4 = frame.load(l3)?;
        let length = u16::from_be(ip.total_length).wrapping_sub(ip.header_length() as u16);
        (to_v6(icmp)?, length, ip.ttl)
    } else {
        let ip: Ipv6Beginning = frame.load(l3)?;
        // With the fragment header, if there is one.
        let extension = work.quotation.wrapping_sub(l3 + Ipv6::LENGTH);
        let length = u16::from_be(ip.payload_length).wrapping_sub(extension as u16);
        (to_v4(icmp, extension)?, length, ip.hop_limit)
    };
    let rest: [u16; 2] = frame.load(work.quotation + 4)?;
    let rest = if work.reverse.protocol == UDP && rest[1] != 0 {
        [rest[0], change(work).applied_to(rest[1])]
    } else {
        rest
    };
    work.quoted[0] = message[0];
    work.quoted[1] = message[1];
    work.quoted[2] = length as u32;
    work.quoted[3] = hops as u32;
    work.quoted[4] = bytemuck::cast(rest);
    Some(())
}

/// What becomes of the pseudo header and the ports of the quoted packet.
#[inline(always)]
fn change(work: &Work) -> Delta {
    let (reverse, entry) = (&work.reverse, &work.this);
    Delta::ZERO
        .words(reverse.destination.words(), entry.destination.words())
        .words(reverse.source.words(), entry.source.words())
        .half(reverse.source_port.wire(), entry.source_port.wire())
        .half(
            reverse.destination_port.wire(),
            entry.destination_port.wire(),
        )
}

/// The two words of a message.
#[inline(always)]
const fn message(kind: u8, code: u8, rest: u32) -> Option<[u32; 2]> {
    Some([u32::from_ne_bytes([kind, code, 0, 0]), rest.to_be()])
}

/// What an ICMP error is in ICMPv6 (RFC 7915 §4.2). Parameter problems have nothing that they could point
/// at.
#[inline(always)]
const fn to_v6(icmp: Icmp) -> Option<[u32; 2]> {
    match (icmp.kind, icmp.code) {
        (3, 2) => message(4, 1, Ipv6::NEXT_HEADER),
        (3, 3) => message(1, 4, 0),
        (3, 4) => message(2, 0, fits_v6(icmp.sequence) as u32),
        (3, 9 | 10 | 13 | 15) => message(1, 1, 0),
        (3, 0 | 1 | 5..=8 | 11 | 12) => message(1, 0, 0),
        (11, code) => message(3, code, 0),
        _ => None,
    }
}

/// What an ICMPv6 error is in ICMP (RFC 7915 §5.2). `extension` is the length of the quotation's fragment
/// header.
#[inline(always)]
const fn to_v4(icmp: Icmp, extension: u32) -> Option<[u32; 2]> {
    match (icmp.kind, icmp.code) {
        (1, 0 | 2 | 3) => message(3, 1, 0),
        (1, 1) => message(3, 10, 0),
        (1, 4) => message(3, 3, 0),
        (2, _) => message(3, 4, fits_v4(icmp, extension)),
        (3, code) => message(11, code, 0),
        (4, 1) => message(3, 2, 0),
        _ => None,
    }
}

/// How long an IPv6 packet may be that becomes an IPv4 packet of `mtu` bytes, as on the wire. Routers from
/// before RFC 1191 do not say: then it is what every link takes.
#[inline(always)]
const fn fits_v6(mtu: u16) -> u16 {
    let fits = u16::from_be(mtu).saturating_add(DIFFERENCE);
    if fits < LEAST_V6 { LEAST_V6 } else { fits }
}

/// How long an IPv4 packet may be that becomes an IPv6 packet of the length that the message names.
#[inline(always)]
const fn fits_v4(icmp: Icmp, extension: u32) -> u32 {
    let [a, b] = icmp.id.to_ne_bytes();
    let [c, d] = icmp.sequence.to_ne_bytes();
    let fits = u32::from_be_bytes([a, b, c, d]).saturating_sub(DIFFERENCE as u32 + extension);
    if fits > u16::MAX as u32 {
        u16::MAX as u32
    } else {
        fits
    }
}

/// Replaces the packet by the error that `work.quoted` has.
#[inline(always)]
fn put(frame: &mut impl Frame, work: &mut Work) -> Result<(), Reason> {
    if work.packet.is_v4() {
        put_v6(frame, work)
    } else {
        put_v4(frame, work)
    }
}

#[inline(always)]
fn put_v6(frame: &mut impl Frame, work: &Work) -> Result<(), Reason> {
    let entry = &work.this;
    let hops = work.packet.hops_after(entry);
    let outer = Ipv6Beginning::new(ICMPV6, LENGTH_V6 as u16, hops);
    let [_, _, length, hops, ..] = work.quoted;
    let inner = Ipv6Beginning::new(work.reverse.protocol, length as u16, hops as u8);
    let words: [u32; 2] = bytemuck::cast(inner);
    let zero = [0; 4];
    let (source, destination) = (entry.source.words(), entry.destination.words());
    let sum = pseudo(source, destination, ICMPV6, LENGTH_V6 as u16)
        .words(zero, source)
        .words(zero, destination)
        .plus(words[0])
        .plus(words[1])
        .and(said(work));
    frame.exchange_header(false)?;
    frame.resize(ETHERNET + Ipv6::LENGTH + LENGTH_V6)?;
    frame.store(ETHERNET, &outer)?;
    frame.store(ETHERNET + Ipv6::SOURCE, &entry.source)?;
    frame.store(ETHERNET + Ipv6::DESTINATION, &entry.destination)?;
    frame.store(QUOTED_V6, &inner)?;
    frame.store(QUOTED_V6 + Ipv6::SOURCE, &entry.destination)?;
    frame.store(QUOTED_V6 + Ipv6::DESTINATION, &entry.source)?;
    put_rest(frame, work, sum, (QUOTED_V6, Ipv6::LENGTH))
}

#[inline(always)]
fn put_v4(frame: &mut impl Frame, work: &Work) -> Result<(), Reason> {
    let entry = &work.this;
    let (source, destination) = (entry.source, entry.destination);
    let hops = work.packet.hops_after(entry);
    let length = (Ipv4::LENGTH + LENGTH_V4) as u16;
    let outer = ipv4(source, destination, ICMP, length, hops);
    frame.exchange_header(true)?;
    frame.resize(ETHERNET + length as u32)?;
    frame.store(ETHERNET, &outer)?;
    let [_, _, length, hops, ..] = work.quoted;
    let length = (length as u16).wrapping_add(Ipv4::LENGTH as u16);
    let protocol = work.reverse.protocol;
    let inner = ipv4(destination, source, protocol, length, hops as u8);
    frame.store(QUOTED_V4, &inner)?;
    // A network header with its checksum adds nothing to a sum.
    put_rest(frame, work, said(work), (QUOTED_V4, Ipv4::LENGTH))
}

/// The sum of the message's words and of the quoted transport header.
#[inline(always)]
fn said(work: &Work) -> Delta {
    Delta::ZERO
        .plus(work.quoted[0])
        .plus(work.quoted[1])
        .plus(work.quoted[4])
        .half(u16::MAX, work.this.source_port.wire())
        .half(u16::MAX, work.this.destination_port.wire())
}

/// Writes the message's words and the quoted transport header. `quoted`: where the quotation is, and the
/// length of its network header.
#[inline(always)]
fn put_rest(
    frame: &mut impl Frame,
    work: &Work,
    sum: Delta,
    (quoted, header): (u32, u32),
) -> Result<(), Reason> {
    let at = quoted - Icmp::LENGTH;
    frame.store(at, &[work.quoted[0], work.quoted[1]])?;
    frame.store(at + Icmp::CHECKSUM, &sum.finish())?;
    let ports: [Port; 2] = [work.this.destination_port, work.this.source_port];
    frame.store(quoted + header, &ports)?;
    frame.store(quoted + header + 4, &work.quoted[4])
}
