//! What processes of the host send to the host itself: tcx ingress of its loopback interface.
//!
//! A socket that asks for a published port is led to its Backend before there is a packet
//! ([`crate::sockets`]). One that is bound to a loopback address is not: such an address means nothing
//! on a bridge. Its packets are met here, and the Backend knows it by its gateway's name. The answers
//! come back by the loopback interface ([`crate::Route::Home`]).

use lb_common::Reason;

use crate::frame::Frame;
use crate::headers::{TYPE_IPV4, TYPE_IPV6};
use crate::outcome::Outcome;
use crate::packet::{Fragment, Kind};
use crate::send;
use crate::tables::{Tables, Work};
use crate::uplink_in::{OUTSIDE, STRANGER, find};

/// What happens to a packet from the host to itself, done. Counts its Reason.
#[inline(always)]
pub fn loopback_in(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Outcome {
    let outcome = Outcome::from(steps(frame, tables, work));
    tables.count(outcome.reason());
    outcome
}

#[inline(always)]
fn steps(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Result<Outcome, Reason> {
    let ethertype = frame.ethertype().ok_or(Reason::NotIp)?;
    if ethertype != TYPE_IPV4 && ethertype != TYPE_IPV6 {
        return Err(Reason::NotIp);
    }
    let parsed = work.packet.parse(frame, ethertype, OUTSIDE);
    parsed.map_err(|_| Reason::Host)?;
    let flow = &work.packet.flow;
    let is_balanced = matches!(work.packet.kind(), Kind::Tcp | Kind::Udp)
        && work.packet.fragment() == Fragment::Whole;
    if !is_balanced || tables.cell(flow.protocol, flow.destination_port.get()) == 0 {
        return Err(Reason::Host);
    }
    work.look_at_clock(frame);
    let step = find(tables, work);
    // An answer between two processes of the host may be to a port of the same number.
    if step.reason() == Some(Reason::NoConnection) {
        return Err(Reason::Host);
    }
    send::send(frame, tables, &STRANGER, work, step)
}
