//! How long Connections last, and how they are forgotten.

use lb_common::Reason;
use veer_tests::packets::{ACK, FIN, SYN, SYN_ACK, tcp, udp};

use super::{Talk, both};
use crate::engine::{Scenario, Step};
use crate::world::{CLIENT, ONE, PAIR, TWO};

pub fn all() -> Vec<Scenario> {
    [expiry(), collection(), departure()].concat()
}

fn expiry() -> Vec<Scenario> {
    [
        both("a silent datagram flow begins anew", |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let later = Talk {
                backend: TWO,
                ..talk
            };
            vec![
                talk.forwarded(|from, to| udp(from, to, b"x")),
                Step::Age(29),
                talk.forwarded(|from, to| udp(from, to, b"x")),
                Step::Age(31),
                later.forwarded(|from, to| udp(from, to, b"x")),
            ]
        }),
        both("an answered datagram flow lasts longer", |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            vec![
                talk.forwarded(|from, to| udp(from, to, b"x")),
                talk.replied(|from, to| udp(from, to, b"x")),
                Step::Age(119),
                talk.forwarded(|from, to| udp(from, to, b"x")),
                Step::Connections(1, 0),
                Step::Age(119),
                talk.forwarded(|from, to| udp(from, to, b"x")),
            ]
        }),
        both("an idle connection lasts for hours", |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let mut steps = talk.handshake();
            steps.extend([
                Step::Age(7_000),
                talk.ask(ACK, b"x"),
                Step::Connections(1, 0),
            ]);
            steps
        }),
        both("an unanswered syn is forgotten", |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let later = Talk {
                backend: TWO,
                ..talk
            };
            vec![talk.ask(SYN, b""), Step::Age(21), later.ask(SYN, b"")]
        }),
    ]
    .concat()
}

fn collection() -> Vec<Scenario> {
    [
        both("collecting forgets both halves and the load", |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let mut steps = talk.handshake();
            steps.extend([
                Step::Load(ONE.0, 1),
                Step::Collected(1),
                Step::Load(ONE.0, 0),
            ]);
            steps.extend([Step::Connections(0, 0), Step::Collected(0)]);
            steps
        }),
        both("collecting forgets half-open connections", |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            vec![
                talk.ask(SYN, b""),
                Step::Collected(1),
                Step::Connections(0, 0),
            ]
        }),
        both(
            "nothing is collected that has been used meanwhile",
            |family| {
                let talk = Talk::new(family, CLIENT, PAIR, ONE);
                let mut steps = talk.handshake();
                steps.extend([
                    Step::CollectedStale,
                    Step::Connections(1, 0),
                    talk.ask(ACK, b"x"),
                ]);
                steps
            },
        ),
    ]
    .concat()
}

fn departure() -> Vec<Scenario> {
    [
        both("a segment to a backend that is gone is reset", |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let mut steps = talk.handshake();
            steps.push(Step::Change(|world| world.retire(ONE)));
            steps.push(super::refusals::reset(&talk, ACK, b"x", 1_002));
            steps.extend([
                Step::Counted(Reason::BackendGone, 1),
                Step::Connections(0, 0),
                Step::Load(ONE.0, 0),
            ]);
            steps
        }),
        both(
            "a syn to a backend that is gone goes to another",
            |family| {
                let talk = Talk::new(family, CLIENT, PAIR, ONE);
                let later = Talk {
                    backend: TWO,
                    ..talk
                };
                vec![
                    talk.ask(SYN, b""),
                    Step::Change(|world| world.retire(ONE)),
                    later.ask(SYN, b""),
                ]
            },
        ),
        both("a draining backend keeps what it has", |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let mut steps = talk.handshake();
            steps.push(Step::Change(|world| world.drain(ONE)));
            steps.extend([
                talk.ask(ACK, b"x"),
                talk.answer(FIN, b""),
                talk.ask(FIN, b""),
            ]);
            steps
        }),
        both(
            "another container under the same address does not inherit connections",
            |family| {
                let talk = Talk::new(family, CLIENT, PAIR, ONE);
                let again = Talk {
                    backend: TWO,
                    ..talk
                };
                let mut steps = talk.handshake();
                steps.push(Step::Change(|world| world.replace(CLIENT)));
                steps.push(super::refusals::reset(&talk, ACK, b"x", 1_002));
                steps.extend(again.handshake());
                steps.push(Step::Connections(1, 0));
                steps
            },
        ),
        both("a reply to a client that is gone is dropped", |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let (seen, backend) = talk.inside();
            vec![
                talk.ask(SYN, b""),
                Step::Change(|world| world.retire(CLIENT)),
                super::dropped(ONE, tcp(backend, seen, SYN_ACK, b""), Reason::ClientGone),
            ]
        }),
    ]
    .concat()
}
