//! Published ports: from outside, and those who may not.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{Icmpv4Type, Icmpv6Type, IpNumber};
use lb_common::{Addr, FrontendKey, Reason, Source, SourceAction, SourceKey};
use lb_ebpf::Verdict;
use veer_tests::packets::{
    ACK, End, FIN, Ip, RST, SYN, SYN_ACK, echo, icmp, ip, tcp, udp, udp_datagram,
};

use super::{Visit, barred, both_in, entered, for_host, hosted, left, met, uplink};
use crate::engine::{Scenario, Step};
use crate::world::{
    BRIDGE_MAC, FAR, Family, ONE, OUTSIDER, ROUTER_MAC, UPLINK, UPLINK_MAC, World, ZONE, gateway,
    host_end,
};

pub fn all() -> Vec<Scenario> {
    [
        from_outside(),
        other_protocols(),
        not_ours(),
        refused(),
        sources(),
        errors(),
    ]
    .concat()
}

/// Port 8080 of the host, which is port 80 of `ONE`.
fn visit(family: Family) -> Visit {
    Visit {
        family,
        client: OUTSIDER.end(family, 40_000),
        host_port: 8_080,
        backend: ONE,
        port: 80,
    }
}

fn from_outside() -> Vec<Scenario> {
    [
        hosted(
            "a client outside reaches a published port and is known by its own address",
            |family| {
                let visit = visit(family);
                let mut steps = visit.handshake();
                steps.extend([
                    Step::Connections(1, 0),
                    Step::Load(ONE.0, 1),
                    visit.ask(ACK, b"GET / HTTP/1.0\r\n\r\n"),
                    visit.answer(ACK, b"HTTP/1.0 200 OK\r\n\r\n"),
                    visit.ask(FIN, b""),
                    visit.answer(FIN, b""),
                    visit.ask(ACK, b""),
                    Step::Age(40),
                    Step::Collected(1),
                    Step::Connections(0, 0),
                    Step::Load(ONE.0, 0),
                ]);
                steps
            },
        ),
        hosted(
            "every port of a range has the backend's port of the same place",
            |family| {
                [(5_000, 6_000), (5_004, 6_004), (5_009, 6_009)]
                    .into_iter()
                    .flat_map(|(host_port, port)| {
                        let visit = Visit {
                            host_port,
                            port,
                            ..visit(family)
                        };
                        visit.handshake()
                    })
                    .collect()
            },
        ),
        hosted(
            "a port that is published on one address is not served on others",
            |family| {
                let visit = Visit {
                    host_port: 8_443,
                    port: 443,
                    ..visit(family)
                };
                let mut elsewhere = host_end(family, 8_443);
                elsewhere.addr = gateway(ZONE, family);
                let mut steps = visit.handshake();
                steps.push(for_host(tcp(visit.client, elsewhere, SYN, b"")));
                steps
            },
        ),
        hosted(
            "a backend on another network is reached likewise",
            |family| {
                let far = Visit {
                    host_port: 9_000,
                    backend: FAR,
                    ..visit(family)
                };
                far.handshake()
            },
        ),
        hosted(
            "a connection goes on while the port is no longer published",
            |family| {
                let visit = visit(family);
                let mut steps = visit.handshake();
                steps.extend([
                    Step::Change(|world| {
                        world.frontends.clear();
                    }),
                    visit.ask(ACK, b"still"),
                    visit.answer(ACK, b"there"),
                ]);
                steps
            },
        ),
    ]
    .concat()
}

