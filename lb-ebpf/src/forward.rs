//! A container's packet: of a Connection that there is, or of a new one to a VIP, to a published port or
//! to the outside.

use lb_common::{FrontendKey, Reason, Settings, Veth};

use crate::frame::Frame;
use crate::packet::Kind;
use crate::remember::conclude;
use crate::settle::{Step, is_usable, may_open, settle};
use crate::tables::{Tables, Work};
use crate::uplink_in::OUTSIDE;
use crate::{open, outward, place, published, unattended};

/// Finds the packet's Connection, opens one, or says why not.
#[inline(always)]
pub fn forward(
    frame: &impl Frame,
    tables: &impl Tables,
    settings: &Settings,
    veth: &Veth,
    work: &mut Work,
) -> Step {
    let is_found = tables.meet(&work.packet.flow, work.now, &mut work.this);
    if is_found && is_usable(tables, veth, work) {
        return Step::FOUND;
    }
    // Each step is a BPF function of its own, called from here, so that their stacks do not add up.
    let mut step = settle(tables, veth, work, is_found);
    if step == Step::ABSENT {
        // Asked here and not before: most packets are of a Connection.
        step = if settings.is_vip(&work.packet.flow.destination) {
            find(tables, veth, work)
        } else {
            beyond(tables, veth, work)
        };
        if step == Step::OPEN {
            step = open::open(tables, veth, work);
        } else if step == Step::LEAVE {
            step = leave(frame, tables, veth, work);
        }
    }
    conclude(tables, veth, work, step)
}

/// Where a packet belongs that is to no VIP.
#[inline(always)]
fn beyond(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Step {
    match place::place(tables, veth, work) {
        Step::OPEN => published::admit(tables, work),
        step => step,
    }
}

/// Opens a Connection to the outside or to another Network.
#[inline(always)]
fn leave(frame: &impl Frame, tables: &impl Tables, veth: &Veth, work: &mut Work) -> Step {
    let bridge = tables
        .network(veth.zone)
        .map_or(0, |network| network.bridge);
    if work.beyond == OUTSIDE && unattended::goes_astray(frame, tables, work, bridge) {
        return Step::from(Err(Reason::NotProgrammed));
    }
    outward::open(frame, tables, veth, work)
}

/// Finds the VIP's Frontend for a packet that may open a Connection there.
#[inline(never)]
fn find(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Step {
    found(tables, veth, work).into()
}

#[inline(always)]
fn found(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Result<Step, Reason> {
    may_open(&work.packet)?;
    if work.packet.kind() == Kind::Sctp {
        return Err(Reason::UnsupportedProtocol);
    }
    let settings = tables.settings().ok_or(Reason::NoFrontend)?;
    let network = tables.network(veth.zone);
    if network.is_some_and(|network| place::bars_neighbours(settings, network)) {
        return Err(Reason::IccDisabled);
    }
    let key = FrontendKey::vip(work.packet.flow.destination, veth.zone);
    work.frontend = tables.frontend(&key).ok_or(Reason::NoFrontend)?;
    Ok(Step::OPEN)
}
