//! Published ports, the way out and isolation without Docker's rules and proxies. The numbers are those
//! of the conformance scenarios in `docs/ports.md`.

use veer_tests::deadline::eventually;
use veer_tests::installed::programs_in;

use crate::street::{
    HOST_V4, HOST_V6, OUTSIDE_V4, OUTSIDE_V6, SILENCE, Server, Street, ask, ask_from, ask_udp,
    ask_within, sends, told,
};

#[test]
fn s02_who_is_outside_reaches_a_published_port_and_is_seen_as_itself() {
    let street = Street::shared();
    let web = street.run(&street.network(20, ""), "-p 8020:80 -p 8020:80/udp");
    let _server = web.serves(80);
    street.published(8_020);

    for (address, client) in [(HOST_V4, OUTSIDE_V4), (HOST_V6, OUTSIDE_V6)] {
        let expected = told(&web.name, client);
        assert_eq!(ask(&street.outside, address, 8_020).unwrap(), expected);
        assert_eq!(ask_udp(&street.outside, address, 8_020).unwrap(), expected);
    }
    let refused = ask(&street.outside, HOST_V4, 8_021);
    assert!(refused.is_err(), "nobody has this port: {refused:?}");
}

#[test]
fn a_range_leads_to_the_ports_that_correspond() {
    let street = Street::shared();
    let web = street.run(&street.network(21, ""), "-p 21000-21999:31000-31999");
    let (_first, _last) = (web.serves(31_000), web.serves(31_999));
    street.published(21_999);

    for port in [21_000, 21_999] {
        assert_eq!(
            ask(&street.outside, HOST_V4, port).unwrap(),
            told(&web.name, OUTSIDE_V4)
        );
    }
}

#[test]
fn s01_host_processes_reach_a_published_port_by_localhost_and_by_every_own_address() {
    let street = Street::shared();
    let web = street.run(&street.network(22, ""), "-p 8022:80 -p 8022:80/udp");
    let _server = web.serves(80);
    street.published(8_022);

    for address in ["127.0.0.1", "::1", HOST_V4, HOST_V6] {
        let answer = ask(&street.host.namespace, address, 8_022);
        let answer = answer.unwrap_or_else(|error| panic!("{address}: {error}"));
        assert!(answer.starts_with(&web.name), "{address}: {answer}");
        let answer = ask_udp(&street.host.namespace, address, 8_022);
        let answer = answer.unwrap_or_else(|error| panic!("{address}, UDP: {error}"));
        assert!(answer.starts_with(&web.name), "{address}: {answer}");
    }
}

#[test]
fn a_process_that_is_bound_to_a_loopback_address_reaches_a_published_port() {
    let street = Street::shared();
    let web = street.run(&street.network(43, ""), "-p 8043:80 -p 8043:80/udp");
    let _server = web.serves(80);
    street.published(8_043);

    for (from, to, gateway) in [
        ("127.0.0.1", "127.0.0.1", "10.43.0.1"),
        ("127.0.0.9", "127.0.0.1", "10.43.0.1"),
        ("::1", "::1", "fd00:43::1"),
        (HOST_V4, "127.0.0.1", HOST_V4),
    ] {
        let answers = ask_from(&street.host.namespace, from, to, 8_043);
        let answers = answers.unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
        let expected = told(&web.name, gateway);
        assert_eq!(answers, [expected.clone(), expected], "{from} to {to}");
    }
}

#[test]
fn s03_to_s05_containers_reach_a_published_port_at_every_address_of_the_host() {
    let street = Street::shared();
    let (near, far) = (street.network(23, ""), street.network(24, ""));
    let web = street.run(&near, "-p 8023:80");
    let _server = web.serves(80);
    let neighbour = street.run(&near, "");
    let stranger = street.run(&far, "");
    street.published(8_023);

    for (client, addresses) in [
        (&neighbour, [HOST_V4, HOST_V6, "10.23.0.1", "fd00:23::1"]),
        (&web, [HOST_V4, HOST_V6, "10.23.0.1", "fd00:23::1"]),
        (&stranger, [HOST_V4, HOST_V6, "10.24.0.1", "fd00:24::1"]),
    ] {
        for address in addresses {
            let answer = ask(&client.namespace, address, 8_023);
            let answer =
                answer.unwrap_or_else(|error| panic!("{} to {address}: {error}", client.name));
            assert!(
                answer.starts_with(&web.name),
                "{} to {address}: {answer}",
                client.name
            );
        }
    }
}

