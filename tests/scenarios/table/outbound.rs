//! What containers send to the outside: masqueraded, sent as it is, or nowhere.

use std::net::IpAddr;

use etherparse::{Icmpv4Type, Icmpv6Type};
use lb_common::{NetworkFlags, Reason, VIP_MAC};
use lb_ebpf::Verdict;
use veer_tests::packets::{self, ACK, End, FIN, SYN, SYN_ACK, icmp, tcp, udp};

use super::{barred, beyond, both_in, entered, for_host, hosted, left, met, renamed};
use crate::engine::{At, Hook, Scenario, Step};
use crate::world::{
    BRIDGE, CLIENT, Family, MASQUERADE, NARROW, NARROW_MTU, ONE, OUTSIDER, ROUTER_MAC, UPLINK,
    UPLINK_MAC, World, ZONE, host_end, nowhere, unresolved,
};

pub fn all() -> Vec<Scenario> {
    [masqueraded(), told_apart(), errors(), no_way(), as_it_is()].concat()
}

/// The source port (or identifier) that the client's packet leaves with.
fn chosen(packet: &[u8]) -> u16 {
    renamed(&World::hosting(), CLIENT.at(), packet)
}

/// A container and somebody outside who talk.
struct Talk {
    family: Family,
    client_port: u16,
    server_port: u16,
    /// What the host calls the container.
    host_port: u16,
}

impl Talk {
    fn new(family: Family, client_port: u16, packet: impl Fn(End, End) -> Vec<u8>) -> Self {
        let server_port = 443;
        let client = CLIENT.end(family, client_port);
        let host_port = chosen(&packet(client, beyond(OUTSIDER.addr(family), server_port)));
        Self {
            family,
            client_port,
            server_port,
            host_port,
        }
    }

    fn asks(&self, packet: impl Fn(End, End) -> Vec<u8>) -> Step {
        let client = CLIENT.end(self.family, self.client_port);
        let server = beyond(OUTSIDER.addr(self.family), self.server_port);
        let host = host_end(self.family, self.host_port);
        let out = packet(host, server.at(ROUTER_MAC));
        left(CLIENT, packet(client, server), Reason::Outbound, out)
    }

    fn answers(&self, packet: impl Fn(End, End) -> Vec<u8>) -> Step {
        let client = CLIENT.end(self.family, self.client_port);
        let server = OUTSIDER.end(self.family, self.server_port);
        let host = host_end(self.family, self.host_port);
        let out = packet(server, client);
        entered(packet(server, host), CLIENT, Reason::Replied, out)
    }
}

fn masqueraded() -> Vec<Scenario> {
    [
        hosted(
            "a container's connection leaves under the host's name",
            |family| {
                let talk = Talk::new(family, 40_000, |from, to| tcp(from, to, SYN, b""));
                let mut steps = vec![
                    talk.asks(|from, to| tcp(from, to, SYN, b"")),
                    Step::Connections(0, 1),
                    talk.answers(|from, to| tcp(from, to, SYN_ACK, b"")),
                    talk.asks(|from, to| tcp(from, to, ACK, b"")),
                    Step::Connections(1, 0),
                    talk.asks(|from, to| tcp(from, to, ACK, b"hello")),
                    talk.answers(|from, to| tcp(from, to, ACK, b"world")),
                ];
                steps.extend([
                    talk.asks(|from, to| tcp(from, to, FIN, b"")),
                    talk.answers(|from, to| tcp(from, to, FIN, b"")),
                    Step::Age(40),
                    Step::Collected(1),
                    Step::Connections(0, 0),
                ]);
                steps
            },
        ),
        hosted(
            "a container's datagrams leave under the host's name",
            |family| {
                let talk = Talk::new(family, 5_353, |from, to| udp(from, to, b"query"));
                vec![
                    talk.asks(|from, to| udp(from, to, b"query")),
                    talk.answers(|from, to| udp(from, to, b"answer")),
                    talk.asks(|from, to| udp(from, to, b"query")),
                    Step::Connections(1, 0),
                ]
            },
        ),
        hosted("a container pings the outside", |family| {
            let (client, server) = (CLIENT.end(family, 0), beyond(OUTSIDER.addr(family), 0));
            let ping = |from, to, id| packets::echo(from, to, true, id, b"data");
            let pong = |from, to, id| packets::echo(from, to, false, id, b"data");
            let id = chosen(&ping(client, server, 77));
            let host = host_end(family, 0);
            let stranger = OUTSIDER.end(family, 0);
            vec![
                left(
                    CLIENT,
                    ping(client, server, 77),
                    Reason::Outbound,
                    ping(host, server.at(ROUTER_MAC), id),
                ),
                entered(
                    pong(stranger, host, id),
                    CLIENT,
                    Reason::Replied,
                    pong(stranger, client, 77),
                ),
            ]
        }),
        hosted(
            "a neighbour that has not answered is left to be asked",
            |family| {
                let client = CLIENT.end(family, 40_000);
                let server = beyond(unresolved(family), 443);
                let packet = tcp(client, server, SYN, b"");
                let port = chosen(&packet);
                let host = host_end(family, port).at(client.mac);
                vec![left(
                    CLIENT,
                    packet,
                    Reason::Outbound,
                    tcp(host, server, SYN, b""),
                )]
            },
        ),
        hosted(
            "the daemon's own address goes before the interface's",
            |family| {
                let client = CLIENT.end(family, 40_000);
                let server = beyond(OUTSIDER.addr(family), 443);
                let syn = |from, to| tcp(from, to, SYN, b"");
                let port = chosen(&syn(client, server));
                let mut host = host_end(family, port);
                host.addr = fixed(family);
                vec![
                    Step::Change(|world| {
                        let network = world.networks.get_mut(&ZONE).expect("a Network");
                        network.host_v4 = fixed(Family::V4).into();
                        network.host_v6 = fixed(Family::V6).into();
                    }),
                    left(
                        CLIENT,
                        syn(client, server),
                        Reason::Outbound,
                        syn(host, server.at(ROUTER_MAC)),
                    ),
                ]
            },
        ),
    ]
    .concat()
}

