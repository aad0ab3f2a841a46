//! Host processes that ask for a published port: their sockets are led to the Backend itself, before
//! there is a packet.
//!
//! A process on the host reaches a port at 127.0.0.1, ::1 and every own address, and sees the address
//! that it asked for. Its packets then go straight to the container, from the address that the host
//! has on that bridge.

use lb_common::{
    Addr, FlowKey, Frontend, FrontendKey, Port, Reason, SocketBackend, SocketKey, SocketReverse,
};

use crate::headers::UDP;
use crate::open::port_of;
use crate::published::bars_host;
use crate::select::choose;
use crate::tables::Tables;

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// An address and port: what a process asks for, or what it is led to or shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: Addr,
    pub port: Port,
}

/// What becomes of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Led {
    /// It goes on as it is.
    Alone,
    /// It goes on to another peer.
    To(Peer),
    /// It fails: the port is published, and no Backend takes it.
    Refused,
    /// It fails: the Frontend does not serve who sends from this address.
    Denied,
}

/// The socket of a process.
pub trait Caller {
    /// Cookie of its network namespace.
    fn namespace(&self) -> u64;
    /// Its own cookie.
    fn cookie(&self) -> u64;
    /// The address that it is bound to, or [`Addr::NONE`].
    fn bound(&self) -> Addr;
    /// Nanoseconds since boot.
    fn now(&self) -> u64;
}

/// Where a socket that asks for `asked` is led.
#[inline(always)]
pub fn lead(tables: &impl Tables, caller: &impl Caller, asked: Peer, protocol: u8) -> Led {
    let cell = tables.cell(protocol, asked.port.get());
    if cell == 0 || !is_host(tables, caller) {
        return Led::Alone;
    }
    // What it sends from there cannot leave the loopback interface, where `loopback_in` meets it; beside
    // Docker's rules, they do.
    if caller.bound().is_loopback() {
        return Led::Alone;
    }
    let Some(frontend) = frontend(tables, &asked.address, Port::new(cell), protocol) else {
        return Led::Alone;
    };
    if frontend.sources != 0 && bars_host(tables, frontend.sources, sender(caller, asked.address)) {
        tables.count(Reason::SourceDenied);
        return Led::Denied;
    }
    let cookie = caller.cookie();
    let found = if protocol == UDP {
        kept(tables, &frontend, asked, cookie, caller.now())
    } else {
        backend(tables, &frontend, asked, protocol, cookie).map(|found| peer_of(&found))
    };
    let Some(peer) = found else {
        tables.count_refused(frontend.id);
        return Led::Refused;
    };
    let original = SocketReverse {
        address: asked.address,
        port: asked.port,
        _pad: 0,
    };
    tables.set_socket(&key(cookie, peer), &original);
    Led::To(peer)
}

/// The Backend that the socket's datagrams go to: the last one, as long as it takes them and not too much
/// time goes by between two of them; else another one.
#[inline(always)]
fn kept(
    tables: &impl Tables,
    frontend: &Frontend,
    asked: Peer,
    cookie: u64,
    now: u64,
) -> Option<Peer> {
    let key = key(cookie, asked);
    if let Some(last) = tables.socket_backend(&key)
        && is_usable(tables, frontend, &last, now)
    {
        if now.saturating_sub(last.last_used) > SECOND {
            let used = SocketBackend {
                last_used: now,
                ..last
            };
            tables.set_socket_backend(&key, &used);
        }
        return Some(peer_of(&last));
    }
    let mut found = backend(tables, frontend, asked, UDP, cookie)?;
    found.last_used = now;
    tables.set_socket_backend(&key, &found);
    Some(peer_of(&found))
}

/// Whether a socket's last Backend still takes its datagrams.
#[inline(always)]
fn is_usable(tables: &impl Tables, frontend: &Frontend, last: &SocketBackend, now: u64) -> bool {
    let (Some(endpoint), Some(settings)) = (tables.endpoint(last.endpoint), tables.settings())
    else {
        return false;
    };
    let idle = now.saturating_sub(last.last_used);
    last.frontend == frontend.id
        && endpoint.generation == last.generation
        && endpoint.is_up()
        && idle <= settings.timeouts.udp_replied as u64 * SECOND
}

#[inline(always)]
const fn peer_of(found: &SocketBackend) -> Peer {
    Peer {
        address: found.address,
        port: found.port,
    }
}

/// What a socket that talks to `peer` asked for, if it was led there.
#[inline(always)]
pub fn restore(tables: &impl Tables, caller: &impl Caller, peer: Peer) -> Option<Peer> {
    if !is_host(tables, caller) {
        return None;
    }
    let original = tables.socket(&key(caller.cookie(), peer))?;
    Some(Peer {
        address: original.address,
        port: original.port,
    })
}

/// What the socket would send from, were its peer at the address that it asks for: what it is bound to, or
/// that very address, which is the host's.
#[inline(always)]
fn sender(caller: &impl Caller, asked: Addr) -> Addr {
    let bound = caller.bound();
    if !bound.is_none() && bound != FrontendKey::wildcard(true) {
        bound
    } else if asked == FrontendKey::wildcard(asked.is_v4()) {
        Addr::loopback(asked.is_v4())
    } else {
        asked
    }
}

/// Whether the process is in the host's namespace.
#[inline(always)]
fn is_host(tables: &impl Tables, caller: &impl Caller) -> bool {
    tables.settings().is_some_and(|settings| {
        settings.host_netns != 0 && settings.host_netns == caller.namespace()
    })
}

#[inline(always)]
const fn key(cookie: u64, peer: Peer) -> SocketKey {
    SocketKey {
        cookie,
        address: peer.address,
        port: peer.port,
        _pad: [0; 3],
    }
}

/// The Frontend with this very address; the one with every address, if it is the host's own.
#[inline(always)]
fn frontend(tables: &impl Tables, address: &Addr, cell: Port, protocol: u8) -> Option<Frontend> {
    let mut key = FrontendKey::published(*address, cell, protocol);
    if let Some(frontend) = tables.frontend(&key) {
        return Some(frontend);
    }
    if !address.is_loopback() && !tables.is_local(address) {
        return None;
    }
    key.address = FrontendKey::wildcard(address.is_v4());
    tables.frontend(&key)
}

/// The Backend of a socket. One that asks for IPv6 is led to an IPv4 container as well: an IPv6 socket
/// calls it by its mapped address.
#[inline(always)]
fn backend(
    tables: &impl Tables,
    frontend: &Frontend,
    asked: Peer,
    protocol: u8,
    cookie: u64,
) -> Option<SocketBackend> {
    let flow = FlowKey {
        source: Addr::from_words([0, 0, cookie as u32, (cookie >> 32) as u32]),
        destination: asked.address,
        source_port: Port::NONE,
        destination_port: asked.port,
        zone: 0,
        protocol,
        _pad: 0,
    };
    let slot = choose(tables, frontend, &flow)?;
    let endpoint = tables.endpoint(slot.endpoint)?;
    let address = if asked.address.is_v4() || endpoint.v6.is_none() {
        endpoint.v4
    } else {
        endpoint.v6
    };
    if address.is_none() {
        return None;
    }
    tables.count_opened(frontend.id, slot.endpoint);
    Some(SocketBackend {
        last_used: 0,
        address,
        port: port_of(frontend, slot, asked.port),
        _pad: 0,
        endpoint: slot.endpoint,
        generation: endpoint.generation,
        frontend: frontend.id,
    })
}

#[cfg(test)]
mod tests;
