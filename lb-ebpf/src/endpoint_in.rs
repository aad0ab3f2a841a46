//! Everything that a container sends: tcx ingress of its host-side veth.

use lb_common::Reason;

use crate::frame::Frame;
use crate::headers::{ETHERNET, Ethernet, TYPE_ARP, TYPE_IPV4, TYPE_IPV6};
use crate::outcome::Outcome;
use crate::packet::{Fragment, Kind};
use crate::tables::{Tables, Work};
use crate::{forward, fragment, icmp_error, neighbour, send, spoof};

/// What happens to a packet that a container sends, done. Counts its Reason.
#[inline(always)]
pub fn endpoint_in(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Outcome {
    let outcome = Outcome::from(steps(frame, tables, work));
    tables.count(outcome.reason());
    outcome
}

#[inline(always)]
fn steps(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Result<Outcome, Reason> {
    let veth = tables.veth(frame.ifindex()).ok_or(Reason::UnknownVeth)?;
    let settings = tables.settings().ok_or(Reason::UnknownVeth)?;
    let ethernet: Ethernet = frame.load(0).ok_or(Reason::Malformed)?;
    spoof::check_mac(&ethernet, veth)?;

    match ethernet.ethertype {
        TYPE_IPV4 | TYPE_IPV6 => {}
        TYPE_ARP => return neighbour::arp(frame, tables, settings, veth),
        _ => return Err(Reason::NotIp),
    }
    work.packet.parse(frame, ethernet.ethertype, veth.zone)?;
    let veth = spoof::speaker(tables, veth, work)?;
    if work.packet.kind() == Kind::Discovery {
        return Ok(neighbour::discovery(frame, settings, veth, work));
    }

    work.look_at_clock(frame);
    if work.packet.fragment() == Fragment::Later {
        let is_known = fragment::recall(tables, &mut work.packet, work.now);
        if !is_known && settings.is_vip(&work.packet.flow.destination) {
            return Err(Reason::FragmentUnknown);
        }
    }
    if work.packet.kind() == Kind::IcmpError {
        let outcome = icmp_error::translate(frame, tables, veth, work);
        if outcome.reason() != Reason::Direct {
            return Ok(outcome);
        }
    }
    let step = forward::forward(frame, tables, settings, veth, work);
    send::send(frame, tables, veth, work, step)
}

const _: () = assert!(ETHERNET as usize == size_of::<Ethernet>());