/// An address that a Network is masqueraded with by name.
fn fixed(family: Family) -> IpAddr {
    let text = match family {
        Family::V4 => "192.0.2.77",
        Family::V6 => "2001:db8::77",
    };
    text.parse().expect("an address")
}

fn told_apart() -> Vec<Scenario> {
    [
        hosted("what answers nobody is the host's", |family| {
            let talk = Talk::new(family, 40_000, |from, to| tcp(from, to, SYN, b""));
            let stranger = crate::world::Stranger(9).end(family, 443);
            let host = host_end(family, talk.host_port);
            vec![
                talk.asks(|from, to| tcp(from, to, SYN, b"")),
                for_host(tcp(stranger, host, SYN_ACK, b"")),
                for_host(tcp(OUTSIDER.end(family, 444), host, SYN_ACK, b"")),
            ]
        }),
        hosted(
            "the middle of a stream that nobody knows is reset",
            |family| {
                let (client, server) = (
                    CLIENT.end(family, 40_000),
                    beyond(OUTSIDER.addr(family), 443),
                );
                let reset = packets::Segment {
                    rst: true,
                    sequence: 9_001,
                    acknowledgment: 0,
                    window: 0,
                    ..packets::RST
                };
                let answer = tcp(server.at(VIP_MAC), client, reset, b"");
                let verdict = Verdict::Deliver {
                    ifindex: CLIENT.veth(),
                };
                vec![
                    met(
                        CLIENT.at(),
                        tcp(client, server, ACK, b""),
                        verdict,
                        Reason::ResetSent,
                        Some(answer),
                    ),
                    Step::Connections(0, 0),
                ]
            },
        ),
        hosted("a container that is gone gets no answers", |family| {
            let talk = Talk::new(family, 40_000, |from, to| udp(from, to, b"query"));
            let server = OUTSIDER.end(family, 443);
            let host = host_end(family, talk.host_port);
            vec![
                talk.asks(|from, to| udp(from, to, b"query")),
                Step::Change(|world| world.retire(CLIENT)),
                barred(
                    super::uplink(),
                    udp(server, host, b"late"),
                    Reason::ClientGone,
                ),
            ]
        }),
    ]
    .concat()
}

fn too_big(from: End, to: End, mtu: u16, quoted: &[u8]) -> Vec<u8> {
    let [high, low] = mtu.to_be_bytes();
    let v4 = Icmpv4Type::Unknown {
        type_u8: 3,
        code_u8: 4,
        bytes5to8: [0, 0, high, low],
    };
    let v6 = Icmpv6Type::Unknown {
        type_u8: 2,
        code_u8: 0,
        bytes5to8: [0, 0, high, low],
    };
    icmp(from, to, v4, v6, quoted)
}

