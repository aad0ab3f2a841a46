use core::cell::Cell;
use core::net::Ipv4Addr;

use super::*;

const UDP: Port = Port::new(40_001);
const TCP: Port = Port::new(40_002);
const OTHER: Port = Port::new(40_003);
const DOCKER: Port = Port::new(40_004);

/// A namespace in which the daemon listens; the fields are what a test changes.
struct Namespace {
    resolver: Option<Resolver>,
    heartbeat: u64,
    sockets: bool,
    marked: bool,
    bound: u32,
    remembered: Cell<Option<(Port, Addr)>>,
}

impl Asker for Namespace {
    fn resolver(&self) -> Option<&Resolver> {
        self.resolver.as_ref()
    }
    fn heartbeat(&self) -> u64 {
        self.heartbeat
    }
    fn now(&self) -> u64 {
        10_000_000_000
    }
    fn listens(&self, transport: Transport, port: Port) -> bool {
        port == DOCKER && transport == Transport::Udp
    }
    fn is_there(&self) -> bool {
        self.sockets
    }
    fn may_send_from(&self, source: u32) -> bool {
        self.bound == 0 || self.bound == source
    }
    fn is_daemon(&self) -> bool {
        self.marked
    }
    fn remember(&self, port: Port, server: &Addr) {
        self.remembered.set(Some((port, *server)));
    }
    fn asked(&self, port: Port) -> Option<Addr> {
        let remembered = self.remembered.get();
        remembered
            .filter(|(led, _)| *led == port)
            .map(|(_, server)| server)
    }
}

fn served() -> Namespace {
    Namespace {
        resolver: Some(Resolver {
            udp: UDP,
            tcp: TCP,
            ..Resolver::default()
        }),
        heartbeat: 9_900_000_000,
        sockets: true,
        marked: false,
        bound: 0,
        remembered: Cell::new(None),
    }
}

fn address(last: u8) -> Addr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// The port of 127.0.0.11 that a query to this place is led to.
fn led_inside(
    to: &Addr,
    port: Port,
    transport: Option<Transport>,
    asker: &Namespace,
) -> Option<Port> {
    let peer = lead(to, port, transport, asker)?;
    assert_eq!(peer.address, address(11));
    Some(peer.port)
}

fn led(asker: &Namespace) -> Option<Port> {
    led_inside(&address(11), Resolver::PORT, Some(Transport::Udp), asker)
}

#[test]
fn a_query_is_led_to_the_daemons_socket_of_its_transport() {
    let ours = address(11);

    assert_eq!(
        led_inside(&ours, Resolver::PORT, Some(Transport::Udp), &served()),
        Some(UDP)
    );
    assert_eq!(
        led_inside(&ours, Resolver::PORT, Some(Transport::Tcp), &served()),
        Some(TCP)
    );
}

#[test]
fn only_an_answer_from_where_containers_ask_is_shown_as_it_is() {
    assert!(is_shown(&address(11), Resolver::PORT));
    assert!(!is_shown(&address(11), UDP));
    assert!(!is_shown(&address(12), Resolver::PORT));
    assert!(!is_shown(&Addr::from_words([0; 4]), Resolver::PORT));
}

#[test]
fn everything_else_keeps_its_destination() {
    let udp = Some(Transport::Udp);

    assert_eq!(
        led_inside(&address(1), Resolver::PORT, udp, &served()),
        None
    );
    assert_eq!(led_inside(&address(11), OTHER, udp, &served()), None);
    assert_eq!(
        led_inside(&address(11), Resolver::PORT, None, &served()),
        None
    );
}

#[test]
fn a_namespace_that_is_not_served_is_left_alone() {
    assert_eq!(
        led(&Namespace {
            resolver: None,
            ..served()
        }),
        None
    );
}

#[test]
fn a_daemon_without_sockets_or_heartbeat_leaves_queries_alone() {
    let late = 10_000_000_000 - Resolver::PATIENCE;

    assert_eq!(
        led(&Namespace {
            sockets: false,
            ..served()
        }),
        None
    );
    assert_eq!(
        led(&Namespace {
            heartbeat: late,
            ..served()
        }),
        None
    );
    assert_eq!(
        led(&Namespace {
            heartbeat: late + 1,
            ..served()
        }),
        Some(UDP)
    );
    assert_eq!(
        led(&Namespace {
            heartbeat: 10_000_000_001,
            ..served()
        }),
        Some(UDP)
    );
}

#[test]
fn without_dockers_rules_a_query_goes_to_dockers_resolver_when_veer_is_not_there() {
    let with = |docker_udp, docker_tcp| Resolver {
        docker_udp,
        docker_tcp,
        ..served().resolver.unwrap()
    };
    let without_rules = |sockets, heartbeat| Namespace {
        resolver: Some(with(DOCKER, OTHER)),
        heartbeat,
        ..Namespace {
            sockets,
            ..served()
        }
    };

    assert_eq!(led(&without_rules(true, 9_900_000_000)), Some(UDP));
    assert_eq!(led(&without_rules(false, 9_900_000_000)), Some(DOCKER));
    assert_eq!(led(&without_rules(true, 0)), Some(DOCKER));
    let nobody_there = led_inside(
        &address(11),
        Resolver::PORT,
        Some(Transport::Tcp),
        &without_rules(false, 0),
    );
    assert_eq!(nobody_there, None, "it was started again, with rules");
    let shown = restore(
        &address(11),
        DOCKER,
        Some(Transport::Udp),
        &without_rules(true, 0),
    );
    assert_eq!(shown, Some(address(11)));
}

