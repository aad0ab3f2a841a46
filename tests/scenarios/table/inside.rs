//! Published ports and the host's own services, as containers reach them.

use std::net::IpAddr;

use lb_common::Reason;
use veer_tests::packets::{ACK, End, SYN, SYN_ACK, Segment, tcp};

use super::{Talk, Visit, beyond, both_in, delivered, hosted, passed};
use crate::engine::{Scenario, Step};
use crate::world::{
    BRIDGE_MAC, CLIENT, FAR, Family, Host, ONE, OTHER, OUTSIDER, PAIR, TWO, World, ZONE, gateway,
    host_addr,
};

/// A container that talks to a published port of an address of the host.
struct Inside {
    family: Family,
    client: Host,
    address: IpAddr,
    host_port: u16,
    backend: Host,
    port: u16,
}

impl Inside {
    fn asks(&self, segment: Segment) -> Step {
        let client = self.client.end(self.family, 40_000);
        let host = beyond(self.address, self.host_port);
        let backend = self.backend.end(self.family, self.port);
        delivered(
            self.client,
            tcp(client, host, segment, b""),
            self.backend,
            Reason::Forwarded,
            tcp(self.seen(), backend, segment, b""),
        )
    }

    /// What the Backend calls the client: a container that calls itself is called by the host's name.
    fn seen(&self) -> End {
        let mut seen = self.client.end(self.family, 40_000);
        if self.client == self.backend {
            seen.addr = self.address;
        }
        seen
    }

    fn answers(&self, segment: Segment) -> Step {
        let client = self.client.end(self.family, 40_000);
        let host = beyond(self.address, self.host_port).at(self.backend.mac());
        let backend = self.backend.end(self.family, self.port);
        delivered(
            self.backend,
            tcp(backend, self.seen().at(BRIDGE_MAC), segment, b""),
            self.client,
            Reason::Replied,
            tcp(host, client, segment, b""),
        )
    }

    fn handshake(&self) -> Vec<Step> {
        vec![
            self.asks(SYN),
            self.answers(SYN_ACK),
            self.asks(ACK),
            Step::Connections(1, 0),
        ]
    }
}

/// `FAR` and `TWO` are one container, on both Networks.
fn shared(name: &str, steps: impl Fn(Family) -> Vec<Step>) -> Vec<Scenario> {
    let mut world = World::hosting();
    for (one, other) in [(FAR, TWO), (TWO, FAR)] {
        if let Some(endpoint) = world.endpoints.get_mut(&one.0) {
            endpoint.sibling = other.0;
        }
    }
    both_in(name, world, steps)
}

pub fn all() -> Vec<Scenario> {
    let inside = |family, client, address, host_port, backend, port| Inside {
        family,
        client,
        address,
        host_port,
        backend,
        port,
    };
    [
        hosted(
            "a container reaches a published port of its own network",
            move |family| inside(family, CLIENT, host_addr(family), 8_080, ONE, 80).handshake(),
        ),
        hosted(
            "a container reaches a published port by its own gateway",
            move |family| inside(family, CLIENT, gateway(ZONE, family), 8_080, ONE, 80).handshake(),
        ),
        hosted(
            "a container reaches a published port of another network",
            move |family| inside(family, CLIENT, host_addr(family), 9_000, FAR, 80).handshake(),
        ),
        hosted(
            "a container reaches its own published port",
            move |family| inside(family, CLIENT, host_addr(family), 8_081, CLIENT, 80).handshake(),
        ),
        shared(
            "a server that is also on the client's network answers there",
            move |family| inside(family, CLIENT, host_addr(family), 9_000, TWO, 80).handshake(),
        ),
        shared(
            "a container reaches its own port that is another network's",
            move |family| inside(family, TWO, host_addr(family), 9_000, TWO, 80).handshake(),
        ),
        shared(
            "a server whose place on the client's network is gone answers from the other one",
            move |family| {
                let near = inside(family, CLIENT, host_addr(family), 9_000, TWO, 80);
                let far = inside(family, OTHER, host_addr(family), 9_000, FAR, 80);
                let mut steps = near.handshake();
                steps.extend([
                    Step::Change(|world| world.retire(TWO)),
                    far.asks(SYN),
                    far.answers(SYN_ACK),
                ]);
                steps
            },
        ),
        shared(
            "a client outside reaches such a server where the port leads",
            |family| {
                let visit = Visit {
                    family,
                    client: OUTSIDER.end(family, 40_000),
                    host_port: 9_000,
                    backend: FAR,
                    port: 80,
                };
                visit.handshake()
            },
        ),
        hosted("a container reaches the host's own services", |family| {
            let client = CLIENT.end(family, 40_000);
            [host_addr(family), gateway(ZONE, family)]
                .into_iter()
                .map(|address| {
                    let packet = tcp(client, beyond(address, 22), SYN, b"");
                    passed(CLIENT, packet, Reason::Host)
                })
                .collect()
        }),
        hosted(
            "a published port and a vip with one backend do not collide",
            move |family| {
                let direct = inside(family, CLIENT, host_addr(family), 8_080, ONE, 80);
                let mut steps = Talk::new(family, CLIENT, PAIR, ONE)
                    .with_port(41_000)
                    .handshake();
                steps.extend([direct.asks(SYN), direct.answers(SYN_ACK), direct.asks(ACK)]);
                steps.push(Step::Connections(2, 0));
                steps
            },
        ),
    ]
    .concat()
}
