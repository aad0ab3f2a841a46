//! Processes of the host that are bound to a loopback address, at published ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::{Mac, Reason};
use lb_ebpf::Verdict;
use veer_tests::packets::{ACK, End, RST, SYN, SYN_ACK, Segment, tcp, udp};

use super::published::guarded;
use super::{both_in, hosted, met, renamed};
use crate::engine::{At, Hook, Scenario, Step};
use crate::world::{BRIDGE_MAC, Family, ONE, World, ZONE, gateway, host_addr};

/// Index of the loopback interface.
const LOOPBACK: u32 = 1;

pub fn all() -> Vec<Scenario> {
    [
        reached("a process on a loopback address", localhost),
        reached("a process that asks for another address", host_addr),
        left_alone(),
        judged(),
    ]
    .concat()
}

fn localhost(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

fn end(addr: IpAddr, port: u16) -> End {
    let mac = Mac::NONE;
    End { mac, addr, port }
}

fn loopback() -> At {
    At::entering(Hook::LoopbackIn, LOOPBACK)
}

/// A process on a loopback address and `ONE` talk at a port of `asked`.
#[derive(Clone, Copy)]
struct Talk {
    client: End,
    host: End,
    /// What `ONE` calls the process.
    seen: End,
    backend: End,
}

impl Talk {
    fn asks(&self, packet: impl Fn(End, End) -> Vec<u8>) -> Step {
        let verdict = Verdict::Deliver {
            ifindex: ONE.veth(),
        };
        let out = packet(self.seen, self.backend);
        let asked = packet(self.client, self.host);
        met(loopback(), asked, verdict, Reason::Forwarded, Some(out))
    }

    fn answers(&self, packet: impl Fn(End, End) -> Vec<u8>) -> Step {
        let verdict = Verdict::Leave { ifindex: LOOPBACK };
        let out = packet(self.host, self.client);
        let sent = packet(self.backend, self.seen.at(BRIDGE_MAC));
        met(ONE.at(), sent, verdict, Reason::Replied, Some(out))
    }
}

/// Who asks `asked` for port `port` of the host, with packets of which `first` is the first.
fn talk(
    family: Family,
    asked: IpAddr,
    (port, backend): (u16, u16),
    first: impl Fn(End, End) -> Vec<u8>,
) -> Talk {
    let (client, host) = (end(localhost(family), 40_000), end(asked, port));
    let seen = renamed(&World::hosting(), loopback(), &first(client, host));
    Talk {
        client,
        host,
        seen: end(gateway(ZONE, family), seen),
        backend: ONE.end(family, backend),
    }
}

fn reached(who: &str, asked: fn(Family) -> IpAddr) -> Vec<Scenario> {
    let streams = hosted(
        &format!("{who} reaches a published port and is known by its gateway's name"),
        |family| {
            let syn = |from: End, to: End| tcp(from, to, SYN, b"");
            let talk = talk(family, asked(family), (8_080, 80), syn);
            let segment = |segment: Segment, payload: &'static [u8]| {
                move |from: End, to: End| tcp(from, to, segment, payload)
            };
            vec![
                talk.asks(syn),
                talk.answers(segment(SYN_ACK, b"")),
                talk.asks(segment(ACK, b"")),
                Step::Connections(1, 0),
                talk.asks(segment(ACK, b"hello")),
                talk.answers(segment(ACK, b"world")),
            ]
        },
    );
    let datagrams = hosted(
        &format!("{who} sends datagrams to a published port"),
        |family| {
            let query = |from: End, to: End| udp(from, to, b"query");
            let talk = talk(family, asked(family), (8_053, 53), query);
            vec![
                talk.asks(query),
                talk.answers(|from, to| udp(from, to, b"answer")),
                talk.asks(query),
                Step::Connections(1, 0),
            ]
        },
    );
    [streams, datagrams].concat()
}

/// Nobody but one client outside may connect, by a rule.
fn judged() -> Vec<Scenario> {
    both_in(
        "rules about clients are not for processes of the host",
        guarded(),
        |family| {
            let syn = |from: End, to: End| tcp(from, to, SYN, b"");
            let talk = talk(family, localhost(family), (8_080, 80), syn);
            vec![talk.asks(syn), Step::Judged(2, 0)]
        },
    )
}

fn left_alone() -> Vec<Scenario> {
    hosted("what else the host says to itself is its own", |family| {
        let own = |port| end(localhost(family), port);
        let host = |packet| met(loopback(), packet, Verdict::Pass, Reason::Host, None);
        let gone = own(7_000);
        vec![
            host(tcp(own(40_000), own(22), SYN, b"")),
            host(udp(own(40_000), own(8_080), b"not tcp")),
            host(tcp(own(22), own(8_080), SYN_ACK, b"an answer")),
            host(tcp(own(22), own(8_080), ACK, b"more")),
            // On the uplink's addresses alone.
            host(tcp(own(40_000), own(8_443), SYN, b"")),
            Step::Connections(0, 0),
            refused(own(40_000), gone),
            Step::Counted(Reason::NoBackend, 1),
        ]
    })
}

/// A segment to a port without a Backend is answered with a reset.
fn refused(client: End, host: End) -> Step {
    let reset = Segment {
        ack: true,
        sequence: 0,
        acknowledgment: 1_001,
        window: 0,
        ..RST
    };
    let answer = tcp(host, client, reset, b"");
    let verdict = Verdict::Leave { ifindex: LOOPBACK };
    let syn = tcp(client, host, SYN, b"");
    met(loopback(), syn, verdict, Reason::ResetSent, Some(answer))
}