#[test]
fn an_answer_is_shown_as_coming_from_where_the_client_asked() {
    let restored = |source, port, transport| restore(&source, port, transport, &served());

    assert_eq!(
        restored(address(11), UDP, Some(Transport::Udp)),
        Some(address(11))
    );
    assert_eq!(
        restored(address(11), TCP, Some(Transport::Tcp)),
        Some(address(11))
    );
    assert_eq!(restored(address(11), TCP, Some(Transport::Udp)), None);
    assert_eq!(restored(address(11), OTHER, Some(Transport::Udp)), None);
    assert_eq!(restored(address(1), UDP, Some(Transport::Udp)), None);
}

#[test]
fn an_answer_is_shown_so_even_if_the_daemon_is_gone_by_then() {
    let gone = Namespace {
        heartbeat: 0,
        sockets: false,
        ..served()
    };

    let shown = restore(&address(11), UDP, Some(Transport::Udp), &gone);

    assert_eq!(shown, Some(address(11)));
}

#[test]
fn a_server_of_the_containers_own_is_stood_for_and_shown_as_itself() {
    let own: Addr = Ipv4Addr::new(192, 0, 2, 53).into();
    let with = |sockets| {
        let mut resolver = served().resolver.unwrap();
        resolver.servers = [0, own.v4_word(), 0];
        Namespace {
            resolver: Some(resolver),
            sockets,
            ..served()
        }
    };
    let udp = Some(Transport::Udp);
    let led = |asker: &Namespace, port| led_inside(&own, port, udp, asker);

    let first = with(true);
    assert_eq!(led(&first, Resolver::PORT), Some(UDP));
    assert_eq!(led(&first, OTHER), None, "only its port 53");
    assert_eq!(led(&served(), Resolver::PORT), None, "somebody else's");
    assert_eq!(led(&with(false), Resolver::PORT), None, "it answers itself");
    let daemon = Namespace {
        marked: true,
        ..with(true)
    };
    assert_eq!(led(&daemon, Resolver::PORT), None, "it would ask itself");
    let nobodys = Addr::from_v4_word(0);
    assert_eq!(led_inside(&nobodys, Resolver::PORT, udp, &first), None);
}

#[test]
fn who_answers_is_shown_as_the_server_that_was_asked() {
    let own: Addr = Ipv4Addr::new(192, 0, 2, 53).into();
    let mut resolver = served().resolver.unwrap();
    resolver.servers[0] = own.v4_word();
    let asker = Namespace {
        resolver: Some(resolver),
        ..served()
    };
    let udp = Some(Transport::Udp);
    let shown = || restore(&address(11), UDP, udp, &asker);

    assert_eq!(shown(), Some(address(11)));
    let led = led_inside(&own, Resolver::PORT, udp, &asker);
    assert_eq!((led, shown()), (Some(UDP), Some(own)));
}

#[test]
fn where_the_daemon_has_closed_its_sockets_docker_is_asked_or_nobody_else() {
    let resolver = served().resolver.unwrap();
    assert_eq!(resolver.closed(), None);
    let without_rules = Resolver {
        docker_udp: DOCKER,
        ..resolver
    };
    let asker = Namespace {
        resolver: without_rules.closed(),
        ..served()
    };

    assert_eq!(led(&asker), Some(DOCKER));
    let tcp = Some(Transport::Tcp);
    assert_eq!(
        led_inside(&address(11), Resolver::PORT, tcp, &asker),
        None,
        "port 0 is nobody's"
    );
}

/// A container that asks the daemon's port of 172.20.0.1, from 172.20.0.2.
fn outside() -> Namespace {
    let [gateway, source] = [1, 2].map(|last| u32::from_ne_bytes([172, 20, 0, last]));
    Namespace {
        resolver: served().resolver.map(|resolver| Resolver {
            gateway,
            source,
            ..resolver
        }),
        ..served()
    }
}

#[test]
fn where_nobody_listens_inside_a_query_is_led_to_the_host_and_its_answer_shown_as_ever() {
    let gateway = Addr::from_v4_word(outside().resolver.unwrap().gateway);
    let udp = Some(Transport::Udp);
    let to = |asker: &Namespace| lead(&address(11), Resolver::PORT, udp, asker);

    let port = UDP;
    let there = Some(Peer {
        address: gateway,
        port,
    });
    assert_eq!(to(&outside()), there);
    assert_eq!(restore(&gateway, UDP, udp, &outside()), Some(address(11)));
    assert_eq!(restore(&gateway, OTHER, udp, &outside()), None);
    assert_eq!(restore(&gateway, UDP, udp, &served()), None);
    assert_eq!(restore(&address(11), UDP, udp, &outside()), None);
    let gone = Namespace {
        sockets: false,
        ..outside()
    };
    let silent = Namespace {
        heartbeat: 0,
        ..outside()
    };
    assert_eq!((to(&gone), to(&silent)), (None, None));
}

#[test]
fn a_socket_that_cannot_reach_the_host_from_where_it_is_bound_is_left_alone() {
    let bound = |bytes: [u8; 4]| Namespace {
        bound: u32::from_ne_bytes(bytes),
        ..outside()
    };
    let is_led = |asker: &Namespace| {
        let udp = Some(Transport::Udp);
        lead(&address(11), Resolver::PORT, udp, asker).is_some()
    };

    assert!(is_led(&bound([172, 20, 0, 2])));
    assert!(!is_led(&bound([127, 0, 0, 1])));
    assert!(!is_led(&bound([172, 21, 0, 2])), "of another Network");
}
