//! The guards: what the host's stack may hand to a Network and take from it.

use lb_common::{Mode, NetworkFlags, Reason};
use lb_ebpf::Verdict;
use veer_tests::packets::{ACK, End, SYN, SYN_ACK, arp, echo, tcp, udp};

use super::{barred, beyond, both_in, dropped, for_host, hosted, left, met, uplink};
use crate::engine::{At, Hook, Scenario, Step};
use crate::world::{
    BRIDGE, BRIDGE_MAC, CLIENT, FAR, Family, ONE, OTHER_BRIDGE, OTHER_ZONE, OUTSIDER, ROUTER_MAC,
    UPLINK, UPLINK_MAC, World, ZONE, gateway, host_addr, host_end,
};

pub fn all() -> Vec<Scenario> {
    [
        from_a_network(),
        into_a_network(),
        into_routed_networks(),
        from_trusted_interfaces(),
        out_of_the_host(),
        beside(),
        unattended(),
    ]
    .concat()
}

fn from_bridge() -> At {
    At::entering(Hook::BridgeIn, BRIDGE)
}

/// Into the Network from `came_from`.
fn into_bridge(came_from: u32) -> At {
    At {
        hook: Hook::BridgeOut,
        ifindex: BRIDGE,
        came_from,
    }
}

/// An interface that nobody has told of.
const UNKNOWN: u32 = 4_000;

/// Out of the host from `came_from`.
fn out_of_host(came_from: u32) -> At {
    At {
        hook: Hook::UplinkOut,
        ifindex: UPLINK,
        came_from,
    }
}

fn let_through(at: At, packet: Vec<u8>, reason: Reason) -> Step {
    met(at, packet, Verdict::Pass, reason, None)
}

fn from_a_network() -> Vec<Scenario> {
    hosted(
        "a container that is not programmed reaches the host alone",
        |family| {
            let client = CLIENT.end(family, 40_000);
            let to = |addr, port| tcp(client, beyond(addr, port), SYN, b"");
            let arp = arp(
                client.mac,
                BRIDGE_MAC,
                true,
                (client.mac, CLIENT.v4().octets()),
                (BRIDGE_MAC, [10, 9, 0, 1]),
            );
            vec![
                let_through(from_bridge(), to(gateway(ZONE, family), 22), Reason::Host),
                let_through(from_bridge(), to(host_addr(family), 22), Reason::Host),
                let_through(from_bridge(), to(ONE.addr(family), 80), Reason::Host),
                let_through(from_bridge(), arp, Reason::NotIp),
                barred(
                    from_bridge(),
                    to(OUTSIDER.addr(family), 443),
                    Reason::NotProgrammed,
                ),
                barred(
                    from_bridge(),
                    to(FAR.addr(family), 80),
                    Reason::NotProgrammed,
                ),
            ]
        },
    )
}

fn into_a_network() -> Vec<Scenario> {
    hosted(
        "only the host itself speaks to containers at their own addresses",
        |family| {
            let (outsider, one) = (OUTSIDER.end(family, 40_000), ONE.end(family, 80));
            let host = host_end(family, 40_000);
            vec![
                let_through(into_bridge(0), tcp(host, one, SYN, b""), Reason::Host),
                let_through(
                    into_bridge(CLIENT.veth()),
                    tcp(outsider, one, SYN, b""),
                    Reason::Host,
                ),
                barred(
                    into_bridge(UPLINK),
                    tcp(outsider, one, SYN, b""),
                    Reason::DirectRouting,
                ),
                barred(
                    into_bridge(UPLINK),
                    echo(outsider, one, true, 1, b"x"),
                    Reason::DirectRouting,
                ),
                Step::Connections(0, 0),
            ]
        },
    )
}

