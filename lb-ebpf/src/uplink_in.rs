//! Everything that reaches the host from outside: tcx ingress of an uplink.

use lb_common::{Reason, Settings, Veth, Zone};

use crate::bare::Bare;
use crate::frame::Frame;
use crate::headers::{TYPE_IPV4, TYPE_IPV6};
use crate::outcome::Outcome;
use crate::packet::{Fragment, Kind, Packet};
use crate::remember::conclude;
use crate::settle::{Step, is_usable, settle};
use crate::tables::{Tables, Work};
use crate::{fragment, icmp_error, open, published, send, unattended};

/// The zone of the host and of all that is outside.
pub const OUTSIDE: Zone = 0;

/// Whoever is outside, as a sender: no Endpoint.
pub static STRANGER: Veth = Veth {
    v4: lb_common::Addr::NONE,
    v6: lb_common::Addr::NONE,
    link_local: lb_common::Addr::NONE,
    endpoint: 0,
    generation: 0,
    mac: lb_common::Mac::NONE,
    zone: OUTSIDE,
    flags: 0,
    _pad: 0,
};

/// What happens to a packet from outside, done. Counts its Reason.
#[inline(always)]
pub fn uplink_in(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Outcome {
    let outcome = match gate(frame, tables, work) {
        Ok(()) => enter(frame, tables, work),
        Err(reason) => Outcome::left(reason),
    };
    let outcome = unattended::guard(frame, tables, work, outcome);
    tables.count(outcome.reason());
    outcome
}

/// As [`uplink_in`], on an interface without Ethernet: the packet is given a header once it is known to
/// be veer's.
#[inline(always)]
pub fn uplink_in_bare(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Outcome {
    let outcome = Outcome::from(bare(frame, tables, work));
    let outcome = unattended::guard(frame, tables, work, outcome);
    tables.count(outcome.reason());
    outcome
}

#[inline(always)]
fn bare(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Result<Outcome, Reason> {
    let ethertype = frame.protocol();
    gate(&Bare(frame), tables, work)?;
    if work.packet.kind() == Kind::IcmpError {
        frame.dress(ethertype)?;
        return Ok(icmp_error::translate(frame, tables, &STRANGER, work));
    }
    let step = find(tables, work);
    match step.reason() {
        Some(reason) if !reason.is_drop() => Err(reason),
        _ => {
            frame.dress(ethertype)?;
            send::send(frame, tables, &STRANGER, work, step)
        }
    }
}

/// Reads the packet into `work.packet`. Fails where it is the host's, or nobody's.
#[inline(always)]
fn gate(frame: &impl Frame, tables: &impl Tables, work: &mut Work) -> Result<(), Reason> {
    let settings = tables.settings().ok_or(Reason::Host)?;
    let ethertype = frame.ethertype().ok_or(Reason::NotIp)?;
    if ethertype != TYPE_IPV4 && ethertype != TYPE_IPV6 {
        return Err(Reason::NotIp);
    }
    // The host's own stack judges what cannot be read.
    let parsed = work.packet.parse(frame, ethertype, OUTSIDE);
    parsed.map_err(|_| Reason::Host)?;
    if work.packet.flow.destination.is_loopback() {
        return Err(Reason::LoopbackOutside);
    }
    if !concerns(tables, settings, &work.packet) {
        return Err(Reason::Host);
    }
    if work.packet.flow.source.is_loopback() {
        return Err(Reason::LoopbackOutside);
    }
    work.look_at_clock(frame);
    let is_later = work.packet.fragment() == Fragment::Later;
    if is_later && !fragment::recall(tables, &mut work.packet, work.now) {
        return Err(Reason::Host);
    }
    Ok(())
}

/// Sends a packet that has passed the gate where it belongs.
#[inline(always)]
fn enter(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Outcome {
    if work.packet.kind() == Kind::IcmpError {
        return icmp_error::translate(frame, tables, &STRANGER, work);
    }
    let step = find(tables, work);
    send::send(frame, tables, &STRANGER, work, step).into()
}

/// Whether a packet may be for a published port or for a Connection: one array read says so for most.
#[inline(always)]
fn concerns(tables: &impl Tables, settings: &Settings, packet: &Packet) -> bool {
    match packet.kind() {
        Kind::Tcp | Kind::Udp => {
            let port = packet.flow.destination_port.get();
            tables.cell(packet.flow.protocol, port) != 0
                || settings.is_masquerade(port)
                || packet.fragment() == Fragment::Later
        }
        Kind::Sctp | Kind::EchoReply | Kind::IcmpError => true,
        Kind::Other => packet.fragment() == Fragment::Later && packet.is_icmp(),
        Kind::EchoRequest | Kind::Discovery => false,
    }
}

/// Finds the packet's Connection, or opens one at a published port. What is routed to a container's own
/// address takes the way through the host's stack.
#[inline(always)]
pub fn find(tables: &impl Tables, work: &mut Work) -> Step {
    let is_found = tables.meet(&work.packet.flow, work.now, &mut work.this);
    let mut step = if is_found && is_usable(tables, &STRANGER, work) {
        Step::FOUND
    } else {
        settle(tables, &STRANGER, work, is_found)
    };
    if step == Step::FOUND && work.this.target == 0 {
        return Step::from(Err(Reason::Host));
    }
    if step == Step::ABSENT {
        if !published::find(tables, work) {
            return Step::from(Err(Reason::Host));
        }
        step = published::admit(tables, work);
        if step == Step::OPEN {
            step = open::open(tables, &STRANGER, work);
        }
    }
    conclude(tables, &STRANGER, work, step)
}
