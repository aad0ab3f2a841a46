//! IP fragments: only the first one has ports.

use etherparse::IpNumber;
use lb_common::Reason;
use veer_tests::packets::{End, Ip, ip, udp_datagram};

use super::{Talk, both, delivered, dropped, passed};
use crate::engine::{Scenario, Step};
use crate::world::{CLIENT, ONE, PAIR};

/// A datagram of two fragments, split after 1,448 bytes.
fn pieces(from: End, to: End, id: u32) -> [Vec<u8>; 2] {
    let datagram = udp_datagram(from, to, &[7; 2_000]);
    let (first, later) = datagram.split_at(1_448);
    [
        ip(from, to, Ip::fragment(id, 0, true), IpNumber::UDP, first),
        ip(
            from,
            to,
            Ip::fragment(id, 1_448, false),
            IpNumber::UDP,
            later,
        ),
    ]
}

pub fn all() -> Vec<Scenario> {
    let mut scenarios = both("fragments follow the first one, both ways", |family| {
        let talk = Talk::new(family, CLIENT, PAIR, ONE);
        let (client, vip) = talk.outside();
        let (seen, backend) = talk.inside();
        let asked = pieces(client, vip, 9)
            .into_iter()
            .zip(pieces(seen, backend, 9));
        let replies = pieces(backend, seen, 5);
        let answered = replies
            .into_iter()
            .zip(pieces(vip.at(ONE.mac()), client, 5));
        asked
            .map(|(packet, out)| delivered(CLIENT, packet, ONE, Reason::Forwarded, out))
            .chain(
                answered.map(|(packet, out)| delivered(ONE, packet, CLIENT, Reason::Replied, out)),
            )
            .collect()
    });
    scenarios.extend(both(
        "a later fragment without its first one is dropped",
        |family| {
            let (client, vip) = Talk::new(family, CLIENT, PAIR, ONE).outside();
            let [_, later] = pieces(client, vip, 9);
            vec![
                dropped(CLIENT, later, Reason::FragmentUnknown),
                Step::Connections(0, 0),
            ]
        },
    ));
    scenarios.extend(both("direct fragments are left to the bridge", |family| {
        let [first, later] = pieces(CLIENT.end(family, 1), ONE.end(family, 2), 9);
        vec![
            passed(CLIENT, first, Reason::Direct),
            passed(CLIENT, later, Reason::Direct),
        ]
    }));
    scenarios
}
