//! What people publish ports for, and how a host gets other ways out, in replace mode.

use std::collections::BTreeMap;

use lb_userspace::netns::Namespace;
use veer_tests::deadline::eventually;

use crate::street::{
    HOST_V4, HOST_V6, OUTSIDE_V4, OUTSIDE_V6, SILENCE, Street, ask, ask_within, ip, pair, told,
};

impl Street {
    /// What `veer check` says.
    fn checked(&self) -> String {
        let socket = self.host.engine.socket();
        let words = [
            "check".as_ref(),
            "--docker-socket".as_ref(),
            socket.as_os_str(),
        ];
        let said = self.daemon.try_veer(words).stdout;
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// Where a process of the host asks.
const OWN: [&str; 4] = ["127.0.0.1", "::1", HOST_V4, HOST_V6];

#[test]
fn three_servers_on_ports_of_their_own_are_behind_one_port_and_behind_each_of_theirs() {
    let street = Street::new();
    let net = street.network(122, "");
    let ports = [5_001, 5_002, 5_003];
    let servers = ports.map(|port| {
        let options = format!(
            "--net-alias app --label veer.publish=80 --label veer.port={port} -p {port}:{port}"
        );
        let resident = street.run(&net, &options);
        let server = resident.serves(port);
        (resident, server)
    });
    let client = street.run(&street.network(123, ""), "");
    street.published(80);
    street.published(5_003);
    eventually("all three are behind it", || {
        let groups = street.daemon.veer(["groups", "app", "--json"]);
        servers.iter().all(|(one, _)| groups.contains(&one.name))
    });

    for (from, addresses) in [
        (&street.outside, &[HOST_V4, HOST_V6][..]),
        (&street.host.namespace, &OWN),
        (&client.namespace, &[HOST_V4, HOST_V6]),
    ] {
        for address in addresses {
            let mut answers: BTreeMap<String, u32> = BTreeMap::new();
            for _ in 0..6 {
                let answer = ask(from, address, 80);
                let answer = answer.unwrap_or_else(|error| panic!("{address}: {error}"));
                let name = answer.split(' ').next().unwrap().to_owned();
                *answers.entry(name).or_default() += 1;
            }
            let counts: Vec<_> = answers.values().copied().collect();
            assert_eq!(counts, [2, 2, 2], "{address}: {answers:?}");
            for ((server, _), port) in servers.iter().zip(ports) {
                let answer = ask(from, address, port).unwrap();
                assert!(answer.starts_with(&server.name), "{port}: {answer}");
            }
        }
    }
}

#[test]
fn ports_under_other_numbers_are_reached_from_outside_from_the_host_and_from_containers() {
    let street = Street::shared();
    let ports = "-p 8001:80 -p 13306:3306 -p 6379:6379";
    let server = street.run(&street.network(124, ""), ports);
    let _servers = [80, 3_306, 6_379].map(|port| server.serves(port));
    let client = street.run(&street.network(125, ""), "");
    street.published(13_306);

    for port in [8_001, 13_306, 6_379] {
        for (address, seen) in [(HOST_V4, OUTSIDE_V4), (HOST_V6, OUTSIDE_V6)] {
            let answer = ask(&street.outside, address, port).unwrap();
            assert_eq!(answer, told(&server.name, seen), "{address} port {port}");
            let answer = ask(&client.namespace, address, port).unwrap();
            assert!(answer.starts_with(&server.name), "{address} port {port}");
        }
        for address in OWN {
            let answer = ask(&street.host.namespace, address, port).unwrap();
            assert!(answer.starts_with(&server.name), "{address} port {port}");
        }
    }
    let status = street.daemon.veer(["status"]);
    assert!(status.contains("replace mode"), "{status}");
    let checked = street.checked();
    assert!(
        checked.contains("replace: the Engine has no rules"),
        "{checked}"
    );
}

/// Somebody else outside, at 198.51.100.2 and 2001:db8:2::2, behind an interface of the host with this
/// name.
fn other_way(street: &Street, name: &str) -> Namespace {
    let other = Namespace::create().unwrap();
    let host = &street.host.namespace;
    pair(host, name, &other);
    for (space, name, last) in [(host, name, 1), (&other, "eth0", 2)] {
        ip(space, &format!("link set {name} up"));
        ip(space, &format!("addr add 198.51.100.{last}/24 dev {name}"));
        ip(
            space,
            &format!("addr add 2001:db8:2::{last}/64 dev {name} nodad"),
        );
    }
    other
}

/// Whether who is on the other way outside reaches the port of this server, as itself.
fn is_reached(other: &Namespace, port: u16, server: &str) -> bool {
    let ends = [
        ("198.51.100.1", "198.51.100.2"),
        ("2001:db8:2::1", "2001:db8:2::2"),
    ];
    ends.iter().all(|(address, client)| {
        let answer = ask_within(other, address, port, SILENCE);
        answer.is_ok_and(|answer| answer == told(server, client))
    })
}

#[test]
fn an_interface_is_an_uplink_as_long_as_a_default_route_leads_through_it() {
    let street = Street::new();
    let web = street.run(&street.network(126, ""), "-p 8126:80");
    let _server = web.serves(80);
    street.published(8_126);
    let other = other_way(&street, "wan0");
    assert!(!is_reached(&other, 8_126, &web.name), "no way outside yet");

    let host = &street.host.namespace;
    ip(host, "route add default via 198.51.100.2 metric 2000");
    eventually("it is an uplink", || is_reached(&other, 8_126, &web.name));
    assert_eq!(
        ask(&street.outside, HOST_V4, 8_126).unwrap(),
        told(&web.name, OUTSIDE_V4),
        "so is the other one"
    );

    ip(host, "route del default via 198.51.100.2 metric 2000");
    eventually("it is none any more", || {
        ask_within(&other, "198.51.100.1", 8_126, SILENCE).is_err()
    });
}

#[test]
fn uplinks_that_the_configuration_names_are_those_and_no_others_whenever_they_come() {
    let street = Street::configured("[uplinks]\ninterfaces = [\"wan*\"]\n");
    let web = street.run(&street.network(127, ""), "-p 8127:80");
    let _server = web.serves(80);
    street.published(8_127);

    let other = other_way(&street, "wan7");

    eventually("it is an uplink", || is_reached(&other, 8_127, &web.name));
    let answer = ask_within(&street.outside, HOST_V4, 8_127, SILENCE);
    assert!(answer.is_err(), "up0 is not named: {answer:?}");
}

#[test]
fn where_swarm_is_active_it_is_said_and_ports_of_plain_containers_are_reached() {
    let street = Street::new();
    street.docker(&format!("swarm init --advertise-addr {HOST_V4}"));
    let web = street.run(&street.network(128, ""), "-p 8128:80");
    let _server = web.serves(80);
    street.published(8_128);

    for (address, client) in [(HOST_V4, OUTSIDE_V4), (HOST_V6, OUTSIDE_V6)] {
        let answer = ask(&street.outside, address, 8_128).unwrap();
        assert_eq!(answer, told(&web.name, client));
    }
    eventually("Swarm's own network is told of", || {
        let status = street.daemon.veer(["status"]);
        status.contains("network ingress: not served")
    });
    let checked = street.checked();
    assert!(
        checked.contains("ingress ports are left to Docker"),
        "{checked}"
    );
}
