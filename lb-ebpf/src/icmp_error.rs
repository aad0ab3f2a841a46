//! ICMP errors: the packet that is complained about was rewritten, so the complaint must be, too.
//!
//! The quoted packet went in one direction of a Connection; the entry of the other direction says
//! what its addresses were before. Eight bytes of the quoted transport header suffice (RFC 792).
//! Every changed word moves the ICMP checksum; quoted checksums are corrected where they are
//! quoted (RFC 5508 §4.2).

use lb_common::{Addr, ConnectionFlags as Flags, FlowKey, Port, Reason, Veth};

use crate::checksum::Delta;
use crate::deliver::put_addresses;
use crate::frame::{Checksum, Frame};
use crate::headers::{ICMP, ICMPV6, Icmp, Ipv4, Ipv6, Ipv6Fragment, TCP, Tcp, UDP, Udp};
use crate::outcome::Outcome;
use crate::packet::{Fragment, Kind, icmp_kind};
use crate::settle::is_target_up;
use crate::tables::{Store, Tables, Work};
use crate::way::Route;
use crate::{icmp_exchange, outward};

/// Translates an ICMP error that belongs to a Connection and sends it on; others are left alone, which
/// is [`Reason::Direct`] or [`Reason::Host`], or dropped if they are for a VIP.
#[inline(always)]
pub fn translate(
    frame: &mut impl Frame,
    tables: &impl Tables,
    veth: &Veth,
    work: &mut Work,
) -> Outcome {
    let outcome = within_family(frame, tables, veth, work);
    if outcome == Outcome::OTHER_FAMILY {
        return icmp_exchange::exchange(frame, tables, work);
    }
    outcome
}

#[inline(never)]
fn within_family(
    frame: &mut impl Frame,
    tables: &impl Tables,
    veth: &Veth,
    work: &mut Work,
) -> Outcome {
    translated(frame, tables, veth, work).into()
}

#[inline(always)]
fn translated(
    frame: &mut impl Frame,
    tables: &impl Tables,
    veth: &Veth,
    work: &mut Work,
) -> Result<Outcome, Reason> {
    let settings = tables.settings().ok_or(Reason::Direct)?;
    let is_vip = settings.is_vip(&work.packet.flow.destination);
    let stranger = if is_vip {
        Reason::IcmpErrorUnknown
    } else if veth.endpoint == 0 {
        Reason::Host
    } else {
        Reason::Direct
    };
    if work.packet.fragment() != Fragment::Whole {
        return Err(stranger);
    }
    let at = work.packet.l4 + Icmp::LENGTH;
    let is_v4 = work.packet.is_v4();
    let quoted = Quoted::parse(frame, at, is_v4, veth.zone, &mut work.reverse).ok_or(stranger)?;
    let is_known = tables.find(Store::Connections, &work.reverse, &mut work.this)
        || tables.find(Store::HalfOpen, &work.reverse, &mut work.this);
    if !is_known {
        return Err(stranger);
    }
    if !is_target_up(tables, &work.this) {
        return Err(Reason::IcmpErrorUnknown);
    }
    // Nobody is told about an error.
    if work.packet.is_spent(&work.this) {
        return Err(Reason::HopsExceeded);
    }
    if work.this.has(Flags::OTHER_FAMILY) {
        work.quotation = quoted.l4;
        return Ok(Outcome::OTHER_FAMILY);
    }
    let route = way_out(frame, tables, work)?;
    let inner = rewrite_quoted(frame, &quoted, work)?;
    rewrite_outer(frame, &quoted, work, inner)?;
    reach(frame, tables, work, route)
}

/// Hands the error on to where `work.this` leads: by `route`, or to its Endpoint.
#[inline(always)]
pub fn reach(
    frame: &mut impl Frame,
    tables: &impl Tables,
    work: &Work,
    route: Route,
) -> Result<Outcome, Reason> {
    if work.this.target == 0 {
        frame.send_out(&work.way, route)?;
        return Ok(Outcome::leave(
            work.way.ifindex,
            Reason::IcmpErrorTranslated,
        ));
    }
    let target = tables
        .endpoint(work.this.target)
        .ok_or(Reason::IcmpErrorUnknown)?;
    frame.store(0, &target.mac)?;
    frame.address_to_host()?;
    Ok(Outcome::deliver(
        target.ifindex,
        Reason::IcmpErrorTranslated,
    ))
}

