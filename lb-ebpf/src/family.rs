//! A client of one family and a Backend of the other: the network header is exchanged (RFC 7915 §4, §5,
//! without options and without extension headers but the fragment header).

use lb_common::{Connection, ConnectionFlags as Flags, Port, Reason};

use crate::checksum::Delta;
use crate::deliver::checksum_offset;
use crate::frame::{Checksum, Frame};
use crate::headers::{ETHERNET, Ipv4, Ipv6, Ipv6Beginning, Ipv6Fragment};
use crate::packet::{Fragment, Kind, Packet};
use crate::refuse::ipv4;
use crate::tables::Work;

/// Bytes that an IPv6 header is longer than an IPv4 header.
pub const DIFFERENCE: u16 = (Ipv6::LENGTH - Ipv4::LENGTH) as u16;
/// Bytes of the header that IPv6 has for fragments.
const FRAGMENT: u16 = Ipv6Fragment::LENGTH as u16;

/// Bytes that the packet is longer by when it has gone by `entry`.
#[inline(always)]
pub const fn growth(packet: &Packet, entry: &Connection) -> u16 {
    if !entry.has(Flags::OTHER_FAMILY) || !packet.is_v4() {
        return 0;
    }
    match packet.fragment() {
        Fragment::Whole => DIFFERENCE,
        Fragment::First | Fragment::Later => DIFFERENCE + FRAGMENT,
    }
}

/// Gives the packet the other family's header, with the addresses and ports of `work.this`. Fails for
/// other extension headers and for datagrams without a checksum.
#[inline(always)]
pub fn exchange(frame: &mut impl Frame, work: &mut Work) -> Result<(), Reason> {
    if exchanged(frame, work) {
        Ok(())
    } else {
        Err(Reason::RewriteFailed)
    }
}

#[inline(never)]
fn exchanged(frame: &mut impl Frame, work: &mut Work) -> bool {
    put(frame, work).is_ok()
}

#[inline(always)]
fn put(frame: &mut impl Frame, work: &mut Work) -> Result<(), Reason> {
    if !matches!(work.packet.kind(), Kind::Tcp | Kind::Udp) {
        return Err(Reason::RewriteFailed);
    }
    let addresses = pseudo_change(&work.this, work);
    if work.packet.is_v4() {
        to_v6(frame, work)?;
    } else {
        to_v4(frame, work)?;
    }
    if work.packet.fragment() == Fragment::Later {
        return Ok(());
    }
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
fn to_v4(frame: &mut impl Frame, work: &mut Work) -> Result<(), Reason> {
    let is_whole = work.packet.fragment() == Fragment::Whole;
    let extension = work.packet.l4.wrapping_sub(ETHERNET + Ipv6::LENGTH);
    // One that long is the fragment header, also of what is whole (RFC 6946), or has nothing to say.
    if extension != 0 && extension != Ipv6Fragment::LENGTH {
        return Err(Reason::RewriteFailed);
    }
    let old: u16 = frame
        .load(ETHERNET + Ipv6::PAYLOAD_LENGTH)
        .ok_or(Reason::Malformed)?;
    let length = u16::from_be(old)
        .wrapping_add(Ipv4::LENGTH as u16)
        .wrapping_sub(extension as u16);
    let entry = &work.this;
    let mut new = ipv4(
        entry.source,
        entry.destination,
        work.packet.flow.protocol,
        length,
        work.packet.hops_after(entry),
    );
    if !is_whole {
        let old: Ipv6Fragment = frame
            .load(ETHERNET + Ipv6::LENGTH)
            .ok_or(Reason::Malformed)?;
        let change = Delta::ZERO
            .half(new.id, old.short_id())
            .half(new.fragment, old.of_v4());
        new.checksum = change.applied_to(new.checksum);
        (new.id, new.fragment) = (old.short_id(), old.of_v4());
    }
    frame.exchange_header(true)?;
    if extension != 0 {
        frame.widen(-(FRAGMENT as i32))?;
    }
    frame.store(ETHERNET, &new)?;
    work.packet.l4 = ETHERNET + Ipv4::LENGTH;
    Ok(())
}

#[inline(always)]
fn to_v6(frame: &mut impl Frame, work: &mut Work) -> Result<(), Reason> {
    if work.packet.l4 != ETHERNET + Ipv4::LENGTH {
        return Err(Reason::RewriteFailed);
    }
    // Total length, identification, and what is said of fragments.
    let old: [u16; 3] = frame
        .load(ETHERNET + Ipv4::TOTAL_LENGTH)
        .ok_or(Reason::Malformed)?;
    let is_whole = work.packet.fragment() == Fragment::Whole;
    if work.packet.kind() == Kind::Udp && work.packet.fragment() != Fragment::Later {
        let offset = checksum_offset(&work.packet).ok_or(Reason::RewriteFailed)?;
        if frame.load::<u16>(offset) == Some(0) {
            return Err(Reason::RewriteFailed);
        }
    }
    let protocol = work.packet.flow.protocol;
    let extension = if is_whole { 0 } else { FRAGMENT };
    let length = u16::from_be(old[0])
        .wrapping_sub(Ipv4::LENGTH as u16)
        .wrapping_add(extension);
    let entry = &work.this;
    // Addresses are stored as they lie in the entry: there is no stack for them.
    let beginning = Ipv6Beginning::new(
        if is_whole { protocol } else { Ipv6::FRAGMENT },
        length,
        work.packet.hops_after(entry),
    );
    frame.exchange_header(false)?;
    if !is_whole {
        frame.widen(FRAGMENT as i32)?;
        let header = Ipv6Fragment::from_v4(protocol, old[1], old[2]);
        frame.store(ETHERNET + Ipv6::LENGTH, &header)?;
    }
    frame.store(ETHERNET, &beginning)?;
    frame.store(ETHERNET + Ipv6::SOURCE, &entry.source)?;
    frame.store(ETHERNET + Ipv6::DESTINATION, &entry.destination)?;
    work.packet.l4 = ETHERNET + Ipv6::LENGTH + extension as u32;
    Ok(())
}
