//! The table, one file for each topic, and the words that its rows are written in.

mod affinity;
mod balancing;
mod bridged;
mod echo;
mod fragments;
mod guards;
mod hops;
mod icmp_errors;
mod inside;
mod isolation;
mod lifetime;
mod loopback;
mod neighbours;
mod other_family;
mod outbound;
mod published;
mod refusals;
mod siblings;
mod spoofing;
mod tcp;
mod udp;

use lb_common::{ConnectionFlags, Reason, VIP_MAC};
use lb_ebpf::Verdict;
use veer_tests::packets::{self, End, Segment};

use crate::engine::{At, Engine, Hook, Scenario, Send, Step};
use crate::memory;
use crate::world::{
    BRIDGE_MAC, Family, Host, MASQUERADE, ROUTER_MAC, UPLINK, UPLINK_MAC, Vip, World, host_end,
};

/// Every scenario.
pub fn all() -> Vec<Scenario> {
    [
        affinity::all(),
        balancing::all(),
        bridged::all(),
        echo::all(),
        fragments::all(),
        guards::all(),
        hops::all(),
        icmp_errors::all(),
        inside::all(),
        isolation::all(),
        lifetime::all(),
        loopback::all(),
        neighbours::all(),
        other_family::all(),
        outbound::all(),
        published::all(),
        refusals::all(),
        siblings::all(),
        spoofing::all(),
        tcp::all(),
        udp::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A scenario in both families.
pub fn both(name: &str, steps: impl Fn(Family) -> Vec<Step>) -> Vec<Scenario> {
    both_in(name, World::new(), steps)
}

/// A scenario in both families, in a world of its own.
pub fn both_in(name: &str, world: World, steps: impl Fn(Family) -> Vec<Step>) -> Vec<Scenario> {
    [Family::V4, Family::V6]
        .into_iter()
        .map(|family| Scenario {
            name: format!("{name} ({family:?})"),
            world: world.clone(),
            steps: steps(family),
        })
        .collect()
}

/// A scenario of one family.
pub fn single(name: &str, steps: Vec<Step>) -> Vec<Scenario> {
    vec![Scenario {
        name: name.to_owned(),
        world: World::new(),
        steps,
    }]
}

/// `packet` from `host` is delivered to `to` as `out`; one hop further, if to another Network.
pub fn delivered(host: Host, packet: Vec<u8>, to: Host, reason: Reason, out: Vec<u8>) -> Step {
    let out = if host.zone() == to.zone() {
        out
    } else {
        packets::hop(out)
    };
    Step::Send(Send {
        at: host.at(),
        packet,
        verdict: Verdict::Deliver { ifindex: to.veth() },
        reason,
        out: Some(out),
    })
}

/// `packet` from `host` is dropped.
pub fn dropped(host: Host, packet: Vec<u8>, reason: Reason) -> Step {
    Step::Send(Send {
        at: host.at(),
        packet,
        verdict: Verdict::Drop,
        reason,
        out: None,
    })
}

/// `packet` from `host` is left to the bridge as it is.
pub fn passed(host: Host, packet: Vec<u8>, reason: Reason) -> Step {
    Step::Send(Send {
        at: host.at(),
        packet,
        verdict: Verdict::Pass,
        reason,
        out: None,
    })
}

/// A scenario in both families, on a host with an uplink and published ports.
pub fn hosted(name: &str, steps: impl Fn(Family) -> Vec<Step>) -> Vec<Scenario> {
    both_in(name, World::hosting(), steps)
}

/// On the host's uplink, coming in.
pub fn uplink() -> At {
    At::entering(Hook::UplinkIn, UPLINK)
}

/// `packet` meets a program at `at`.
pub fn met(
    at: At,
    packet: Vec<u8>,
    verdict: Verdict,
    reason: Reason,
    out: Option<Vec<u8>>,
) -> Step {
    Step::Send(Send {
        at,
        packet,
        verdict,
        reason,
        out,
    })
}

/// `packet` from outside is delivered to `to` as `out`, one hop further.
pub fn entered(packet: Vec<u8>, to: Host, reason: Reason, out: Vec<u8>) -> Step {
    let verdict = Verdict::Deliver { ifindex: to.veth() };
    met(uplink(), packet, verdict, reason, Some(packets::hop(out)))
}

/// `packet` from outside is left to the host.
pub fn for_host(packet: Vec<u8>) -> Step {
    met(uplink(), packet, Verdict::Pass, Reason::Host, None)
}

/// `packet` at `at` is dropped.
pub fn barred(at: At, packet: Vec<u8>, reason: Reason) -> Step {
    met(at, packet, Verdict::Drop, reason, None)
}

/// `packet` from `host` leaves by the uplink as `out`, one hop further.
pub fn left(host: Host, packet: Vec<u8>, reason: Reason, out: Vec<u8>) -> Step {
    let verdict = Verdict::Leave { ifindex: UPLINK };
    met(host.at(), packet, verdict, reason, Some(packets::hop(out)))
}

/// The source port (or identifier) that a packet goes on with under the host's name. Which one it is, is
/// the datapath's choice; that it is in the range and is kept, is the scenario's.
pub fn renamed(world: &World, at: At, packet: &[u8]) -> u16 {
    let mut engine = memory::start();
    engine.set(world);
    let ran = engine.run(at, packet);
    let goes_on = matches!(ran.verdict, Verdict::Leave { .. } | Verdict::Deliver { .. });
    assert!(goes_on, "{ran:?}");
    let entries = engine.entries();
    let mut forward = entries.iter();
    let forward = forward.find(|(_, entry)| entry.has(ConnectionFlags::FORWARD));
    let port = forward.expect("a Connection").1.source_port.get();
    assert!((MASQUERADE.0..=MASQUERADE.1).contains(&port), "{port}");
    port
}

/// What a container's packet goes to that is for its gateway to send on.
pub fn beyond(addr: std::net::IpAddr, port: u16) -> End {
    End {
        mac: BRIDGE_MAC,
        addr,
        port,
    }
}

/// Somebody outside and a container that talk through a published port.
#[derive(Clone, Copy)]
pub struct Visit {
    pub family: Family,
    pub client: End,
    pub host_port: u16,
    pub backend: Host,
    pub port: u16,
}

impl Visit {
    /// What the client calls itself and the host.
    pub fn outside(&self) -> (End, End) {
        (self.client, host_end(self.family, self.host_port))
    }

    /// What the Backend calls the client and itself.
    pub fn inside(&self) -> (End, End) {
        (self.client, self.backend.end(self.family, self.port))
    }

    /// A packet of the client reaches the Backend.
    pub fn asks(&self, packet: impl Fn(End, End) -> Vec<u8>) -> Step {
        let (client, host) = self.outside();
        let (_, backend) = self.inside();
        let out = packet(client, backend);
        entered(packet(client, host), self.backend, Reason::Forwarded, out)
    }

    /// A packet of the Backend leaves for the client.
    pub fn answers(&self, packet: impl Fn(End, End) -> Vec<u8>) -> Step {
        let (client, host) = self.outside();
        let (_, backend) = self.inside();
        let out = packet(host.at(UPLINK_MAC), client.at(ROUTER_MAC));
        let sent = packet(backend, client.at(BRIDGE_MAC));
        left(self.backend, sent, Reason::Replied, out)
    }

    pub fn ask(&self, segment: Segment, payload: &[u8]) -> Step {
        self.asks(|from, to| packets::tcp(from, to, segment, payload))
    }

    pub fn answer(&self, segment: Segment, payload: &[u8]) -> Step {
        self.answers(|from, to| packets::tcp(from, to, segment, payload))
    }

    /// Both sides of a handshake.
    pub fn handshake(&self) -> Vec<Step> {
        vec![
            self.ask(packets::SYN, b""),
            self.answer(packets::SYN_ACK, b""),
            self.ask(packets::ACK, b""),
        ]
    }
}

/// A client and a Backend that talk through a VIP.
#[derive(Clone, Copy)]
pub struct Talk {
    pub family: Family,
    pub client: Host,
    pub vip: Vip,
    pub backend: Host,
    pub client_port: u16,
    pub port: u16,
    /// What the Backend sees as the client's port.
    pub seen_port: u16,
    /// What the Backend listens on.
    pub backend_port: u16,
}

impl Talk {
    /// Port 80 of the VIP, from port 40000.
    pub fn new(family: Family, client: Host, vip: Vip, backend: Host) -> Self {
        let (client_port, port) = (40_000, 80);
        let (seen_port, backend_port) = (client_port, port);
        Self {
            family,
            client,
            vip,
            backend,
            client_port,
            port,
            seen_port,
            backend_port,
        }
    }

    /// The same from another port.
    pub fn with_port(self, port: u16) -> Self {
        Self {
            client_port: port,
            seen_port: port,
            ..self
        }
    }

    /// What the client calls itself and the VIP.
    pub fn outside(&self) -> (End, End) {
        let client = self.client.end(self.family, self.client_port);
        (client, self.vip.end(self.family, self.port))
    }

    /// What the Backend calls the client and itself. A container that calls itself is called by the VIP.
    pub fn inside(&self) -> (End, End) {
        let is_hairpin = self.client == self.backend;
        let mut client = self.client.end(self.family, self.seen_port);
        if is_hairpin {
            client.addr = self.vip.addr(self.family);
        }
        (client, self.backend.end(self.family, self.backend_port))
    }

    /// A segment of the client reaches the Backend.
    pub fn ask(&self, segment: Segment, payload: &[u8]) -> Step {
        self.forwarded(|from, to| packets::tcp(from, to, segment, payload))
    }

    /// A segment of the Backend reaches the client.
    pub fn answer(&self, segment: Segment, payload: &[u8]) -> Step {
        self.replied(|from, to| packets::tcp(from, to, segment, payload))
    }

    /// Both sides of a handshake.
    pub fn handshake(&self) -> Vec<Step> {
        vec![
            self.ask(packets::SYN, b""),
            self.answer(packets::SYN_ACK, b""),
            self.ask(packets::ACK, b""),
        ]
    }

    /// A packet of the client reaches the Backend.
    pub fn forwarded(&self, packet: impl Fn(End, End) -> Vec<u8>) -> Step {
        let (client, vip) = self.outside();
        let (seen, backend) = self.inside();
        let out = packet(seen, backend);
        delivered(
            self.client,
            packet(client, vip),
            self.backend,
            Reason::Forwarded,
            out,
        )
    }

    /// A packet of the Backend reaches the client.
    pub fn replied(&self, packet: impl Fn(End, End) -> Vec<u8>) -> Step {
        let (client, vip) = self.outside();
        let (mut seen, backend) = self.inside();
        if self.client == self.backend {
            // The reply to a VIP goes to the VIP's MAC address.
            seen = seen.at(VIP_MAC);
        }
        // The rewritten frame keeps the MAC address of whoever sent it.
        let out = packet(vip.at(self.backend.mac()), client);
        delivered(
            self.backend,
            packet(backend, seen),
            self.client,
            Reason::Replied,
            out,
        )
    }
}