/// Where the error leaves the host, in `work.way`; [`Route::None`] if it does not.
#[inline(always)]
pub fn way_out(frame: &impl Frame, tables: &impl Tables, work: &mut Work) -> Result<Route, Reason> {
    if work.this.target != 0 {
        return Ok(Route::None);
    }
    let zone = work.packet.flow.zone;
    let bridge = tables.network(zone).ok_or(Reason::NoRoute)?.bridge;
    let source = *outer_source(work);
    let Work {
        packet, this, way, ..
    } = &mut *work;
    let (from, to) = ((source, Port::NONE), (this.destination, Port::NONE));
    way.ask(from, to, packet, bridge);
    match outward::route(frame, tables, way, &this.destination) {
        Route::None => Err(Reason::NoRoute),
        route => Ok(route),
    }
}

/// The packet that the error is about, as its sender's neighbour saw it. Its flow, reversed, is in
/// `work.reverse`.
struct Quoted {
    /// Offset of its network header.
    l3: u32,
    /// Offset of its transport header.
    l4: u32,
    is_v4: bool,
    is_echo: bool,
}

impl Quoted {
    #[inline(always)]
    fn parse(
        frame: &impl Frame,
        l3: u32,
        is_v4: bool,
        zone: u16,
        reverse: &mut FlowKey,
    ) -> Option<Self> {
        let (source, destination, protocol, l4) = if is_v4 {
            let ip: Ipv4 = frame.load(l3)?;
            let is_later = ip.fragment & Ipv4::FRAGMENT_OFFSET != 0;
            if is_later || ip.header_length() < Ipv4::LENGTH {
                return None;
            }
            let source = Addr::from_v4_word(ip.source);
            let destination = Addr::from_v4_word(ip.destination);
            (source, destination, ip.protocol, l3 + ip.header_length())
        } else {
            let ip: Ipv6 = frame.load(l3)?;
            let (protocol, l4) = Self::after_fragment(frame, ip.next_header, l3 + Ipv6::LENGTH)?;
            (
                Addr::from_words(ip.source),
                Addr::from_words(ip.destination),
                protocol,
                l4,
            )
        };
        let first: [u16; 4] = frame.load(l4)?;
        *reverse = FlowKey {
            source: destination,
            destination: source,
            zone,
            protocol,
            ..FlowKey::default()
        };
        let mut is_echo = false;
        match protocol {
            TCP | UDP => {
                reverse.destination_port = Port::from_wire(first[0]);
                reverse.source_port = Port::from_wire(first[1]);
            }
            ICMP | ICMPV6 => {
                is_echo = true;
                let version = if is_v4 { 4 } else { 6 };
                match icmp_kind(version, first[0].to_ne_bytes()[0]) {
                    Kind::EchoRequest => reverse.destination_port = Port::from_wire(first[2]),
                    Kind::EchoReply => reverse.source_port = Port::from_wire(first[2]),
                    _ => return None,
                }
            }
            _ => return None,
        }
        Some(Self {
            l3,
            l4,
            is_v4,
            is_echo,
        })
    }

    /// Skips a fragment header, if it is the first fragment's.
    #[inline(always)]
    fn after_fragment(frame: &impl Frame, next: u8, l4: u32) -> Option<(u8, u32)> {
        if next != Ipv6::FRAGMENT {
            return Some((next, l4));
        }
        let header: Ipv6Fragment = frame.load(l4)?;
        let is_later = u16::from_be(header.offset_more) & 0xfff8 != 0;
        (!is_later).then_some((header.next_header, l4 + 8))
    }
}

