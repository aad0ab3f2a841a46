//! A client of IPv6 and a container that has IPv4 alone: what each says reaches the other in its own family.

use etherparse::{Icmpv4Type, Icmpv6Type, IpNumber};
use lb_common::{Addr, Reason};
use veer_tests::packets::{
    ACK, End, Ip, SYN, SYN_ACK, datagram, icmp, ip, tcp, tcp_segment, udp, udp_datagram,
};

use super::{barred, entered, left, met, renamed, uplink};
use crate::engine::{Scenario, Step};
use crate::world::{
    BRIDGE_MAC, Family, NARROW, NARROW_MTU, ONE, OUTSIDER, ROUTER_MAC, Stranger, UPLINK_MAC, World,
    ZONE, gateway, host_end,
};

pub fn all() -> Vec<Scenario> {
    vec![
        scenario(
            "a client of ipv6 reaches a container that has ipv4 alone",
            stream(),
        ),
        scenario(
            "a datagram of ipv6 reaches a container that has ipv4 alone",
            datagrams(),
        ),
        scenario(
            "fragments of ipv6 reach a container that has ipv4 alone, and those of its answer the client",
            fragments(),
        ),
        scenario(
            "an answer that is too large in ipv6 is answered with what fits in ipv4",
            too_large(),
        ),
        scenario(
            "an error of a container that has ipv4 alone is one of ipv6 to the client",
            from_backend(),
        ),
        scenario(
            "an error of ipv6 is one of ipv4 to a container that has ipv4 alone",
            from_outside(),
        ),
        scenario(
            "an error that the other family has no word for ends here",
            unspeakable(),
        ),
    ]
}

fn scenario(name: &str, steps: Vec<Step>) -> Scenario {
    Scenario {
        name: name.to_owned(),
        world: world(),
        steps,
    }
}

/// `ONE` has IPv4 alone.
fn world() -> World {
    let mut world = World::hosting();
    if let Some(endpoint) = world.endpoints.get_mut(&ONE.0) {
        endpoint.v6 = Addr::NONE;
    }
    world
}

/// Who talks, and under which names.
#[derive(Clone, Copy)]
struct Talk {
    client: End,
    host: End,
    /// What the container calls the client, and itself.
    seen: End,
    backend: End,
}

impl Talk {
    fn new(client: Stranger, ports: (u16, u16), first: impl Fn(End, End) -> Vec<u8>) -> Self {
        let (client, host) = (
            client.end(Family::V6, 40_000),
            host_end(Family::V6, ports.0),
        );
        let port = renamed(&world(), uplink(), &first(client, host));
        let seen = End {
            mac: client.mac,
            addr: gateway(ZONE, Family::V4),
            port,
        };
        let backend = ONE.end(Family::V4, ports.1);
        Self {
            client,
            host,
            seen,
            backend,
        }
    }

    fn of_udp() -> Self {
        Self::new(OUTSIDER, (8_053, 53), |from, to| udp(from, to, b"query"))
    }

    fn asks(&self, packet: impl Fn(End, End) -> Vec<u8>) -> Step {
        let out = packet(self.seen, self.backend);
        entered(packet(self.client, self.host), ONE, Reason::Forwarded, out)
    }

    fn answers(&self, packet: impl Fn(End, End) -> Vec<u8>) -> Step {
        let sent = packet(self.backend, self.seen.at(BRIDGE_MAC));
        let out = packet(self.host.at(UPLINK_MAC), self.client.at(ROUTER_MAC));
        left(ONE, sent, Reason::Replied, out)
    }

    /// The container's error about what the client sent.
    fn complains(&self, v4: Complaint, v6: Complaint, quote: Quote) -> Step {
        let sent = v4.about(
            self.backend,
            self.seen.at(BRIDGE_MAC),
            quote.of(self.seen, self.backend, false),
        );
        let (host, client) = (self.host.at(UPLINK_MAC), self.client.at(ROUTER_MAC));
        let out = v6.about(host, client, quote.of(client, host, true));
        left(ONE, sent, Reason::IcmpErrorTranslated, out)
    }

