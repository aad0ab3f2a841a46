//! ICMP errors through a VIP.

use std::io::ErrorKind;
use std::net::SocketAddr;

use veer_tests::deadline::eventually;
use veer_tests::host::Host;
use veer_tests::server::ask_with;
use veer_tests::station::Family;
use veer_tests::veer::Veer;

use crate::streams::echoed;

#[test]
fn a_client_learns_from_its_member_that_packets_are_too_big_and_goes_on() {
    let host = Host::new();
    let network = host.network();
    let [client, member] = host.stations(&network, ["client", "member"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &member]);
    let vip = veer.group(&[&member]);

    for family in Family::BOTH {
        let _server = member.serves_udp(family, 53);
        let socket = client.udp(family, 0);
        socket.connect((vip.address(family), 53)).unwrap();
        ask_with(&socket, b"first").unwrap();

        let port = socket.local_addr().unwrap().port();
        let source = SocketAddr::new(client.address(family), port);
        member.send_too_big(source, 53, 1_300);

        eventually("the client's socket is told", || {
            let told = socket.take_error().unwrap();
            told.is_some_and(|error| error.raw_os_error() == Some(libc::EMSGSIZE))
        });
        let route = format!("ip route get {}", vip.address(family));
        let route = client.program(&route);
        assert!(route.contains("mtu 1300"), "{route}");
        let question = vec![7; 1_400];
        let (answer, echo) = ask_with(&socket, &question).unwrap();
        assert_eq!(answer.server, "member");
        assert!(echo == question, "{family:?}: not what was sent");
    }
}

#[test]
fn a_member_with_a_smaller_mtu_is_served_whole_streams() {
    let host = Host::new();
    let network = host.network();
    let [client, member] = host.stations(&network, ["client", "member"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &member]);
    let vip = veer.group(&[&member]);
    member.program("ip link set eth0 mtu 1300");

    for family in Family::BOTH {
        let _tcp = member.serves_tcp(family, 80);
        let _udp = member.serves_udp(family, 53);
        let socket = client.udp(family, 0);
        socket.connect((vip.address(family), 53)).unwrap();
        let question = vec![9; 20_000];

        let (_, echo) = ask_with(&socket, &question).unwrap();
        let stream = client.connect((vip.address(family), 80)).unwrap();

        assert!(echo == question, "{family:?}: not what was sent");
        assert_eq!(echoed(stream, 1 << 20), Ok(1 << 20));
    }
}

#[test]
fn a_closed_port_of_a_member_refuses_at_once() {
    let host = Host::new();
    let network = host.network();
    let [client, member] = host.stations(&network, ["client", "member"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &member]);
    let vip = veer.group(&[&member]);

    for family in Family::BOTH {
        let tcp = client.ask_tcp((vip.address(family), 81)).unwrap_err();
        let udp = client.ask_udp((vip.address(family), 54)).unwrap_err();

        assert_eq!(tcp.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(udp.kind(), ErrorKind::ConnectionRefused);
    }
}