fn into_routed_networks() -> Vec<Scenario> {
    let routed = NetworkFlags::ROUTED_V4 | NetworkFlags::ROUTED_V6;
    let unprotected = NetworkFlags::UNPROTECTED_V4 | NetworkFlags::UNPROTECTED_V6;
    let answers = |family: Family, port: u16| {
        let (outsider, one) = (OUTSIDER.end(family, 40_000), ONE.end(family, port));
        let sent = tcp(one, outsider.at(BRIDGE_MAC), SYN_ACK, b"");
        let out = tcp(one.at(UPLINK_MAC), outsider.at(ROUTER_MAC), SYN_ACK, b"");
        left(ONE, sent, Reason::Replied, out)
    };
    [
        both_in(
            "a routed network is reached at its published ports, and answers as it is",
            World::hosting().flag(ZONE, routed).open(ONE, ZONE, 0),
            move |family| {
                let outsider = OUTSIDER.end(family, 40_000);
                let at = into_bridge(UPLINK);
                let to = |port| ONE.end(family, port);
                vec![
                    let_through(at, tcp(outsider, to(80), SYN, b""), Reason::Routed),
                    answers(family, 80),
                    let_through(at, tcp(outsider, to(80), ACK, b""), Reason::Routed),
                    Step::Connections(1, 0),
                    let_through(at, echo(outsider, to(0), true, 1, b"x"), Reason::Routed),
                    barred(at, tcp(outsider, to(81), SYN, b""), Reason::DirectRouting),
                    barred(at, udp(outsider, to(80), b"x"), Reason::DirectRouting),
                ]
            },
        ),
        both_in(
            "an unprotected network is reached at every port",
            World::hosting().flag(ZONE, unprotected),
            move |family| {
                let outsider = OUTSIDER.end(family, 40_000);
                let at = into_bridge(UPLINK);
                vec![
                    let_through(
                        at,
                        tcp(outsider, ONE.end(family, 81), SYN, b""),
                        Reason::Routed,
                    ),
                    answers(family, 81),
                ]
            },
        ),
    ]
    .concat()
}

fn from_trusted_interfaces() -> Vec<Scenario> {
    both_in(
        "an interface that a network trusts reaches published ports alone",
        World::hosting().open(ONE, ZONE, UPLINK),
        |family| {
            let outsider = OUTSIDER.end(family, 40_000);
            let at = into_bridge(UPLINK);
            let to = |port| ONE.end(family, port);
            vec![
                let_through(at, tcp(outsider, to(80), SYN, b""), Reason::Routed),
                barred(at, tcp(outsider, to(81), SYN, b""), Reason::DirectRouting),
                barred(
                    into_bridge(OTHER_BRIDGE),
                    tcp(outsider.on(40_001), to(80), SYN, b""),
                    Reason::DirectRouting,
                ),
                barred(
                    at,
                    echo(outsider, to(0), true, 1, b"x"),
                    Reason::DirectRouting,
                ),
            ]
        },
    )
}

fn out_of_the_host() -> Vec<Scenario> {
    hosted(
        "no container's address leaves the host by its stack",
        |family| {
            let outsider = OUTSIDER.end(family, 443);
            let from = |end: End| tcp(end.at(UPLINK_MAC), outsider, SYN, b"");
            let (client, host) = (CLIENT.end(family, 40_000), host_end(family, 40_000));
            vec![
                barred(out_of_host(BRIDGE), from(client), Reason::NotMasqueraded),
                let_through(out_of_host(BRIDGE), from(host), Reason::Routed),
                let_through(out_of_host(0), from(host), Reason::Host),
                let_through(out_of_host(CLIENT.veth()), from(host), Reason::Host),
                let_through(out_of_host(UPLINK), from(client), Reason::Host),
                barred(out_of_host(UNKNOWN), from(host), Reason::NotProgrammed),
            ]
        },
    )
}

