//! Host processes that ask for a published port: their sockets are led to the Backend itself, before
//! there is a packet.
//!
//! A process on the host reaches a port at 127.0.0.1, ::1 and every own address, and sees the address
//! that it asked for. Its packets then go straight to the container, from the address that the host
//! has on that bridge.

use lb_common::{Addr, FlowKey, Frontend, FrontendKey, Port, Reason, SocketKey, SocketReverse};

use crate::open::port_of;
use crate::published::bars_host;
use crate::select::choose;
use crate::tables::Tables;

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
    match backend(tables, &frontend, asked, protocol, cookie) {
        Some(peer) => {
            let original = SocketReverse {
                address: asked.address,
                port: asked.port,
                _pad: 0,
            };
            tables.set_socket(&key(cookie, peer), &original);
            Led::To(peer)
        }
        None => {
            tables.count_refused(frontend.id);
            Led::Refused
        }
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
) -> Option<Peer> {
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
    Some(Peer {
        address,
        port: port_of(frontend, slot, asked.port),
    })
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use lb_common::{
        Cells, Endpoint, EndpointState, Settings, Slot, Source, SourceAction, SourceKey,
    };

    use super::*;
    use crate::native::Memory;

    const HOST: u64 = 77;
    const TCP: u8 = 6;

    /// A process in this namespace; `Bound`: on the host, with its socket bound to an address.
    struct Process(u64);
    struct Bound(&'static str);

    impl Caller for Process {
        fn namespace(&self) -> u64 {
            self.0
        }
        fn cookie(&self) -> u64 {
            5
        }
        fn bound(&self) -> Addr {
            Addr::NONE
        }
    }

    impl Caller for Bound {
        fn namespace(&self) -> u64 {
            HOST
        }
        fn cookie(&self) -> u64 {
            6
        }
        fn bound(&self) -> Addr {
            peer(self.0, 0).address
        }
    }

    fn peer(address: &str, port: u16) -> Peer {
        Peer {
            address: address.parse::<IpAddr>().unwrap().into(),
            port: Port::new(port),
        }
    }

    /// Ports 8000 to 8009 of every address are 80 to 89 of a container, without IPv6 on request.
    fn published(has_v6: bool) -> Memory {
        let mut memory = Memory {
            settings: Settings {
                host_netns: HOST,
                ..Settings::default()
            },
            ..Memory::default()
        };
        for port in 8_000..8_010 {
            let index = Cells::index(TCP, port).unwrap();
            let cells = memory.ports.entry(index).or_default();
            *cells = cells.with(port, 8_000);
        }
        let endpoint = Endpoint {
            v4: peer("10.9.0.3", 0).address,
            v6: if has_v6 {
                peer("fd09::3", 0).address
            } else {
                Addr::NONE
            },
            state: EndpointState::Active as u8,
            ..Endpoint::default()
        };
        memory.endpoints.insert(1, endpoint);
        let slot = Slot {
            endpoint: 1,
            port: Port::new(80),
            _pad: 0,
        };
        memory.slots.insert(9, slot);
        for is_v4 in [true, false] {
            let key = FrontendKey::published(FrontendKey::wildcard(is_v4), Port::new(8_000), TCP);
            let frontend = Frontend {
                id: 3,
                first_slot: 9,
                slot_count: 1,
                origin: Port::new(8_000),
                ..Frontend::default()
            };
            memory.frontends.insert(key, frontend);
        }
        memory.locals.insert(peer("192.0.2.1", 0).address);
        memory
    }

    fn led(memory: &Memory, asked: Peer) -> Led {
        lead(memory, &Process(HOST), asked, TCP)
    }

    #[test]
    fn a_process_reaches_a_port_at_every_address_of_the_host() {
        let memory = published(true);

        for (asked, backend) in [
            ("127.0.0.1", "10.9.0.3"),
            ("127.9.9.9", "10.9.0.3"),
            ("0.0.0.0", "10.9.0.3"),
            ("192.0.2.1", "10.9.0.3"),
            ("::ffff:127.0.0.1", "10.9.0.3"),
            ("::1", "fd09::3"),
            ("::", "fd09::3"),
        ] {
            let found = led(&memory, peer(asked, 8_004));
            assert_eq!(found, Led::To(peer(backend, 84)), "{asked}");
        }
    }

    #[test]
    fn a_process_that_asks_for_ipv6_reaches_a_container_without() {
        let memory = published(false);

        assert_eq!(
            led(&memory, peer("::1", 8_000)),
            Led::To(peer("10.9.0.3", 80))
        );
    }

    #[test]
    fn a_process_is_shown_what_it_asked_for() {
        let memory = published(true);
        let asked = peer("::1", 8_001);
        led(&memory, asked);

        let shown = |process, at| restore(&memory, &Process(process), at);

        assert_eq!(shown(HOST, peer("fd09::3", 81)), Some(asked));
        assert_eq!(shown(HOST, peer("fd09::3", 82)), None);
        assert_eq!(shown(HOST + 1, peer("fd09::3", 81)), None);
    }

    #[test]
    fn everything_else_is_left_alone() {
        let memory = published(true);

        assert_eq!(led(&memory, peer("127.0.0.1", 8_010)), Led::Alone);
        assert_eq!(led(&memory, peer("198.51.100.1", 8_000)), Led::Alone);
        let container = lead(&memory, &Process(HOST + 1), peer("127.0.0.1", 8_000), TCP);
        assert_eq!(container, Led::Alone);
        let datagram = lead(&memory, &Process(HOST), peer("127.0.0.1", 8_000), 17);
        assert_eq!(datagram, Led::Alone);
    }

    #[test]
    fn a_socket_that_is_bound_to_a_loopback_address_stays_on_that_interface() {
        let memory = published(true);
        let asked = peer("127.0.0.1", 8_000);

        for loopback in ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(lead(&memory, &Bound(loopback), asked, TCP), Led::Alone);
        }
        let elsewhere = lead(&memory, &Bound("192.0.2.1"), asked, TCP);
        assert_eq!(elsewhere, Led::To(peer("10.9.0.3", 80)));
    }

    #[test]
    fn the_frontends_own_list_is_asked_about_what_a_process_sends_from() {
        let mut memory = published(true);
        for frontend in memory.frontends.values_mut() {
            frontend.sources = 5;
        }
        let deny = |action| Source {
            action: SourceAction::Deny as u8,
            own_action: action as u8,
            rule: 3,
        };
        let place = |prefix_length, address: &str| SourceKey {
            prefix_length,
            list: 5,
            address: peer(address, 0).address,
        };
        let (own, rule) = (deny(SourceAction::Deny), deny(SourceAction::Allow));
        memory.sources.insert(place(32 + 96 + 8, "127.0.0.0"), own);
        memory.sources.insert(place(32 + 128, "::1"), own);
        memory.sources.insert(place(32 + 96, "0.0.0.0"), rule);

        for denied in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
            assert_eq!(led(&memory, peer(denied, 8_000)), Led::Denied, "{denied}");
        }
        let by_rules_alone = led(&memory, peer("192.0.2.1", 8_000));
        assert_eq!(by_rules_alone, Led::To(peer("10.9.0.3", 80)));
        let bound = lead(&memory, &Bound("192.0.2.1"), peer("127.0.0.1", 8_000), TCP);
        assert_eq!(bound, Led::To(peer("10.9.0.3", 80)));
        assert_eq!(memory.reason(Reason::SourceDenied), 4);
        assert!(memory.rule_counters.borrow().is_empty());
    }

    #[test]
    fn a_port_without_a_backend_is_refused() {
        let mut memory = published(true);
        memory.endpoints.clear();

        assert_eq!(led(&memory, peer("127.0.0.1", 8_000)), Led::Refused);
    }
}
