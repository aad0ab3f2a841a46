//! A container on two Networks speaks from either address by either interface, as the Network of the
//! address allows.

use lb_common::{Mac, NetworkFlags, Reason};
use lb_ebpf::Verdict;
use veer_tests::packets::{
    ACK, End, SYN, SYN_ACK, arp, echo, hop, link_option, neighbour, tcp, udp,
};

use super::{barred, beyond, both_in, dropped, met, passed, renamed};
use crate::engine::{At, Hook, Scenario, Step};
use crate::world::{
    BRIDGE_MAC, CLIENT, FAR, Family, ONE, OTHER_BRIDGE, OTHER_ZONE, OUTSIDER, ROUTER_MAC, UPLINK,
    UPLINK_MAC, World, ZONE, gateway, host_addr,
};

pub fn all() -> Vec<Scenario> {
    [answers(), opens(), isolation(), strangers(), neighbours()].concat()
}

/// `CLIENT` and `FAR` are one container, whose way out is the Network of `CLIENT`.
fn world() -> World {
    let mut world = World::hosting();
    for (one, other) in [(CLIENT, FAR), (FAR, CLIENT)] {
        world
            .endpoints
            .get_mut(&one.0)
            .expect("an Endpoint")
            .sibling = other.0;
    }
    world
}

/// The same, where the other Network is routed and its port 80 is published.
fn routed() -> World {
    let masquerade = NetworkFlags::MASQUERADE_V4 | NetworkFlags::MASQUERADE_V6;
    let routed = NetworkFlags::ROUTED_V4 | NetworkFlags::ROUTED_V6;
    let world = world().unflag(OTHER_ZONE, masquerade);
    world.open(FAR, OTHER_ZONE, 0).flag(OTHER_ZONE, routed)
}

/// The container's address on the other Network, by the interface of its own.
fn elsewhere(family: Family, port: u16) -> End {
    FAR.end(family, port).at(CLIENT.mac())
}

/// A packet leaves by the uplink as it is, one hop further.
fn leaves(packet: impl Fn(End, End) -> Vec<u8>, from: End, to: End, reason: Reason) -> Step {
    let out = hop(packet(from.at(UPLINK_MAC), to.at(ROUTER_MAC)));
    let verdict = Verdict::Leave { ifindex: UPLINK };
    let sent = packet(from, to.at(BRIDGE_MAC));
    met(CLIENT.at(), sent, verdict, reason, Some(out))
}

fn answers() -> Vec<Scenario> {
    both_in(
        "who came in by a routed network is answered by the network that is the way out",
        routed(),
        |family| {
            let outsider = OUTSIDER.end(family, 40_000);
            let inward = At {
                hook: Hook::BridgeOut,
                ifindex: OTHER_BRIDGE,
                came_from: UPLINK,
            };
            let asks = |segment| {
                let packet = tcp(outsider, FAR.end(family, 80), segment, b"");
                met(inward, packet, Verdict::Pass, Reason::Routed, None)
            };
            vec![
                asks(SYN),
                leaves(
                    |from, to| tcp(from, to, SYN_ACK, b""),
                    elsewhere(family, 80),
                    outsider,
                    Reason::Replied,
                ),
                asks(ACK),
                Step::Connections(1, 0),
                leaves(
                    |from, to| tcp(from, to, ACK, b"answer"),
                    elsewhere(family, 80),
                    outsider,
                    Reason::Replied,
                ),
                barred(
                    inward,
                    tcp(outsider, FAR.end(family, 81), SYN, b""),
                    Reason::DirectRouting,
                ),
            ]
        },
    )
}

fn opens() -> Vec<Scenario> {
    let datagram = |from: End, to: End| udp(from, to, b"x");
    let as_it_is = both_in(
        "what a container opens from its address on a routed network leaves as it is",
        routed(),
        move |family| {
            let outsider = OUTSIDER.end(family, 53);
            vec![leaves(
                datagram,
                elsewhere(family, 40_000),
                outsider,
                Reason::Outbound,
            )]
        },
    );
    let masqueraded = both_in(
        "what it opens from its address on a masqueraded network leaves under the host's name",
        world(),
        move |family| {
            let from = elsewhere(family, 40_000);
            let to = OUTSIDER.end(family, 53);
            let sent = datagram(from, to.at(BRIDGE_MAC));
            let port = renamed(&world(), CLIENT.at(), &sent);
            let mut host = from.at(UPLINK_MAC).on(port);
            host.addr = host_addr(family);
            let out = hop(datagram(host, to.at(ROUTER_MAC)));
            let verdict = Verdict::Leave { ifindex: UPLINK };
            vec![met(CLIENT.at(), sent, verdict, Reason::Outbound, Some(out))]
        },
    );
    [as_it_is, masqueraded].concat()
}

