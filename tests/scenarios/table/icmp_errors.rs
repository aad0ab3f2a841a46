//! ICMP errors about packets that were rewritten.

use etherparse::{Icmpv4Type, Icmpv6Type, IpNumber};
use lb_common::Reason;
use veer_tests::packets::{self, ACK, End, Ip, datagram, icmp, tcp_segment, udp, udp_datagram};

use super::{Talk, both, delivered, dropped, passed};
use crate::engine::{Scenario, Step};
use crate::world::{CLIENT, Family, NOBODY, ONE, OTHER, PAIR};

/// Port unreachable.
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

/// Fragmentation needed, or packet too big: 1,400 bytes.
fn too_big(from: End, to: End, quoted: &[u8]) -> Vec<u8> {
    let v4 = Icmpv4Type::Unknown {
        type_u8: 3,
        code_u8: 4,
        bytes5to8: [0, 0, 5, 0x78],
    };
    let v6 = Icmpv6Type::Unknown {
        type_u8: 2,
        code_u8: 0,
        bytes5to8: [0, 0, 5, 0x78],
    };
    icmp(from, to, v4, v6, quoted)
}

fn quote_udp(from: End, to: End) -> Vec<u8> {
    datagram(
        from.addr,
        to.addr,
        Ip::default(),
        IpNumber::UDP,
        &udp_datagram(from, to, b"quoted"),
    )
}

fn quote_tcp(from: End, to: End) -> Vec<u8> {
    let segment = tcp_segment(from, to, ACK, b"quoted");
    datagram(from.addr, to.addr, Ip::default(), IpNumber::TCP, &segment)
}

/// A quotation of the network header and eight bytes more: the least there may be (RFC 792).
fn least(family: Family, quoted: Vec<u8>) -> Vec<u8> {
    let header = if family == Family::V4 { 20 } else { 40 };
    quoted[..header + 8].to_vec()
}

pub fn all() -> Vec<Scenario> {
    [
        from_backend(),
        from_client(),
        of_tcp(),
        of_echo(),
        from_router(),
        strangers(),
    ]
    .concat()
}

fn from_backend() -> Vec<Scenario> {
    both(
        "a backend's port unreachable comes from the vip",
        |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let (client, vip) = talk.outside();
            let (seen, backend) = talk.inside();
            vec![
                talk.forwarded(|from, to| udp(from, to, b"quoted")),
                delivered(
                    ONE,
                    unreachable(backend, seen, &quote_udp(seen, backend)),
                    CLIENT,
                    Reason::IcmpErrorTranslated,
                    unreachable(vip.at(ONE.mac()), client, &quote_udp(client, vip)),
                ),
                delivered(
                    ONE,
                    unreachable(backend, seen, &least(family, quote_udp(seen, backend))),
                    CLIENT,
                    Reason::IcmpErrorTranslated,
                    unreachable(
                        vip.at(ONE.mac()),
                        client,
                        &least(family, quote_udp(client, vip)),
                    ),
                ),
            ]
        },
    )
}

fn from_client() -> Vec<Scenario> {
    both(
        "a client's port unreachable reaches the backend",
        |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let (client, vip) = talk.outside();
            let (seen, backend) = talk.inside();
            vec![
                talk.forwarded(|from, to| udp(from, to, b"x")),
                talk.replied(|from, to| udp(from, to, b"x")),
                delivered(
                    CLIENT,
                    unreachable(client, vip, &quote_udp(vip, client)),
                    ONE,
                    Reason::IcmpErrorTranslated,
                    unreachable(seen, backend, &quote_udp(backend, seen)),
                ),
            ]
        },
    )
}

fn of_tcp() -> Vec<Scenario> {
    both(
        "packet too big is translated, whole and with eight bytes",
        |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let (client, vip) = talk.outside();
            let (seen, backend) = talk.inside();
            let mut steps = talk.handshake();
            for cut in [false, true] {
                let quote = |from, to| {
                    let whole = quote_tcp(from, to);
                    if cut { least(family, whole) } else { whole }
                };
                steps.push(delivered(
                    ONE,
                    too_big(backend, seen, &quote(seen, backend)),
                    CLIENT,
                    Reason::IcmpErrorTranslated,
                    too_big(vip.at(ONE.mac()), client, &quote(client, vip)),
                ));
                steps.push(delivered(
                    CLIENT,
                    too_big(client, vip, &quote(vip, client)),
                    ONE,
                    Reason::IcmpErrorTranslated,
                    too_big(seen, backend, &quote(backend, seen)),
                ));
            }
            steps
        },
    )
}

fn of_echo() -> Vec<Scenario> {
    both("an error about a ping is translated", |family| {
        let (client, vip) = (CLIENT.end(family, 0), PAIR.end(family, 0));
        let backend = ONE.end(family, 0);
        let ping = |from, to| packets::echo(from, to, true, 77, b"data");
        let quote = |from, to| ping(from, to)[14..].to_vec();
        vec![
            delivered(
                CLIENT,
                ping(client, vip),
                ONE,
                Reason::Forwarded,
                ping(client, backend),
            ),
            delivered(
                ONE,
                unreachable(backend, client, &quote(client, backend)),
                CLIENT,
                Reason::IcmpErrorTranslated,
                unreachable(vip.at(ONE.mac()), client, &quote(client, vip)),
            ),
        ]
    })
}

fn from_router() -> Vec<Scenario> {
    both("a router's error keeps its source", |family| {
        let talk = Talk::new(family, CLIENT, PAIR, ONE);
        let (client, vip) = talk.outside();
        let (seen, backend) = talk.inside();
        // The third container routes for the Backend.
        let router = OTHER.end(family, 0);
        let mut steps = talk.handshake();
        steps.push(delivered(
            OTHER,
            too_big(router, seen, &quote_tcp(seen, backend)),
            CLIENT,
            Reason::IcmpErrorTranslated,
            too_big(router, client, &quote_tcp(client, vip)),
        ));
        steps
    })
}

fn strangers() -> Vec<Scenario> {
    both(
        "errors about nothing of ours are passed, or dropped if they are for a vip",
        |family| {
            let (client, one) = (CLIENT.end(family, 40_000), ONE.end(family, 80));
            let nobody = NOBODY.end(family, 80);
            let direct = unreachable(one, client, &quote_udp(client, one));
            let for_vip = unreachable(client, nobody, &quote_udp(nobody, client));
            let cut = unreachable(one, client, &quote_udp(client, one)[..12]);
            vec![
                passed(ONE, direct, Reason::Direct),
                passed(ONE, cut, Reason::Direct),
                dropped(CLIENT, for_vip, Reason::IcmpErrorUnknown),
                Step::Connections(0, 0),
            ]
        },
    )
}
