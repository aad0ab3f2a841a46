//! Opening a Connection: choose a Backend, remember both directions, the reply first.

use lb_common::{
    Addr, Affinity, AffinityKey, Connection, ConnectionFlags as Flags, Event, EventKind, FlowKey,
    Frontend, FrontendKey, Limit, Port, Reason, Slot, Veth,
};

use crate::forward::Step;
use crate::packet::Kind;
use crate::select::{choose, flow_hash};
use crate::tables::{Insert, Store, Tables, Work};
use crate::track;

/// How many source ports are tried before giving up.
const PROBES: u32 = 32;

/// Opens a Connection for the packet and leaves its forward entry in `work.this`.
#[inline(never)]
pub fn open(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Step {
    opened(tables, veth, work).into()
}

#[inline(always)]
fn opened(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Result<Step, Reason> {
    let flow = &work.packet.flow;
    let key = FrontendKey::vip(flow.destination, flow.zone);
    let frontend = tables.frontend(&key).ok_or(Reason::NoFrontend)?;
    let Some(slot) = backend(tables, &frontend, work) else {
        tables.count_refused(frontend.id);
        return Err(Reason::NoBackend);
    };
    set_forward(tables, veth, work, &frontend, slot)?;
    remember(tables, veth, work)?;
    tables.count_opened(frontend.id, slot.endpoint);
    tell(tables, work);
    Ok(Step::FOUND)
}

/// The Backend of a new Connection: the client's last one, if the Frontend has affinity and that one
/// is active; else the algorithm's choice.
#[inline(always)]
fn backend(tables: &impl Tables, frontend: &Frontend, work: &Work) -> Option<Slot> {
    let flow = &work.packet.flow;
    if frontend.affinity == 0 {
        return choose(tables, frontend, flow);
    }
    let key = AffinityKey {
        client: flow.source,
        frontend: frontend.id,
    };
    let slot = match sticky(tables, &key, frontend.affinity, work.now) {
        Some(slot) => slot,
        None => choose(tables, frontend, flow)?,
    };
    let generation = tables.endpoint(slot.endpoint)?.generation;
    let value = Affinity {
        last_used: work.now,
        endpoint: slot.endpoint,
        generation,
        port: slot.port,
        _pad: [0; 3],
    };
    tables.set_affinity(&key, &value);
    Some(slot)
}

/// What the client had last, unless it is too long ago or the Endpoint takes no new Connections.
#[inline(always)]
fn sticky(tables: &impl Tables, key: &AffinityKey, seconds: u32, now: u64) -> Option<Slot> {
    let last = tables.affinity(key)?;
    let endpoint = tables.endpoint(last.endpoint)?;
    let is_fresh = now.saturating_sub(last.last_used) <= seconds as u64 * 1_000_000_000;
    let is_same = endpoint.generation == last.generation && endpoint.is_active();
    (is_fresh && is_same).then_some(Slot {
        endpoint: last.endpoint,
        port: last.port,
        _pad: 0,
    })
}

/// Fills `work.this` for the client's direction.
#[inline(always)]
fn set_forward(
    tables: &impl Tables,
    veth: &Veth,
    work: &mut Work,
    frontend: &Frontend,
    slot: Slot,
) -> Result<(), Reason> {
    let endpoint = tables.endpoint(slot.endpoint).ok_or(Reason::NoBackend)?;
    let settings = tables.settings().ok_or(Reason::NoFrontend)?;
    let flow = &work.packet.flow;
    let is_hairpin = slot.endpoint == veth.endpoint;
    let is_echo = work.packet.kind() == Kind::EchoRequest;
    let port = if slot.port.is_none() || is_echo {
        flow.destination_port
    } else {
        slot.port
    };
    work.this = Connection {
        // A container that receives its own address as a source drops it as a martian.
        source: if is_hairpin {
            flow.destination
        } else {
            flow.source
        },
        destination: if work.packet.is_v4() {
            endpoint.v4
        } else {
            endpoint.v6
        },
        source_port: flow.source_port,
        destination_port: port,
        target: slot.endpoint,
        generation: endpoint.generation,
        backend: slot.endpoint,
        frontend: frontend.id,
        timeout: track::live_timeout(work.packet.kind(), false, &settings.timeouts),
        last_seen: work.now,
        created: work.now,
        client: veth.endpoint,
        flags: Flags::FORWARD | if is_hairpin { Flags::HAIRPIN } else { 0 },
        other_zone: endpoint.zone,
    };
    if work.this.destination == Addr::NONE {
        Err(Reason::NoBackend)
    } else {
        Ok(())
    }
}

/// Fills `work.other`, the Backend's direction, from the packet and `work.this`.
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

/// Writes both entries, the reply first: a Backend must never answer into the void.
///
/// The same client address and port may already talk to this Backend through another VIP; its reply
/// entry is then taken, and this Connection gets another source port towards the Backend.
#[inline(always)]
fn remember(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Result<(), Reason> {
    let wanted = work.packet.flow.source_port;
    let seed = flow_hash(&work.packet.flow);
    forget_leftover(tables, work);
    set_reply(veth, work);
    for probe in 0..PROBES {
        work.this.source_port = if probe == 0 {
            wanted
        } else {
            candidate(seed, probe)
        };
        work.reverse = work.this.other_half(&work.packet.flow);
        if !is_free(tables, work) {
            continue;
        }
        let Work {
            packet,
            reverse,
            this,
            other,
            ..
        } = &*work;
        if tables
            .insert(Store::HalfOpen, reverse, other, Insert::New)
            .is_err()
        {
            continue;
        }
        let forward = tables.insert(Store::HalfOpen, &packet.flow, this, Insert::Any);
        return forward.map_err(|_| Reason::TableFull);
    }
    Err(Reason::PortsExhausted)
}

/// Whether no other Connection has `work.reverse`.
#[inline(always)]
fn is_free(tables: &impl Tables, work: &Work) -> bool {
    let Work {
        packet, reverse, ..
    } = work;
    *reverse != packet.flow
        && !tables.has(Store::Connections, reverse)
        && !tables.has(Store::HalfOpen, reverse)
}

/// A source port to try: above 1023, different for each probe, never zero.
#[inline(always)]
const fn candidate(seed: u32, probe: u32) -> Port {
    // 40,503 is odd, so the probes of one seed do not repeat.
    let number = seed.wrapping_add(probe.wrapping_mul(40_503)) % (65_536 - 1_024);
    Port::new(1_024 + number as u16)
}

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

/// Removes the reply entry of this very flow, left behind when the forward one made room.
#[inline(always)]
fn forget_leftover(tables: &impl Tables, work: &mut Work) {
    work.reverse = work.this.other_half(&work.packet.flow);
    let Work {
        packet,
        reverse,
        other,
        ..
    } = &mut *work;
    if tables.find(Store::HalfOpen, reverse, other) && is_of(other, &packet.flow) {
        tables.remove(Store::HalfOpen, reverse);
    }
}

/// Whether a reply entry belongs to this flow.
#[inline(always)]
fn is_of(entry: &Connection, flow: &FlowKey) -> bool {
    entry.source == flow.destination
        && entry.destination == flow.source
        && entry.source_port == flow.destination_port
        && entry.destination_port == flow.source_port
}
