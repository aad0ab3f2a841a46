//! Containers that start while nobody programs them.

use std::fs;
use std::time::{Duration, Instant};

use lb_userspace::netns::Namespace;
use veer_tests::deadline::eventually;

use super::{is_barred, is_pinged};
use crate::street::{
    HOST_V4, HOST_V6, OUTSIDE_V4, OUTSIDE_V6, SILENCE, Server, Street, ask, ask_within, sends, told,
};

/// How long after the daemon's death the datapath knows of it, and a little more.
const AWAY: Duration = Duration::from_millis(1_100);

/// What the kernel has counted inside a container: segments, datagrams and echo requests that arrived.
fn arrived(inside: &Namespace) -> Vec<String> {
    let read = || {
        ["snmp", "snmp6"].map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")))
    };
    let [v4, v6] = inside.run(read).unwrap().map(Result::unwrap);
    let mut found = Vec::new();
    for (protocol, counters) in [
        ("Tcp", &["InSegs"][..]),
        ("Udp", &["InDatagrams", "NoPorts"]),
        ("Icmp", &["InEchos"]),
    ] {
        let mut lines = v4
            .lines()
            .filter(|line| line.split(':').next() == Some(protocol));
        let names = lines.next().unwrap().split_whitespace();
        let values = lines.next().unwrap().split_whitespace();
        let wanted = names
            .zip(values)
            .filter(|(name, _)| counters.contains(name));
        found.extend(wanted.map(|(name, value)| format!("{protocol} {name} {value}")));
    }
    assert_eq!(found.len(), 4, "{v4}");
    let counters = ["Udp6InDatagrams", "Udp6NoPorts", "Icmp6InEchos"];
    let wanted = v6
        .lines()
        .filter(|line| counters.iter().any(|name| line.starts_with(name)));
    found.extend(wanted.map(str::to_owned));
    assert_eq!(found.len(), 7, "{v6}");
    found
}

#[test]
fn a_container_that_starts_while_the_daemon_is_away_is_reached_by_nobody_outside() {
    let mut street = Street::new();
    let net = street.network(101, "");
    let _first = street.run(&net, "");
    street.routes(101);
    street.daemon.killed();

    let words = format!("run -d --name late --network {net} -p 8101:80 veer-test sleep 100000");
    street.host.engine.docker(words.split(' '));
    let late = street.host.engine.namespace_of("late");
    let _servers = [80, 81].map(|port| Server::start(&late, "late", port));

    for address in ["10.101.0.3", "fd00:101::3"] {
        assert!(!is_pinged(&street.outside, address), "{address}");
        is_barred(&street.outside, address, 80);
        is_barred(&street.outside, address, 81);
    }
    let answer = ask_within(&street.outside, HOST_V4, 8_101, SILENCE);
    assert!(!answer.is_ok_and(|answer| answer.contains("late")));
    street.daemon.returns();
    eventually("it is reached", || {
        ask_within(&street.outside, HOST_V4, 8_101, SILENCE)
            .is_ok_and(|answer| answer == told("late", OUTSIDE_V4))
    });
}

#[test]
fn a_network_that_is_made_while_the_daemon_is_away_is_reached_by_nobody() {
    let mut street = Street::new();
    let other = street.run(&street.network(104, ""), "");
    let _outside = Server::start(&street.outside, "outside", 8_106);
    street.routes(105);
    street.daemon.killed();
    let killed = Instant::now();

    let net = street.network(105, "");
    let words = format!("run -d --name late --network {net} -p 8105:80 veer-test sleep 100000");
    street.host.engine.docker(words.split(' '));
    let late = street.host.engine.namespace_of("late");
    let _server = Server::start(&late, "late", 80);
    eventually("the last sign of life is an old one", || {
        killed.elapsed() > AWAY
    });

    let before = arrived(&late);
    for address in ["10.105.0.2", "fd00:105::2"] {
        assert!(!is_pinged(&street.outside, address), "{address}");
        for client in [&street.outside, &other.namespace] {
            is_barred(client, address, 80);
            for port in [80, 81] {
                sends(client, address, port, 3);
            }
        }
    }
    // No answer would have left: it must not even have been asked.
    assert_eq!(arrived(&late), before);
    assert!(is_pinged(&street.host.namespace, "10.105.0.2"), "the host");
    assert_ne!(arrived(&late), before, "what arrives is counted");
    street.daemon.returns();
    street.published(8_105);
    for (address, client) in [(HOST_V4, OUTSIDE_V4), (HOST_V6, OUTSIDE_V6)] {
        let answer = ask(&street.outside, address, 8_105).unwrap();
        assert_eq!(answer, told("late", client));
    }
    for (address, source) in [(OUTSIDE_V4, HOST_V4), (OUTSIDE_V6, HOST_V6)] {
        let answer = ask(&late, address, 8_106).unwrap();
        assert_eq!(answer, told("outside", source));
    }
    for address in ["10.105.0.2", "fd00:105::2"] {
        is_barred(&street.outside, address, 80);
    }
}
