//! A container's packet to anything but a VIP: an answer, a Connection to a published port or to the
//! outside, or none of veer's business.

use lb_common::Veth;

use crate::frame::Frame;
use crate::remember::conclude;
use crate::settle::{Step, is_usable, settle};
use crate::tables::{Store, Tables, Work};
use crate::{open, outward, place, published};

/// Finds the packet's Connection, opens one, or says why not.
#[inline(always)]
pub fn beyond(frame: &impl Frame, tables: &impl Tables, veth: &Veth, work: &mut Work) -> Step {
    let is_found = tables.find(Store::Connections, &work.packet.flow, &mut work.this);
    if is_found && is_usable(tables, veth, work) {
        return Step::FOUND;
    }
    // Each step is a BPF function of its own, called from here, so that their stacks do not add up.
    let mut step = settle(tables, veth, work, is_found);
    if step == Step::ABSENT {
        step = place::place(tables, veth, work);
        if step == Step::OPEN {
            step = published::admit(tables, work);
        }
        if step == Step::OPEN {
            step = open::open(tables, veth, work);
        } else if step == Step::LEAVE {
            step = outward::open(frame, tables, veth, work);
        }
    }
    conclude(tables, veth, work, step)
}