/// Gives the quoted packet the addresses and ports that its sender used. Returns what that does to
/// the ICMP checksum.
#[inline(always)]
fn rewrite_quoted(frame: &mut impl Frame, quoted: &Quoted, work: &Work) -> Result<Delta, Reason> {
    let entry = &work.this;
    let (source, destination) = (entry.destination, entry.source);
    let reverse = &work.reverse;
    let addresses = if quoted.is_v4 {
        let words = [source.v4_word(), destination.v4_word()];
        frame.store(quoted.l3 + Ipv4::SOURCE, &words)?;
        Delta::ZERO
            .word(reverse.destination.v4_word(), source.v4_word())
            .word(reverse.source.v4_word(), destination.v4_word())
    } else {
        frame.store(quoted.l3 + Ipv6::SOURCE, &source.words())?;
        frame.store(quoted.l3 + Ipv6::DESTINATION, &destination.words())?;
        Delta::ZERO
            .words(reverse.destination.words(), source.words())
            .words(reverse.source.words(), destination.words())
    };
    let mut total = addresses;
    if quoted.is_v4 {
        total = fix_checksum(frame, quoted.l3 + Ipv4::CHECKSUM, addresses, total)?;
    }
    let ports = Delta::ZERO
        .half(
            reverse.destination_port.wire(),
            entry.destination_port.wire(),
        )
        .half(reverse.source_port.wire(), entry.source_port.wire());
    if quoted.is_echo {
        let id = entry.source_port.wire() | entry.destination_port.wire();
        frame.store(quoted.l4 + Icmp::ID, &id)?;
    } else {
        frame.store(quoted.l4, &[entry.destination_port, entry.source_port])?;
    }
    total = total.half(
        reverse.destination_port.wire(),
        entry.destination_port.wire(),
    );
    total = total.half(reverse.source_port.wire(), entry.source_port.wire());
    let covered = if quoted.is_v4 && quoted.is_echo {
        ports
    } else {
        ports.and(addresses)
    };
    let checksum = quoted.l4
        + match reverse.protocol {
            TCP => Tcp::CHECKSUM,
            UDP => Udp::CHECKSUM,
            _ => Icmp::CHECKSUM,
        };
    fix_checksum(frame, checksum, covered, total)
}

/// Corrects a quoted checksum, if it is quoted and there is one (in UDP, zero means none).
#[inline(always)]
fn fix_checksum(
    frame: &mut impl Frame,
    offset: u32,
    change: Delta,
    total: Delta,
) -> Result<Delta, Reason> {
    let Some(old) = frame.load::<u16>(offset) else {
        return Ok(total);
    };
    if old == 0 {
        return Ok(total);
    }
    let new = change.applied_to(old);
    frame.store(offset, &new)?;
    Ok(total.half(old, new))
}

/// From whom the error seems to be: the Backend is called by the Frontend's name, a router by its own.
/// A container that is masqueraded is called by the host's.
#[inline(always)]
fn outer_source(work: &Work) -> &Addr {
    let flow = &work.packet.flow;
    // Nor has a router a name in the other family.
    if flow.source == work.reverse.source || work.this.has(Flags::OTHER_FAMILY) {
        &work.this.source
    } else {
        &flow.source
    }
}

/// Sends the error itself to whoever sent the quoted packet, from the VIP if the Backend wrote it.
#[inline(always)]
fn rewrite_outer(
    frame: &mut impl Frame,
    quoted: &Quoted,
    work: &Work,
    inner: Delta,
) -> Result<(), Reason> {
    let entry = &work.this;
    let source = outer_source(work);
    let checksum = work.packet.l4 + Icmp::CHECKSUM;
    frame.patch_l4(checksum, inner.fold(), Checksum::Segment, false)?;
    let hops = work.packet.hops_after(entry);
    let delta = put_addresses(frame, &work.packet, source, &entry.destination, hops)?;
    if quoted.is_v4 {
        return Ok(());
    }
    frame.patch_l4(checksum, delta.fold(), Checksum::Pseudo, false)
}
