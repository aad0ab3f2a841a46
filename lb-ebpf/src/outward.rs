//! To the outside: opening Connections that leave the host, and sending their packets.

use lb_common::{
    Addr, Connection, ConnectionFlags as Flags, Interface, Network, NetworkFlags, Reason, Veth,
    Zone,
};

use crate::deliver::rewrite;
use crate::frame::Frame;
use crate::outcome::Outcome;
use crate::packet::{Fragment, Kind};
use crate::remember::{Choice, masquerading};
use crate::settle::{Step, may_open};
use crate::tables::{Tables, Work};
use crate::way::{LOOPBACK, Route, Way};
use crate::{family, fragment, track};

/// Begins a Connection from a container to the outside or to another Network, `work.beyond`: leaves its
/// forward entry in `work.this`, to be remembered. Masqueraded, where the Network says so.
#[inline(never)]
pub fn open(frame: &impl Frame, tables: &impl Tables, veth: &Veth, work: &mut Work) -> Step {
    opened(frame, tables, veth, work).into()
}

#[inline(always)]
fn opened(
    frame: &impl Frame,
    tables: &impl Tables,
    veth: &Veth,
    work: &mut Work,
) -> Result<Step, Reason> {
    let network = tables.network(veth.zone).ok_or(Reason::NoRoute)?;
    let is_v4 = work.packet.is_v4();
    if !network.has(NetworkFlags::masquerade(is_v4)) {
        return Ok(keep(tables, veth, work));
    }
    may_open(&work.packet)?;
    let settings = tables.settings().ok_or(Reason::NoRoute)?;
    set_forward(tables, veth, work);
    work.this.source = masquerade_source(frame, tables, network, work)?;
    let choice = if work.packet.kind() == Kind::Sctp {
        Choice::OWN
    } else {
        masquerading(settings)
    };
    Ok(Step::remember(choice))
}

/// Begins a Connection that rewrites nothing, towards `work.beyond`, so that its answers are known. It
/// may begin in the middle of a stream.
#[inline(always)]
pub fn keep(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Step {
    set_forward(tables, veth, work);
    Step::remember(Choice::OWN)
}

/// Fills `work.this` with a forward entry that changes nothing.
#[inline(always)]
fn set_forward(tables: &impl Tables, veth: &Veth, work: &mut Work) {
    let flow = &work.packet.flow;
    let timeout = match tables.settings() {
        Some(settings) => track::live_timeout(work.packet.kind(), false, &settings.timeouts),
        None => 0,
    };
    work.this = Connection {
        source: flow.source,
        destination: flow.destination,
        source_port: flow.source_port,
        destination_port: flow.destination_port,
        target: 0,
        generation: 0,
        backend: 0,
        frontend: 0,
        timeout,
        last_seen: work.now,
        created: work.now,
        client: veth.endpoint,
        flags: Flags::FORWARD,
        other_zone: work.beyond,
    };
}

/// The Network's own source address, or that of the interface that leads there.
#[inline(always)]
fn masquerade_source(
    frame: &impl Frame,
    tables: &impl Tables,
    network: &Network,
    work: &mut Work,
) -> Result<Addr, Reason> {
    let is_v4 = work.packet.is_v4();
    let fixed = if is_v4 {
        network.host_v4
    } else {
        network.host_v6
    };
    if !fixed.is_none() && work.beyond == Zone::default() {
        return Ok(fixed);
    }
    let flow = &work.packet.flow;
    let (from, to) = (
        (flow.source, flow.source_port),
        (flow.destination, flow.destination_port),
    );
    work.way.ask(from, to, &work.packet, network.bridge);
    if frame.route(&mut work.way) == Route::None {
        return Err(Reason::NoRoute);
    }
    let interface = tables.interface(work.way.ifindex);
    let address = interface.map_or(
        Addr::NONE,
        |interface: &Interface| {
            if is_v4 { interface.v4 } else { interface.v6 }
        },
    );
    if address.is_none() {
        return Err(Reason::NoSourceAddress);
    }
    Ok(address)
}

/// Asks the host's routes for the way to `to`; they know none to the host itself.
#[inline(always)]
pub fn route(frame: &impl Frame, tables: &impl Tables, way: &mut Way, to: &Addr) -> Route {
    match frame.route(way) {
        Route::None if to.is_loopback() || tables.is_local(to) => {
            way.ifindex = LOOPBACK;
            Route::Home
        }
        route => route,
    }
}

/// Sends the packet out as `work.this` says: routes, track, rewrite but for what goes to the other family,
/// count. Drops it where there is no
/// way ([`Reason::NoRoute`]), or where it is too large ([`Reason::TooBigSent`]): both are to be answered.
#[inline(never)]
pub fn leave(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Outcome {
    left(frame, tables, work).into()
}

#[inline(always)]
fn left(frame: &mut impl Frame, tables: &impl Tables, work: &mut Work) -> Result<Outcome, Reason> {
    let zone = work.packet.flow.zone;
    let bridge = tables.network(zone).ok_or(Reason::NoRoute)?.bridge;
    let Work {
        packet, this, way, ..
    } = &mut *work;
    let (from, to) = (
        (this.source, this.source_port),
        (this.destination, this.destination_port),
    );
    way.ask(from, to, packet, bridge);
    way.measure(frame, packet);
    let growth = family::growth(packet, this);
    way.add(growth);
    let route = route(frame, tables, way, &this.destination);
    match route {
        Route::TooBig => {
            way.take(growth);
            return Err(Reason::TooBigSent);
        }
        Route::None => return Err(Reason::NoRoute),
        Route::Neighbour | Route::NoNeighbour | Route::Home => {}
    }
    track::track(tables, work);
    if work.packet.fragment() == Fragment::First {
        fragment::learn(tables, &work.packet, work.now);
    }
    tables.count_packet(work.this.backend, frame.len());
    if !work.this.has(Flags::OTHER_FAMILY) {
        rewrite(frame, &work.packet, &work.this)?;
    }
    frame.send_out(&work.way, route)?;
    let reason = if work.this.has(Flags::FORWARD) {
        Reason::Outbound
    } else {
        Reason::Replied
    };
    Ok(Outcome::leave(work.way.ifindex, reason))
}
