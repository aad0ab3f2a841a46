//! Published ports and the way out with real traffic: whole streams, whatever is offloaded.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use lb_common::Reason;
use lb_userspace::netns::Namespace;
use veer_tests::deadline::within;
use veer_tests::host::{Host, TestNetwork};
use veer_tests::server::{Answer, ask_with, read_answer};
use veer_tests::station::{ANSWER, Family, Station};
use veer_tests::veer::Veer;

/// How long questions are asked again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer is waited for before the question is asked again.
const MOMENT: Duration = Duration::from_secs(1);

/// Bytes that are sent and come back: many segments, cut late.
const STREAM: usize = 4 << 20;

pub(crate) fn host(family: Family) -> IpAddr {
    match family {
        Family::V4 => "192.0.2.1".parse().unwrap(),
        Family::V6 => "2001:db8:1::1".parse().unwrap(),
    }
}

pub(crate) fn outsider(family: Family) -> IpAddr {
    match family {
        Family::V4 => "192.0.2.2".parse().unwrap(),
        Family::V6 => "2001:db8:1::2".parse().unwrap(),
    }
}

/// Who answers a connection from `client` to `to`; and everything that is sent comes back.
fn streams(client: &Namespace, to: SocketAddr) -> Answer {
    let connect = || TcpStream::connect_timeout(&to, ANSWER);
    let mut stream = client.run(connect).unwrap().unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    let answer = read_answer(&mut stream).unwrap();
    let sent: Vec<u8> = (0..STREAM).map(|n| (n / 7) as u8).collect();
    let mut received = vec![0; STREAM];
    let mut writer = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&sent).unwrap());
        stream.read_exact(&mut received).unwrap();
    });
    assert!(received == sent, "the stream came back otherwise");
    answer
}

/// Who answers a datagram from `client` to `to`.
fn datagram(client: &Namespace, to: SocketAddr) -> Answer {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = client.run(|| UdpSocket::bind(any).unwrap()).unwrap();
    socket.set_read_timeout(Some(ANSWER)).unwrap();
    socket.connect(to).unwrap();
    ask_with(&socket, b"who").unwrap().0
}

/// A container on a Network of `ground`, somebody outside, and veer between them.
pub(crate) fn site<'h>(
    ground: &'h Host,
    name: &'static str,
) -> (TestNetwork, Station, Namespace, Veer<'h>) {
    let network = ground.network();
    let [station] = ground.stations(&network, [name]);
    let (outside, uplink) = ground.outside();
    let mut veer = Veer::on(ground);
    veer.serve(&[&station]);
    veer.faces(uplink, &network);
    (network, station, outside, veer)
}

#[test]
fn a_stream_from_outside_reaches_a_published_port_whole() {
    let ground = Host::new();
    let (_network, web, outside, mut veer) = site(&ground, "web");
    veer.publish(8_080, &web, 80);

    for family in Family::BOTH {
        let (_tcp, _udp) = (web.serves_tcp(family, 80), web.serves_udp(family, 80));
        let to = SocketAddr::new(host(family), 8_080);

        for answer in [streams(&outside, to), datagram(&outside, to)] {
            assert_eq!(answer.server, "web");
            assert_eq!(answer.client.ip(), outsider(family));
        }
    }
}

#[test]
fn a_stream_of_ipv6_reaches_a_container_that_has_ipv4_alone_whole() {
    let ground = Host::new();
    let (network, web, outside, mut veer) = site(&ground, "web");
    veer.without_ipv6(&web);
    veer.publish(8_080, &web, 80);
    let (_tcp, _udp) = (
        web.serves_tcp(Family::V4, 80),
        web.serves_udp(Family::V4, 80),
    );
    let to = SocketAddr::new(host(Family::V6), 8_080);

    for answer in [streams(&outside, to), datagram(&outside, to)] {
        assert_eq!(answer.server, "web");
        assert_eq!(answer.client.ip(), network.gateway(false));
    }
}

#[test]
fn datagrams_in_fragments_pass_between_ipv6_and_a_container_that_has_ipv4_alone() {
    let ground = Host::new();
    let (network, web, outside, mut veer) = site(&ground, "web");
    veer.without_ipv6(&web);
    veer.publish(8_080, &web, 80);
    let _udp = web.serves_udp(Family::V4, 80);
    let question: Vec<u8> = (0..9_000u32).map(|n| (n / 7) as u8).collect();
    let socket = outside.run(|| UdpSocket::bind("[::]:0").unwrap()).unwrap();
    socket.connect((host(Family::V6), 8_080)).unwrap();
    socket.set_read_timeout(Some(MOMENT)).unwrap();

    // The container's first fragments are too long in IPv6, which it is told and takes to heart.
    let mut answered = None;
    within(PATIENCE, "a datagram is answered whole", || {
        answered = ask_with(&socket, &question).ok();
        answered.is_some()
    });
    let (answer, echo) = answered.unwrap();

    assert_eq!(answer.client.ip(), network.gateway(false));
    assert!(echo == question, "not what was sent");
}

