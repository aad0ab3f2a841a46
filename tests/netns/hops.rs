//! The host is a hop: a packet that has none left ends there, and its sender is told.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use lb_common::Reason;
use lb_userspace::netns::Namespace;
use veer_tests::deadline::eventually;
use veer_tests::host::Host;
use veer_tests::icmp::{Complaint, complaint, limit_hops};
use veer_tests::server::{ask_with, serve_udp};
use veer_tests::station::{ANSWER, Family};

use crate::ports::{host, outsider, site};

/// Time exceeded in transit (RFC 792, RFC 4443).
fn exceeded(family: Family, from: IpAddr) -> Complaint {
    let kind = if family == Family::V4 { 11 } else { 3 };
    Complaint {
        from,
        kind,
        code: 0,
    }
}

/// A socket inside `client` that is connected to `to`, and whose datagrams go over so many hops.
fn socket(client: &Namespace, family: Family, to: SocketAddr, hops: u8) -> UdpSocket {
    let bind = || UdpSocket::bind((family.any(), 0)).unwrap();
    let socket = client.run(bind).unwrap();
    socket.set_read_timeout(Some(ANSWER)).unwrap();
    socket.connect(to).unwrap();
    limit_hops(&socket, hops).unwrap();
    socket
}

/// What is said of a datagram that has one hop.
fn told_of_one_hop(client: &Namespace, family: Family, to: SocketAddr) -> Complaint {
    let socket = socket(client, family, to, 1);
    socket.send(b"how far").unwrap();
    let mut told = None;
    eventually("the sender is told", || {
        told = complaint(&socket);
        told.is_some()
    });
    told.unwrap()
}

#[test]
fn a_datagram_from_outside_that_has_one_hop_ends_at_the_host_which_says_so() {
    let ground = Host::new();
    let (_network, web, outside, mut veer) = site(&ground, "web");
    veer.publish(8_080, &web, 80);

    for family in Family::BOTH {
        let server = web.serves_udp(family, 80);
        let to = SocketAddr::new(host(family), 8_080);
        let before = veer.count(Reason::HopsExceeded);

        let told = told_of_one_hop(&outside, family, to);

        assert_eq!(told, exceeded(family, host(family)));
        assert_eq!(veer.count(Reason::HopsExceeded), before + 1);
        let (answer, _) = ask_with(&socket(&outside, family, to, 2), b"who").unwrap();
        assert_eq!(answer.server, "web");
        // It counts after it has answered.
        eventually("it is the only one that arrived", || server.served() == 1);
    }
}

#[test]
fn a_containers_datagram_that_has_one_hop_ends_at_its_gateway_which_says_so() {
    let ground = Host::new();
    let (network, client, outside, veer) = site(&ground, "client");

    for family in Family::BOTH {
        let server = serve_udp(&outside, "outside", family, 33_434);
        let to = SocketAddr::new(outsider(family), 33_434);
        let before = veer.count(Reason::HopsExceeded);

        let told = told_of_one_hop(&client.namespace, family, to);

        let gateway = network.gateway(family == Family::V6);
        assert_eq!(told, exceeded(family, gateway));
        assert_eq!(veer.count(Reason::HopsExceeded), before + 1);
        let two = socket(&client.namespace, family, to, 2);
        let (answer, _) = ask_with(&two, b"who").unwrap();
        assert_eq!(answer.server, "outside");
        // It counts after it has answered.
        eventually("it is the only one that arrived", || server.served() == 1);
    }
}
