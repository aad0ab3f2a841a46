//! Client affinity.

use veer_tests::packets::udp;

use super::{Talk, both_in};
use crate::engine::{Scenario, Step};
use crate::world::{CLIENT, ONE, OTHER, PAIR, TWO, World};

fn sticky() -> World {
    let mut world = World::new();
    world.each_frontend(PAIR, |frontend| frontend.affinity = 60);
    world
}

pub fn all() -> Vec<Scenario> {
    let mut scenarios = both_in(
        "a client keeps its backend for new connections",
        sticky(),
        |family| {
            let first = Talk::new(family, CLIENT, PAIR, ONE);
            let other = Talk::new(family, OTHER, PAIR, TWO);
            let open = |talk: Talk| talk.forwarded(|from, to| udp(from, to, b"x"));
            vec![
                open(first),
                open(first.from_port(40_001)),
                open(other),
                open(first.from_port(40_002)),
                open(other.from_port(40_003)),
            ]
        },
    );
    scenarios.extend(both_in("affinity ends with its time", sticky(), |family| {
        let talk = Talk::new(family, CLIENT, PAIR, ONE);
        let later = Talk {
            backend: TWO,
            ..talk.from_port(40_001)
        };
        vec![
            talk.forwarded(|from, to| udp(from, to, b"x")),
            Step::Age(61),
            later.forwarded(|from, to| udp(from, to, b"x")),
        ]
    }));
    scenarios.extend(both_in(
        "affinity ends when the backend drains",
        sticky(),
        |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let later = Talk {
                backend: TWO,
                ..talk.from_port(40_001)
            };
            vec![
                talk.forwarded(|from, to| udp(from, to, b"x")),
                Step::Change(|world| world.drain(ONE)),
                later.forwarded(|from, to| udp(from, to, b"x")),
                // What is under way stays.
                talk.forwarded(|from, to| udp(from, to, b"x")),
            ]
        },
    ));
    scenarios
}
