//! While the daemon is away: an interface that has appeared since may be the bridge of a new Network,
//! which has no guards. Nothing is sent on to one.
//!
//! While it is there this costs what reading its last sign of life does, and only for packets that are
//! the host's affair, or that leave a Network for the first time.

use lb_common::{Mode, Reason};

use crate::frame::Frame;
use crate::outcome::Outcome;
use crate::resolver::is_alive;
use crate::tables::{Tables, Work};
use crate::way::Route;

/// What becomes of a packet on an uplink: `outcome`, unless it is left to the host, which would send it
/// on to an interface that nobody has described.
#[inline(always)]
pub fn guard(
    frame: &impl Frame,
    tables: &impl Tables,
    work: &mut Work,
    outcome: Outcome,
) -> Outcome {
    if outcome == Outcome::left(Reason::Host) && goes_astray(frame, tables, work, frame.ifindex()) {
        return Outcome::left(Reason::NotProgrammed);
    }
    outcome
}

/// Whether nobody attends and the packet in `work`, coming from this interface, would be sent on to one
/// that nobody has described.
#[inline(always)]
pub fn goes_astray(
    frame: &impl Frame,
    tables: &impl Tables,
    work: &mut Work,
    ifindex: u32,
) -> bool {
    !is_attended(frame, tables, work) && leads_astray(frame, tables, work, ifindex)
}

/// Whether the daemon gave a sign of life lately.
#[inline(always)]
pub fn is_attended(frame: &impl Frame, tables: &impl Tables, work: &mut Work) -> bool {
    work.look_at_clock(frame);
    is_alive(work.now, tables.heartbeat())
}

#[inline(never)]
fn leads_astray(frame: &impl Frame, tables: &impl Tables, work: &mut Work, ifindex: u32) -> bool {
    let is_beside = tables
        .settings()
        .is_none_or(|settings| settings.has(Mode::BESIDE));
    if is_beside {
        return false;
    }
    let Work { packet, way, .. } = work;
    let from = (packet.flow.source, packet.flow.source_port);
    let to = (packet.flow.destination, packet.flow.destination_port);
    way.ask(from, to, packet, ifindex);
    frame.route(way) != Route::None && tables.interface(way.ifindex).is_none()
}
