//! A container speaks for itself alone.

use etherparse::IpNumber;
use lb_common::{Mac, Reason};
use veer_tests::packets::{End, Ip, SYN, arp, ip, link_option, neighbour, tcp, udp};

use super::bridged::STRANGER;
use super::{Talk, both, both_in, dropped, passed, single};
use crate::engine::Scenario;
use crate::world::{CLIENT, Family, ONE, PAIR, TWO, World};

pub fn all() -> Vec<Scenario> {
    [addresses(), neighbour_lies(), nobody_yet(), allowed()].concat()
}

fn addresses() -> Vec<Scenario> {
    both(
        "another source address is dropped, whatever the destination",
        |family| {
            let (client, vip) = Talk::new(family, CLIENT, PAIR, ONE).outside();
            let (one, two) = (ONE.end(family, 1), TWO.end(family, 2));
            let as_one = one.at(CLIENT.mac());
            vec![
                dropped(CLIENT, tcp(as_one, vip, SYN, b""), Reason::SpoofedAddress),
                dropped(CLIENT, udp(as_one, two, b"x"), Reason::SpoofedAddress),
                dropped(
                    CLIENT,
                    tcp(client.at(STRANGER), vip, SYN, b""),
                    Reason::SpoofedMac,
                ),
                dropped(
                    CLIENT,
                    udp(client.at(ONE.mac()), two, b"x"),
                    Reason::SpoofedMac,
                ),
            ]
        },
    )
}

fn neighbour_lies() -> Vec<Scenario> {
    let broadcast = Mac::new([0xff; 6]);
    let lie = |mac, address| {
        arp(
            CLIENT.mac(),
            broadcast,
            true,
            (mac, address),
            (Mac::NONE, [10, 9, 0, 9]),
        )
    };
    let (client, two) = (CLIENT.end(Family::V6, 0), TWO.end(Family::V6, 0));
    let advertise = |target: std::net::Ipv6Addr, mac| {
        neighbour(
            client,
            two,
            136,
            0x2000_0000,
            target.octets(),
            &link_option(2, mac),
        )
    };
    let hidden = [link_option(14, CLIENT.mac()), link_option(2, STRANGER)].concat();
    let router = neighbour(client, two, 134, 0, [0; 16], &[]);
    let redirect = neighbour(client, two, 137, 0, [0; 16], &[0; 16]);
    let spoofed = |packet| dropped(CLIENT, packet, Reason::SpoofedNeighbour);
    [
        single(
            "arp in another's name is dropped",
            vec![
                spoofed(lie(CLIENT.mac(), ONE.v4().octets())),
                spoofed(lie(STRANGER, CLIENT.v4().octets())),
                spoofed(lie(CLIENT.mac(), PAIR.v4().octets())),
            ],
        ),
        single(
            "neighbour discovery in another's name is dropped",
            vec![
                spoofed(advertise(ONE.v6(), CLIENT.mac())),
                spoofed(advertise(PAIR.v6(), CLIENT.mac())),
                spoofed(advertise(CLIENT.v6(), STRANGER)),
                spoofed(neighbour(
                    client,
                    two,
                    136,
                    0,
                    CLIENT.v6().octets(),
                    &hidden,
                )),
                spoofed(neighbour(
                    client,
                    two,
                    135,
                    0,
                    TWO.v6().octets(),
                    &link_option(1, STRANGER),
                )),
                spoofed(router),
                spoofed(redirect),
            ],
        ),
    ]
    .concat()
}

/// Before a container has an address it may ask whether it may have it.
fn nobody_yet() -> Vec<Scenario> {
    let unspecified = End {
        mac: CLIENT.mac(),
        addr: std::net::Ipv6Addr::UNSPECIFIED.into(),
        port: 0,
    };
    let all = End {
        mac: Mac::new([0x33, 0x33, 0, 0, 0, 1]),
        addr: std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
        port: 0,
    };
    let detection = neighbour(
        unspecified,
        all,
        135,
        0,
        CLIENT.v6().octets(),
        &[14, 1, 1, 2, 3, 4, 5, 6],
    );
    let report = ip(
        unspecified,
        all,
        Ip::default(),
        IpNumber::IPV6_ICMP,
        &[143, 0, 0, 0, 0, 0, 0, 0],
    );
    let forged = udp(unspecified.on(1), all.on(2), b"x");
    let zero = End {
        mac: CLIENT.mac(),
        addr: std::net::Ipv4Addr::UNSPECIFIED.into(),
        port: 68,
    };
    let server = End {
        mac: Mac::new([0xff; 6]),
        addr: std::net::Ipv4Addr::BROADCAST.into(),
        port: 67,
    };
    let probe = arp(
        CLIENT.mac(),
        Mac::new([0xff; 6]),
        true,
        (CLIENT.mac(), [0; 4]),
        (Mac::NONE, CLIENT.v4().octets()),
    );
    single(
        "duplicate address detection, listener reports and dhcp pass without a source",
        vec![
            passed(CLIENT, detection, Reason::Direct),
            passed(CLIENT, report, Reason::Direct),
            passed(CLIENT, udp(zero, server, b"discover"), Reason::Direct),
            passed(CLIENT, probe, Reason::Direct),
            dropped(CLIENT, forged, Reason::SpoofedAddress),
            dropped(
                CLIENT,
                udp(zero.on(1), server, b"x"),
                Reason::SpoofedAddress,
            ),
        ],
    )
}

fn allowed() -> Vec<Scenario> {
    let mut world = World::new();
    for veth in world.veths.values_mut() {
        veth.flags = 0;
    }
    both_in(
        "without anti-spoofing others may be spoken for",
        world,
        |family| {
            let packet = udp(ONE.end(family, 1).at(STRANGER), TWO.end(family, 2), b"x");
            vec![passed(CLIENT, packet, Reason::Direct)]
        },
    )
}