fn isolation() -> Vec<Scenario> {
    let reaches = both_in(
        "an address on another network is no way around isolation",
        world(),
        |family| {
            let from = elsewhere(family, 40_000);
            let to = |addr| tcp(from, beyond(addr, 80), SYN, b"");
            let neighbour = crate::world::Host(21).addr(family);
            let everybody = match family {
                Family::V4 => std::net::Ipv4Addr::new(239, 1, 2, 3).into(),
                Family::V6 => std::net::Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 9).into(),
            };
            vec![
                dropped(CLIENT, to(ONE.addr(family)), Reason::Isolated),
                dropped(CLIENT, to(neighbour), Reason::SpoofedAddress),
                dropped(
                    CLIENT,
                    to(gateway(OTHER_ZONE, family)),
                    Reason::SpoofedAddress,
                ),
                dropped(CLIENT, to(everybody), Reason::SpoofedAddress),
                passed(CLIENT, to(host_addr(family)), Reason::Host),
                Step::Connections(0, 0),
            ]
        },
    );
    let internal = both_in(
        "an address on an internal network does not leave by another one",
        world().flag(OTHER_ZONE, NetworkFlags::INTERNAL),
        |family| {
            let to = beyond(OUTSIDER.addr(family), 443);
            let packet = tcp(elsewhere(family, 40_000), to, SYN, b"");
            let ping = echo(elsewhere(family, 0), to.on(0), true, 1, b"x");
            vec![
                dropped(CLIENT, packet, Reason::InternalNetwork),
                dropped(CLIENT, ping, Reason::InternalNetwork),
            ]
        },
    );
    [reaches, internal].concat()
}

fn strangers() -> Vec<Scenario> {
    let mut gone = routed();
    gone.retire(FAR);
    let mut alone = routed();
    alone
        .endpoints
        .get_mut(&CLIENT.0)
        .expect("an Endpoint")
        .sibling = 0;
    let forged = |family| {
        let to = beyond(OUTSIDER.addr(family), 443);
        tcp(elsewhere(family, 40_000), to, SYN, b"")
    };
    let dropped = move |family| vec![dropped(CLIENT, forged(family), Reason::SpoofedAddress)];
    [
        both_in("another container's address is dropped", alone, dropped),
        both_in(
            "an address that the container had on another network is dropped",
            gone,
            dropped,
        ),
        both_in(
            "a container's address on another network is not its sibling's link-local one",
            routed(),
            |_| {
                let mut from = elsewhere(Family::V6, 40_000);
                from.addr = FAR.link_local().into();
                let to = beyond(OUTSIDER.addr(Family::V6), 443);
                let packet = tcp(from, to, SYN, b"");
                vec![super::dropped(CLIENT, packet, Reason::SpoofedAddress)]
            },
        ),
    ]
    .concat()
}

fn neighbours() -> Vec<Scenario> {
    let broadcast = Mac::new([0xff; 6]);
    let asks = |is_request, sender: [u8; 4], target: [u8; 4]| {
        arp(
            CLIENT.mac(),
            broadcast,
            is_request,
            (CLIENT.mac(), sender),
            (Mac::NONE, target),
        )
    };
    let far = FAR.v4().octets();
    let [a, b] = [ZONE, OTHER_ZONE].map(|zone| match gateway(zone, Family::V4) {
        std::net::IpAddr::V4(v4) => v4.octets(),
        std::net::IpAddr::V6(_) => unreachable!("an address of IPv4"),
    });
    let solicitation = neighbour(
        elsewhere(Family::V6, 0),
        ONE.end(Family::V6, 0),
        135,
        0,
        ONE.v6().octets(),
        &link_option(1, CLIENT.mac()),
    );
    let spoofed = |packet| dropped(CLIENT, packet, Reason::SpoofedNeighbour);
    vec![Scenario {
        name: "a container asks for its gateway in either of its names, and for nobody else".into(),
        world: world(),
        steps: vec![
            passed(CLIENT, asks(true, far, a), Reason::Direct),
            spoofed(asks(false, far, a)),
            spoofed(asks(true, far, b)),
            spoofed(asks(true, far, ONE.v4().octets())),
            spoofed(asks(true, far, far)),
            dropped(CLIENT, solicitation, Reason::SpoofedAddress),
        ],
    }]
}
