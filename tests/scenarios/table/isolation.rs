//! Networks and containers that may not reach each other, and those that may.

use std::net::{Ipv4Addr, Ipv6Addr};

use lb_common::{Link, Mode, NetworkFlags, Port, Reason};
use lb_ebpf::Verdict;
use veer_tests::packets::{ACK, SYN, SYN_ACK, echo, hop, tcp, udp};

use super::{Talk, barred, beyond, both_in, delivered, dropped, hosted, met, passed};
use crate::engine::{At, Hook, Scenario, Step};
use crate::world::{
    BRIDGE, CLIENT, FAR, Family, ONE, OTHER_BRIDGE, OTHER_BRIDGE_MAC, OTHER_ZONE, OUTSIDER, PAIR,
    TWO, World, ZONE, gateway, host_addr,
};

pub fn all() -> Vec<Scenario> {
    [
        between_networks(),
        into_other_modes(),
        internal(),
        isolated(),
        inside_a_network(),
        links(),
        beside(),
    ]
    .concat()
}

fn between_networks() -> Vec<Scenario> {
    [
        hosted("a container does not reach another network", |family| {
            let client = CLIENT.end(family, 40_000);
            let far = beyond(FAR.addr(family), 80);
            vec![
                dropped(CLIENT, tcp(client, far, SYN, b""), Reason::Isolated),
                dropped(CLIENT, udp(client, far, b"x"), Reason::Isolated),
                dropped(CLIENT, echo(client, far, true, 1, b"x"), Reason::Isolated),
                Step::Connections(0, 0),
            ]
        }),
        hosted(
            "a container does not speak to loopback addresses",
            |family| {
                let loopback = match family {
                    Family::V4 => Ipv4Addr::new(127, 0, 0, 1).into(),
                    Family::V6 => Ipv6Addr::LOCALHOST.into(),
                };
                let packet = tcp(
                    CLIENT.end(family, 40_000),
                    beyond(loopback, 8_080),
                    SYN,
                    b"",
                );
                vec![dropped(CLIENT, packet, Reason::LoopbackOutside)]
            },
        ),
        hosted(
            "containers of a network reach each other, and the host",
            |family| {
                let client = CLIENT.end(family, 40_000);
                vec![
                    passed(
                        CLIENT,
                        tcp(client, ONE.end(family, 80), SYN, b""),
                        Reason::Direct,
                    ),
                    passed(
                        CLIENT,
                        echo(client, beyond(gateway(ZONE, family), 0), true, 1, b"x"),
                        Reason::Host,
                    ),
                ]
            },
        ),
    ]
    .concat()
}

fn into_other_modes() -> Vec<Scenario> {
    let routed = NetworkFlags::ROUTED_V4 | NetworkFlags::ROUTED_V6;
    let masquerade = NetworkFlags::MASQUERADE_V4 | NetworkFlags::MASQUERADE_V6;
    let unprotected = NetworkFlags::UNPROTECTED_V4 | NetworkFlags::UNPROTECTED_V6;
    // Neither is masqueraded, so that what is sent and what arrives are the same.
    let plain = || {
        World::hosting()
            .unflag(ZONE, masquerade)
            .unflag(OTHER_ZONE, masquerade)
    };
    let reaches = |family: Family, port: u16, payload: &[u8]| {
        let client = CLIENT.end(family, 40_000);
        let far = beyond(FAR.addr(family), port);
        let out = tcp(client.at(OTHER_BRIDGE_MAC), far.at(FAR.mac()), SYN, payload);
        met(
            CLIENT.at(),
            tcp(client, far, SYN, payload),
            Verdict::Leave {
                ifindex: OTHER_BRIDGE,
            },
            Reason::Outbound,
            Some(hop(out)),
        )
    };
    [
        both_in(
            "a routed network is reached at its published ports and by ping",
            plain().flag(OTHER_ZONE, routed).open(FAR, OTHER_ZONE, 0),
            move |family| {
                let client = CLIENT.end(family, 40_000);
                let far = FAR.end(family, 80);
                let closed = tcp(client, beyond(FAR.addr(family), 81), SYN, b"");
                vec![
                    reaches(family, 80, b""),
                    delivered(
                        FAR,
                        tcp(far, beyond(client.addr, 40_000), SYN_ACK, b""),
                        CLIENT,
                        Reason::Replied,
                        tcp(far, client, SYN_ACK, b""),
                    ),
                    barred(CLIENT.at(), closed, Reason::Isolated),
                    barred(
                        FAR.at(),
                        tcp(far, beyond(client.addr, 80), SYN, b""),
                        Reason::Isolated,
                    ),
                ]
            },
        ),
        both_in(
            "an unprotected network is reached at every port",
            plain().flag(OTHER_ZONE, unprotected),
            move |family| vec![reaches(family, 80, b""), reaches(family, 81, b"x")],
        ),
    ]
    .concat()
}

