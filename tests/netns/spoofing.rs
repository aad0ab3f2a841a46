//! A container that speaks for another is not heard.

use lb_common::Reason;
use veer_tests::deadline::eventually;
use veer_tests::host::Host;
use veer_tests::station::{Family, SILENCE, Station};
use veer_tests::veer::Veer;

/// An address of the network that `family` has and nobody owns.
fn stolen(family: Family) -> (&'static str, std::net::IpAddr) {
    match family {
        Family::V4 => ("10.77.1.99/24", "10.77.1.99".parse().unwrap()),
        Family::V6 => ("fd77:1::99/64", "fd77:1::99".parse().unwrap()),
    }
}

fn steal(thief: &Station, address: &str) {
    thief.program(&format!("ip addr add {address} dev eth0 nodad"));
}

#[test]
fn a_datagram_from_a_stolen_address_is_dropped() {
    for family in Family::BOTH {
        let host = Host::new();
        let network = host.network();
        let [thief, server] = host.stations(&network, ["thief", "server"]);
        let mut veer = Veer::on(&host);
        veer.serve(&[&thief, &server]);
        let vip = veer.group(&[&server]);
        let inbox = server.udp(family, 53);
        let (with_length, address) = stolen(family);
        // The neighbours are known, so that nothing but the datagrams themselves is in question.
        for to in [server.address(family), vip.address(family)] {
            thief.ping(to, b"know").unwrap();
        }
        steal(&thief, with_length);

        let before = veer.count(Reason::SpoofedAddress);
        let socket = thief.run(|| std::net::UdpSocket::bind((address, 0)).unwrap());
        for to in [server.address(family), vip.address(family)] {
            socket.send_to(b"stolen", (to, 53)).unwrap();
        }
        eventually("both are counted", || {
            veer.count(Reason::SpoofedAddress) >= before + 2
        });
        inbox.set_read_timeout(Some(SILENCE)).unwrap();
        assert!(inbox.recv_from(&mut [0; 16]).is_err(), "{family:?}");

        let own = thief.address(family);
        let own = thief.run(|| std::net::UdpSocket::bind((own, 0)).unwrap());
        own.send_to(b"own", (server.address(family), 53)).unwrap();
        inbox
            .set_read_timeout(Some(veer_tests::station::ANSWER))
            .unwrap();
        let (length, from) = inbox.recv_from(&mut [0; 16]).unwrap();
        assert_eq!((length, from.ip()), (3, thief.address(family)));
    }
}

#[test]
fn a_frame_from_a_stolen_mac_address_is_dropped() {
    let host = Host::new();
    let network = host.network();
    let [thief, server] = host.stations(&network, ["thief", "server"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&thief, &server]);
    let inbox = server.udp(Family::V4, 53);
    thief.program("ip link set eth0 address 02:77:00:00:01:63");
    thief.program("ip neigh replace 10.77.1.12 lladdr 02:77:00:00:01:02 dev eth0");

    let socket = thief.udp(Family::V4, 0);
    socket.send_to(b"stolen", (server.v4, 53)).unwrap();

    eventually("it is counted", || veer.count(Reason::SpoofedMac) > 0);
    inbox.set_read_timeout(Some(SILENCE)).unwrap();
    assert!(inbox.recv_from(&mut [0; 16]).is_err());
}

#[test]
fn an_answer_for_anothers_address_is_not_heard() {
    for family in Family::BOTH {
        let host = Host::new();
        let network = host.network();
        let [client, victim, thief] = host.stations(&network, ["client", "victim", "thief"]);
        let mut veer = Veer::on(&host);
        veer.serve(&[&client, &victim, &thief]);
        let length = if family == Family::V4 { 24 } else { 64 };
        steal(&thief, &format!("{}/{length}", victim.address(family)));
        let _victim = victim.serves_udp(family, 53);
        let _thief = thief.serves_udp(family, 53);

        for _ in 0..5 {
            client.program("ip neigh flush dev eth0");
            let answer = client.ask_udp((victim.address(family), 53)).unwrap();
            assert_eq!(answer.server, "victim");
        }

        // An advertisement (IPv6) also has the stolen address as its source.
        eventually("the thief's answers are counted", || {
            let reasons = [Reason::SpoofedNeighbour, Reason::SpoofedAddress];
            reasons.iter().any(|reason| veer.count(*reason) > 0)
        });
    }
}
