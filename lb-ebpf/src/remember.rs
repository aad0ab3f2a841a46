//! Remembering a new Connection: both directions, the reply first.

use lb_common::{
    Connection, ConnectionFlags as Flags, Event, EventKind, FlowKey, Limit, Port, Reason, Settings,
    Veth,
};

use crate::packet::Kind;
use crate::select::flow_hash;
use crate::settle::Step;
use crate::tables::{Insert, Store, Tables, Work};

/// How many source ports are tried before giving up.
const PROBES: u32 = 32;

/// Which source ports a Connection may have on its other side, in one word.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Choice(u64);

impl Choice {
    /// The packet's own, or any above 1023 where that one is taken.
    pub const ANY: Self = Self::range(1_024, u16::MAX).or_own();
    /// The packet's own alone.
    pub const OWN: Self = Self(1 << 32);

    /// One of `first` to `last`.
    #[inline(always)]
    pub const fn range(first: u16, last: u16) -> Self {
        Self((first as u64) << 16 | last as u64)
    }

    const fn or_own(self) -> Self {
        Self(self.0 | 1 << 32)
    }

    /// As bits of a word, the lower 33.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// From [`Choice::bits`].
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline(always)]
    const fn first(self) -> u32 {
        (self.0 >> 16) as u32 & 0xffff
    }

    #[inline(always)]
    const fn count(self) -> u32 {
        let last = self.0 as u32 & 0xffff;
        if last < self.first() {
            0
        } else {
            last - self.first() + 1
        }
    }

    #[inline(always)]
    const fn has_own(self) -> bool {
        self.0 & 1 << 32 != 0
    }

    /// The port to try: different for each probe, as long as there are others.
    #[inline(always)]
    const fn port(self, own: Port, seed: u32, probe: u32) -> Option<Port> {
        if probe == 0 && self.has_own() {
            return Some(own);
        }
        let count = self.count();
        if count == 0 {
            return None;
        }
        // 40,503 is prime, so the probes of one seed do not repeat before the range is through.
        let number = seed.wrapping_add(probe.wrapping_mul(40_503)) % count;
        Some(Port::new((self.first() + number) as u16))
    }
}

/// Fills `work.other`, the direction of the answers, from the packet and `work.this`.
#[inline(always)]
pub fn set_reply(veth: &Veth, work: &mut Work) {
    let flow = &work.packet.flow;
    work.other = Connection {
        source: flow.destination,
        destination: flow.source,
        source_port: flow.destination_port,
        destination_port: flow.source_port,
        target: veth.endpoint,
        generation: veth.generation,
        flags: work.this.flags & !Flags::FORWARD,
        other_zone: flow.zone,
        ..work.this
    };
}

/// Remembers the new Connection that `step` speaks of, if it does.
#[inline(always)]
pub fn conclude(tables: &impl Tables, veth: &Veth, work: &mut Work, step: Step) -> Step {
    match step.choice() {
        Some(choice) => {
            let choice = Choice(work.blur(choice.0));
            remember(tables, veth, work, choice)
        }
        None => step,
    }
}

/// Writes both entries, the reply first: an answer must never find nothing. `work.this` is the forward
/// one, but for its source port.
///
/// The same client address and port may already talk to this Backend through another Frontend; its
/// reply entry is then taken, and this Connection gets another source port towards the Backend.
#[inline(never)]
fn remember(tables: &impl Tables, veth: &Veth, work: &mut Work, choice: Choice) -> Step {
    let step = remembered(tables, veth, work, choice).into();
    if step == Step::FOUND {
        if work.this.frontend != 0 {
            tables.count_opened(work.this.frontend, work.this.backend);
        }
        tell(tables, work);
    }
    step
}

#[inline(always)]
fn remembered(
    tables: &impl Tables,
    veth: &Veth,
    work: &mut Work,
    choice: Choice,
) -> Result<Step, Reason> {
    let own = work.packet.flow.source_port;
    let seed = flow_hash(&work.packet.flow);
    for probe in 0..PROBES {
        let Some(port) = choice.port(own, seed, probe) else {
            break;
        };
        work.this.source_port = port;
        work.reverse = work.this.other_half(&work.packet.flow);
        if work.reverse == work.packet.flow || tables.has(Store::Connections, &work.reverse) {
            continue;
        }
        // Of half-open ones the insertion itself says whether there is one.
        let is_placed = place_reply(tables, veth, work)
            || (probe == 0 && forgot_leftover(tables, work) && place_reply(tables, veth, work));
        if !is_placed {
            continue;
        }
        let forward = tables.insert(Store::HalfOpen, &work.packet.flow, &work.this, Insert::Any);
        return forward.map(|()| Step::FOUND).map_err(|_| Reason::TableFull);
    }
    Err(Reason::PortsExhausted)
}

/// Writes the reply entry, if no other half-open Connection has its key.
#[inline(always)]
fn place_reply(tables: &impl Tables, veth: &Veth, work: &mut Work) -> bool {
    set_reply(veth, work);
    let placed = tables.insert(Store::HalfOpen, &work.reverse, &work.other, Insert::New);
    placed.is_ok()
}

/// Removes the reply entry of this very flow, left behind when the forward one made room; whether there
/// was one. Overwrites `work.other`.
#[inline(always)]
fn forgot_leftover(tables: &impl Tables, work: &mut Work) -> bool {
    let Work {
        packet,
        reverse,
        other,
        ..
    } = &mut *work;
    tables.find(Store::HalfOpen, reverse, other)
        && is_of(other, &packet.flow)
        && tables.remove(Store::HalfOpen, reverse)
}

/// Whether a reply entry belongs to this flow.
#[inline(always)]
fn is_of(entry: &Connection, flow: &FlowKey) -> bool {
    entry.source == flow.destination
        && entry.destination == flow.source
        && entry.source_port == flow.destination_port
        && entry.destination_port == flow.source_port
        && entry.other_zone == flow.zone
}

/// Tells userspace of the new Connection.
#[inline(always)]
fn tell(tables: &impl Tables, work: &mut Work) {
    work.event = Event {
        at: work.now,
        flow: work.packet.flow,
        backend: work.this.backend,
        frontend: work.this.frontend,
        kind: EventKind::New as u8,
        reason: 0,
        _pad: [0; 6],
    };
    if tables.allows(Limit::Events, work.now) {
        tables.emit(&work.event);
    }
}

/// The source ports of a Connection that keeps its own where it can. Ports of SCTP cannot be changed:
/// its checksum would have to be computed anew over the whole packet.
#[inline(always)]
pub fn preferring_own(kind: Kind) -> Choice {
    if kind == Kind::Sctp {
        Choice::OWN
    } else {
        Choice::ANY
    }
}

/// The source ports of what leaves under the host's name.
#[inline(always)]
pub fn masquerading(settings: &Settings) -> Choice {
    Choice::range(settings.masquerade_first, settings.masquerade_last)
}