/// `gateway_mode=isolated`: the host is not reached, and no bridge has an address.
fn isolated() -> Vec<Scenario> {
    let isolated = NetworkFlags::ISOLATED_V4 | NetworkFlags::ISOLATED_V6;
    let world = World::hosting().flag(ZONE, NetworkFlags::INTERNAL | isolated);
    both_in(
        "an isolated network reaches itself alone, and not the host",
        world,
        |family| {
            let client = CLIENT.end(family, 40_000);
            let syn = |to| tcp(client, to, SYN, b"");
            let host = || syn(beyond(host_addr(family), 22));
            let bridge = At::entering(Hook::BridgeIn, BRIDGE);
            vec![
                passed(CLIENT, syn(ONE.end(family, 80)), Reason::Direct),
                dropped(CLIENT, host(), Reason::InternalNetwork),
                dropped(
                    CLIENT,
                    syn(beyond(gateway(OTHER_ZONE, family), 22)),
                    Reason::InternalNetwork,
                ),
                barred(bridge, host(), Reason::NotProgrammed),
            ]
        },
    )
}

fn internal() -> Vec<Scenario> {
    let world = World::hosting().flag(ZONE, NetworkFlags::INTERNAL);
    both_in(
        "an internal network reaches itself and its gateway alone",
        world,
        |family| {
            let client = CLIENT.end(family, 40_000);
            let syn = |to| tcp(client, to, SYN, b"");
            vec![
                passed(CLIENT, syn(ONE.end(family, 80)), Reason::Direct),
                passed(CLIENT, syn(beyond(gateway(ZONE, family), 22)), Reason::Host),
                dropped(
                    CLIENT,
                    syn(beyond(OUTSIDER.addr(family), 443)),
                    Reason::InternalNetwork,
                ),
                dropped(
                    CLIENT,
                    syn(beyond(FAR.addr(family), 80)),
                    Reason::InternalNetwork,
                ),
                passed(CLIENT, syn(beyond(host_addr(family), 22)), Reason::Host),
                dropped(
                    CLIENT,
                    syn(beyond(host_addr(family), 8_080)),
                    Reason::InternalNetwork,
                ),
            ]
        },
    )
}

fn no_icc() -> World {
    World::hosting().flag(ZONE, NetworkFlags::NO_ICC)
}

fn inside_a_network() -> Vec<Scenario> {
    both_in(
        "without icc containers do not reach each other",
        no_icc(),
        |family| {
            let client = CLIENT.end(family, 40_000);
            let vip = PAIR.end(family, 80);
            vec![
                dropped(
                    CLIENT,
                    tcp(client, ONE.end(family, 80), SYN, b""),
                    Reason::IccDisabled,
                ),
                dropped(CLIENT, tcp(client, vip, SYN, b""), Reason::IccDisabled),
                delivered(
                    CLIENT,
                    tcp(client, beyond(host_addr(family), 8_080), SYN, b""),
                    ONE,
                    Reason::Forwarded,
                    tcp(client, ONE.end(family, 80), SYN, b""),
                ),
            ]
        },
    )
}

fn links() -> Vec<Scenario> {
    let mut world = no_icc();
    for family in [Family::V4, Family::V6] {
        world.links.insert(Link {
            from: CLIENT.addr(family).into(),
            to: ONE.addr(family).into(),
            port: Port::new(80),
            zone: ZONE,
            protocol: 6,
            _pad: [0; 3],
        });
    }
    both_in("a link opens its port in its direction", world, |family| {
        let (client, one) = (CLIENT.end(family, 40_000), ONE.end(family, 80));
        let other = TWO.end(family, 40_000);
        vec![
            passed(CLIENT, tcp(client, one, SYN, b""), Reason::Direct),
            passed(ONE, tcp(one, client, SYN_ACK, b""), Reason::Direct),
            passed(CLIENT, tcp(client, one, ACK, b"hello"), Reason::Direct),
            dropped(
                CLIENT,
                tcp(client, one.on(81), SYN, b""),
                Reason::IccDisabled,
            ),
            dropped(ONE, tcp(one, client, SYN, b""), Reason::IccDisabled),
            dropped(TWO, tcp(other, one, SYN, b""), Reason::IccDisabled),
        ]
    })
}

fn beside() -> Vec<Scenario> {
    let mut world = no_icc();
    world.settings.mode = Mode::BESIDE;
    both_in(
        "beside docker's rules these judge and veer balances",
        world,
        |family| {
            let client = CLIENT.end(family, 40_000);
            let mut steps = vec![
                passed(
                    CLIENT,
                    tcp(client, ONE.end(family, 80), SYN, b""),
                    Reason::Direct,
                ),
                passed(
                    CLIENT,
                    tcp(client, beyond(FAR.addr(family), 80), SYN, b""),
                    Reason::Direct,
                ),
            ];
            steps.extend(Talk::new(family, CLIENT, PAIR, ONE).handshake());
            steps
        },
    )
}
