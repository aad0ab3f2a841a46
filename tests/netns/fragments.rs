//! Datagrams longer than a packet.

use veer_tests::host::Host;
use veer_tests::server::ask_with;
use veer_tests::station::Family;
use veer_tests::veer::Veer;

#[test]
fn datagrams_of_9_and_60_kilobytes_pass_both_ways() {
    let host = Host::new();
    let network = host.network();
    let [client, first, second] = host.stations(&network, ["client", "first", "second"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &first, &second]);
    let vip = veer.group(&[&first, &second]);

    for family in Family::BOTH {
        let _servers = [first.serves_udp(family, 53), second.serves_udp(family, 53)];
        let mut servers = Vec::new();
        for length in [9_000u32, 60_000] {
            let question: Vec<u8> = (0..length).map(|n| (n / 7) as u8).collect();
            let socket = client.udp(family, 0);
            socket.connect((vip.address(family), 53)).unwrap();

            let (answer, echo) = ask_with(&socket, &question).unwrap();

            assert!(echo == question, "{family:?}: not what was sent");
            servers.push(answer.server);
        }
        servers.sort();
        assert_eq!(servers, ["first", "second"], "each in turn");
    }
}

#[test]
fn a_long_echo_request_is_answered_whole() {
    let host = Host::new();
    let network = host.network();
    let [client, member] = host.stations(&network, ["client", "member"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &member]);
    let vip = veer.group(&[&member]);

    for family in Family::BOTH {
        let payload = vec![0x5a; 5_000];

        let reply = client.ping(vip.address(family), &payload).unwrap();

        assert!(reply == payload, "{family:?}: not what was sent");
    }
}
