//! How ports are given out, and at which addresses.

use std::net::TcpStream;

use veer_tests::deadline::eventually;

use super::reaches;
use crate::street::{HOST_V4, HOST_V6, OUTSIDE_V4, Street, ask, ask_udp, told};

impl Street {
    /// The ports of the host that lead to `port` of the container: one for each address.
    fn host_ports(&self, name: &str, port: &str) -> Vec<(String, u16)> {
        let found = self.docker(&format!("port {name} {port}"));
        let places = found.lines().map(|line| line.rsplit_once(':').unwrap());
        places
            .map(|(address, port)| (address.to_string(), port.parse().unwrap()))
            .collect()
    }
}

#[test]
fn s07_an_ipv6_address_leads_to_a_container_that_has_ipv4_alone() {
    let street = Street::shared();
    let net = street.host.name("net");
    street.docker(&format!("network create --subnet 10.85.0.0/16 {net}"));
    let web = street.run(&net, "-p [::1]:8085:80 -p 8086:80 -p 8086:80/udp");
    let _server = web.serves(80);
    street.published(8_085);
    street.published(8_086);

    let gateway = told(&web.name, "10.85.0.1");
    for (client, address, port) in [
        (&street.host.namespace, "::1", 8_085),
        (&street.host.namespace, "::1", 8_086),
        (&street.host.namespace, HOST_V6, 8_086),
        (&street.outside, HOST_V6, 8_086),
    ] {
        assert_eq!(ask(client, address, port).unwrap(), gateway, "{address}");
    }
    assert_eq!(ask_udp(&street.outside, HOST_V6, 8_086).unwrap(), gateway);
}

#[test]
fn s13_each_loopback_address_leads_to_its_own_container() {
    let street = Street::shared();
    let net = street.network(87, "");
    let one = street.run(&net, "-p 127.0.1.2:1716:80");
    let two = street.run(&net, "-p 127.0.1.3:1716:80");
    let _servers = (one.serves(80), two.serves(80));
    street.published(1_716);

    eventually("both are published", || {
        ask(&street.host.namespace, "127.0.1.3", 1_716).is_ok()
    });
    reaches(&street.host.namespace, "127.0.1.2", 1_716, &one.name);
    reaches(&street.host.namespace, "127.0.1.3", 1_716, &two.name);
}

#[test]
fn s14_and_s26_ports_that_the_engine_chooses_are_reached_at_the_addresses_that_they_are_for() {
    let street = Street::shared();
    let ports = "-p 127.0.0.1::80 -p 81 --expose 82 -P";
    let web = street.run(&street.network(88, ""), ports);
    let _servers = [80, 81, 82].map(|port| web.serves(port));

    for (port, addresses) in [
        (80, &["127.0.0.1"][..]),
        (81, &[HOST_V4, HOST_V6]),
        (82, &[HOST_V4]),
    ] {
        let found = street.host_ports(&web.name, &port.to_string());
        let host_port = found[0].1;
        assert!(
            found.iter().all(|(_, port)| *port == host_port),
            "{found:?}"
        );
        street.published(host_port);
        for address in addresses {
            reaches(&street.host.namespace, address, host_port, &web.name);
        }
    }
}

#[test]
fn s15_a_port_is_there_again_after_a_restart_with_a_connection_open() {
    let street = Street::shared();
    let web = street.run(&street.network(89, ""), "-p 8089:80");
    let server = web.serves(80);
    street.published(8_089);
    let connect = || TcpStream::connect((HOST_V4, 8_089)).unwrap();
    let _open = street.outside.run(connect).unwrap();

    drop(server);
    street.docker(&format!("restart -t 0 {}", web.name));

    let again = street.host.engine.namespace_of(&web.name);
    let _server = crate::street::Server::start(&again, "again", 80);
    eventually("it is reached again", || {
        ask(&street.outside, HOST_V4, 8_089).is_ok_and(|answer| answer == told("again", OUTSIDE_V4))
    });
}

#[test]
fn s19_a_range_of_the_host_gives_each_container_its_own_port() {
    let street = Street::shared();
    let net = street.network(90, "");
    let options = "-p 9090-9092:80";
    let all = [(); 3].map(|()| street.run(&net, options));
    let _servers = all.each_ref().map(|one| one.serves(80));
    let full = format!("run -d --network {net} {options} veer-test sleep 1000");
    let full = street.host.engine.try_docker(full.split(' '));
    assert!(!full.status.success(), "a fourth has none");

    for (one, port) in all.iter().zip(9_090..) {
        street.published(port);
        let answer = ask(&street.outside, HOST_V4, port).unwrap();
        assert_eq!(answer, told(&one.name, OUTSIDE_V4));
    }
    street.docker(&format!("rm -f {}", all[1].name));
    let fresh = street.run(&net, options);
    let _server = fresh.serves(80);
    eventually("what is free is given out again", || {
        let answer = ask(&street.outside, HOST_V4, 9_091);
        answer.is_ok_and(|answer| answer == told(&fresh.name, OUTSIDE_V4))
    });
}

#[test]
fn s20_a_port_that_is_taken_stays_with_whom_it_is() {
    let street = Street::shared();
    let net = street.network(91, "");
    let web = street.run(&net, "-p 8091:80");
    let _server = web.serves(80);
    street.published(8_091);

    let words = format!("run -d --network {net} -p 8091:81 veer-test sleep 1000");
    let second = street.host.engine.try_docker(words.split(' '));
    assert!(!second.status.success());
    let other = street.run(&net, "-p 8091:80/udp");
    let _other = other.serves(80);

    let answer = ask(&street.outside, HOST_V4, 8_091).unwrap();
    assert_eq!(answer, told(&web.name, OUTSIDE_V4));
    eventually("the other protocol is the other container's", || {
        let answer = ask_udp(&street.outside, HOST_V4, 8_091);
        answer.is_ok_and(|answer| answer == told(&other.name, OUTSIDE_V4))
    });
}
