//! Containers that change networks, and a host that changes its rules.

use std::process::Command;

use veer_tests::deadline::eventually;

use super::{is_barred, reaches};
use crate::street::{
    HOST_V4, HOST_V6, OUTSIDE_V4, OUTSIDE_V6, SILENCE, Street, ask, ask_within, told,
};

#[test]
fn s21_a_port_is_reached_while_the_container_has_a_network_that_leads_outside() {
    let street = Street::shared();
    let inner = street.network(92, "--internal");
    let outer = street.network(93, "");
    let web = street.run(&inner, "-p 8092:80");
    let _server = web.serves(80);
    is_barred(&street.host.namespace, HOST_V4, 8_092);

    street.docker(&format!("network connect {outer} {}", web.name));
    eventually("it is published", || {
        ask_within(&street.outside, HOST_V4, 8_092, SILENCE)
            .is_ok_and(|answer| answer == told(&web.name, OUTSIDE_V4))
    });

    street.docker(&format!("network disconnect {outer} {}", web.name));
    eventually("it is not", || {
        ask_within(&street.outside, HOST_V4, 8_092, SILENCE).is_err()
    });
}

#[test]
fn s22_ports_stay_through_other_networks_and_a_restart() {
    let street = Street::shared();
    let (net, other) = (street.network(94, ""), street.network(95, ""));
    let web = street.run(&net, "-p 8094:80");
    let server = web.serves(80);
    street.published(8_094);
    let is_there = |name: &str| {
        eventually("the port is there", || {
            ask_within(&street.outside, HOST_V4, 8_094, SILENCE)
                .is_ok_and(|answer| answer == told(name, OUTSIDE_V4))
        });
    };
    is_there(&web.name);
    street.docker(&format!("network connect {other} {}", web.name));
    is_there(&web.name);
    street.docker(&format!("network disconnect {net} {}", web.name));
    is_there(&web.name);
    street.docker(&format!("network connect {net} {}", web.name));
    drop(server);
    street.docker(&format!("restart -t 0 {}", web.name));
    let again = street.host.engine.namespace_of(&web.name);
    let _server = crate::street::Server::start(&again, "again", 80);
    is_there("again");
}

#[test]
fn s25_ipv6_goes_to_a_network_that_has_it_as_soon_as_there_is_one() {
    let street = Street::shared();
    let net = street.host.name("net");
    street.docker(&format!("network create --subnet 10.96.0.0/16 {net}"));
    let dual = street.network(97, "");
    let web = street.run(&net, "-p 8096:80");
    let _server = web.serves(80);
    street.published(8_096);
    let is_seen = |source: &str| {
        eventually("it is reached by IPv6", || {
            ask_within(&street.outside, HOST_V6, 8_096, SILENCE)
                .is_ok_and(|answer| answer == told(&web.name, source))
        });
    };

    is_seen("10.96.0.1");
    street.docker(&format!("network connect {dual} {}", web.name));
    is_seen(OUTSIDE_V6);
    street.docker(&format!("network disconnect {dual} {}", web.name));
    is_seen("10.96.0.1");
}

#[test]
fn s35_and_s36_rules_of_other_software_for_forwarding_hold_nothing_up() {
    let street = Street::new();
    let net = street.network(98, "");
    let web = street.run(&net, "-p 8098:80");
    let _server = web.serves(80);
    let neighbour = street.run(&net, "");
    street.published(8_098);
    let host = &street.host.namespace;
    let forwards = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    assert_eq!(host.run(forwards).unwrap().trim(), "1");
    for program in ["iptables", "ip6tables"] {
        let mut command = Command::new(program);
        command.args(["-A", "FORWARD", "-j", "DROP"]);
        let status = host.run(|| command.status()).unwrap().unwrap();
        assert!(status.success(), "{program}");
    }

    for (address, client) in [(HOST_V4, OUTSIDE_V4), (HOST_V6, OUTSIDE_V6)] {
        let answer = ask(&street.outside, address, 8_098).unwrap();
        assert_eq!(answer, told(&web.name, client));
        reaches(&neighbour.namespace, address, 8_098, &web.name);
        reaches(host, address, 8_098, &web.name);
    }
}