    /// An error of `router` outside about what the container sent.
    fn meets(&self, router: End, v6: Complaint, v4: Complaint, quote: Quote) -> Step {
        let sent = v6.about(router, self.host, quote.of(self.host, self.client, false));
        let out = v4.about(
            self.seen,
            self.backend,
            quote.of(self.backend, self.seen, true),
        );
        entered(sent, ONE, Reason::IcmpErrorTranslated, out)
    }
}

/// Type, code and the second word of an ICMP error.
#[derive(Clone, Copy)]
struct Complaint(u8, u8, u32);

impl Complaint {
    fn about(self, from: End, to: End, quoted: impl AsRef<[u8]>) -> Vec<u8> {
        let Self(type_u8, code_u8, rest) = self;
        let bytes5to8 = rest.to_be_bytes();
        let v4 = Icmpv4Type::Unknown {
            type_u8,
            code_u8,
            bytes5to8,
        };
        let v6 = Icmpv6Type::Unknown {
            type_u8,
            code_u8,
            bytes5to8,
        };
        icmp(from, to, v4, v6, quoted.as_ref())
    }
}

/// What an error quotes.
#[derive(Clone, Copy)]
enum Quote {
    Datagram,
    Segment,
}

impl Quote {
    /// With `least`, the network header and eight bytes more, as every translated error has.
    fn of(self, from: End, to: End, least: bool) -> Vec<u8> {
        let (protocol, body) = match self {
            Self::Datagram => (IpNumber::UDP, udp_datagram(from, to, b"quoted")),
            Self::Segment => (IpNumber::TCP, tcp_segment(from, to, ACK, b"quoted")),
        };
        let mut whole = datagram(from.addr, to.addr, Ip::default(), protocol, &body);
        if least {
            whole.truncate(whole.len() - body.len() + 8);
        }
        whole
    }
}

fn stream() -> Vec<Step> {
    let talk = Talk::new(OUTSIDER, (8_080, 80), |from, to| tcp(from, to, SYN, b""));
    vec![
        talk.asks(|from, to| tcp(from, to, SYN, b"")),
        talk.answers(|from, to| tcp(from, to, SYN_ACK, b"")),
        talk.asks(|from, to| tcp(from, to, ACK, b"")),
        Step::Connections(1, 0),
        talk.asks(|from, to| tcp(from, to, ACK, b"odd")),
        talk.answers(|from, to| tcp(from, to, ACK, b"even")),
    ]
}

fn datagrams() -> Vec<Step> {
    let talk = Talk::of_udp();
    vec![
        talk.asks(|from, to| udp(from, to, b"query")),
        talk.answers(|from, to| udp(from, to, b"answer")),
    ]
}

fn fragments() -> Vec<Step> {
    // The upper half of an identification of IPv6 has no room in IPv4.
    let piece = |part: usize| {
        move |from: End, to: End| {
            let whole = udp_datagram(from, to, &[7; 2_000]);
            let (first, rest) = whole.split_at(1_000);
            let (offset, more, body) = [(0, true, first), (1_000, false, rest)][part];
            ip(
                from,
                to,
                Ip::fragment(0xabcd, offset, more),
                IpNumber::UDP,
                body,
            )
        }
    };
    let talk = Talk::new(OUTSIDER, (8_053, 53), piece(0));
    vec![
        talk.asks(piece(0)),
        talk.asks(piece(1)),
        talk.answers(piece(0)),
        talk.answers(piece(1)),
    ]
}

fn too_large() -> Vec<Step> {
    let talk = Talk::new(NARROW, (8_053, 53), |from, to| udp(from, to, b"query"));
    let answer = udp(talk.backend, talk.seen.at(BRIDGE_MAC), &[1; 1_260]);
    let fits = u32::from(NARROW_MTU) - 20;
    let refusal = Complaint(3, 4, fits).about(
        talk.seen.at(lb_common::VIP_MAC),
        talk.backend,
        &answer[14..14 + 28],
    );
    let verdict = lb_ebpf::Verdict::Deliver {
        ifindex: ONE.veth(),
    };
    vec![
        talk.asks(|from, to| udp(from, to, b"query")),
        met(ONE.at(), answer, verdict, Reason::TooBigSent, Some(refusal)),
        talk.answers(|from, to| udp(from, to, &[1; 1_252])),
    ]
}

