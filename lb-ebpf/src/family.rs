//! A client of one family and a Backend of the other: the network header is exchanged (RFC 7915 §4, §5,
//! without fragments and options).

use lb_common::{Connection, Port, Reason};

use crate::checksum::Delta;
use crate::deliver::checksum_offset;
use crate::frame::{Checksum, Frame};
use crate::headers::{ETHERNET, Ipv4, Ipv6, Ipv6Beginning};
use crate::packet::{Fragment, Kind};
use crate::refuse::ipv4;
use crate::tables::Work;

/// Bytes that an IPv6 header is longer than an IPv4 header.
pub const DIFFERENCE: u16 = (Ipv6::LENGTH - Ipv4::LENGTH) as u16;

/// Gives the packet the other family's header, with the addresses and ports of `work.this`; whether that
/// could be done. Fragments, extension headers and datagrams without a checksum cannot.
#[inline(never)]
pub fn exchange(frame: &mut impl Frame, work: &mut Work) -> bool {
    exchanged(frame, work).is_ok()
}

#[inline(always)]
fn exchanged(frame: &mut impl Frame, work: &mut Work) -> Result<(), Reason> {
    let is_balanced = matches!(work.packet.kind(), Kind::Tcp | Kind::Udp);
    if !is_balanced || work.packet.fragment() != Fragment::Whole {
        return Err(Reason::RewriteFailed);
    }
    let addresses = if work.packet.is_v4() {
        to_v6(frame, work)?
    } else {
        to_v4(frame, work)?
    };
    let offset = checksum_offset(&work.packet).ok_or(Reason::RewriteFailed)?;
    let is_udp = work.packet.kind() == Kind::Udp;
    frame.patch_l4(offset, addresses.fold(), Checksum::Pseudo, is_udp)?;
    let (flow, entry) = (&work.packet.flow, &work.this);
    let ports = Delta::ZERO
        .half(flow.source_port.wire(), entry.source_port.wire())
        .half(flow.destination_port.wire(), entry.destination_port.wire());
    let new: [Port; 2] = [entry.source_port, entry.destination_port];
    frame.store(work.packet.l4, &new)?;
    frame.patch_l4(offset, ports.fold(), Checksum::Segment, is_udp)
}

/// What becomes of the pseudo header: protocol and length stay. An IPv4 address counts as in
/// [`crate::checksum::pseudo`].
#[inline(always)]
fn pseudo_change(entry: &Connection, work: &Work) -> Delta {
    let flow = &work.packet.flow;
    Delta::ZERO
        .words(flow.source.words(), entry.source.words())
        .words(flow.destination.words(), entry.destination.words())
}

#[inline(always)]
fn to_v4(frame: &mut impl Frame, work: &mut Work) -> Result<Delta, Reason> {
    if work.packet.l4 != ETHERNET + Ipv6::LENGTH {
        return Err(Reason::RewriteFailed);
    }
    // Only what is needed: there is no stack for a whole header.
    let old: [u16; 2] = frame
        .load(ETHERNET + Ipv6::PAYLOAD_LENGTH)
        .ok_or(Reason::Malformed)?;
    let [_, hop_limit] = old[1].to_ne_bytes();
    let length = u16::from_be(old[0]).wrapping_add(Ipv4::LENGTH as u16);
    let (entry, protocol) = (&work.this, work.packet.flow.protocol);
    let mut new = ipv4(entry.source, entry.destination, protocol, length);
    let ttl = Delta::ZERO.half(
        u16::from_ne_bytes([new.ttl, protocol]),
        u16::from_ne_bytes([hop_limit, protocol]),
    );
    new.ttl = hop_limit;
    new.checksum = ttl.applied_to(new.checksum);
    let delta = pseudo_change(entry, work);
    frame.exchange_header(true)?;
    frame.store(ETHERNET, &new)?;
    work.packet.l4 = ETHERNET + Ipv4::LENGTH;
    Ok(delta)
}

#[inline(always)]
fn to_v6(frame: &mut impl Frame, work: &mut Work) -> Result<Delta, Reason> {
    if work.packet.l4 != ETHERNET + Ipv4::LENGTH {
        return Err(Reason::RewriteFailed);
    }
    let length: u16 = frame
        .load(ETHERNET + Ipv4::TOTAL_LENGTH)
        .ok_or(Reason::Malformed)?;
    let ttl: [u8; 2] = frame.load(ETHERNET + Ipv4::TTL).ok_or(Reason::Malformed)?;
    let offset = checksum_offset(&work.packet).ok_or(Reason::RewriteFailed)?;
    if frame.load::<u16>(offset) == Some(0) && work.packet.kind() == Kind::Udp {
        return Err(Reason::RewriteFailed);
    }
    let length = u16::from_be(length).wrapping_sub(Ipv4::LENGTH as u16);
    let entry = &work.this;
    // Addresses are stored as they lie in the entry: there is no stack for them.
    let beginning = Ipv6Beginning {
        version_class_flow: 0x6000_0000_u32.to_be(),
        payload_length: length.to_be(),
        next_header: work.packet.flow.protocol,
        hop_limit: ttl[0],
    };
    let delta = pseudo_change(entry, work);
    frame.exchange_header(false)?;
    frame.store(ETHERNET, &beginning)?;
    frame.store(ETHERNET + Ipv6::SOURCE, &entry.source)?;
    frame.store(ETHERNET + Ipv6::DESTINATION, &entry.destination)?;
    work.packet.l4 = ETHERNET + Ipv6::LENGTH;
    Ok(delta)
}
