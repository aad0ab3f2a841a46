//! Client affinity.

use veer_tests::packets::udp;

use super::{Talk, both_in};
use crate::engine::{Scenario, Step};
use crate::world::{CLIENT, ONE, OTHER, PAIR, TWO, World};

/// Clients keep their Backend for this many seconds.
fn sticky(seconds: u32) -> World {
    let mut world = World::new();
    world.each_frontend(PAIR, |frontend| frontend.affinity = seconds);
    world
}

pub fn all() -> Vec<Scenario> {
    let mut scenarios = both_in(
        "a client keeps its backend for new connections",
        sticky(60),
        |family| {
            let first = Talk::new(family, CLIENT, PAIR, ONE);
            let other = Talk::new(family, OTHER, PAIR, TWO);
            let open = |talk: Talk| talk.forwarded(|from, to| udp(from, to, b"x"));
            vec![
                open(first),
                open(first.with_port(40_001)),
                open(other),
                open(first.with_port(40_002)),
                open(other.with_port(40_003)),
            ]
        },
    );
    scenarios.extend(both_in(
        "affinity ends with its time",
        sticky(2),
        |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let later = Talk {
                backend: TWO,
                ..talk.with_port(40_001)
            };
            vec![
                talk.forwarded(|from, to| udp(from, to, b"x")),
                // Less than a virtual machine needs to boot: the kernel's clock starts there.
                Step::Age(5),
                later.forwarded(|from, to| udp(from, to, b"x")),
            ]
        },
    ));
    scenarios.extend(both_in(
        "affinity ends when the backend drains",
        sticky(60),
        |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let later = Talk {
                backend: TWO,
                ..talk.with_port(40_001)
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
