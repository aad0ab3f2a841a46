use core::net::IpAddr;

use lb_common::{Cells, Endpoint, EndpointState, Settings, Slot, Source, SourceAction, SourceKey};

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
    fn now(&self) -> u64 {
        0
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
    fn now(&self) -> u64 {
        0
    }
}

/// A process that sends at this second.
struct At(u64);

impl Caller for At {
    fn namespace(&self) -> u64 {
        HOST
    }
    fn cookie(&self) -> u64 {
        7
    }
    fn bound(&self) -> Addr {
        Addr::NONE
    }
    fn now(&self) -> u64 {
        self.0 * SECOND
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

#[test]
fn a_socket_sends_its_datagrams_to_one_backend_as_long_as_that_one_takes_them() {
    let mut memory = published(true);
    let other = Endpoint {
        v4: peer("10.9.0.4", 0).address,
        ..memory.endpoints[&1]
    };
    memory.endpoints.insert(2, other);
    let slot = Slot {
        endpoint: 2,
        ..memory.slots[&9]
    };
    memory.slots.insert(10, slot);
    for (key, mut frontend) in memory.frontends.clone() {
        frontend.slot_count = 2;
        let protocol = UDP;
        let key = FrontendKey { protocol, ..key };
        memory.frontends.insert(key, frontend);
    }
    let index = Cells::index(UDP, 8_000).unwrap();
    memory
        .ports
        .insert(index, Cells::default().with(8_000, 8_000));
    let sent = |memory: &Memory, second| lead(memory, &At(second), peer("127.0.0.1", 8_000), UDP);

    let to = sent(&memory, 0);
    assert!([0, 100, 200].map(|second| sent(&memory, second)) == [to; 3]);
    let next = sent(&memory, 400);
    assert_ne!(next, to, "so long a silence ends it");
    let Led::To(Peer { address, .. }) = next else {
        panic!("{next:?}");
    };
    for endpoint in memory.endpoints.values_mut() {
        endpoint.generation += u32::from(endpoint.v4 == address);
    }
    assert_eq!(sent(&memory, 401), to);
}
