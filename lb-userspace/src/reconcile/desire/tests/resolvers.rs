//! Whose names are answered, and how.

use super::*;

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