fn other_protocols() -> Vec<Scenario> {
    [
        hosted(
            "datagrams reach a published port and are answered from it",
            |family| {
                let visit = Visit {
                    host_port: 8_053,
                    port: 53,
                    ..visit(family)
                };
                vec![
                    visit.asks(|from, to| udp(from, to, b"query")),
                    visit.answers(|from, to| udp(from, to, b"answer")),
                    Step::Connections(0, 1),
                    visit.asks(|from, to| udp(from, to, b"another")),
                    Step::Connections(1, 0),
                ]
            },
        ),
        hosted(
            "a datagram in fragments reaches a published port whole",
            |family| {
                let visit = Visit {
                    host_port: 8_053,
                    port: 53,
                    ..visit(family)
                };
                let payload = [7; 2_000];
                let fragments = |from: End, to: End| {
                    let whole = udp_datagram(from, to, &payload);
                    let (first, rest) = whole.split_at(1_000);
                    [
                        ip(from, to, Ip::fragment(9, 0, true), IpNumber::UDP, first),
                        ip(from, to, Ip::fragment(9, 1_000, false), IpNumber::UDP, rest),
                    ]
                };
                let (client, host) = visit.outside();
                let (_, backend) = visit.inside();
                let sent = fragments(client, host);
                let received = fragments(client, backend);
                let early = ip(
                    client,
                    host,
                    Ip::fragment(10, 1_000, false),
                    IpNumber::UDP,
                    &[1; 64],
                );
                sent.into_iter()
                    .zip(received)
                    .map(|(sent, received)| entered(sent, ONE, Reason::Forwarded, received))
                    .chain([for_host(early)])
                    .collect()
            },
        ),
        hosted("sctp is rewritten by its addresses alone", |family| {
            let visit = Visit {
                host_port: 3_868,
                port: 3_868,
                client: OUTSIDER.end(family, 3_868),
                ..visit(family)
            };
            let chunk = |from: End, to: End| {
                let mut body = [from.port.to_be_bytes(), to.port.to_be_bytes()].concat();
                body.extend([0, 0, 0, 0, 0xab, 0xcd, 0xef, 0x01, 1, 0, 0, 20]);
                ip(from, to, Ip::default(), IpNumber::SCTP, &body)
            };
            vec![visit.asks(chunk), visit.answers(chunk), visit.asks(chunk)]
        }),
    ]
    .concat()
}

fn not_ours() -> Vec<Scenario> {
    [
        hosted("what is not published is the host's", |family| {
            let client = OUTSIDER.end(family, 40_000);
            let on = |port| host_end(family, port);
            vec![
                for_host(tcp(client, on(22), SYN, b"")),
                for_host(udp(client, on(8_080), b"not tcp")),
                for_host(tcp(client, on(8_053), SYN, b"")),
                for_host(tcp(client, on(4_999), SYN, b"")),
                for_host(tcp(client, on(5_010), SYN, b"")),
                for_host(tcp(client, on(61_001), SYN_ACK, b"")),
                for_host(echo(client, on(0), true, 7, b"ping")),
                for_host(echo(client, on(0), false, 7, b"pong")),
                Step::Connections(0, 0),
            ]
        }),
        hosted("a published port of another host is passed on", |family| {
            let client = OUTSIDER.end(family, 40_000);
            let mut elsewhere = host_end(family, 8_080);
            elsewhere.addr = match family {
                Family::V4 => Ipv4Addr::new(198, 51, 100, 9).into(),
                Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 9).into(),
            };
            vec![for_host(tcp(client, elsewhere, SYN, b""))]
        }),
        hosted(
            "nobody outside speaks to or from a loopback address",
            |family| {
                let client = OUTSIDER.end(family, 40_000);
                let mut loopback = host_end(family, 8_080);
                loopback.addr = match family {
                    Family::V4 => Ipv4Addr::LOCALHOST.into(),
                    Family::V6 => Ipv6Addr::LOCALHOST.into(),
                };
                let forged = End {
                    addr: loopback.addr,
                    ..client
                };
                let to = tcp(client, loopback, SYN, b"");
                let from = tcp(forged, host_end(family, 8_080), SYN, b"");
                vec![
                    barred(uplink(), to, Reason::LoopbackOutside),
                    barred(uplink(), from, Reason::LoopbackOutside),
                ]
            },
        ),
    ]
    .concat()
}

/// A port that is published for nobody, and one that nothing was opened at.
fn refused() -> Vec<Scenario> {
    hosted(
        "a published port without a backend is refused, and so is what opened nothing",
        |family| {
            let client = OUTSIDER.end(family, 40_000);
            let refusal = |port, segment, seq: u32, ack: bool| {
                let host = host_end(family, port);
                let sent = tcp(client, host, segment, b"");
                let reset = veer_tests::packets::Segment {
                    rst: true,
                    ack,
                    sequence: seq,
                    acknowledgment: if ack { 1_001 } else { 0 },
                    window: 0,
                    ..RST
                };
                let answer = answered(host, client, reset);
                let verdict = Verdict::Leave { ifindex: UPLINK };
                met(uplink(), sent, verdict, Reason::ResetSent, Some(answer))
            };
            vec![
                refusal(7_000, SYN, 0, true),
                Step::Counted(Reason::NoBackend, 1),
                refusal(8_080, ACK, 9_001, false),
                Step::Counted(Reason::NoConnection, 1),
                barred(
                    uplink(),
                    tcp(client, host_end(family, 8_080), RST, b""),
                    Reason::NoConnection,
                ),
            ]
        },
    )
}