#[test]
fn what_leaves_a_network_has_the_hosts_address() {
    let street = Street::shared();
    let client = street.run(&street.network(25, ""), "");
    let _server = Server::start(&street.outside, "outside", 8_025);

    for (address, source) in [(OUTSIDE_V4, HOST_V4), (OUTSIDE_V6, HOST_V6)] {
        let expected = told("outside", source);
        assert_eq!(ask(&client.namespace, address, 8_025).unwrap(), expected);
        assert_eq!(
            ask_udp(&client.namespace, address, 8_025).unwrap(),
            expected
        );
    }
}

#[test]
fn s28_networks_are_isolated_from_each_other() {
    let street = Street::shared();
    let server = street.run(&street.network(26, ""), "-p 8026:80");
    let _server = server.serves(80);
    let client = street.run(&street.network(27, ""), "");

    for address in ["10.26.0.2", "fd00:26::2"] {
        let answer = ask_within(&client.namespace, address, 80, SILENCE);
        assert!(answer.is_err(), "{address}: {answer:?}");
    }
    let reasons = street.daemon.veer(["status"]);
    assert!(reasons.contains("isolated"), "{reasons}");
}

#[test]
fn s09_and_s10_containers_are_not_reached_at_their_own_addresses_from_outside() {
    let street = Street::new();
    let web = street.run(&street.network(28, ""), "-p 8028:80");
    let _server = web.serves(80);
    let mut links = street.outside.links().unwrap();
    links.add_default_route(HOST_V4.parse().unwrap()).unwrap();
    links.add_default_route(HOST_V6.parse().unwrap()).unwrap();

    for address in ["10.28.0.2", "fd00:28::2"] {
        let answer = ask_within(&street.outside, address, 80, SILENCE);
        assert!(answer.is_err(), "{address}: {answer:?}");
    }
    let answer = ask(&street.host.namespace, "10.28.0.2", 80).unwrap();
    assert!(
        answer.starts_with(&web.name),
        "the host itself may: {answer}"
    );
}

#[test]
fn s12_a_port_published_on_a_loopback_address_is_the_hosts_alone() {
    let street = Street::new();
    let web = street.run(&street.network(29, ""), "-p 127.0.0.2:8029:80");
    let _server = web.serves(80);
    street.published(8_029);
    // Both sides take such addresses for ordinary ones: nothing but veer stands in the way.
    for space in [&street.outside, &street.host.namespace] {
        let all = "/proc/sys/net/ipv4/conf/all/route_localnet";
        space.run(|| std::fs::write(all, "1").unwrap()).unwrap();
    }
    for words in ["link set lo down", "route add 127.0.0.2/32 via 192.0.2.1"] {
        let mut command = std::process::Command::new("ip");
        command.args(words.split(' '));
        let status = street.outside.run(|| command.status()).unwrap().unwrap();
        assert!(status.success(), "ip {words}");
    }

    let own = ask(&street.host.namespace, "127.0.0.2", 8_029).unwrap();
    assert!(own.starts_with(&web.name), "{own}");
    let answer = ask_within(&street.outside, "127.0.0.2", 8_029, SILENCE);
    assert!(answer.is_err(), "{answer:?}");
    let answer = ask_within(&street.outside, HOST_V4, 8_029, SILENCE);
    assert!(answer.is_err(), "{answer:?}");
    let reasons = street.daemon.veer(["status"]);
    assert!(reasons.contains("loopback-outside"), "{reasons}");
}

