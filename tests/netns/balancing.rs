//! Who gets which Connection.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use lb_common::Algorithm;
use veer_tests::host::Host;
use veer_tests::server::{Answer, ask_with, read_answer};
use veer_tests::station::{Family, Station, reset};
use veer_tests::veer::Veer;

fn counted(answers: impl IntoIterator<Item = Answer>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.server).or_default() += 1;
    }
    counts
}

fn expect_alive(stream: &mut TcpStream) {
    let mut echo = [0; 5];
    stream.write_all(b"alive").unwrap();
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"alive");
}

#[test]
fn round_robin_is_exact_over_several_clients_at_once() {
    let host = Host::new();
    let network = host.network();
    let clients = host.stations(&network, ["c1", "c2", "c3", "c4"]);
    let members = host.stations(&network, ["m1", "m2", "m3"]);
    let mut veer = Veer::on(&host);
    veer.serve(&clients.each_ref());
    veer.serve(&members.each_ref());
    let vip = veer.group(&members.each_ref());

    for family in Family::BOTH {
        let _servers = members
            .each_ref()
            .map(|member| member.serves_tcp(family, 80));

        let to = (vip.address(family), 80);
        let ask = |client: &Station| -> Vec<Answer> {
            (0..30).map(|_| client.ask_tcp(to).unwrap()).collect()
        };
        let asked = thread::scope(|scope| {
            let asking = clients.each_ref().map(|client| scope.spawn(|| ask(client)));
            asking.map(|thread| thread.join().unwrap())
        });

        let counts = counted(asked.into_iter().flatten());
        let exact = ["m1", "m2", "m3"].map(|name| (name.to_string(), 40));
        assert_eq!(counts, BTreeMap::from(exact));
    }
}

#[test]
fn other_members_move_no_established_connection() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::Maglev] {
        let host = Host::new();
        let network = host.network();
        let [client] = host.stations(&network, ["client"]);
        let members = host.stations(&network, ["m1", "m2", "m3"]);
        let mut veer = Veer::on(&host);
        veer.serve(&[&client]);
        veer.serve(&members.each_ref());
        let [m1, m2, m3] = &members;
        let vip = veer.group_with(algorithm, &[m1, m2]);
        let _servers = members
            .each_ref()
            .map(|member| member.serves_tcp(Family::V4, 80));
        let mut streams: Vec<_> = (0..20)
            .map(|_| client.connect((vip.v4, 80)).unwrap())
            .collect();
        let before = counted(streams.iter_mut().map(|s| read_answer(s).unwrap()));

        veer.set_members(vip, &[m2, m3]);
        veer.drain(m1);

        streams.iter_mut().for_each(expect_alive);
        assert!(before.contains_key("m1"), "{before:?}");
        let after = counted((0..20).map(|_| client.ask_tcp((vip.v4, 80)).unwrap()));
        assert!(
            !after.contains_key("m1") && after.contains_key("m3"),
            "{after:?}"
        );
    }
}

#[test]
fn a_udp_socket_goes_on_with_another_member_when_its_own_goes() {
    let host = Host::new();
    let network = host.network();
    let [client, m1, m2] = host.stations(&network, ["client", "m1", "m2"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &m1, &m2]);
    let vip = veer.group(&[&m1, &m2]);

    for family in Family::BOTH {
        let _servers = [m1.serves_udp(family, 53), m2.serves_udp(family, 53)];
        let socket = client.udp(family, 0);
        socket.connect((vip.address(family), 53)).unwrap();
        let (before, _) = ask_with(&socket, b"who").unwrap();
        let (again, _) = ask_with(&socket, b"who").unwrap();
        assert_eq!(before.server, again.server, "it stays while it can");

        let (gone, left) = if before.server == "m1" {
            (&m1, "m2")
        } else {
            (&m2, "m1")
        };
        veer.retire(gone);
        let (after, _) = ask_with(&socket, b"who").unwrap();

        assert_eq!(after.server, left);
        veer.serve(&[gone]);
        veer.set_members(vip, &[&m1, &m2]);
    }
}

#[test]
fn one_client_port_to_two_vips_of_one_member_makes_two_connections() {
    let host = Host::new();
    let network = host.network();
    let [client, member] = host.stations(&network, ["client", "member"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &member]);
    let vips = [veer.group(&[&member]), veer.group(&[&member])];

    for family in Family::BOTH {
        let _server = member.serves_tcp(family, 80);

        let mut streams = vips.map(|vip| {
            let to = (vip.address(family), 80);
            client.connect_from(5_555, to).unwrap()
        });
        let seen = streams
            .each_mut()
            .map(|stream| read_answer(stream).unwrap().client);

        streams.iter_mut().for_each(expect_alive);
        assert_ne!(seen[0], seen[1]);
        assert!(seen.iter().all(|seen| seen.ip() == client.address(family)));
    }
}

#[test]
fn a_client_port_that_is_used_again_is_a_new_connection_with_a_new_turn() {
    let host = Host::new();
    let network = host.network();
    let [client, m1, m2] = host.stations(&network, ["client", "m1", "m2"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &m1, &m2]);
    let vip = veer.group(&[&m1, &m2]);

    for family in Family::BOTH {
        let _servers = [m1.serves_tcp(family, 80), m2.serves_tcp(family, 80)];

        let answers = (0..10).map(|_| {
            let to = (vip.address(family), 80);
            let mut stream = client.connect_from(4_444, to).unwrap();
            let answer = read_answer(&mut stream).unwrap();
            reset(stream);
            answer
        });

        let exact = ["m1", "m2"].map(|name| (name.to_string(), 5));
        assert_eq!(counted(answers), BTreeMap::from(exact));
    }
}
