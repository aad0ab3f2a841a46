//! The end of every path: the packet goes where its Connection says, or is refused.

use lb_common::{ConnectionFlags as Flags, Reason, Veth};

use crate::frame::Frame;
use crate::outcome::{Outcome, Verdict};
use crate::settle::Step;
use crate::tables::{Tables, Work};
use crate::{deliver, family, outward, refuse};

/// Sends the packet of `veth` as `work.this` says if it was found; otherwise passes it on or refuses
/// it, as the step's Reason says.
#[inline(always)]
pub fn send(
    frame: &mut impl Frame,
    tables: &impl Tables,
    veth: &Veth,
    work: &mut Work,
    step: Step,
) -> Result<Outcome, Reason> {
    let reason = match step.reason() {
        None if work.packet.is_spent(&work.this) => Reason::HopsExceeded,
        None if work.this.target != 0 => return deliver::deliver(frame, tables, work),
        None => {
            let outcome = outward::leave(frame, tables, work);
            if outcome.verdict() != Verdict::Drop {
                // Here and not there, so that their stacks do not add up.
                if work.this.has(Flags::OTHER_FAMILY) {
                    family::exchange(frame, work)?;
                }
                return Ok(outcome);
            }
            outcome.reason()
        }
        Some(reason) if !reason.is_drop() => return Err(reason),
        Some(reason) => reason,
    };
    Ok(refuse::refuse(frame, tables, veth, work, reason))
}