#[test]
fn s32_and_s33_an_internal_network_has_no_way_out() {
    let street = Street::shared();
    let net = street.network(30, "--internal");
    let (one, two) = (street.run(&net, ""), street.run(&net, ""));
    let _server = two.serves(80);
    let _outside = Server::start(&street.outside, "outside", 8_030);

    assert_eq!(
        ask(&one.namespace, "10.30.0.3", 80).unwrap(),
        told(&two.name, "10.30.0.2")
    );
    let answer = ask_within(&one.namespace, OUTSIDE_V4, 8_030, SILENCE);
    assert!(answer.is_err(), "{answer:?}");
}

#[test]
fn s27_containers_of_a_network_without_icc_do_not_reach_each_other() {
    let street = Street::shared();
    let net = street.network(31, "-o com.docker.network.bridge.enable_icc=false");
    let (one, two) = (street.run(&net, ""), street.run(&net, "-p 8031:80"));
    let _server = two.serves(80);
    street.published(8_031);

    let answer = ask_within(&one.namespace, "10.31.0.3", 80, SILENCE);
    assert!(answer.is_err(), "{answer:?}");
    let answer = ask(&one.namespace, HOST_V4, 8_031).unwrap();
    assert!(
        answer.starts_with(&two.name),
        "by the host's address: {answer}"
    );
}

#[test]
fn s23_the_next_datagram_of_the_same_client_reaches_the_container_that_took_over() {
    let street = Street::shared();
    let net = street.network(32, "");
    let first = street.run(&net, "-p 8032:80/udp");
    let server = first.serves(80);
    street.published(8_032);
    let socket = street
        .outside
        .run(|| std::net::UdpSocket::bind("0.0.0.0:5032").unwrap())
        .unwrap();
    socket
        .set_read_timeout(Some(std::time::Duration::from_secs(2)))
        .unwrap();
    let mut buffer = [0; 100];
    let mut ask = |name: &str| {
        socket.send_to(b"?", (HOST_V4, 8_032)).unwrap();
        let length = socket.recv(&mut buffer).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..length]).starts_with(name)
    };
    assert!(ask(&first.name));
    drop(server);
    street.docker(&format!("rm -f {}", first.name));

    let second = street.run(&net, "-p 8032:80/udp");
    let _server = second.serves(80);

    veer_tests::deadline::eventually("the second answers", || ask(&second.name));
}

#[test]
fn ports_stay_reachable_while_the_daemon_is_away_and_nothing_else_is() {
    let mut street = Street::new();
    let web = street.run(&street.network(33, ""), "-p 8033:80");
    let _server = web.serves(80);
    let client = street.run(&street.network(34, ""), "");
    let _outside = Server::start(&street.outside, "outside", 8_034);
    street.published(8_033);

    street.daemon.killed();

    assert_eq!(
        ask(&street.outside, HOST_V4, 8_033).unwrap(),
        told(&web.name, OUTSIDE_V4)
    );
    assert_eq!(
        ask(&client.namespace, OUTSIDE_V4, 8_034).unwrap(),
        told("outside", HOST_V4)
    );
    assert!(ask_within(&client.namespace, "10.33.0.2", 80, SILENCE).is_err());
    street.daemon.returns();
    assert_eq!(
        ask(&street.outside, HOST_V4, 8_033).unwrap(),
        told(&web.name, OUTSIDE_V4)
    );
}

#[test]
fn there_are_no_rules_and_no_proxies() {
    let street = Street::shared();
    let _web = street.run(&street.network(35, ""), "-p 8035:80");
    street.published(8_035);

    street.has_no_rules();
    let programs = programs_in(&street.host.namespace);
    assert!(programs.contains(&"veer".to_owned()), "{programs:?}");
    assert!(
        !programs.contains(&"docker-proxy".to_owned()),
        "{programs:?}"
    );
}

