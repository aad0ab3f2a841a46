use super::super::super::samples::{container, network, observed};
use super::super::super::{Identities, Place, dangling, plan};
use super::super::desire;
use super::*;
use crate::model::Observed;

/// A host with an uplink, Docker's default bridge and one that somebody else made.
fn host() -> Host {
    use crate::model::{HostInterface, HostInterfaceKind};
    let interface = |ifindex, name: &str, kind, address: &str| HostInterface {
        ifindex,
        name: name.to_string(),
        mac: [2, 0, 0, 0, 0, ifindex as u8],
        kind,
        addresses: vec![address.parse().unwrap()],
        has_default_route: name == "eth0",
    };
    let (bridge, ethernet) = (HostInterfaceKind::Bridge, HostInterfaceKind::Ethernet);
    Host {
        interfaces: vec![
            interface(1, "lo", HostInterfaceKind::Loopback, "127.0.0.1/8"),
            interface(2, "eth0", ethernet, "192.0.2.1/24"),
            interface(3, "docker0", bridge, "172.17.0.1/16"),
            interface(4, "virbr0", bridge, "192.168.122.1/24"),
            interface(5, "br-net", bridge, "10.1.0.1/16"),
        ],
        ..Host::default()
    }
}

#[test]
fn guards_are_on_bridges_of_networks_and_on_those_that_docker_may_have_made() {
    let attached = |host: &Host| {
        let config = Config::default();
        let mut identities = Identities::default();
        desire(&observed([]), host, &config, &mut identities)
            .state
            .attached
    };
    let replace = [
        (Role::Bridge, 3),
        (Role::Bridge, 5),
        (Role::Uplink, 2),
        (Role::Loopback, 1),
    ];
    assert_eq!(attached(&host()), replace.into());

    let beside = Host {
        has_docker_rules: true,
        allows_direct_routing: false,
        ..host()
    };
    assert_eq!(
        attached(&beside),
        [(Role::Bridge, 5), (Role::Uplink, 2)].into()
    );
}

#[test]
fn an_uplink_has_the_programs_for_what_its_packets_begin_with() {
    use crate::model::HostInterfaceKind;
    let of_kind = |kind| {
        let mut host = host();
        host.interfaces[1].kind = kind;
        let (config, mut identities) = (Config::default(), Identities::default());
        let desired = desire(&Observed::default(), &host, &config, &mut identities);
        let here = |(_, ifindex): &&(Role, u32)| *ifindex == 2;
        let role = desired.state.attached.iter().find(here);
        (role.map(|(role, _)| *role), desired.notices)
    };

    let (ethernet, bare) = (HostInterfaceKind::Ethernet, HostInterfaceKind::Bare);
    assert_eq!(of_kind(ethernet), (Some(Role::Uplink), vec![]));
    assert_eq!(of_kind(bare), (Some(Role::BareUplink), vec![]));

    let (role, notices) = of_kind(HostInterfaceKind::Unread(778));
    assert_eq!(role, None);
    assert_eq!(notices[0].subject, "interface eth0");
    assert!(notices[0].message.contains("778"), "{notices:?}");
}

#[test]
fn an_interface_is_trusted_by_the_network_that_names_it_alone() {
    use crate::model::{Protocol, PublishedPorts};
    let published = |name: &str, network: &str, number| {
        let mut container = container(name).attached(network, number, &[]);
        container.publishing.ports = vec![PublishedPorts {
            protocol: Protocol::Tcp,
            host: None,
            host_port: Some(8_000 + number),
            port: 80,
            count: 1,
        }];
        container
    };
    let mut scene = observed([published("web", "net", 1), published("db", "other", 2)]);
    scene.networks.push(network("other", 2));
    scene.networks[0].policy.trusted_interfaces = vec!["eth0".to_string(), "eth9".to_string()];

    let open = |host: &Host| {
        let (config, mut identities) = (Config::default(), Identities::default());
        let state = desire(&scene, host, &config, &mut identities).state;
        let open = state.facts.into_keys().filter_map(|place| match place {
            Place::OpenPort(port) => Some((port.address.to_string(), port.interface)),
            _ => None,
        });
        open.collect::<Vec<_>>()
    };
    let mut host = host();
    let named = open(&host);
    host.allows_direct_routing = true;
    let all = open(&host);

    assert_eq!(named.len(), 2, "one for each family: {named:?}");
    assert_eq!(all.len(), 4, "of both containers: {all:?}");
    for (address, interface) in named.iter().chain(&all) {
        assert_eq!(*interface, 2, "{address}");
    }
}

#[test]
fn before_the_first_observation_guards_come_and_nothing_goes() {
    let config = Config::default();
    let mut identities = Identities::default();
    let web = container("web").attached("net", 1, &["tg"]);
    let before = desire(&observed([web]), &host(), &config, &mut identities).state;
    let mut more = host();
    more.interfaces[3].name = "br-0123456789ab".to_string();

    let guarded = super::super::guard(&before, &more, &config);

    let steps = plan(&before, &guarded);
    assert!(guarded.attached.contains(&(Role::Bridge, 4)));
    assert_eq!(steps.len(), 2, "what it is and its guard: {steps:?}");
    assert_eq!(dangling(&guarded), []);
}

#[test]
fn the_gateway_is_the_bridges_own_address() {
    use lb_common::NetworkFlags;

    let desired = desire(
        &observed([]),
        &host(),
        &Config::default(),
        &mut Identities::default(),
    );

    let Some(Fact::Network(_, network)) = desired.state.facts.get(&Place::Network(1)) else {
        panic!("{:?}", desired.state.facts);
    };
    let gateway: std::net::IpAddr = "10.1.0.1".parse().unwrap();
    assert_eq!((network.gateway_v4.get(), network.bridge), (gateway, 5));
    assert!(network.has(NetworkFlags::SERVED | NetworkFlags::MASQUERADE_V4));
    assert!(!network.has(NetworkFlags::KERNEL_MASQUERADE));
}

#[test]
fn ten_thousand_ports_are_desired_as_quickly_as_one() {
    use crate::model::{Protocol, PublishedPorts};
    let mut web = container("web").attached("net", 1, &[]);
    web.publishing.gateway_v4 = Some(web.attachments[0].network.clone());
    web.publishing.ports = vec![PublishedPorts {
        protocol: Protocol::Tcp,
        host: None,
        host_port: Some(20_000),
        port: 20_000,
        count: 10_000,
    }];
    let many = observed([web.clone()]);
    web.publishing.ports[0].count = 1;
    let one = observed([web]);

    let written = |observed: &Observed| {
        let mut identities = Identities::default();
        let desired = desire(observed, &host(), &Config::default(), &mut identities);
        plan(&State::default(), &desired.state).len()
    };

    assert_eq!(written(&many), written(&one));
}

#[test]
fn the_kernel_masquerades_where_it_is_asked_to() {
    let mut scene = observed([]);
    scene.networks[0].policy.host_v6 = Some("2001:db8::7".parse().unwrap());
    let mut config = Config::default();
    let rules = |config: &Config| desire(&scene, &host(), config, &mut Identities::default()).rules;
    assert_eq!(rules(&config), None);

    config.ports.masquerade = crate::config::Masquerade::Kernel;

    let rules = rules(&config).unwrap();
    assert!(
        rules.contains("ip saddr 10.1.0.0/16 oifname != \"br-net\" masquerade\n"),
        "{rules}"
    );
    assert!(rules.contains("snat ip6 to 2001:db8::7\n"), "{rules}");
    assert!(rules.contains("ip daddr 10.1.0.0/16"), "{rules}");
}
