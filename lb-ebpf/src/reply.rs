//! A container's packet to anything but a VIP: perhaps a Backend's reply.

use lb_common::{Reason, Veth};

use crate::forward::{answered, is_target_up};
use crate::frame::Frame;
use crate::outcome::Outcome;
use crate::packet::Kind;
use crate::tables::{Store, Tables, Work};
use crate::{deliver, icmp_error};

/// Sends a Backend's reply to its client under the VIP's name; leaves everything else to the bridge.
#[inline(always)]
pub fn reply(
    frame: &mut impl Frame,
    tables: &impl Tables,
    veth: &Veth,
    work: &mut Work,
) -> Result<Outcome, Reason> {
    if work.packet.kind() == Kind::IcmpError {
        return Ok(icmp_error::translate(frame, tables, veth, work));
    }
    let is_established = tables.find(Store::Connections, &work.packet.flow, &mut work.this);
    if !is_established && !tables.find(Store::HalfOpen, &work.packet.flow, &mut work.this) {
        return Err(Reason::Direct);
    }
    if !is_target_up(tables, &work.this) {
        return Err(Reason::ClientGone);
    }
    if !is_established {
        answered(tables, work);
    }
    deliver::deliver(frame, tables, work, Reason::Replied)
}
