//! Which Backend a new Connection gets.

use lb_common::{Algorithm, Slot};
use veer_tests::packets::udp;

use super::{Talk, both, both_in};
use crate::engine::{Scenario, Step};
use crate::world::{CLIENT, Family, Host, ONE, OTHER, PAIR, TWO, World};

fn open(family: Family, client: Host, port: u16, backend: Host) -> Step {
    let talk = Talk::new(family, client, PAIR, backend).with_port(port);
    talk.forwarded(|from, to| udp(from, to, b"x"))
}

pub fn all() -> Vec<Scenario> {
    let mut scenarios = both("round robin is exact over all clients", |family| {
        (0..10)
            .map(|turn| {
                let client = if turn % 3 == 0 { OTHER } else { CLIENT };
                open(
                    family,
                    client,
                    41_000 + turn,
                    if turn % 2 == 0 { ONE } else { TWO },
                )
            })
            .collect()
    });
    scenarios.extend(both("a draining member gets nothing new", |family| {
        vec![
            open(family, CLIENT, 41_000, ONE),
            Step::Change(|world| world.drain(TWO)),
            open(family, CLIENT, 41_001, ONE),
            open(family, CLIENT, 41_002, ONE),
        ]
    }));
    scenarios.extend(weighted());
    scenarios.extend(both_in(
        "least connections prefers the idle backend",
        World::new().balance(PAIR, Algorithm::LeastConnections),
        |family| {
            // Two different slots are compared, so the less loaded one always wins once they differ.
            let mut steps = vec![Step::Change(|world| world.drain(TWO))];
            steps.extend(Talk::new(family, CLIENT, PAIR, ONE).handshake());
            steps.push(Step::Change(|world| {
                let drained = world.endpoints.get_mut(&TWO.0).expect("a container");
                drained.state = lb_common::EndpointState::Active as u8;
            }));
            steps.extend((0..5).map(|turn| open(family, CLIENT, 41_000 + turn, TWO)));
            steps
        },
    ));
    scenarios.extend(maglev());
    scenarios
}

fn weighted() -> Vec<Scenario> {
    let mut world = World::new().balance(PAIR, Algorithm::WeightedRoundRobin);
    // Weights 2 and 1: the order is in the table.
    world.each_frontend(PAIR, |frontend| frontend.slot_count = 3);
    for family in [Family::V4, Family::V6] {
        let key = lb_common::FrontendKey::vip(PAIR.addr(family).into(), crate::world::ZONE);
        let first = world.frontends[&key].first_slot;
        for (index, host) in [ONE, TWO, ONE].into_iter().enumerate() {
            world.slots.insert(
                first + index as u32,
                Slot {
                    endpoint: host.0,
                    ..Slot::default()
                },
            );
        }
    }
    both_in("weighted round robin follows its table", world, |family| {
        let order = [ONE, TWO, ONE, ONE, TWO, ONE];
        order
            .into_iter()
            .enumerate()
            .map(|(turn, host)| open(family, CLIENT, 41_000 + turn as u16, host))
            .collect()
    })
}

fn maglev() -> Vec<Scenario> {
    let world = World::new().balance(PAIR, Algorithm::Maglev);
    both_in(
        "maglev sends a client's port where its hash says",
        world,
        |family| {
            (0..8)
                .map(|turn| {
                    let talk = Talk::new(family, CLIENT, PAIR, ONE).with_port(41_000 + turn);
                    let (client, vip) = talk.outside();
                    let flow = lb_common::FlowKey {
                        source: client.addr.into(),
                        destination: vip.addr.into(),
                        source_port: lb_common::Port::new(client.port),
                        destination_port: lb_common::Port::new(vip.port),
                        zone: crate::world::ZONE,
                        protocol: 17,
                        _pad: 0,
                    };
                    let backend = if lb_ebpf::flow_hash(&flow).is_multiple_of(2) {
                        ONE
                    } else {
                        TWO
                    };
                    open(family, CLIENT, 41_000 + turn, backend)
                })
                .collect()
        },
    )
}
