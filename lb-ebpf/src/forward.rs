//! A container's packet to a VIP.

use lb_common::{Connection, ConnectionFlags as Flags, Reason, Veth};

use crate::frame::Frame;
use crate::headers::{TCP_ACK, TCP_RST, TCP_SYN};
use crate::outcome::Outcome;
use crate::packet::{Fragment, Kind, Packet};
use crate::tables::{Amend, Insert, Store, Tables, Work};
use crate::{deliver, icmp_error, open, refuse, track};

/// Sends a packet to the Backend of its Connection, or opens one.
#[inline(always)]
pub fn forward(
    frame: &mut impl Frame,
    tables: &impl Tables,
    veth: &Veth,
    work: &mut Work,
) -> Result<Outcome, Reason> {
    let is_established = tables.find(Store::Connections, &work.packet.flow, &mut work.this)
        && is_usable(tables, veth, work);
    if !is_established {
        if work.packet.kind() == Kind::IcmpError {
            return Ok(icmp_error::translate(frame, tables, veth, work));
        }
        // Each step is a BPF function of its own, called from here, so that their stacks do not add up.
        let mut step = settle(tables, veth, work);
        if step == Step::OPEN {
            step = open::open(tables, veth, work);
        }
        if let Some(reason) = step.reason() {
            return Ok(refuse::refuse(frame, tables, veth, work, reason));
        }
    }
    // In a hairpin the Backend's replies go to the VIP, too.
    let reason = if work.this.has(Flags::FORWARD) {
        Reason::Forwarded
    } else {
        Reason::Replied
    };
    deliver::deliver(frame, tables, work, reason)
}

/// How the way of a packet is found: in one word, because BPF functions cannot return more.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Step(u64);

impl Step {
    /// `work.this` says where the packet goes.
    pub const FOUND: Self = Self(1 << 32);
    /// A Connection must be opened for it.
    pub const OPEN: Self = Self(1 << 33);

    /// Why the packet goes nowhere, if so.
    #[inline(always)]
    pub fn reason(self) -> Option<Reason> {
        if self == Self::FOUND {
            None
        } else {
            Some(Reason::from_index(self.0 as u32))
        }
    }
}

impl From<Result<Self, Reason>> for Step {
    #[inline(always)]
    fn from(result: Result<Self, Reason>) -> Self {
        match result {
            Ok(step) => step,
            Err(reason) => Self(reason as u64),
        }
    }
}

/// Whether the packet may still go where `work.this` says: the client is the one that opened the
/// Connection, the target lives, the time is not over, and no new Connection begins.
#[inline(always)]
fn is_usable(tables: &impl Tables, veth: &Veth, work: &Work) -> bool {
    let entry = &work.this;
    entry.client == veth.endpoint
        && is_target_up(tables, entry)
        && !entry.is_idle(work.now)
        && !track::is_reopening(&work.packet, entry)
}

/// Whether the entry's target is the Endpoint that was meant, and there.
#[inline(always)]
pub fn is_target_up(tables: &impl Tables, entry: &Connection) -> bool {
    match tables.endpoint(entry.target) {
        Some(target) => target.generation == entry.generation && target.is_up(),
        None => false,
    }
}

