//! UDP flows.

use lb_common::Reason;
use veer_tests::packets::{self, Ip, udp};

use super::{Talk, both, delivered};
use crate::engine::{Scenario, Step};
use crate::world::{CLIENT, Family, ONE, PAIR, SELF, TWO};

pub fn all() -> Vec<Scenario> {
    let mut scenarios = both(
        "datagrams stay with their backend and are answered by the vip",
        |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            vec![
                talk.forwarded(|from, to| udp(from, to, b"one")),
                talk.replied(|from, to| udp(from, to, b"answer")),
                Step::Connections(0, 1),
                talk.forwarded(|from, to| udp(from, to, b"two!")),
                Step::Connections(1, 0),
                talk.replied(|from, to| udp(from, to, b"answer")),
            ]
        },
    );
    scenarios.extend(both(
        "a datagram goes elsewhere when its backend is gone",
        |family| {
            let talk = Talk::new(family, CLIENT, PAIR, ONE);
            let moved = Talk {
                backend: TWO,
                ..talk
            };
            vec![
                talk.forwarded(|from, to| udp(from, to, b"one")),
                talk.replied(|from, to| udp(from, to, b"answer")),
                talk.forwarded(|from, to| udp(from, to, b"two")),
                Step::Load(ONE.0, 1),
                Step::Change(|world| world.retire(ONE)),
                moved.forwarded(|from, to| udp(from, to, b"three")),
                Step::Load(ONE.0, 0),
                moved.replied(|from, to| udp(from, to, b"answer")),
            ]
        },
    ));
    scenarios.extend(both(
        "a member that asks its own group by datagram reaches itself",
        |family| {
            let talk = Talk::new(family, CLIENT, SELF, CLIENT);
            vec![
                talk.forwarded(|from, to| udp(from, to, b"me")),
                talk.replied(|from, to| udp(from, to, b"me too")),
            ]
        },
    ));
    scenarios.extend(without_checksum());
    scenarios
}

/// RFC 768: a checksum of zero means that there is none, and there is still none afterwards.
fn without_checksum() -> Vec<Scenario> {
    super::single("a datagram without a checksum stays without", {
        let talk = Talk::new(Family::V4, CLIENT, PAIR, ONE);
        let (client, vip) = talk.outside();
        let (seen, backend) = talk.inside();
        let bare = |from, to| {
            let mut datagram = packets::udp_datagram(from, to, b"bare");
            datagram[6..8].fill(0);
            packets::ip(
                from,
                to,
                Ip::default(),
                etherparse::IpNumber::UDP,
                &datagram,
            )
        };
        vec![delivered(
            CLIENT,
            bare(client, vip),
            ONE,
            Reason::Forwarded,
            bare(seen, backend),
        )]
    })
}