/// A reset as the datapath writes it: the identification and "don't fragment" are its own.
fn answered(host: End, client: End, reset: veer_tests::packets::Segment) -> Vec<u8> {
    tcp(host, client, reset, b"")
}

/// Allows one client of port 8080 and denies everybody else.
pub(super) fn guarded() -> World {
    let mut world = World::hosting();
    for family in [Family::V4, Family::V6] {
        let wildcard = FrontendKey::wildcard(family == Family::V4);
        let key = FrontendKey::published(wildcard, lb_common::Port::new(8_080), 6);
        world.frontends.get_mut(&key).expect("published").sources = 5;
        let allowed = Addr::from(OUTSIDER.addr(family));
        for (prefix_length, address, action, rule) in [
            (160, allowed, SourceAction::Allow, 1),
            (32, Addr::NONE, SourceAction::Deny, 2),
        ] {
            let key = SourceKey {
                prefix_length,
                list: 5,
                address,
            };
            let source = Source {
                action: action as u8,
                own_action: SourceAction::Allow as u8,
                rule,
            };
            world.sources.insert(key, source);
        }
    }
    world
}

fn sources() -> Vec<Scenario> {
    both_in(
        "a list of clients lets in whom it names",
        guarded(),
        |family| {
            let visit = visit(family);
            let stranger = crate::world::Stranger(9).end(family, 40_000);
            let host = host_end(family, 8_080);
            let mut steps = visit.handshake();
            steps.extend([
                Step::Judged(1, 1),
                barred(
                    uplink(),
                    tcp(stranger, host, SYN, b""),
                    Reason::SourceDenied,
                ),
                Step::Judged(2, 1),
                Step::Connections(1, 0),
            ]);
            steps
        },
    )
}

fn unreachable(from: End, to: End, quoted: &[u8]) -> Vec<u8> {
    let v4 = Icmpv4Type::Unknown {
        type_u8: 3,
        code_u8: 3,
        bytes5to8: [0; 4],
    };
    let v6 = Icmpv6Type::Unknown {
        type_u8: 1,
        code_u8: 4,
        bytes5to8: [0; 4],
    };
    icmp(from, to, v4, v6, quoted)
}

fn errors() -> Vec<Scenario> {
    [
        hosted("an error about an answer reaches the backend", |family| {
            let visit = Visit {
                host_port: 8_053,
                port: 53,
                ..visit(family)
            };
            let (client, host) = visit.outside();
            let (_, backend) = visit.inside();
            let quote = |from, to| udp(from, to, b"answer")[14..].to_vec();
            vec![
                visit.asks(|from, to| udp(from, to, b"query")),
                visit.answers(|from, to| udp(from, to, b"answer")),
                entered(
                    unreachable(client, host, &quote(host, client)),
                    ONE,
                    Reason::IcmpErrorTranslated,
                    unreachable(client, backend, &quote(backend, client)),
                ),
            ]
        }),
        hosted("a backend's error leaves under the host's name", |family| {
            let visit = Visit {
                host_port: 8_053,
                port: 53,
                ..visit(family)
            };
            let (client, host) = visit.outside();
            let (_, backend) = visit.inside();
            let quote = |from, to| udp(from, to, b"query")[14..].to_vec();
            let sent = unreachable(backend, client.at(BRIDGE_MAC), &quote(client, backend));
            let out = unreachable(
                host.at(UPLINK_MAC),
                client.at(ROUTER_MAC),
                &quote(client, host),
            );
            vec![
                visit.asks(|from, to| udp(from, to, b"query")),
                left(ONE, sent, Reason::IcmpErrorTranslated, out),
            ]
        }),
        hosted("an error about nothing of ours is the host's", |family| {
            let client = OUTSIDER.end(family, 0);
            let quoted = udp(host_end(family, 1), client, b"x")[14..].to_vec();
            vec![for_host(unreachable(client, host_end(family, 0), &quoted))]
        }),
    ]
    .concat()
}
