//! Time to live: what goes from one Network to another, or outside, loses a hop, as behind a router.

use etherparse::{Icmpv4Type, Icmpv6Type, IpNumber};
use lb_common::{Reason, VIP_MAC};
use lb_ebpf::Verdict;
use veer_tests::packets::{End, Ip, icmp, ip, udp, udp_datagram};

use super::{Talk, Visit, barred, beyond, both, entered, hosted, left, met, renamed, uplink};
use crate::engine::{Scenario, Step};
use crate::world::{
    CLIENT, Family, ONE, OUTSIDER, PAIR, ROUTER_MAC, UPLINK, UPLINK_MAC, World, ZONE, gateway,
    host_addr,
};

pub fn all() -> Vec<Scenario> {
    [coming_in(), going_out(), staying(), of_errors()].concat()
}

/// A datagram that has so many hops left.
fn datagram(ttl: u8) -> impl Fn(End, End) -> Vec<u8> {
    move |from, to| {
        let shape = Ip {
            ttl,
            ..Ip::default()
        };
        let body = udp_datagram(from, to, b"how far");
        ip(from, to, shape, IpNumber::UDP, &body)
    }
}

/// Time exceeded in transit, about `frame`: its network header and eight bytes more.
fn exceeded(from: End, to: End, frame: &[u8]) -> Vec<u8> {
    let v4 = Icmpv4Type::Unknown {
        type_u8: 11,
        code_u8: 0,
        bytes5to8: [0; 4],
    };
    let v6 = Icmpv6Type::Unknown {
        type_u8: 3,
        code_u8: 0,
        bytes5to8: [0; 4],
    };
    let header = if from.addr.is_ipv4() { 28 } else { 48 };
    icmp(from, to, v4, v6, &frame[14..14 + header])
}

/// Port 8053 of the host, which is port 53 of `ONE`.
fn visit(family: Family) -> Visit {
    Visit {
        family,
        client: OUTSIDER.end(family, 40_000),
        host_port: 8_053,
        backend: ONE,
        port: 53,
    }
}

fn coming_in() -> Vec<Scenario> {
    hosted(
        "a packet from outside whose last hop is the host ends there, and its sender is told",
        |family| {
            let visit = visit(family);
            let (client, host) = visit.outside();
            let last = datagram(1)(client, host);
            let told = exceeded(host, client, &last);
            let verdict = Verdict::Leave { ifindex: UPLINK };
            vec![
                met(uplink(), last, verdict, Reason::UnreachableSent, Some(told)),
                Step::Counted(Reason::HopsExceeded, 1),
                visit.asks(datagram(2)),
                visit.asks(datagram(255)),
            ]
        },
    )
}

fn going_out() -> Vec<Scenario> {
    hosted(
        "a container's packet whose last hop is the host ends there, and the gateway tells",
        |family| {
            let client = CLIENT.end(family, 40_000);
            let server = beyond(OUTSIDER.addr(family), 33_434);
            let last = datagram(1)(client, server);
            let mut router = server.at(VIP_MAC);
            router.addr = gateway(ZONE, family);
            let told = exceeded(router, client, &last);
            let verdict = Verdict::Deliver {
                ifindex: CLIENT.veth(),
            };
            let further = datagram(2)(client, server);
            let port = renamed(&World::hosting(), CLIENT.at(), &further);
            let mut host = client.at(UPLINK_MAC).on(port);
            host.addr = host_addr(family);
            let out = datagram(2)(host, server.at(ROUTER_MAC));
            vec![
                met(
                    CLIENT.at(),
                    last,
                    verdict,
                    Reason::UnreachableSent,
                    Some(told),
                ),
                Step::Counted(Reason::HopsExceeded, 1),
                left(CLIENT, further, Reason::Outbound, out),
            ]
        },
    )
}

fn staying() -> Vec<Scenario> {
    both("inside a network no hop is lost", |family| {
        let talk = Talk::new(family, CLIENT, PAIR, ONE);
        vec![talk.forwarded(datagram(1)), talk.replied(datagram(1))]
    })
}

fn of_errors() -> Vec<Scenario> {
    hosted(
        "an error loses a hop, and nobody is told where it ends",
        |family| {
            let visit = visit(family);
            let (client, host) = visit.outside();
            let (_, backend) = visit.inside();
            let router = crate::world::Stranger(99).end(family, 0);
            let answer = |from, to| udp(from, to, b"answer");
            let error = exceeded(router, host, &answer(host, client));
            let out = exceeded(router, backend, &answer(backend, client));
            let mut spent = error.clone();
            spend(&mut spent, family);
            vec![
                visit.asks(|from, to| udp(from, to, b"query")),
                visit.answers(answer),
                barred(uplink(), spent, Reason::HopsExceeded),
                entered(error, ONE, Reason::IcmpErrorTranslated, out),
            ]
        },
    )
}

/// Leaves a frame one hop.
fn spend(frame: &mut Vec<u8>, family: Family) {
    let at = if family == Family::V4 { 22 } else { 21 };
    while frame[at] > 1 {
        *frame = veer_tests::packets::hop(std::mem::take(frame));
    }
}
