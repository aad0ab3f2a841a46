//! A container's packet to a VIP.

use lb_common::{FrontendKey, Reason, Veth};

use crate::packet::Kind;
use crate::remember::conclude;
use crate::settle::{Step, is_usable, may_open, settle};
use crate::tables::{Store, Tables, Work};
use crate::{open, place};

/// Finds the Backend of the packet's Connection, or opens one.
#[inline(always)]
pub fn forward(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Step {
    let is_found = tables.find(Store::Connections, &work.packet.flow, &mut work.this);
    if is_found && is_usable(tables, veth, work) {
        return Step::FOUND;
    }
    // Each step is a BPF function of its own, called from here, so that their stacks do not add up.
    let mut step = settle(tables, veth, work, is_found);
    if step == Step::ABSENT {
        step = find(tables, veth, work);
        if step == Step::OPEN {
            step = open::open(tables, veth, work);
        }
    }
    conclude(tables, veth, work, step)
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