fn beside() -> Vec<Scenario> {
    let mut world = World::hosting();
    world.settings.mode = Mode::BESIDE;
    both_in(
        "beside docker's rules the guards let everything through",
        world,
        |family| {
            let (client, outsider) = (CLIENT.end(family, 40_000), OUTSIDER.end(family, 443));
            let out = tcp(client, outsider.at(BRIDGE_MAC), SYN, b"");
            let inward = tcp(outsider, client, SYN, b"");
            vec![
                let_through(from_bridge(), out.clone(), Reason::Direct),
                let_through(out_of_host(BRIDGE), out.clone(), Reason::Direct),
                let_through(out_of_host(UNKNOWN), out, Reason::Direct),
                let_through(into_bridge(UPLINK), inward, Reason::Direct),
            ]
        },
    )
}

/// The world in which the other Network has been made while the daemon is away.
fn made_meanwhile() -> World {
    let mut world = World::hosting().unattended(OTHER_BRIDGE);
    world.networks.remove(&OTHER_ZONE);
    world.subnets.retain(|_, subnet| subnet.zone != OTHER_ZONE);
    world
}

fn unattended() -> Vec<Scenario> {
    let asked = |family: Family| {
        let outsider = OUTSIDER.end(family, 40_000);
        let to = |addr, port| udp(outsider, beyond(addr, port).at(UPLINK_MAC), b"x");
        [
            to(FAR.addr(family), 81),
            tcp(outsider, FAR.end(family, 9_000), SYN, b""),
            echo(outsider, FAR.end(family, 0), true, 1, b"x"),
        ]
    };
    let let_in = move |world: World, name: &str| {
        both_in(name, world, move |family| {
            asked(family).map(for_host).into()
        })
    };
    let mut known = made_meanwhile();
    known.heartbeat = World::hosting().heartbeat;
    let mut beside = made_meanwhile();
    beside.settings.mode = Mode::BESIDE;
    let masquerade = NetworkFlags::MASQUERADE_V4 | NetworkFlags::MASQUERADE_V6;
    let plain = made_meanwhile().unflag(ZONE, masquerade);
    let by_the_kernel = made_meanwhile().flag(ZONE, NetworkFlags::KERNEL_MASQUERADE);
    [
        both_in(
            "nothing gets into a network that is made while the daemon is away",
            made_meanwhile(),
            move |family| {
                let outsider = OUTSIDER.end(family, 40_000);
                let to = |addr| udp(outsider, beyond(addr, 81).at(UPLINK_MAC), b"x");
                let mut steps: Vec<_> = asked(family)
                    .map(|packet| barred(uplink(), packet, Reason::NotProgrammed))
                    .into();
                steps.extend([
                    for_host(to(host_addr(family))),
                    for_host(to(ONE.addr(family))),
                    for_host(to(crate::world::nowhere(family))),
                    for_host(to(OUTSIDER.addr(family))),
                ]);
                steps
            },
        ),
        both_in(
            "a network without masquerade does not reach one that is made while the daemon is away",
            plain,
            |family| {
                let client = CLIENT.end(family, 40_000);
                let far = beyond(FAR.addr(family), 80);
                let outside = beyond(OUTSIDER.addr(family), 53);
                let out = udp(client.at(UPLINK_MAC), outside.at(ROUTER_MAC), b"x");
                vec![
                    dropped(CLIENT, udp(client, far, b"x"), Reason::NotProgrammed),
                    dropped(CLIENT, tcp(client, far, SYN, b""), Reason::NotProgrammed),
                    left(CLIENT, udp(client, outside, b"x"), Reason::Outbound, out),
                ]
            },
        ),
        both_in(
            "what the kernel masquerades does not reach one either",
            by_the_kernel,
            |family| {
                let client = CLIENT.end(family, 40_000);
                let to = |addr| udp(client, beyond(addr, 53), b"x");
                vec![
                    barred(from_bridge(), to(FAR.addr(family)), Reason::NotProgrammed),
                    let_through(from_bridge(), to(OUTSIDER.addr(family)), Reason::Direct),
                    let_through(from_bridge(), to(host_addr(family)), Reason::Direct),
                ]
            },
        ),
        let_in(
            known,
            "a daemon that is there sees to new interfaces itself",
        ),
        let_in(beside, "beside docker's rules they see to new interfaces"),
    ]
    .concat()
}
