//! The life of a Connection: what its packets say about how long it will be needed.

use lb_common::{Connection, ConnectionFlags as Flags, Event, EventKind, FlowKey, Timeouts};

use crate::headers::{TCP_FIN, TCP_RST, TCP_SYN};
use crate::packet::{Kind, Packet};
use crate::tables::{Amend, Store, Tables, Work};

/// Notes that a packet of `work.this` passed, unless [`Tables::meet`] has.
#[inline(always)]
pub fn track(tables: &impl Tables, work: &Work) {
    let entry = &work.this;
    let is_news = work.packet.has_tcp(TCP_FIN | TCP_RST) || entry.has(Flags::RESET);
    if is_news {
        note(tables, work);
    } else if entry.is_due(work.now) {
        let amend = Amend {
            last_seen: work.now,
            ..Amend::default()
        };
        tables.amend(store_of(entry), &work.packet.flow, &amend);
    }
}

/// FIN, RST, or a packet after a RST: both halves learn of it.
#[inline(never)]
fn note(tables: &impl Tables, work: &Work) {
    let Some(settings) = tables.settings() else {
        return;
    };
    let entry = &work.this;
    let amend = amend_for(&work.packet, entry, &settings.timeouts, work.now);
    tables.amend(store_of(entry), &work.packet.flow, &amend);
    let other = Amend {
        last_seen: 0,
        ..amend
    };
    tables.amend(
        store_of(entry),
        &entry.other_half(&work.packet.flow),
        &other,
    );
}

/// What a packet changes. A RST alone ends nothing (RFC 5961 §3): it shortens the timeout, and data
/// after it restores it.
#[inline(always)]
pub fn amend_for(packet: &Packet, entry: &Connection, timeouts: &Timeouts, now: u64) -> Amend {
    if packet.has_tcp(TCP_RST) {
        let timeout = timeouts.tcp_reset;
        return Amend {
            set: Flags::RESET,
            timeout,
            last_seen: now,
            ..Amend::default()
        };
    }
    if packet.has_tcp(TCP_FIN) {
        let own = if entry.has(Flags::FORWARD) {
            Flags::FIN_CLIENT
        } else {
            Flags::FIN_BACKEND
        };
        let both = (entry.flags | own) & Flags::FINISHED == Flags::FINISHED;
        let timeout = if both { timeouts.tcp_fin } else { 0 };
        return Amend {
            set: own,
            timeout,
            last_seen: now,
            ..Amend::default()
        };
    }
    let timeout = live_timeout(Kind::Tcp, entry.has(Flags::ESTABLISHED), timeouts);
    Amend {
        clear: Flags::RESET,
        timeout,
        last_seen: now,
        ..Amend::default()
    }
}

/// Seconds without a packet after which a live Connection is forgotten.
#[inline(always)]
pub const fn live_timeout(kind: Kind, replied: bool, timeouts: &Timeouts) -> u32 {
    match (kind, replied) {
        (Kind::Tcp, false) => timeouts.tcp_new,
        (Kind::Tcp, true) => timeouts.tcp_established,
        (Kind::EchoRequest | Kind::EchoReply, _) => timeouts.icmp,
        (_, false) => timeouts.udp_new,
        (_, true) => timeouts.udp_replied,
    }
}

/// Which map an entry is in.
#[inline(always)]
pub const fn store_of(entry: &Connection) -> Store {
    if entry.has(Flags::ESTABLISHED) {
        Store::Connections
    } else {
        Store::HalfOpen
    }
}

/// Whether a packet begins a Connection anew although there is an entry: a SYN after both sides are
/// done. A SYN on a live one does not: it may be forged (RFC 5961 §4), and the Backend will say.
#[inline(always)]
pub const fn is_reopening(packet: &Packet, entry: &Connection) -> bool {
    packet.has_tcp(TCP_SYN) && entry.is_over()
}

/// Forgets both halves of a Connection; tells userspace.
#[inline(always)]
pub fn close(tables: &impl Tables, key: &FlowKey, entry: &Connection, event: &mut Event, now: u64) {
    let store = store_of(entry);
    let other = entry.other_half(key);
    let (forward, reply) = if entry.has(Flags::FORWARD) {
        (key, &other)
    } else {
        (&other, key)
    };
    // Whoever deletes the forward half takes the Connection off the Backend's load: exactly one can.
    let closed = tables.remove(store, forward);
    tables.remove(store, reply);
    if !closed {
        return;
    }
    if entry.has(Flags::ESTABLISHED) {
        tables.add_load(entry.backend, false);
    }
    *event = Event {
        at: now,
        flow: *forward,
        backend: entry.backend,
        frontend: entry.frontend,
        kind: EventKind::Closed as u8,
        reason: 0,
        _pad: [0; 6],
    };
    if tables.allows(lb_common::Limit::Events, now) {
        tables.emit(event);
    }
}
