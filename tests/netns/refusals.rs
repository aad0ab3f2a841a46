//! Groups without a Backend refuse; they do not swallow.

use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lb_common::Reason;
use veer_tests::host::Host;
use veer_tests::server::read_answer;
use veer_tests::station::Family;
use veer_tests::veer::Veer;

#[test]
fn a_group_without_members_refuses_at_once() {
    let host = Host::new();
    let network = host.network();
    let [client, member] = host.stations(&network, ["client", "member"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &member]);
    let vip = veer.group(&[&member]);
    veer.set_members(vip, &[]);

    for family in Family::BOTH {
        let started = Instant::now();
        let tcp = client.ask_tcp((vip.address(family), 80)).unwrap_err();
        let udp = client.ask_udp((vip.address(family), 53)).unwrap_err();

        assert_eq!(tcp.kind(), ErrorKind::ConnectionRefused, "{tcp}");
        assert_eq!(udp.kind(), ErrorKind::ConnectionRefused, "{udp}");
        // A second try of TCP would come after one second.
        assert!(started.elapsed() < Duration::from_millis(900));
    }
    assert_eq!(veer.count(Reason::ResetSent), 2);
    assert_eq!(veer.count(Reason::UnreachableSent), 2);
}

#[test]
fn an_address_of_the_vip_range_that_no_group_has_refuses_at_once() {
    let host = Host::new();
    let network = host.network();
    let [client, member] = host.stations(&network, ["client", "member"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &member]);
    veer.group(&[&member]);

    for stranger in ["198.18.3.9", "fd76:6565:7200::309"] {
        let stranger: IpAddr = stranger.parse().unwrap();
        let told = client.ask_tcp((stranger, 80)).unwrap_err();

        assert_eq!(told.kind(), ErrorKind::ConnectionRefused, "{told}");
    }
}

#[test]
fn a_connection_whose_member_is_gone_is_reset() {
    let host = Host::new();
    let network = host.network();
    let [client, member] = host.stations(&network, ["client", "member"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &member]);
    let vip = veer.group(&[&member]);

    for family in Family::BOTH {
        let _server = member.serves_tcp(family, 80);
        let mut stream = client.connect((vip.address(family), 80)).unwrap();
        read_answer(&mut stream).unwrap();

        veer.retire(&member);
        stream.write_all(b"still there?").unwrap();

        let told = stream.read(&mut [0; 16]).unwrap_err();
        assert_eq!(told.kind(), ErrorKind::ConnectionReset);
        veer.serve(&[&member]);
        veer.set_members(vip, &[&member]);
    }
}