fn from_backend() -> Vec<Step> {
    let udp_talk = Talk::of_udp();
    let tcp_talk = Talk::new(OUTSIDER, (8_080, 80), |from, to| tcp(from, to, SYN, b""));
    let mut steps = vec![udp_talk.asks(|from, to| udp(from, to, b"query"))];
    for (v4, v6) in [
        (Complaint(3, 3, 0), Complaint(1, 4, 0)),
        (Complaint(3, 1, 0), Complaint(1, 0, 0)),
        (Complaint(3, 2, 0), Complaint(4, 1, 6)),
        (Complaint(3, 13, 0), Complaint(1, 1, 0)),
        (Complaint(11, 1, 0), Complaint(3, 1, 0)),
    ] {
        steps.push(udp_talk.complains(v4, v6, Quote::Datagram));
    }
    steps.push(tcp_talk.asks(|from, to| tcp(from, to, SYN, b"")));
    // What fits in IPv4 is 20 bytes more in IPv6, whose links take 1,280 at least.
    for (fits, becomes) in [(1_400, 1_420), (576, 1_280), (0, 1_280)] {
        let (v4, v6) = (Complaint(3, 4, fits), Complaint(2, 0, becomes));
        steps.push(tcp_talk.complains(v4, v6, Quote::Segment));
    }
    steps
}

fn from_outside() -> Vec<Step> {
    let udp_talk = Talk::of_udp();
    let tcp_talk = Talk::new(OUTSIDER, (8_080, 80), |from, to| tcp(from, to, SYN, b""));
    let router = Stranger(99).end(Family::V6, 0);
    let mut steps = vec![
        udp_talk.asks(|from, to| udp(from, to, b"query")),
        udp_talk.answers(|from, to| udp(from, to, b"answer")),
    ];
    for (v6, v4) in [
        (Complaint(1, 4, 0), Complaint(3, 3, 0)),
        (Complaint(1, 0, 0), Complaint(3, 1, 0)),
        (Complaint(1, 1, 0), Complaint(3, 10, 0)),
        (Complaint(3, 0, 0), Complaint(11, 0, 0)),
        (Complaint(4, 1, 6), Complaint(3, 2, 0)),
    ] {
        steps.push(udp_talk.meets(udp_talk.client, v6, v4, Quote::Datagram));
    }
    steps.push(tcp_talk.asks(|from, to| tcp(from, to, SYN, b"")));
    steps.push(tcp_talk.answers(|from, to| tcp(from, to, SYN_ACK, b"")));
    for (fits, becomes) in [(1_400, 1_380), (1_280, 1_260), (9_000_000, 65_535)] {
        let (v6, v4) = (Complaint(2, 0, fits), Complaint(3, 4, becomes));
        steps.push(tcp_talk.meets(router, v6, v4, Quote::Segment));
    }
    steps
}

fn unspeakable() -> Vec<Step> {
    let talk = Talk::of_udp();
    let from_backend = Complaint(12, 0, 0).about(
        talk.backend,
        talk.seen.at(BRIDGE_MAC),
        Quote::Datagram.of(talk.seen, talk.backend, false),
    );
    let from_outside = Complaint(4, 2, 0).about(
        talk.client,
        talk.host,
        Quote::Datagram.of(talk.host, talk.client, false),
    );
    vec![
        talk.asks(|from, to| udp(from, to, b"query")),
        talk.answers(|from, to| udp(from, to, b"answer")),
        barred(ONE.at(), from_backend, Reason::IcmpErrorUnknown),
        barred(uplink(), from_outside, Reason::IcmpErrorUnknown),
    ]
}
