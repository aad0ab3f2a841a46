//! Options of networks: who is reached at containers' own addresses, and how they leave.

use std::fs;
use std::process::Command;

use veer_tests::daemon::Daemon;
use veer_tests::deadline::eventually;
use veer_tests::engine::Engine;

use super::{addresses, is_barred, is_pinged, reaches};
use crate::stage::{Host, again};
use crate::street::{
    HOST_V4, HOST_V6, OUTSIDE_V4, OUTSIDE_V6, SILENCE, Server, Street, WITHOUT_RULES, ask, ask_udp,
    ask_within, ip, joined, told,
};

/// Options of `docker network create` for a gateway mode in both families.
fn mode(name: &str) -> String {
    let option = "-o com.docker.network.bridge.gateway_mode";
    format!("{option}_ipv4={name} {option}_ipv6={name}")
}

#[test]
fn s09_and_s10_gateway_modes_say_what_is_reached_directly_from_outside() {
    let street = Street::shared();
    for (number, options, ping, published, other) in [
        (70, String::new(), false, false, false),
        (71, mode("routed"), true, true, false),
        (72, mode("nat-unprotected"), true, true, true),
    ] {
        let port = 8_000 + u16::from(number);
        let ports = format!("-p {port}:80 -p {port}:80/udp");
        let web = street.run(&street.network(number, &options), &ports);
        let _servers = (web.serves(80), web.serves(81));
        street.published(port);
        street.routes(number);

        for (address, client) in addresses(number, 2).iter().zip([OUTSIDE_V4, OUTSIDE_V6]) {
            assert_eq!(is_pinged(&street.outside, address), ping, "{address}");
            for (port, is_open) in [(80, published), (81, other)] {
                if is_open {
                    let answer = ask(&street.outside, address, port).unwrap();
                    assert_eq!(answer, told(&web.name, client), "{address} port {port}");
                } else {
                    is_barred(&street.outside, address, port);
                }
            }
            if published {
                let answer = ask_udp(&street.outside, address, 80).unwrap();
                assert_eq!(answer, told(&web.name, client), "{address}, UDP");
            }
        }
    }
}

#[test]
fn s10_a_trusted_interface_leads_to_published_ports_alone() {
    let street = Street::shared();
    let trust = "-o com.docker.network.bridge.trusted_host_interfaces=up0";
    let web = street.run(&street.network(73, trust), "-p 8073:80");
    let _servers = (web.serves(80), web.serves(81));
    street.published(8_073);
    street.routes(73);

    for (address, client) in addresses(73, 2).iter().zip([OUTSIDE_V4, OUTSIDE_V6]) {
        let answer = ask(&street.outside, address, 80).unwrap();
        assert_eq!(answer, told(&web.name, client), "{address}");
        is_barred(&street.outside, address, 81);
    }
}

