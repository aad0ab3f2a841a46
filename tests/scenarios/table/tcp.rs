//! TCP Connections: opened, used, reused, told apart.

use lb_common::{ConnectionFlags, Reason};
use lb_ebpf::Verdict;
use veer_tests::packets::{ACK, FIN, RST, SYN, SYN_ACK, Segment, tcp};

use super::{Talk, both, dropped};
use crate::engine::{Engine, Scenario, Step};
use crate::memory;
use crate::world::{CLIENT, ONE, OTHER, PAIR, PORTED, SELF, SINGLE, TWO, World};

pub fn all() -> Vec<Scenario> {
    [opened(), reused(), told_apart(), hairpin()].concat()
}

fn opened() -> Vec<Scenario> {
    [
        both(
            "a handshake establishes a connection, not before",
            |family| {
                let talk = Talk::new(family, CLIENT, PAIR, ONE);
                vec![
                    talk.ask(SYN, b""),
                    Step::Connections(0, 1),
                    talk.answer(SYN_ACK, b""),
                    Step::Connections(0, 1),
                    Step::Load(ONE.0, 0),
                    talk.ask(ACK, b""),
                    Step::Connections(1, 0),
                    Step::Load(ONE.0, 1),
                    talk.ask(ACK, b"GET / HTTP/1.0\r\n\r\n"),
                    talk.answer(ACK, b"HTTP/1.0 200 OK\r\n\r\none"),
                ]
            },
        ),
        both("a backend may listen on another port", |family| {
            let talk = Talk {
                backend_port: 8080,
                ..Talk::new(family, CLIENT, PORTED, ONE)
            };
            let mut steps = talk.handshake();
            steps.push(talk.answer(ACK, b"odd"));
            steps
        }),
        both(
            "a repeated syn goes to the same backend and counts once",
            |family| {
                let talk = Talk::new(family, CLIENT, PAIR, ONE);
                let next = Talk::new(family, CLIENT, PAIR, TWO).with_port(40_001);
                vec![talk.ask(SYN, b""), talk.ask(SYN, b""), next.ask(SYN, b"")]
            },
        ),
        both(
            "a syn with options and data of odd length is rewritten",
            |family| {
                let talk = Talk::new(family, CLIENT, SINGLE, ONE);
                vec![talk.ask(SYN, b"odd")]
            },
        ),
    ]
    .concat()
}

fn reused() -> Vec<Scenario> {
    [
        both(
            "a finished connection gives way to a syn on the same ports",
            |family| {
                let talk = Talk::new(family, CLIENT, PAIR, ONE);
                let again = Talk {
                    backend: TWO,
                    ..talk
                };
                let mut steps = talk.handshake();
                steps.extend([
                    talk.ask(FIN, b""),
                    talk.answer(FIN, b""),
                    talk.ask(ACK, b""),
                ]);
                steps.extend([
                    again.ask(SYN, b""),
                    again.answer(SYN_ACK, b""),
                    again.ask(ACK, b""),
                ]);
                steps.extend([
                    Step::Connections(1, 0),
                    Step::Load(ONE.0, 0),
                    Step::Load(TWO.0, 1),
                ]);
                steps
            },
        ),
        both("a connection that was reset gives way to a syn", |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let again = Talk {
                backend: TWO,
                ..talk
            };
            let mut steps = talk.handshake();
            steps.extend([talk.answer(RST, b""), again.ask(SYN, b"")]);
            steps
        }),
        both("a refused syn gives way to the next one", |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let again = Talk {
                backend: TWO,
                ..talk
            };
            vec![
                talk.ask(SYN, b""),
                talk.answer(RST, b""),
                again.ask(SYN, b""),
            ]
        }),
        both(
            "a stray syn does not move an established connection",
            |family| {
                let talk = Talk::new(family, CLIENT, PAIR, ONE);
                let mut steps = talk.handshake();
                steps.extend([talk.ask(SYN, b""), talk.ask(ACK, b"still there")]);
                steps.push(Step::Connections(1, 0));
                steps
            },
        ),
        both("data after a reset keeps the connection", |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let mut steps = talk.handshake();
            steps.extend([
                talk.ask(RST, b""),
                talk.ask(ACK, b"alive"),
                talk.ask(SYN, b""),
            ]);
            steps.extend([Step::Age(100), talk.ask(ACK, b"alive")]);
            steps
        }),
        both("half a close ends nothing", |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let mut steps = talk.handshake();
            steps.extend([
                talk.ask(FIN, b""),
                Step::Age(100),
                talk.answer(ACK, b"more"),
            ]);
            steps.push(talk.ask(ACK, b""));
            steps
        }),
    ]
    .concat()
}

fn packet(talk: Talk, segment: Segment) -> Vec<u8> {
    let (client, vip) = talk.outside();
    tcp(client, vip, segment, b"")
}

/// The source port (or identifier) that the last of these packets of the client is given, which must
/// not be its own. Which one it is, is the datapath's choice; that it is kept, is the scenario's.
pub fn other_port(packets: &[Vec<u8>]) -> u16 {
    let mut engine = memory::start();
    engine.set(&World::new());
    for packet in packets {
        let ran = engine.run(CLIENT.at(), packet);
        assert_eq!(
            ran.verdict,
            Verdict::Deliver {
                ifindex: ONE.veth()
            }
        );
    }
    let moved = engine.entries().into_iter().find(|(key, entry)| {
        entry.has(ConnectionFlags::FORWARD) && entry.source_port != key.source_port
    });
    moved
        .expect("one of two flows has another port")
        .1
        .source_port
        .get()
}

fn told_apart() -> Vec<Scenario> {
    [
        both(
            "the same ports to two vips on one backend do not collide",
            |family| {
                let first = Talk::new(family, CLIENT, SINGLE, ONE);
                let second = Talk::new(family, CLIENT, PAIR, ONE);
                let seen_port = other_port(&[packet(first, SYN), packet(second, SYN)]);
                let second = Talk {
                    seen_port,
                    ..second
                };
                let mut steps = first.handshake();
                steps.extend(second.handshake());
                steps.extend([first.answer(ACK, b"first"), second.answer(ACK, b"second")]);
                steps.extend([first.ask(ACK, b"first"), second.ask(ACK, b"second")]);
                steps.push(Step::Connections(2, 0));
                steps
            },
        ),
        both("clients are told apart", |family| {
            let first = Talk::new(family, CLIENT, PAIR, ONE);
            let second = Talk::new(family, OTHER, PAIR, TWO);
            let mut steps = first.handshake();
            steps.extend(second.handshake());
            steps.extend([first.answer(ACK, b"1"), second.answer(ACK, b"2")]);
            steps
        }),
        both(
            "a segment that belongs to nothing is reset, a reset is not",
            |family| {
                let (client, vip) = Talk::new(family, CLIENT, PAIR, ONE).outside();
                vec![
                    dropped(CLIENT, tcp(client, vip, RST, b""), Reason::NoConnection),
                    Step::Counted(Reason::ResetSent, 0),
                ]
            },
        ),
    ]
    .concat()
}

fn hairpin() -> Vec<Scenario> {
    both(
        "a member that calls its own group reaches itself",
        |family| {
            let talk = Talk::new(family, CLIENT, SELF, CLIENT);
            let mut steps = talk.handshake();
            steps.extend([talk.ask(ACK, b"me"), talk.answer(ACK, b"me too")]);
            steps.push(Step::Connections(1, 0));
            steps
        },
    )
}