/// Finds the entry that the packet goes by, in `work.this`, and moves its Connection on; or says that
/// one must be opened.
#[inline(never)]
fn settle(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Step {
    settled(tables, veth, work).into()
}

#[inline(always)]
fn settled(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Result<Step, Reason> {
    let found = tables.find(Store::Connections, &work.packet.flow, &mut work.this)
        || tables.find(Store::HalfOpen, &work.packet.flow, &mut work.this);
    if found {
        if is_usable(tables, veth, work) {
            advance(tables, veth, work)?;
            return Ok(Step::FOUND);
        }
        let gone = !is_target_up(tables, &work.this);
        let Work {
            packet,
            this,
            event,
            now,
            ..
        } = &mut *work;
        track::close(tables, &packet.flow, this, event, *now);
        // A segment in the middle of a stream cannot go to another Backend; a datagram can.
        if gone && packet.kind() == Kind::Tcp && !is_opening(packet) {
            return Err(Reason::BackendGone);
        }
    }
    match work.packet.kind() {
        Kind::Tcp if !is_opening(&work.packet) => Err(Reason::NoConnection),
        Kind::EchoReply => Err(Reason::NoConnection),
        Kind::Tcp | Kind::Udp | Kind::EchoRequest => {
            if work.packet.fragment() == Fragment::Later {
                return Err(Reason::FragmentUnknown);
            }
            Ok(Step::OPEN)
        }
        Kind::Other | Kind::IcmpError | Kind::Discovery => Err(Reason::UnsupportedProtocol),
    }
}

/// Moves a half-open Connection on: repairs its other half, or establishes it.
#[inline(always)]
fn advance(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Result<(), Reason> {
    if work.this.has(Flags::ESTABLISHED) {
        return Ok(());
    }
    if !work.this.has(Flags::FORWARD) {
        // A hairpin: this is the Backend's side.
        answered(tables, work);
        return Ok(());
    }
    let is_settled = work.packet.kind() != Kind::Tcp
        || (work.packet.has_tcp(TCP_ACK) && !work.packet.has_tcp(TCP_SYN | TCP_RST));
    if work.this.has(Flags::REPLIED) && is_settled {
        return establish(tables, veth, work);
    }
    // The least recently used make room, and that may have been the other half.
    work.reverse = work.this.other_half(&work.packet.flow);
    if !tables.has(Store::HalfOpen, &work.reverse) {
        open::set_reply(veth, work);
        let _ = tables.insert(Store::HalfOpen, &work.reverse, &work.other, Insert::New);
    }
    Ok(())
}

/// Moves both halves from `half_open` to `connections`.
#[inline(always)]
fn establish(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Result<(), Reason> {
    let settings = tables.settings().ok_or(Reason::NoFrontend)?;
    work.this.flags |= Flags::ESTABLISHED;
    work.this.timeout = track::live_timeout(work.packet.kind(), true, &settings.timeouts);
    work.this.last_seen = work.now;
    work.reverse = work.this.other_half(&work.packet.flow);
    open::set_reply(veth, work);
    let Work {
        packet,
        reverse,
        this,
        other,
        ..
    } = &*work;
    tables
        .insert(Store::Connections, reverse, other, Insert::New)
        .map_err(|_| Reason::TableFull)?;
    if tables
        .insert(Store::Connections, &packet.flow, this, Insert::New)
        .is_err()
    {
        tables.remove(Store::Connections, reverse);
        return Err(Reason::TableFull);
    }
    tables.add_load(this.backend, true);
    tables.remove(Store::HalfOpen, reverse);
    tables.remove(Store::HalfOpen, &packet.flow);
    Ok(())
}

/// Notes the Backend's first answer in both halves of a half-open Connection.
#[inline(never)]
pub fn answered(tables: &impl Tables, work: &mut Work) {
    if work.this.has(Flags::REPLIED) {
        return;
    }
    let Some(settings) = tables.settings() else {
        return;
    };
    let timeout = match work.packet.kind() {
        // A handshake is not over before the client's own acknowledgment.
        Kind::Tcp => 0,
        kind => track::live_timeout(kind, true, &settings.timeouts),
    };
    let amend = Amend {
        set: Flags::REPLIED,
        timeout,
        last_seen: work.now,
        clear: 0,
    };
    tables.amend(Store::HalfOpen, &work.packet.flow, &amend);
    work.reverse = work.this.other_half(&work.packet.flow);
    tables.amend(Store::HalfOpen, &work.reverse, &amend);
    work.this.flags |= Flags::REPLIED;
}

/// Whether a TCP segment opens a Connection.
#[inline(always)]
const fn is_opening(packet: &Packet) -> bool {
    packet.has_tcp(TCP_SYN) && !packet.has_tcp(TCP_ACK | TCP_RST)
}
