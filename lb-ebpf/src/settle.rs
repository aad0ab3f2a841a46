//! Which Connection a packet belongs to, and where that Connection is in its life.

use lb_common::{Connection, ConnectionFlags as Flags, Reason, Veth};

use crate::headers::{TCP_ACK, TCP_RST, TCP_SYN};
use crate::packet::{Fragment, Kind, Packet};
use crate::remember::{Choice, set_reply};
use crate::tables::{Amend, Insert, Store, Tables, Work};
use crate::track;

/// How the way of a packet is found: in one word, because BPF functions cannot return more.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Step(u64);

impl Step {
    /// `work.this` says where the packet goes.
    pub const FOUND: Self = Self(1 << 40);
    /// It belongs to no Connection.
    pub const ABSENT: Self = Self(1 << 41);
    /// A Connection must be opened for it at `work.frontend`.
    pub const OPEN: Self = Self(1 << 42);
    /// A Connection must be opened for it to the outside, or to another Network: `work.beyond`.
    pub const LEAVE: Self = Self(1 << 43);
    const REMEMBER: u64 = 1 << 44;

    /// `work.this` is a new Connection's forward entry, but for its source port.
    #[inline(always)]
    pub const fn remember(choice: Choice) -> Self {
        Self(Self::REMEMBER | choice.bits())
    }

    /// Which source ports the new Connection may have, if there is one to remember.
    #[inline(always)]
    pub const fn choice(self) -> Option<Choice> {
        if self.0 & Self::REMEMBER != 0 {
            Some(Choice::from_bits(self.0 & !Self::REMEMBER))
        } else {
            None
        }
    }

    /// Why the packet goes nowhere, if so.
    #[inline(always)]
    pub fn reason(self) -> Option<Reason> {
        if self.0 >= Self::FOUND.0 {
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
/// Connection, the target lives, the time is not over, and no new Connection begins. An answer only
/// needs its target.
#[inline(always)]
pub fn is_usable(tables: &impl Tables, veth: &Veth, work: &Work) -> bool {
    let entry = &work.this;
    if !is_target_up(tables, entry) {
        return false;
    }
    !entry.has(Flags::FORWARD)
        || (entry.client == veth.endpoint
            && !entry.is_idle(work.now)
            && !track::is_reopening(&work.packet, entry))
}

/// Whether the entry's target is the Endpoint that was meant, and there. The outside always is.
#[inline(always)]
pub fn is_target_up(tables: &impl Tables, entry: &Connection) -> bool {
    if entry.target == 0 {
        return true;
    }
    match tables.endpoint(entry.target) {
        Some(target) => target.generation == entry.generation && target.is_up(),
        None => false,
    }
}

/// Finds the entry that the packet goes by, in `work.this`, and moves its Connection on; or says that
/// there is none. With `is_found`, `work.this` is an established entry already.
#[inline(never)]
pub fn settle(tables: &impl Tables, veth: &Veth, work: &mut Work, is_found: bool) -> Step {
    settled(tables, veth, work, is_found).into()
}

#[inline(always)]
fn settled(
    tables: &impl Tables,
    veth: &Veth,
    work: &mut Work,
    is_found: bool,
) -> Result<Step, Reason> {
    if !is_found && !tables.find(Store::HalfOpen, &work.packet.flow, &mut work.this) {
        return Ok(Step::ABSENT);
    }
    if is_usable(tables, veth, work) {
        advance(tables, veth, work)?;
        return Ok(Step::FOUND);
    }
    let is_gone = !is_target_up(tables, &work.this);
    if is_gone && !work.this.has(Flags::FORWARD) {
        return Err(Reason::ClientGone);
    }
    let Work {
        packet,
        this,
        event,
        now,
        ..
    } = &mut *work;
    track::close(tables, &packet.flow, this, event, *now);
    // A segment in the middle of a stream cannot go to another Backend; a datagram can.
    if is_gone && packet.kind() == Kind::Tcp && !packet.is_opening() {
        return Err(Reason::BackendGone);
    }
    Ok(Step::ABSENT)
}

/// Whether the packet may open a Connection that rewrites it.
#[inline(always)]
pub fn may_open(packet: &Packet) -> Result<(), Reason> {
    match packet.kind() {
        Kind::Tcp if !packet.is_opening() => Err(Reason::NoConnection),
        Kind::EchoReply => Err(Reason::NoConnection),
        Kind::Tcp | Kind::Udp | Kind::Sctp | Kind::EchoRequest => {
            if packet.fragment() == Fragment::Later {
                return Err(Reason::FragmentUnknown);
            }
            Ok(())
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
        set_reply(veth, work);
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
    set_reply(veth, work);
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

/// Notes the first answer in both halves of a half-open Connection.
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