#[test]
fn s11_an_engine_that_allows_direct_routing_opens_published_ports_alone() {
    let (namespace, outside) = joined();
    let engine = Engine::start_with(again(&namespace), WITHOUT_RULES);
    // This Engine would not start with it.
    fs::write(engine.settings(), r#"{ "allow-direct-routing": true }"#).unwrap();
    let host = Host { namespace, engine };
    let daemon = Daemon::start(again(&host.namespace), &host.engine.socket());
    let street = Street {
        daemon,
        host,
        outside,
    };
    let web = street.run(&street.network(117, ""), "-p 8118:80 -p 8118:80/udp");
    let _servers = (web.serves(80), web.serves(81));
    street.published(8_118);
    street.routes(117);

    for (address, client) in addresses(117, 2).iter().zip([OUTSIDE_V4, OUTSIDE_V6]) {
        let expected = told(&web.name, client);
        assert_eq!(ask(&street.outside, address, 80).unwrap(), expected);
        assert_eq!(ask_udp(&street.outside, address, 80).unwrap(), expected);
        is_barred(&street.outside, address, 81);
    }
}

#[test]
fn s29_and_s31_gateway_modes_say_what_other_networks_reach() {
    let street = Street::shared();
    let plain = street.run(&street.network(74, ""), "-p 8074:80");
    let routed = street.run(&street.network(75, &mode("routed")), "-p 8075:80");
    let open = street.run(&street.network(76, &mode("nat-unprotected")), "");
    let _servers = [&plain, &routed, &open].map(|one| (one.serves(80), one.serves(81)));
    street.published(8_075);

    for address in addresses(75, 2) {
        assert!(is_pinged(&plain.namespace, &address), "{address}");
        reaches(&plain.namespace, &address, 80, &routed.name);
        is_barred(&plain.namespace, &address, 81);
    }
    for address in addresses(74, 2) {
        assert!(!is_pinged(&routed.namespace, &address), "{address}");
        is_barred(&routed.namespace, &address, 80);
        is_barred(&routed.namespace, &address, 81);
    }
    for address in addresses(76, 2) {
        assert!(is_pinged(&plain.namespace, &address), "{address}");
        reaches(&plain.namespace, &address, 80, &open.name);
        reaches(&plain.namespace, &address, 81, &open.name);
    }
}

#[test]
fn s16_a_routed_network_that_is_not_the_way_out_is_reached_and_answers() {
    let street = Street::shared();
    let name = street.host.name("net");
    // By name the first one is the way out.
    for (network, number, options) in [("a", 120, String::new()), ("b", 121, mode("routed"))] {
        street.docker(&format!(
            "network create --ipv6 --subnet 10.{number}.0.0/16 --subnet fd00:{number}::/64 {options} \
             {name}-{network}"
        ));
        street.routes(number);
    }
    let web = street.run(&format!("{name}-a"), "-p 8120:80");
    street.docker(&format!("network connect {name}-b {}", web.name));
    let _servers = (web.serves(80), web.serves(81));
    street.published(8_120);
    let route = web.namespace.run(|| {
        let words = ["route", "get", OUTSIDE_V4];
        Command::new("ip").args(words).output().unwrap()
    });
    let route = String::from_utf8(route.unwrap().stdout).unwrap();
    assert!(route.contains("via 10.120.0.1"), "{route}");

    eventually("the routed network is served", || {
        ask_within(&street.outside, "10.121.0.2", 80, SILENCE).is_ok()
    });
    let hosts = [HOST_V4, HOST_V6].map(|host| (host.to_owned(), 8_120));
    let routed = addresses(121, 2).map(|address| (address, 80));
    for asked in [hosts, routed] {
        for ((address, port), client) in asked.iter().zip([OUTSIDE_V4, OUTSIDE_V6]) {
            // Nor does it know its gateway, and asks for it in the name that it answers in.
            ip(&web.namespace, "neigh flush dev eth0");
            let expected = told(&web.name, client);
            let answer = ask(&street.outside, address, *port);
            let answer = answer.unwrap_or_else(|error| panic!("{address}: {error}"));
            assert_eq!(answer, expected, "{address}");
        }
    }
    for address in addresses(121, 2) {
        assert!(is_pinged(&street.outside, &address), "{address}");
        is_barred(&street.outside, &address, 81);
    }
    for address in addresses(120, 2) {
        assert!(!is_pinged(&street.outside, &address), "{address}");
        is_barred(&street.outside, &address, 80);
    }
}

#[test]
fn s30_every_network_reaches_a_published_port_at_the_default_bridges_address() {
    let street = Street::shared();
    let web = street.run(&street.network(77, ""), "-p 8077:80");
    let _server = web.serves(80);
    let clients = [
        street.run(&street.network(78, ""), ""),
        street.run(&street.network(79, &mode("routed")), ""),
    ];
    street.published(8_077);
    let docker0 = street.host.namespace.run(|| {
        let words = ["-4", "-o", "address", "show", "docker0"];
        Command::new("ip").args(words).output().unwrap()
    });
    let docker0 = String::from_utf8(docker0.unwrap().stdout).unwrap();
    let address = docker0.split("inet ").nth(1).unwrap();
    let gateway = address.split('/').next().unwrap();

    for client in &clients {
        for address in [gateway, "10.77.0.1", "fd00:77::1"] {
            reaches(&client.namespace, address, 8_077, &web.name);
        }
    }
}

#[test]
fn s37_a_network_leaves_by_the_address_that_its_options_name_or_by_its_own() {
    let street = Street::shared();
    for address in ["192.0.2.77/24", "2001:db8:1::77/64"] {
        ip(
            &street.host.namespace,
            &format!("address add {address} dev up0"),
        );
    }
    let named = "-o com.docker.network.host_ipv4=192.0.2.77 \
                 -o com.docker.network.host_ipv6=2001:db8:1::77";
    let named = street.run(&street.network(80, named), "");
    let routed = street.run(&street.network(81, &mode("routed")), "");
    let plain = "-o com.docker.network.bridge.enable_ip_masquerade=false";
    let plain = street.run(&street.network(82, plain), "");
    (81..=82).for_each(|number| street.routes(number));
    let _server = Server::start(&street.outside, "outside", 8_081);

    let [routed_v4, routed_v6] = addresses(81, 2);
    let [plain_v4, plain_v6] = addresses(82, 2);
    for (client, v4, v6) in [
        (&named, "192.0.2.77", "2001:db8:1::77"),
        (&routed, &routed_v4, &routed_v6),
        (&plain, &plain_v4, &plain_v6),
    ] {
        for (address, source) in [(OUTSIDE_V4, v4), (OUTSIDE_V6, v6)] {
            let answer = ask(&client.namespace, address, 8_081);
            let answer = answer.unwrap_or_else(|error| panic!("{source} to {address}: {error}"));
            assert_eq!(answer, told("outside", source));
        }
    }
}

#[test]
fn s38_a_link_on_a_network_of_ones_own_is_a_name_and_opens_nothing() {
    let street = Street::shared();
    let net = street.network(83, "-o com.docker.network.bridge.enable_icc=false");
    let web = street.run(&net, "--expose 80");
    let _servers = (web.serves(80), web.serves(81));
    let linked = street.run(&net, &format!("--link {}:web", web.name));
    let stranger = street.run(&net, "");

    for address in addresses(83, 2) {
        for client in [&linked, &stranger] {
            is_barred(&client.namespace, &address, 80);
            is_barred(&client.namespace, &address, 81);
        }
    }
}

#[test]
fn s42_containers_of_a_network_whose_bridge_has_no_address_reach_each_other() {
    let street = Street::shared();
    let net = street.host.name("net");
    street.docker(&format!(
        "network create --internal --subnet 10.84.0.0/16 \
         -o com.docker.network.bridge.inhibit_ipv4=true {net}"
    ));
    let (one, two) = (street.run(&net, ""), street.run(&net, ""));
    let _server = two.serves(80);
    let _outside = Server::start(&street.outside, "outside", 8_084);

    assert!(is_pinged(&one.namespace, "10.84.0.3"));
    reaches(&one.namespace, "10.84.0.3", 80, &two.name);
    is_barred(&street.host.namespace, "10.84.0.3", 80);
    for address in [HOST_V4, OUTSIDE_V4, HOST_V6] {
        is_barred(&one.namespace, address, 8_084);
    }
}

#[test]
fn s08_each_family_has_the_gateway_mode_that_its_option_names() {
    let street = Street::shared();
    let routed = "-o com.docker.network.bridge.gateway_mode_ipv4=routed";
    let web = street.run(&street.network(111, routed), "-p 8111:80");
    let _server = web.serves(80);
    street.published(8_111);
    street.routes(111);

    let [v4, v6] = addresses(111, 2);
    let answer = ask(&street.outside, &v4, 80).unwrap();
    assert_eq!(answer, told(&web.name, OUTSIDE_V4), "routed");
    is_barred(&street.outside, &v6, 80);
    let answer = ask(&street.outside, HOST_V6, 8_111).unwrap();
    assert_eq!(answer, told(&web.name, OUTSIDE_V6), "translated");
}

#[test]
fn s34_containers_of_an_isolated_network_reach_each_other_and_not_the_host() {
    let street = Street::shared();
    let isolated = format!("--internal {}", mode("isolated"));
    let net = street.network(112, &isolated);
    let (one, two) = (street.run(&net, ""), street.run(&net, ""));
    let _server = two.serves(80);
    let _host = Server::start(&street.host.namespace, "host", 8_114);

    for (address, gateway) in addresses(112, 3).iter().zip(addresses(112, 1)) {
        assert!(is_pinged(&one.namespace, address), "{address}");
        reaches(&one.namespace, address, 80, &two.name);
        is_barred(&one.namespace, &gateway, 8_114);
        assert!(!is_pinged(&one.namespace, &gateway), "{gateway}");
        is_barred(&street.host.namespace, address, 80);
    }
}

#[test]
fn s39_a_network_of_ipv4_alone_has_no_addresses_and_names_of_ipv6() {
    let street = Street::shared();
    let net = street.host.name("net");
    street.docker(&format!("network create --subnet 10.113.0.0/16 {net}"));
    let group = street.host.name("group");
    let both = [(); 2].map(|()| street.run(&net, &format!("--net-alias {group}")));
    let client = street.run(&net, "");
    let _servers = both.each_ref().map(|one| one.serves(80));

    let resolve = |record: &str| {
        let words = ["exec", &client.name, "nslookup", record, &group];
        let found = street.host.engine.try_docker(words);
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        let lines = found.lines().skip_while(|line| !line.is_empty());
        let found = lines.filter_map(|line| line.strip_prefix("Address:"));
        found.map(|one| one.trim().to_owned()).collect::<Vec<_>>()
    };
    eventually(
        "the alias is a VIP of IPv4",
        || matches!(&resolve("-type=A")[..], [one] if one.starts_with("198.18.")),
    );
    assert_eq!(resolve("-type=AAAA"), [] as [String; 0]);
    let told = client.namespace.run(|| {
        let words = ["-6", "-o", "address", "show", "dev", "eth0"];
        Command::new("ip").args(words).output().unwrap()
    });
    let told = String::from_utf8(told.unwrap().stdout).unwrap();
    assert!(!told.contains("scope global"), "{told}");
    for client in [&client.namespace, &street.host.namespace] {
        reaches(client, "10.113.0.2", 80, &both[0].name);
    }
}