#[test]
fn the_kernel_masquerades_if_it_is_to_and_lets_nobody_in() {
    let street = Street::configured("[ports]\nmasquerade = \"kernel\"\n");
    let client = street.run(&street.network(36, ""), "");
    let _inside = client.serves(80);
    let _server = Server::start(&street.outside, "outside", 8_036);
    let mut links = street.outside.links().unwrap();
    links.add_default_route(HOST_V4.parse().unwrap()).unwrap();

    for (address, source) in [(OUTSIDE_V4, HOST_V4), (OUTSIDE_V6, HOST_V6)] {
        let answer = ask(&client.namespace, address, 8_036);
        let answer = answer.unwrap_or_else(|error| panic!("{address}: {error}"));
        assert_eq!(answer, told("outside", source));
    }
    let answer = ask_within(&street.outside, "10.36.0.2", 80, SILENCE);
    assert!(answer.is_err(), "{answer:?}");
    street.docker("network create --subnet 10.45.0.0/16 single");
    let single = street.run("single", "-p 8045:80");
    let _single = single.serves(80);
    street.published(8_045);
    let answer = ask(&street.outside, HOST_V6, 8_045).unwrap();
    assert_eq!(answer, told(&single.name, "10.45.0.1"), "IPv6 to IPv4");
}