fn errors() -> Vec<Scenario> {
    [
        hosted(
            "a router's error about what left reaches the container",
            |family| {
                let talk = Talk::new(family, 40_000, |from, to| tcp(from, to, SYN, b""));
                let (client, host) = (CLIENT.end(family, 40_000), host_end(family, talk.host_port));
                let server = OUTSIDER.end(family, 443);
                let mut router = OUTSIDER.end(family, 0);
                router.addr = fixed(family);
                let quote = |from, to| {
                    let whole = tcp(from, to, SYN, b"")[14..].to_vec();
                    let header = if family == Family::V4 { 20 } else { 40 };
                    [whole.clone(), whole[..header + 8].to_vec()]
                };
                let mut steps = vec![talk.asks(|from, to| tcp(from, to, SYN, b""))];
                for (sent, received) in quote(host, server).into_iter().zip(quote(client, server)) {
                    steps.push(entered(
                        too_big(router, host, 1_400, &sent),
                        CLIENT,
                        Reason::IcmpErrorTranslated,
                        too_big(router, client, 1_400, &received),
                    ));
                }
                steps
            },
        ),
        hosted(
            "a packet too large for its way is answered with what fits",
            |family| {
                let client = CLIENT.end(family, 40_000);
                let server = beyond(NARROW.addr(family), 443);
                let large = udp(client, server, &[1; 1_400]);
                let header = if family == Family::V4 { 28 } else { 48 };
                let answer = too_big(
                    server.at(VIP_MAC),
                    client,
                    NARROW_MTU,
                    &large[14..14 + header],
                );
                let verdict = Verdict::Deliver {
                    ifindex: CLIENT.veth(),
                };
                vec![met(
                    CLIENT.at(),
                    large,
                    verdict,
                    Reason::TooBigSent,
                    Some(answer),
                )]
            },
        ),
    ]
    .concat()
}

fn no_way() -> Vec<Scenario> {
    [
        hosted("where no route leads the container is told so", |family| {
            let client = CLIENT.end(family, 40_000);
            let server = beyond(nowhere(family), 443);
            let syn = tcp(client, server, SYN, b"");
            let header = if family == Family::V4 { 28 } else { 48 };
            let v4 = Icmpv4Type::Unknown {
                type_u8: 3,
                code_u8: 0,
                bytes5to8: [0; 4],
            };
            let v6 = Icmpv6Type::Unknown {
                type_u8: 1,
                code_u8: 0,
                bytes5to8: [0; 4],
            };
            let answer = icmp(server.at(VIP_MAC), client, v4, v6, &syn[14..14 + header]);
            let verdict = Verdict::Deliver {
                ifindex: CLIENT.veth(),
            };
            vec![
                met(
                    CLIENT.at(),
                    syn,
                    verdict,
                    Reason::UnreachableSent,
                    Some(answer),
                ),
                Step::Counted(Reason::NoRoute, 1),
                Step::Connections(0, 0),
            ]
        }),
        both_in(
            "no free port is counted and opens nothing",
            {
                let mut world = World::hosting();
                world.settings.masquerade_last = MASQUERADE.0;
                world
            },
            |family| {
                let server = beyond(OUTSIDER.addr(family), 443);
                let from = |port| udp(CLIENT.end(family, port), server, b"x");
                let host = host_end(family, MASQUERADE.0);
                vec![
                    left(
                        CLIENT,
                        from(40_000),
                        Reason::Outbound,
                        udp(host, server.at(ROUTER_MAC), b"x"),
                    ),
                    barred(CLIENT.at(), from(40_001), Reason::PortsExhausted),
                    Step::Connections(0, 1),
                ]
            },
        ),
    ]
    .concat()
}

/// Networks whose containers keep their own addresses.
fn as_it_is() -> Vec<Scenario> {
    let masquerade = NetworkFlags::MASQUERADE_V4 | NetworkFlags::MASQUERADE_V6;
    let world = World::hosting().unflag(ZONE, masquerade);
    both_in(
        "without masquerade a container's packets leave as they are",
        world,
        |family| {
            let client = CLIENT.end(family, 40_000);
            let server = beyond(OUTSIDER.addr(family), 443);
            let syn = tcp(client, server, SYN, b"");
            let out = tcp(client.at(UPLINK_MAC), server.at(ROUTER_MAC), SYN, b"");
            let answer = tcp(server, client, SYN_ACK, b"");
            let unasked = tcp(server.on(444), client, SYN_ACK, b"");
            let inward = At {
                hook: Hook::BridgeOut,
                ifindex: BRIDGE,
                came_from: UPLINK,
            };
            vec![
                left(CLIENT, syn, Reason::Outbound, out),
                for_host(answer.clone()),
                met(inward, answer, Verdict::Pass, Reason::Routed, None),
                barred(inward, unasked, Reason::DirectRouting),
                delivered_to_nobody(family),
            ]
        },
    )
}

/// Another container of the Network is not what was asked for.
fn delivered_to_nobody(family: Family) -> Step {
    let (one, client) = (ONE.end(family, 80), CLIENT.end(family, 40_000));
    super::passed(ONE, tcp(one, client, SYN_ACK, b""), Reason::Direct)
}
