//! Opening a Connection at a Frontend: its Backend and what its packets become.

use lb_common::{
    Affinity, AffinityKey, Connection, ConnectionFlags as Flags, Endpoint, EndpointId, Frontend,
    Port, Reason, Slot, Veth,
};

use crate::packet::Kind;
use crate::remember::{masquerading, preferring_own};
use crate::select::choose;
use crate::settle::Step;
use crate::tables::{Tables, Work};
use crate::track;
use crate::uplink_in::OUTSIDE;

/// How many Networks of a container are looked at for the client's.
const SIBLINGS: u32 = 16;

/// Begins a Connection at `work.frontend` for the packet: leaves its forward entry in `work.this`, to be
/// remembered.
#[inline(never)]
pub fn open(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Step {
    opened(tables, veth, work).into()
}

#[inline(always)]
fn opened(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Result<Step, Reason> {
    let frontend = work.frontend;
    let Some(slot) = backend(tables, &frontend, work) else {
        tables.count_refused(frontend.id);
        return Err(Reason::NoBackend);
    };
    let slot = Slot {
        endpoint: nearest(tables, veth, work, slot.endpoint) as EndpointId,
        ..slot
    };
    set_forward(tables, veth, work, &frontend, slot)?;
    if work.this.has(Flags::OTHER_FAMILY) || is_nameless(veth, work) {
        // The host calls the Backend by this address as well, from its own ports.
        let settings = tables.settings().ok_or(Reason::NoBackend)?;
        return Ok(Step::remember(masquerading(settings)));
    }
    Ok(Step::remember(preferring_own(work.packet.kind())))
}

/// The Endpoint that the container of `chosen` has on the client's own Network, if it has one there that
/// takes Connections. It would answer by that one, whichever it was asked at.
#[inline(never)]
fn nearest(tables: &impl Tables, veth: &Veth, work: &Work, chosen: EndpointId) -> u64 {
    let mut next = chosen;
    for _ in 0..SIBLINGS {
        let Some(endpoint) = tables.endpoint(next).filter(|_| veth.zone != OUTSIDE) else {
            break;
        };
        let address = if work.packet.is_v4() {
            &endpoint.v4
        } else {
            &endpoint.v6
        };
        if endpoint.zone == veth.zone && endpoint.is_active() && !address.is_none() {
            return next as u64;
        }
        next = endpoint.sibling;
        if next == 0 || next == chosen {
            break;
        }
    }
    chosen as u64
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
    let port = if work.packet.kind() == Kind::EchoRequest {
        flow.destination_port
    } else {
        port_of(frontend, slot, flow.destination_port)
    };
    if work.packet.kind() == Kind::Sctp && port != flow.destination_port {
        return Err(Reason::UnsupportedProtocol);
    }
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
    if !work.this.destination.is_none() && !is_nameless(veth, work) {
        return Ok(());
    }
    set_gateway(tables, work, endpoint)
}

/// Whether the client is on the host's loopback interface: what it is called there means nothing elsewhere.
#[inline(always)]
fn is_nameless(veth: &Veth, work: &Work) -> bool {
    veth.endpoint == 0 && work.packet.flow.source.is_loopback()
}

/// A client of IPv6 and a Backend that has IPv4 alone, or a client on the host's loopback interface: the
/// Backend sees its gateway, as it does behind docker-proxy.
#[inline(always)]
fn set_gateway(tables: &impl Tables, work: &mut Work, endpoint: &Endpoint) -> Result<(), Reason> {
    let network = tables.network(endpoint.zone).ok_or(Reason::NoBackend)?;
    if work.packet.flow.source.is_loopback() {
        work.this.flags |= Flags::OF_HOST;
    }
    if !work.this.destination.is_none() {
        work.this.source = if work.packet.is_v4() {
            network.gateway_v4
        } else {
            network.gateway_v6
        };
        return if work.this.source.is_none() {
            Err(Reason::NoBackend)
        } else {
            Ok(())
        };
    }
    let can = matches!(work.packet.kind(), Kind::Tcp | Kind::Udp);
    if work.packet.is_v4() || !can || endpoint.v4.is_none() || network.gateway_v4.is_none() {
        return Err(Reason::NoBackend);
    }
    work.this.source = network.gateway_v4;
    work.this.destination = endpoint.v4;
    work.this.flags |= Flags::OTHER_FAMILY;
    Ok(())
}

/// The Backend's port for what was asked for.
#[inline(always)]
pub const fn port_of(frontend: &Frontend, slot: Slot, asked: Port) -> Port {
    if slot.port.is_none() {
        return asked;
    }
    if frontend.origin.is_none() {
        return slot.port;
    }
    let above = asked.get().wrapping_sub(frontend.origin.get());
    Port::new(slot.port.get().wrapping_add(above))
}