#[test]
fn a_group_is_published_by_the_configuration_and_rules_say_for_whom() {
    let config = "
        [[publish]]
        port = 8037
        network = \"front\"
        alias = \"web\"
        target_port = 80
        [[publish]]
        port = 8038
        network = \"front\"
        alias = \"web\"
        target_port = 80
        [[firewall]]
        action = \"deny\"
        source = \"192.0.2.0/24\"
        port = 8038
        [[publish]]
        port = 8044
        network = \"front\"
        alias = \"web\"
        target_port = 80
        deny = [\"127.0.0.0/8\"]
    ";
    let street = Street::configured(config);
    street.docker("network create --subnet 10.37.0.0/16 front");
    let members = [(), ()].map(|()| street.run("front", "--net-alias web"));
    let _servers = members.each_ref().map(|member| member.serves(80));
    street.published(8_044);

    let mut seen: Vec<_> = (0..2)
        .map(|_| ask(&street.outside, HOST_V4, 8_037).unwrap())
        .collect();
    seen.sort();
    let mut expected = members
        .each_ref()
        .map(|member| told(&member.name, OUTSIDE_V4));
    expected.sort();
    assert_eq!(seen, expected);
    let denied = ask_within(&street.outside, HOST_V4, 8_038, SILENCE);
    assert!(denied.is_err(), "{denied:?}");
    let reasons = street.daemon.veer(["status"]);
    assert!(reasons.contains("source-denied"), "{reasons}");
    let rules = street.daemon.veer(["firewall", "--json"]);
    let [rule, own] = [rules.lines().next(), rules.lines().nth(1)].map(Option::unwrap);
    assert!(!rule.contains("\"connections\":0"), "{rule}");
    assert!(own.contains("\"connections\":0"), "{own}");
    let host = &street.host.namespace;
    assert!(
        ask(host, "127.0.0.1", 8_038).is_ok(),
        "rules are not for processes of the host"
    );
    let denied = ask(host, "127.0.0.1", 8_044).unwrap_err();
    assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
    explained(&street, &members[0].name);
}

#[test]
fn a_rule_counts_the_connections_that_it_lets_in_and_the_packets_that_it_keeps_out_and_no_others() {
    let config = "
        [[firewall]]
        action = \"allow\"
        source = \"192.0.2.0/24\"
        port = 8119
        [[firewall]]
        action = \"deny\"
        port = 8119
        [[firewall]]
        action = \"deny\"
        port = 8120
        protocol = \"udp\"
    ";
    let street = Street::configured(config);
    let ports = "-p 8119:80 -p 8119:80/udp -p 8120:80 -p 8120:80/udp";
    let web = street.run(&street.network(119, ""), ports);
    let _server = web.serves(80);
    street.published(8_120);
    assert_eq!(judged(&street), [0, 0, 0]);

    // By IPv4 each client is let in once, and whatever it says then is of its Connection.
    for _ in 0..3 {
        let answers = ask_from(&street.outside, OUTSIDE_V4, HOST_V4, 8_119).unwrap();
        assert_eq!(
            answers,
            [told(&web.name, OUTSIDE_V4), told(&web.name, OUTSIDE_V4)]
        );
    }
    assert_eq!(judged(&street), [6, 0, 0]);
    // By IPv6 nobody is: each datagram is turned away.
    sends(&street.outside, HOST_V6, 8_119, 5);
    sends(&street.outside, HOST_V4, 8_120, 2);
    sends(&street.outside, HOST_V6, 8_120, 7);
    let allowed = ask(&street.outside, HOST_V6, 8_120).unwrap();

    assert_eq!(allowed, told(&web.name, OUTSIDE_V6), "TCP is not denied");
    eventually("every datagram is judged", || {
        judged(&street).iter().sum::<u64>() >= 6 + 5 + 9
    });
    assert_eq!(judged(&street), [6, 5, 9]);
    let status = street.daemon.veer(["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let reasons = status["reasons"].as_array().unwrap();
    let denied = reasons.iter().find(|one| one["name"] == "source-denied");
    assert_eq!(denied.unwrap()["count"], 14, "{reasons:?}");
}

/// What each rule has judged, as `veer firewall` says.
fn judged(street: &Street) -> Vec<u64> {
    let rules = street.daemon.veer(["firewall", "--json"]);
    let rows = rules.lines().map(|row| {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        (row["rule"].as_u64().unwrap(), row["connections"].as_u64())
    });
    let rules = rows.filter(|(rule, _)| *rule != 0);
    rules.map(|(_, connections)| connections.unwrap()).collect()
}

/// What `veer explain` says of the same ports is what happens.
fn explained(street: &Street, container: &str) {
    for (client, asked, expected) in [
        (OUTSIDE_V4, "192.0.2.1:8037", "the next Connection goes to"),
        (OUTSIDE_V4, "192.0.2.1:8038", "dropped (source-denied)"),
        (OUTSIDE_V4, "192.0.2.1:8039", "(host)"),
        (OUTSIDE_V4, "10.37.0.2:80", "dropped (direct-routing)"),
        ("host", "localhost:8038", "the next Connection goes to"),
        ("host", "localhost:8044", "dropped (source-denied)"),
        ("192.0.2.1", "127.0.0.1:8044", "the next Connection goes to"),
        ("127.0.0.1", "127.0.0.1:8038", "the next Connection goes to"),
        ("127.0.0.1", "127.0.0.1:8044", "dropped (source-denied)"),
        (container, "192.0.2.1:8037", "the next Connection goes to"),
        (container, "203.0.113.9:443", "leaves the host as 192.0.2.1"),
        (container, "192.0.2.1:22", "(host)"),
    ] {
        let said = street.daemon.veer(["explain", client, asked]);
        assert!(said.contains(expected), "{client} to {asked}: {said}");
    }
}

#[test]
fn beside_dockers_rules_ports_are_veers_and_the_way_out_is_dockers() {
    let street = Street::beside();
    let web = street.run(&street.network(39, ""), "-p 8039:80");
    let _server = web.serves(80);
    let _outside = Server::start(&street.outside, "outside", 8_040);
    street.published(8_039);

    for (address, client) in [(HOST_V4, OUTSIDE_V4), (HOST_V6, OUTSIDE_V6)] {
        let answer = ask(&street.outside, address, 8_039).unwrap();
        assert_eq!(answer, told(&web.name, client));
    }
    let answer = ask(&street.host.namespace, "127.0.0.1", 8_039).unwrap();
    assert!(answer.starts_with(&web.name), "{answer}");
    let answer = ask(&web.namespace, OUTSIDE_V4, 8_040).unwrap();
    assert_eq!(answer, told("outside", HOST_V4));
    let status = street.daemon.veer(["status"]);
    assert!(status.contains("beside mode"), "{status}");
}
