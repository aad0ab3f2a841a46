//! ICMP echo: `ping alias` is answered by a Member.

use lb_common::{Reason, VIP_MAC};
use veer_tests::packets::echo;

use super::tcp::other_port;
use super::{both, delivered};
use crate::engine::{Scenario, Step};
use crate::world::{CLIENT, Family, ONE, PAIR, SELF, SINGLE, Vip};

fn ping(family: Family, vip: Vip, id: u16, seen_id: u16, data: &[u8]) -> Vec<Step> {
    let (client, vip) = (CLIENT.end(family, 0), vip.end(family, 0));
    let backend = ONE.end(family, 0);
    vec![
        delivered(
            CLIENT,
            echo(client, vip, true, id, data),
            ONE,
            Reason::Forwarded,
            echo(client, backend, true, seen_id, data),
        ),
        delivered(
            ONE,
            echo(backend, client, false, seen_id, data),
            CLIENT,
            Reason::Replied,
            echo(vip.at(ONE.mac()), client, false, id, data),
        ),
    ]
}

pub fn all() -> Vec<Scenario> {
    let mut scenarios = both("a member answers a ping in the vip's name", |family| {
        let mut steps = ping(family, PAIR, 77, 77, b"abcdefgh");
        steps.extend(ping(family, PAIR, 77, 77, b"odd"));
        steps.push(Step::Connections(1, 0));
        steps
    });
    scenarios.extend(both(
        "two pings with one identifier to two vips do not collide",
        |family| {
            let first = ping(family, SINGLE, 77, 77, b"first");
            let ask = |vip: Vip| echo(CLIENT.end(family, 0), vip.end(family, 0), true, 77, b"");
            let seen = other_port(&[ask(SINGLE), ask(PAIR)]);
            let second = ping(family, PAIR, 77, seen, b"second");
            first.into_iter().chain(second).collect()
        },
    ));
    scenarios.extend(both(
        "a member that pings its own group answers itself",
        |family| {
            let (client, vip) = (CLIENT.end(family, 0), SELF.end(family, 0));
            let seen = vip.at(CLIENT.mac());
            vec![
                delivered(
                    CLIENT,
                    echo(client, vip, true, 5, b"me"),
                    CLIENT,
                    Reason::Forwarded,
                    echo(seen, client, true, 5, b"me"),
                ),
                delivered(
                    CLIENT,
                    echo(client, vip.at(VIP_MAC), false, 5, b"me"),
                    CLIENT,
                    Reason::Replied,
                    echo(seen, client, false, 5, b"me"),
                ),
            ]
        },
    ));
    scenarios
}
