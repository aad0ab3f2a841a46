//! Which port a DNS query is led to, and what the answer's source is called.
//!
//! A container asks 127.0.0.11:53. If the daemon listens on another port of that address in the
//! container's namespace and is alive, the query goes there; in every other case it is left alone,
//! and Docker's own resolver answers.
//!
//! A container on the default bridge alone asks servers of its own. The same holds for those: what is not
//! led to the daemon goes to the server that was asked.
//!
//! Where the daemon does not listen inside, the query is led out, to a port of the host's address on one of
//! the container's Networks. Sockets that are bound to where that cannot be reached from are left alone.

use lb_common::{Addr, Port, Resolver};

use crate::sockets::Peer;

/// The protocols of DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What the decision needs to know of the namespace that a query comes from.
pub trait Asker {
    /// Where the daemon said that it listens in this namespace.
    fn resolver(&self) -> Option<&Resolver>;
    /// Nanoseconds since boot at which the daemon last was alive.
    fn heartbeat(&self) -> u64;
    /// Nanoseconds since boot, by a clock that may be a tick late.
    fn now(&self) -> u64;
    /// Whether a socket is bound to 127.0.0.11 and `port` in this namespace.
    fn listens(&self, transport: Transport, port: Port) -> bool;
    /// Whether the daemon is there. It is not from the moment on in which it ends, for whatever reason.
    fn is_there(&self) -> bool;
    /// Whether what the socket sends may come from this address, by whatever interface.
    fn may_send_from(&self, source: u32) -> bool;
    /// Whether the socket is the daemon's own.
    fn is_daemon(&self) -> bool;
    /// Notes which server the socket asked that is led to `port`.
    fn remember(&self, port: Port, server: &Addr);
    /// That server; `None`: it asked 127.0.0.11.
    fn asked(&self, port: Port) -> Option<Addr>;
}

impl Transport {
    /// The transport with this IP protocol number.
    #[inline(always)]
    pub const fn from_protocol(protocol: u32) -> Option<Self> {
        match protocol {
            17 => Some(Self::Udp),
            6 => Some(Self::Tcp),
            _ => None,
        }
    }

    /// That number.
    #[inline(always)]
    pub const fn protocol(self) -> u32 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        }
    }
}

/// Where to send to instead; `None` leaves the destination as it is.
///
/// A daemon that was killed has no sockets any more, so that the next query is left alone; one that
/// hangs has sockets and no heartbeat. Where Docker's rules were taken away, such a query is led to
/// Docker's resolver in their place.
#[inline(always)]
pub fn lead(
    destination: &Addr,
    port: Port,
    transport: Option<Transport>,
    asker: &impl Asker,
) -> Option<Peer> {
    if port != Resolver::PORT || !destination.is_v4() {
        return None;
    }
    let transport = transport?;
    let resolver = asker.resolver()?;
    let is_ours = is_ours(destination);
    if !is_ours && (!resolver.stands_for(destination.v4_word()) || asker.is_daemon()) {
        return None;
    }
    let port = port_of(resolver, transport);
    let is_open = port != Port::NONE && may_reach(resolver, asker);
    if is_open && is_alive(asker.now(), asker.heartbeat()) && asker.is_there() {
        if !is_ours {
            asker.remember(port, destination);
        }
        let address = Addr::from_v4_word(place_of(resolver));
        return Some(Peer { address, port });
    }
    if !is_ours {
        return None;
    }
    let port = dockers_port(resolver, transport);
    (port != Port::NONE && asker.listens(transport, port)).then_some(Peer {
        address: *destination,
        port,
    })
}

/// Whether what the socket sends can come to where the daemon listens.
#[inline(always)]
fn may_reach(resolver: &Resolver, asker: &impl Asker) -> bool {
    resolver.gateway == 0 || asker.may_send_from(resolver.source)
}

/// The address that the daemon listens at.
#[inline(always)]
const fn place_of(resolver: &Resolver) -> u32 {
    match resolver.gateway {
        0 => Resolver::ADDRESS,
        gateway => gateway,
    }
}

/// Whether an answer comes from where containers ask already, as the kernel's own come to most sockets.
#[inline(always)]
pub fn is_shown(source: &Addr, port: Port) -> bool {
    port == Resolver::PORT && is_ours(source)
}

/// The server whose port 53 `source` and `port` are shown as; `None` shows them as they are.
#[inline(always)]
pub fn restore(
    source: &Addr,
    port: Port,
    transport: Option<Transport>,
    asker: &impl Asker,
) -> Option<Addr> {
    if !source.is_v4() {
        return None;
    }
    let (resolver, transport) = (asker.resolver()?, transport?);
    let dockers = dockers_port(resolver, transport);
    if is_ours(source) && dockers != Port::NONE && port == dockers {
        return Some(*source);
    }
    if source.v4_word() != place_of(resolver) || port != port_of(resolver, transport) {
        return None;
    }
    let is_alone = resolver.servers[0] == 0;
    let other = if is_alone { None } else { asker.asked(port) };
    Some(other.unwrap_or(Addr::from_v4_word(Resolver::ADDRESS)))
}

/// Whether the daemon answers, given when it was heard of last; nanoseconds since boot.
#[inline(always)]
pub(crate) fn is_alive(now: u64, heartbeat: u64) -> bool {
    now.saturating_sub(heartbeat) < Resolver::PATIENCE
}

#[inline(always)]
fn is_ours(address: &Addr) -> bool {
    address.is_v4() && address.v4_word() == Resolver::ADDRESS
}

#[inline(always)]
pub(crate) fn port_of(resolver: &Resolver, transport: Transport) -> Port {
    match transport {
        Transport::Udp => resolver.udp,
        Transport::Tcp => resolver.tcp,
    }
}

#[inline(always)]
pub(crate) fn dockers_port(resolver: &Resolver, transport: Transport) -> Port {
    match transport {
        Transport::Udp => resolver.docker_udp,
        Transport::Tcp => resolver.docker_tcp,
    }
}

#[cfg(test)]
mod tests;
