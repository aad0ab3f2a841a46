//! The guards: what may pass between the host's stack and the Networks, and leave the host. They see
//! what no other program has judged.

use lb_common::{InterfaceFlags, Mode, Network, NetworkFlags, Reason};

use crate::bare::Bare;
use crate::frame::Frame;
use crate::headers::{TYPE_IPV4, TYPE_IPV6};
use crate::outcome::Outcome;
use crate::place::{admits, is_for_host, is_open};
use crate::remember::conclude;
use crate::settle::{Step, is_target_up, settle};
use crate::tables::{Store, Tables, Work};
use crate::uplink_in::{OUTSIDE, STRANGER};
use crate::way::LOOPBACK;
use crate::{outward, track, unattended};

/// What containers send to the host's stack: tcx ingress of a Network's bridge. A container that is
/// not programmed yet reaches the host, and nothing beyond.
#[inline(always)]
pub fn bridge_in(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Outcome {
    counted(tables, from_bridge(frame, tables, work))
}

/// What the host's stack sends into a Network: tcx egress of its bridge.
#[inline(always)]
pub fn bridge_out(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Outcome {
    counted(tables, into_bridge(frame, tables, work))
}

/// What leaves the host: tcx egress of an uplink. A container's own address does only where it may.
#[inline(always)]
pub fn uplink_out(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Outcome {
    counted(tables, outside(frame, tables, work))
}

/// As [`uplink_out`], on an interface without Ethernet.
#[inline(always)]
pub fn uplink_out_bare(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Outcome {
    counted(tables, outside(&Bare(frame), tables, work))
}

#[inline(always)]
fn counted(tables: &impl Tables, reason: Reason) -> Outcome {
    tables.count(reason);
    Outcome::left(reason)
}

/// Reads the packet into `work.packet`; what is not IP or cannot be read is judged by others.
#[inline(always)]
fn parse(frame: &impl Frame, work: &mut Work) -> Result<(), Reason> {
    let ethertype = frame.ethertype().ok_or(Reason::NotIp)?;
    if ethertype != TYPE_IPV4 && ethertype != TYPE_IPV6 {
        return Err(Reason::NotIp);
    }
    work.packet.parse(frame, ethertype, OUTSIDE)
}

/// Whether Docker's rules or nftables do what the guards do.
#[inline(always)]
fn is_guarded_otherwise(tables: &impl Tables, network: Option<&Network>) -> bool {
    let is_beside = tables
        .settings()
        .is_some_and(|settings| settings.has(Mode::BESIDE));
    is_beside || network.is_some_and(|network| network.has(NetworkFlags::KERNEL_MASQUERADE))
}

/// The Network that the interface is the bridge of.
#[inline(always)]
fn network_of(tables: &impl Tables, ifindex: u32) -> Option<&Network> {
    let interface = tables.interface(ifindex)?;
    if !interface.has(InterfaceFlags::BRIDGE) {
        return None;
    }
    tables.network(interface.zone)
}

#[inline(always)]
fn from_bridge(frame: &impl Frame, tables: &impl Tables, work: &mut Work) -> Reason {
    let network = network_of(tables, frame.ifindex());
    if is_guarded_otherwise(tables, network) {
        return aside(frame, tables, work);
    }
    if let Err(reason) = parse(frame, work) {
        return reason;
    }
    let to = &work.packet.flow.destination;
    let is_own = network.is_some_and(|network| network.contains(to));
    let isolated = NetworkFlags::isolated(work.packet.is_v4());
    let is_isolated = network.is_some_and(|network| network.has(isolated));
    let is_barred = is_isolated && !to.is_on_link();
    if is_own || (is_for_host(tables, to) && !is_barred) {
        Reason::Host
    } else {
        Reason::NotProgrammed
    }
}

/// What others guard, unless it is for an interface that nobody has described yet.
#[inline(always)]
fn aside(frame: &impl Frame, tables: &impl Tables, work: &mut Work) -> Reason {
    if unattended::is_attended(frame, tables, work) || parse(frame, work).is_err() {
        return Reason::Direct;
    }
    if unattended::goes_astray(frame, tables, work, frame.ifindex()) {
        return Reason::NotProgrammed;
    }
    Reason::Direct
}

#[inline(always)]
fn into_bridge(frame: &impl Frame, tables: &impl Tables, work: &mut Work) -> Reason {
    let from = frame.came_from();
    // What a programmed container sends has been judged on its veth.
    if from == 0 || tables.veth(from).is_some() {
        return Reason::Host;
    }
    let Some(interface) = tables.interface(frame.ifindex()) else {
        return Reason::DirectRouting;
    };
    let zone = interface.zone;
    if is_guarded_otherwise(tables, tables.network(zone)) {
        return Reason::Direct;
    }
    if let Err(reason) = parse(frame, work) {
        return reason;
    }
    work.look_at_clock(frame);
    if is_known(tables, work) {
        return Reason::Routed;
    }
    let is_admitted =
        admits(tables, zone, &work.packet) || is_open(tables, zone, &work.packet, from);
    if !is_admitted {
        return Reason::DirectRouting;
    }
    work.beyond = zone;
    let step = outward::keep(tables, &STRANGER, work);
    let step = conclude(tables, &STRANGER, work, step);
    step.reason().unwrap_or(Reason::Routed)
}

/// Whether the packet belongs to a Connection, which it moves on.
#[inline(always)]
fn is_known(tables: &impl Tables, work: &mut Work) -> bool {
    let is_found = tables.find(Store::Connections, &work.packet.flow, &mut work.this);
    let is_found = if is_found {
        is_target_up(tables, &work.this)
    } else {
        settle(tables, &STRANGER, work, false) == Step::FOUND
    };
    if is_found {
        track::track(tables, work);
    }
    is_found
}

#[inline(always)]
fn outside(frame: &impl Frame, tables: &impl Tables, work: &mut Work) -> Reason {
    let from = frame.came_from();
    // What containers send has been judged on their veths; the rest is the host's own.
    if from == 0 || from == LOOPBACK || tables.veth(from).is_some() {
        return Reason::Host;
    }
    let Some(interface) = tables.interface(from) else {
        // Made while the daemon is away: it may be a Network's bridge.
        return if is_guarded_otherwise(tables, None) {
            Reason::Direct
        } else {
            Reason::NotProgrammed
        };
    };
    if !interface.has(InterfaceFlags::BRIDGE) {
        return Reason::Host;
    }
    let Some(network) = tables.network(interface.zone) else {
        return Reason::Host;
    };
    if is_guarded_otherwise(tables, Some(network)) {
        return Reason::Direct;
    }
    if let Err(reason) = parse(frame, work) {
        return reason;
    }
    let is_routed = network.has(NetworkFlags::routed(work.packet.is_v4()));
    if !is_routed && tables.subnet(&work.packet.flow.source).is_some() {
        return Reason::NotMasqueraded;
    }
    Reason::Routed
}
