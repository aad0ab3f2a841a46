//! TCP, UDP and ICMP echo to a VIP.

use lb_userspace::datapath::Hook;
use veer_tests::host::Host;
use veer_tests::station::Family;
use veer_tests::veer::Veer;

#[test]
fn a_tcp_connection_to_a_vip_reaches_its_member_as_the_client() {
    let host = Host::new();
    let network = host.network();
    let [client, member] = host.stations(&network, ["client", "member"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &member]);
    let vip = veer.group(&[&member]);

    for family in Family::BOTH {
        let _server = member.serves_tcp(family, 80);

        let answer = client.ask_tcp((vip.address(family), 80)).unwrap();

        assert_eq!(answer.server, "member");
        assert_eq!(
            answer.client.ip(),
            client.address(family),
            "its own address"
        );
    }
}

#[test]
fn a_datagram_to_a_vip_reaches_its_member_and_the_answer_comes_from_the_vip() {
    let host = Host::new();
    let network = host.network();
    let [client, member] = host.stations(&network, ["client", "member"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &member]);
    let vip = veer.group(&[&member]);

    for family in Family::BOTH {
        let _server = member.serves_udp(family, 53);

        // A connected socket takes answers from nobody else.
        let answer = client.ask_udp((vip.address(family), 53)).unwrap();

        assert_eq!(answer.server, "member");
        assert_eq!(answer.client.ip(), client.address(family));
    }
}

#[test]
fn an_echo_request_to_a_vip_is_answered_by_a_member() {
    let host = Host::new();
    let network = host.network();
    let [client, member] = host.stations(&network, ["client", "member"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &member]);
    let vip = veer.group(&[&member]);

    for family in Family::BOTH {
        let payload: Vec<u8> = (0..1_000).map(|n| n as u8).collect();

        let reply = client.ping(vip.address(family), &payload).unwrap();

        assert_eq!(reply, payload);
    }
    let connections = veer.connections();
    assert_eq!(connections.len(), 2, "{connections:?}");
    assert!(
        connections
            .iter()
            .all(|(_, found)| found.backend == veer.id(&member))
    );
}

#[test]
fn a_member_that_asks_its_own_group_may_be_answered_by_itself() {
    let host = Host::new();
    let network = host.network();
    let [member, other] = host.stations(&network, ["member", "other"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&member, &other]);
    let vip = veer.group(&[&member]);

    for family in Family::BOTH {
        let _tcp = member.serves_tcp(family, 80);
        let _udp = member.serves_udp(family, 53);

        let tcp = member.ask_tcp((vip.address(family), 80)).unwrap();
        let udp = member.ask_udp((vip.address(family), 53)).unwrap();
        let echo = member.ping(vip.address(family), b"self").unwrap();

        assert_eq!(
            (tcp.server.as_str(), udp.server.as_str()),
            ("member", "member")
        );
        assert_eq!(tcp.client.ip(), vip.address(family), "not its own address");
        assert_eq!(echo, b"self");
    }
}

#[test]
fn a_vip_of_one_network_is_out_of_reach_from_another() {
    let host = Host::new();
    let (first, second) = (host.network(), host.network());
    let [member] = host.stations(&first, ["member"]);
    let [stranger, own] = host.stations(&second, ["stranger", "own"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&member, &stranger, &own]);
    let vip = veer.group(&[&member]);
    let own_vip = veer.group(&[&own]);
    stranger.add_route("198.18.0.0/15".parse().unwrap());

    let _member = member.serves_udp(Family::V4, 53);
    let _own = own.serves_udp(Family::V4, 53);

    let refused = stranger.ask_udp((vip.v4, 53)).unwrap_err();
    let answer = stranger.ask_udp((own_vip.v4, 53)).unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(answer.server, "own");
}

#[test]
fn clsact_serves_as_tcx_does() {
    let host = Host::new();
    let network = host.network();
    let [client, member] = host.stations(&network, ["client", "member"]);
    let mut veer = Veer::with_hook(&host, Some(Hook::Clsact));
    veer.serve(&[&client, &member]);
    let vip = veer.group(&[&member]);

    for family in Family::BOTH {
        let _tcp = member.serves_tcp(family, 80);
        let _udp = member.serves_udp(family, 53);

        let tcp = client.ask_tcp((vip.address(family), 80)).unwrap();
        let udp = client.ask_udp((vip.address(family), 53)).unwrap();
        let own = member.ask_tcp((vip.address(family), 80)).unwrap();
        let direct = client.ask_tcp((member.address(family), 80)).unwrap();

        for answer in [&tcp, &udp, &own, &direct] {
            assert_eq!(answer.server, "member");
        }
        assert_eq!(tcp.client.ip(), client.address(family));
    }
}