#[test]
fn a_closed_port_of_a_container_that_has_ipv4_alone_refuses_a_client_of_ipv6() {
    let ground = Host::new();
    let (_network, web, outside, mut veer) = site(&ground, "web");
    veer.without_ipv6(&web);
    veer.publish(8_080, &web, 80);
    let to = SocketAddr::new(host(Family::V6), 8_080);

    let refused = outside.run(|| TcpStream::connect_timeout(&to, ANSWER).unwrap_err());
    let socket = outside.run(|| UdpSocket::bind("[::]:0").unwrap()).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(MOMENT)).unwrap();
    within(PATIENCE, "a datagram is refused", || {
        // What is told of one datagram may come out of the next call.
        let told = socket.send(b"who").and_then(|_| socket.recv(&mut [0; 64]));
        let error = told.expect_err("nobody answers");
        error.kind() == ErrorKind::ConnectionRefused
    });

    assert_eq!(refused.unwrap().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_stream_to_the_outside_leaves_under_the_hosts_name_whole() {
    let ground = Host::new();
    let (_network, client, outside, _veer) = site(&ground, "client");

    for family in Family::BOTH {
        let (_tcp, _udp) = (
            veer_tests::server::serve_tcp(&outside, "outside", family, 443),
            veer_tests::server::serve_udp(&outside, "outside", family, 443),
        );
        let to = SocketAddr::new(outsider(family), 443);

        let answers = [
            streams(&client.namespace, to),
            datagram(&client.namespace, to),
        ];
        for answer in answers {
            assert_eq!(answer.server, "outside");
            assert_eq!(answer.client.ip(), host(family));
            assert!(answer.client.port() >= 61_000, "{answer:?}");
        }
        client.ping(outsider(family), b"are you there").unwrap();
    }
}

#[test]
fn what_is_too_large_for_the_way_out_is_told_and_arrives_whole_in_smaller_pieces() {
    let ground = Host::new();
    let (_network, client, outside, veer) = site(&ground, "client");
    for (space, name) in [(&ground.namespace, "up0"), (&outside, "eth0")] {
        let words = ["link", "set", name, "mtu", "1300"];
        let set = space.run(|| Command::new("ip").args(words).status());
        assert!(set.unwrap().unwrap().success(), "{words:?}");
    }

    for family in Family::BOTH {
        let (_tcp, _udp) = (
            veer_tests::server::serve_tcp(&outside, "outside", family, 443),
            veer_tests::server::serve_udp(&outside, "outside", family, 443),
        );
        let to = SocketAddr::new(outsider(family), 443);
        let before = veer.count(Reason::TooBigSent);

        let socket = client.udp(family, 0);
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(MOMENT)).unwrap();
        let question = vec![7; 1_400];
        let mut answered = None;
        within(PATIENCE, "a datagram is answered whole", || {
            answered = ask_with(&socket, &question).ok();
            answered.is_some()
        });

        let (answer, echo) = answered.unwrap();
        assert_eq!(answer.client.ip(), host(family));
        assert!(echo == question, "not what was sent");
        assert!(veer.count(Reason::TooBigSent) > before, "{family:?}");
        assert_eq!(streams(&client.namespace, to).client.ip(), host(family));
    }
}

#[test]
fn a_process_on_a_loopback_address_reaches_a_published_port_whole() {
    let ground = Host::new();
    let (network, web, _outside, mut veer) = site(&ground, "web");
    veer.publish(8_080, &web, 80);
    veer.hears_itself();

    for family in Family::BOTH {
        let (_tcp, _udp) = (web.serves_tcp(family, 80), web.serves_udp(family, 80));
        let itself: IpAddr = match family {
            Family::V4 => "127.0.0.1".parse().unwrap(),
            Family::V6 => "::1".parse().unwrap(),
        };
        let to = SocketAddr::new(itself, 8_080);

        let answers = [
            streams(&ground.namespace, to),
            datagram(&ground.namespace, to),
        ];
        for answer in answers {
            assert_eq!(answer.server, "web");
            assert_eq!(answer.client.ip(), network.gateway(family == Family::V6));
        }
    }
}

#[test]
fn a_process_on_a_loopback_address_is_told_that_nobody_listens() {
    let ground = Host::new();
    let (_network, web, _outside, mut veer) = site(&ground, "web");
    veer.publish(8_080, &web, 80);
    veer.hears_itself();

    for itself in ["127.0.0.1:8080", "[::1]:8080"] {
        let to: SocketAddr = itself.parse().unwrap();
        let told = ground.namespace.run(|| {
            let stream = TcpStream::connect_timeout(&to, ANSWER);
            let socket = UdpSocket::bind(SocketAddr::new(to.ip(), 0)).unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(ANSWER)).unwrap();
            socket.send(b"who").unwrap();
            [stream.err(), socket.recv(&mut [0; 16]).err()]
        });

        for error in told.unwrap() {
            let error = error.expect("an error");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{itself}");
        }
    }
}
