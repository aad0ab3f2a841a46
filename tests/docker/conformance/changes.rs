//! Containers that change networks, and a host that changes its rules.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;

use veer_tests::deadline::eventually;
use veer_tests::engine::{Engine, IMAGE};

use super::{is_barred, reaches};
use crate::street::{
    HOST_V4, HOST_V6, OUTSIDE_V4, OUTSIDE_V6, Resident, SILENCE, Street, ask, ask_within, told,
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

#[test]
fn s40_who_follows_at_the_same_address_with_another_mac_address_is_reached() {
    let street = Street::shared();
    let net = street.network(114, "");
    let at = |mac: &str| {
        let name = street.host.name("c");
        started_with(&street.host.engine, &name, &net, mac);
        let namespace = street.host.engine.namespace_of(&name);
        Resident { name, namespace }
    };
    let peer = street.run(&net, "");
    let first = at("02:00:00:00:01:14");
    let server = first.serves(80);
    street.published(8_115);
    let are_reached = |name: &str| {
        for (client, address) in [
            (&peer.namespace, HOST_V4),
            (&peer.namespace, "10.114.0.1"),
            (&peer.namespace, HOST_V6),
            (&street.outside, HOST_V4),
            (&street.outside, HOST_V6),
            (&street.host.namespace, "127.0.0.1"),
        ] {
            eventually("it is reached", || {
                ask_within(client, address, 8_115, SILENCE)
                    .is_ok_and(|answer| answer.starts_with(name))
            });
        }
    };
    are_reached(&first.name);
    assert!(has_mac(&first, "02:00:00:00:01:14"));
    drop(server);
    street.docker(&format!("rm -f {}", first.name));

    let second = at("02:00:00:00:02:14");
    let _server = second.serves(80);

    are_reached(&second.name);
    assert!(has_mac(&second, "02:00:00:00:02:14"));
}

fn has_mac(container: &Resident, mac: &str) -> bool {
    let all = container.namespace.interfaces().unwrap();
    all.iter().any(|one| {
        let bytes = one.mac.map(|byte| format!("{byte:02x}"));
        bytes.join(":") == mac
    })
}

/// Starts a container on `net` by the Engine's API: its command line knows of a newer one, and no longer
/// how to ask an Engine like this for a MAC address.
fn started_with(engine: &Engine, name: &str, net: &str, mac: &str) {
    let create = serde_json::json!({
        "Image": IMAGE,
        "Cmd": ["sleep", "100000"],
        "ExposedPorts": { "80/tcp": {} },
        "MacAddress": mac,
        "HostConfig": {
            "NetworkMode": net,
            "PortBindings": { "80/tcp": [{ "HostPort": "8115" }] },
        },
        "NetworkingConfig": { "EndpointsConfig": { net: { "IPAMConfig": {
            "IPv4Address": "10.114.0.9",
            "IPv6Address": "fd00:114::9",
        } } } },
    });
    let create = create.to_string();
    let mut socket = UnixStream::connect(engine.socket()).unwrap();
    let head = format!(
        "POST /v1.41/containers/create?name={name} HTTP/1.0\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        create.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(create.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 201 "), "{answer}");
    engine.docker(["start", name]);
}

#[test]
fn s41_a_port_leads_by_the_network_that_a_containers_default_route_leads_to() {
    let street = Street::shared();
    let [last, first] = ["z", "a"].map(|prefix| street.host.name(prefix));
    for (name, number) in [(&last, 115), (&first, 116)] {
        street.docker(&format!(
            "network create --subnet 10.{number}.0.0/16 {name}"
        ));
    }
    let web = street.run(&last, "-p 8116:80");
    let listen = || TcpListener::bind("0.0.0.0:80").unwrap();
    let listener = web.namespace.run(listen).unwrap();
    listener.set_nonblocking(true).unwrap();
    let to: SocketAddr = format!("{HOST_V4}:8116").parse().unwrap();
    let connect = || TcpStream::connect_timeout(&to, SILENCE).is_ok();
    let leads_by = |gateway: &str| {
        let default = || default_route(&web).contains(gateway);
        eventually("the default route changes", default);
        let own = gateway.replace(".0.1", ".0.2");
        eventually("the port leads to the container's address there", || {
            let is_met = street.outside.run(connect).unwrap();
            let asked = listener
                .accept()
                .and_then(|(stream, _)| stream.local_addr());
            is_met && asked.is_ok_and(|asked| asked.ip().to_string() == own)
        });
    };

    leads_by("10.115.0.1");
    street.docker(&format!("network connect {first} {}", web.name));
    leads_by("10.116.0.1");
    street.docker(&format!("network disconnect {first} {}", web.name));
    leads_by("10.115.0.1");
}

fn default_route(of: &Resident) -> String {
    let words = ["-4", "route", "show", "default"];
    let output = of.namespace.run(|| Command::new("ip").args(words).output());
    String::from_utf8(output.unwrap().unwrap().stdout).unwrap()
}

#[test]
fn s38_beside_dockers_rules_links_on_the_default_bridge_open_what_they_are_for() {
    let street = Street::started(&["--icc=false"], "");
    let [web, linked, stranger] = [
        ("web", "--expose 80 -p 8117:80"),
        ("linked", "--link web:web"),
        ("stranger", ""),
    ]
    .map(|(name, options)| {
        let words = format!("run -d --name {name} {options} veer-test sleep 100000");
        street.docker(&words);
        let namespace = street.host.engine.namespace_of(name);
        let name = name.to_owned();
        Resident { name, namespace }
    });
    let _servers = (web.serves(80), web.serves(81));
    street.published(8_117);
    let own = street.docker("inspect -f {{.NetworkSettings.IPAddress}} web");

    reaches(&linked.namespace, &own, 80, "web");
    is_barred(&linked.namespace, &own, 81);
    is_barred(&stranger.namespace, &own, 80);
    let answer = ask(&street.outside, HOST_V4, 8_117).unwrap();
    assert_eq!(answer, told("web", OUTSIDE_V4));
    reaches(&stranger.namespace, HOST_V4, 8_117, "web");
}
