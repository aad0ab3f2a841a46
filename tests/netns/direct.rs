//! Traffic that is not for VIPs is left as it is.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use veer_tests::host::Host;
use veer_tests::station::{Family, Station};
use veer_tests::veer::Veer;

fn expect_direct(client: &Station, server: &Station) {
    for family in Family::BOTH {
        let _tcp = server.serves_tcp(family, 80);
        let _udp = server.serves_udp(family, 53);

        let tcp = client.ask_tcp((server.address(family), 80)).unwrap();
        let udp = client.ask_udp((server.address(family), 53)).unwrap();
        let echo = client.ping(server.address(family), b"hello").unwrap();

        assert_eq!(
            (tcp.server.as_str(), udp.server.as_str()),
            ("server", "server")
        );
        assert_eq!(tcp.client.ip(), client.address(family));
        assert_eq!(echo, b"hello");
    }
}

#[test]
fn stations_reach_each_other_without_veer() {
    let host = Host::new();
    let network = host.network();
    let [client, server] = host.stations(&network, ["client", "server"]);

    expect_direct(&client, &server);
}

#[test]
fn stations_reach_each_other_and_their_gateway_under_veer() {
    let host = Host::new();
    let network = host.network();
    let [client, server] = host.stations(&network, ["client", "server"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &server]);
    veer.group(&[&server]);

    expect_direct(&client, &server);

    for family in Family::BOTH {
        let gateway = network.gateway(family == Family::V6);
        assert_eq!(client.ping(gateway, b"gateway").unwrap(), b"gateway");
    }
}

#[test]
fn a_station_that_is_not_served_reaches_one_that_is() {
    let host = Host::new();
    let network = host.network();
    let [client, server] = host.stations(&network, ["client", "server"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&server]);

    expect_direct(&client, &server);
}

#[test]
fn neighbours_are_found_again_when_they_are_forgotten() {
    let host = Host::new();
    let network = host.network();
    let [client, server] = host.stations(&network, ["client", "server"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &server]);
    let vip = veer.group(&[&server]);

    for family in Family::BOTH {
        for to in [server.address(family), vip.address(family)] {
            client.program("ip neigh flush dev eth0");
            server.program("ip neigh flush dev eth0");

            assert_eq!(client.ping(to, b"found").unwrap(), b"found");
        }
        let known = client.program("ip neigh show dev eth0");
        let vip = format!("{} lladdr 02:76:65:65:72:00", vip.address(family));
        assert!(known.contains(&vip), "{known}");
    }
}

#[test]
fn multicast_reaches_everybody() {
    let host = Host::new();
    let network = host.network();
    let [client, server] = host.stations(&network, ["client", "server"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &server]);
    let group_v4 = Ipv4Addr::new(239, 1, 2, 3);
    let group_v6: Ipv6Addr = "ff02::1:2:3".parse().unwrap();
    let (inbox_v4, inbox_v6) = (server.udp(Family::V4, 5_354), server.udp(Family::V6, 5_356));
    inbox_v4.join_multicast_v4(&group_v4, &server.v4).unwrap();
    inbox_v6
        .join_multicast_v6(&group_v6, server.ifindex)
        .unwrap();

    let scoped = std::net::SocketAddrV6::new(group_v6, 5_356, 0, client.ifindex);
    let to: [SocketAddr; 2] = [(group_v4, 5_354).into(), scoped.into()];
    client.udp(Family::V4, 0).send_to(b"all", to[0]).unwrap();
    client.udp(Family::V6, 0).send_to(b"all", to[1]).unwrap();

    for inbox in [inbox_v4, inbox_v6] {
        let mut buffer = [0; 16];
        let (length, from) = inbox.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"all");
        let own = [client.v4.into(), client.link_local().unwrap().into()];
        assert!(own.contains(&from.ip()), "{from}");
    }
}
