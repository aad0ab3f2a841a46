//! Whose names are answered, and how.

use super::*;
use crate::model::{HostInterface, HostInterfaceKind};

#[test]
fn a_namespace_gets_routes_only_in_the_families_that_it_has() {
    let mut containers = members("web", 1, "tg");
    containers[0].attachments[0].v6 = None;
    containers.push(container("client").attached("net", 9, &[]));
    let desired = desired(&observed(containers));

    let routes: Vec<usize> = desired.resolvers.iter().map(|r| r.routes.len()).collect();
    assert_eq!(routes, [1, 2]);
}

#[test]
fn on_the_default_bridge_alone_a_containers_own_servers_are_stood_for() {
    let servers = ["192.0.2.1", "127.0.0.1", "fd00::1", "192.0.2.2"];
    let servers = servers.map(|server| server.parse().unwrap());
    let mut containers = [
        container("alone").attached("bridge", 1, &[]),
        container("both")
            .attached("bridge", 2, &[])
            .attached("net", 2, &[]),
    ];
    for container in &mut containers {
        container.dns_servers = servers.to_vec();
    }
    let mut observed = observed(containers);
    let mut default = network("bridge", 2);
    default.policy.is_default_bridge = true;
    observed.networks.push(default);
    let mut config = Config::default();

    let without: Vec<_> = desired_by(&observed, &config).resolvers;
    config.dns.default_bridge = true;
    let with: Vec<_> = desired_by(&observed, &config).resolvers;

    assert_eq!(without.len(), 1, "only the one with a Network");
    let of = |name: &str| {
        with.iter()
            .find(|it| it.container.0.contains(name))
            .unwrap()
    };
    let own = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
    assert_eq!(of("alone").servers, own);
    assert!(of("both").servers.is_empty());
}

#[test]
fn a_container_of_which_only_the_namespace_is_known_is_taken_over_all_the_same() {
    let arriving = |cookie: u64, on: &str| Arriving {
        container: ContainerId(cookie.to_string()),
        netns: Netns {
            path: "/run/netns/it".into(),
            cookie,
        },
        networks: vec![network(on, 1).id],
    };
    let mut observed = observed(members("web", 1, "tg"));
    let mut nameless = network("bridge", 2);
    nameless.policy.is_default_bridge = true;
    observed.networks.push(nameless);
    observed.arriving = vec![arriving(77, "net"), arriving(78, "bridge")];
    let desired = desired(&observed);

    let last = desired.resolvers.last().unwrap();
    assert_eq!((desired.resolvers.len(), last.netns.cookie), (2, 77));
    assert!(last.knows_names && last.routes.is_empty());
}

/// The host, with this address on the bridge of `net`.
fn host_with(address: &str) -> Host {
    let bridge = HostInterface {
        ifindex: 9,
        name: network("net", 1).bridge,
        mac: [0; 6],
        kind: HostInterfaceKind::Bridge,
        addresses: vec![address.parse().unwrap()],
        has_default_route: false,
    };
    Host {
        interfaces: vec![bridge],
        ..Host::default()
    }
}

fn on(host: &Host, observed: &Observed) -> Desired {
    desire(
        observed,
        host,
        &Config::default(),
        &mut Identities::default(),
    )
}

#[test]
fn a_containers_place_on_the_host_is_the_address_of_its_bridge() {
    let mut observed = observed(members("web", 1, "tg"));
    let guest: Ipv4Addr = observed.containers[0].attachments[0].v4.unwrap();
    let gateway = Ipv4Addr::from(u32::from(guest) ^ 0x80);
    let gate = |address: &str, observed: &Observed| {
        let desired = on(&host_with(address), observed);
        desired.resolvers[0].gate.clone()
    };

    let found = gate(&format!("{gateway}/24"), &observed).unwrap();
    assert_eq!(
        (found.ifindex, found.gateway, found.guest),
        (9, gateway, guest)
    );
    assert_eq!(gate("192.0.2.1/24", &observed), None, "of another subnet");
    assert_eq!(gate("fd00:9::1/64", &observed), None);
    observed.containers[0].attachments[0].link = None;
    assert_eq!(
        gate(&format!("{gateway}/24"), &observed),
        None,
        "not plugged in yet"
    );
}

#[test]
fn a_veer_that_may_not_enter_namespaces_gives_addresses_and_makes_no_routes() {
    let mut observed = observed(members("web", 2, "tg"));
    observed.containers[1].dns_servers = vec!["192.0.2.53".parse().unwrap()];
    let guest = observed.containers[0].attachments[0].v4.unwrap();
    let gateway = Ipv4Addr::from(u32::from(guest) ^ 0x80);
    let free = host_with(&format!("{gateway}/24"));
    let confined = Host {
        is_confined: true,
        ..free.clone()
    };

    let (with, without) = (on(&free, &observed), on(&confined, &observed));

    let modes = [&with, &without].map(|it| it.groups[0].policy.endpoint_mode);
    assert_eq!(modes, [EndpointMode::Vip, EndpointMode::Dnsrr]);
    let routes = |it: &Desired| {
        it.resolvers
            .iter()
            .map(|one| one.routes.len())
            .sum::<usize>()
    };
    assert!(routes(&with) > 0 && routes(&without) == 0);
    let gates = without.resolvers.iter().map(|one| one.gate.is_some());
    assert_eq!(
        gates.collect::<Vec<_>>(),
        [true, false],
        "its own servers are asked from inside"
    );
    assert_eq!(without.notices.len(), with.notices.len() + 1);
}
