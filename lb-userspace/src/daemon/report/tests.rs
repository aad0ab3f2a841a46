use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use lb_common::{EndpointState, Frontend, Port, Slot};

use super::*;
use crate::model::{
    Attachment, Container, ContainerId, Elsewhere, Link, Netns, NetworkId, Policy, RunState,
};
use crate::reconcile::{ServedInterface, ServedNamespace, State, VipRoute};

const VIP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

fn v4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn id(name: &str) -> ContainerId {
    ContainerId(format!("{name:0<64}"))
}

fn app() -> NetworkId {
    NetworkId("app-id".into())
}

fn endpoint(name: &str, number: u8) -> ServedEndpoint {
    ServedEndpoint {
        id: number.into(),
        generation: 1,
        container: id(name),
        container_name: name.into(),
        network: app(),
        network_name: "app".into(),
        zone: 1,
        state: MemberState::Active,
        v4: Some(v4(number)),
        v6: None,
        interface: Some(ServedInterface {
            ifindex: number.into(),
            name: format!("veth{number}"),
            mac: [2, 0, 0, 0, 0, number],
        }),
        groups: Vec::new(),
    }
}

fn container(name: &str) -> Container {
    Container {
        id: id(name),
        name: name.into(),
        hostname: name.into(),
        state: RunState::Running,
        labels: BTreeMap::new(),
        netns: None,
        sharers: Vec::new(),
        dns_servers: Vec::new(),
        elsewhere: Elsewhere::Nothing,
        publishing: Default::default(),
        attachments: vec![Attachment {
            network: app(),
            endpoint_id: "e".into(),
            v4: None,
            v6: None,
            aliases: Vec::new(),
            linked: Vec::new(),
            link: Some(Link {
                host_ifindex: 5,
                host_name: "veth5".into(),
                container_ifindex: 2,
                container_name: "eth0".into(),
                mac: [0; 6],
                link_local: None,
            }),
        }],
    }
}

fn member(name: &str, number: u8) -> Member {
    Member {
        container: id(name),
        name: name.into(),
        endpoint: number.into(),
        v4: Some(v4(number)),
        v6: None,
        weight: 1,
        state: MemberState::Active,
    }
}

/// Client `web` (5) and Group `tg-net` of `one` (2) and `two` (3) on Network `app`.
fn view() -> View {
    let mut state = State::default();
    let slot = |endpoint| Slot {
        endpoint,
        ..Slot::default()
    };
    let frontend = Frontend {
        id: 9,
        first_slot: 4,
        slot_count: 3,
        ..Frontend::default()
    };
    state.slots.insert(4, vec![slot(2), slot(3), slot(2)]);
    state
        .frontends
        .insert(FrontendKey::vip(VIP.into(), 1), frontend);
    for number in [2, 3, 5] {
        let up = lb_common::Endpoint {
            state: EndpointState::Active as u8,
            ..Default::default()
        };
        state.endpoints.insert(number, up);
    }
    let group = Group {
        network: app(),
        network_name: "app".into(),
        zone: 1,
        alias: "tg-net".into(),
        policy: Policy::default(),
        vip_v4: Some(VIP),
        vip_v6: None,
        frontend_v4: Some(9),
        frontend_v6: None,
        members: vec![member("one", 2), member("two", 3)],
    };
    let namespace = ServedNamespace {
        netns: Netns {
            path: PathBuf::from("/proc/5/ns/net"),
            cookie: 5,
        },
        container: id("web"),
        routes: vec![VipRoute {
            container_ifindex: 2,
            to: "198.18.0.0/22".parse().unwrap(),
        }],
        knows_names: true,
        servers: Vec::new(),
        gate: None,
    };
    let network = |name: &str| Network {
        id: NetworkId(format!("{name}-id")),
        name: name.into(),
        bridge: format!("br-{name}"),
        subnets: vec!["10.0.0.0/24".parse().unwrap()],
        internal: false,
        labels: BTreeMap::new(),
        policy: Default::default(),
    };
    View {
        observed: Arc::new(Observed {
            networks: vec![network("app"), network("empty")],
            containers: vec![container("web")],
            ..Observed::default()
        }),
        desired: Arc::new(Desired {
            ports: Vec::new(),
            firewall: Vec::new(),
            sysctls: Vec::new(),
            rules: None,
            state,
            groups: vec![group],
            endpoints: vec![endpoint("one", 2), endpoint("two", 3), endpoint("web", 5)],
            resolvers: vec![namespace],
            notices: Vec::new(),
        }),
    }
}

fn counted() -> Counted {
    let mut counted = Counted::default();
    let backend = BackendCounters {
        connections: 5,
        packets: 60,
        bytes: 6_000,
    };
    counted.backends.insert(2, backend);
    counted.loads.insert(2, 1);
    let frontend = FrontendCounters {
        connections: 10,
        refused: 3,
    };
    counted.frontends.insert(9, frontend);
    counted
}

#[test]
fn a_group_has_the_counters_of_its_frontends_and_its_members() {
    let groups = view().groups(&counted());

    let group = &groups[0];
    assert_eq!((group.connections, group.refused), (10, 3));
    assert_eq!(group.vips, [IpAddr::V4(VIP)]);
    let members: Vec<_> = group
        .members
        .iter()
        .map(|m| (m.connections, m.established))
        .collect();
    assert_eq!(members, [(5, 1), (0, 0)]);
}

#[test]
fn a_frontend_names_its_group_and_each_backend_once() {
    let frontends = view().frontends(&counted());

    let frontend = &frontends[0];
    assert_eq!(
        (frontend.group.as_str(), frontend.network.as_str()),
        ("tg-net", "app")
    );
    assert_eq!(frontend.backends, ["one", "two"]);
    assert_eq!(
        (frontend.port, frontend.protocol.as_deref(), frontend.slots),
        (None, None, 3)
    );
}

#[test]
fn a_network_without_endpoints_is_not_served() {
    let networks = view().networks();

    assert_eq!(networks.len(), 1);
    let app = &networks[0];
    assert_eq!(
        (app.name.as_str(), app.zone, app.endpoints, app.groups),
        ("app", 1, 3, 1)
    );
    assert_eq!(app.vip_ranges, ["198.18.0.0/22".parse().unwrap()]);
}

#[test]
fn an_endpoint_has_its_interface_and_its_counters() {
    let endpoints = view().endpoints(&counted());

    let one = &endpoints[0];
    assert_eq!((one.interface.as_str(), one.ifindex), ("veth2", 2));
    assert_eq!(one.mac, "02:00:00:00:00:02");
    assert_eq!((one.packets, one.bytes, one.established), (60, 6_000, 1));
}

#[test]
fn a_connection_names_its_containers_and_its_group() {
    let second = 1_000_000_000;
    let key = FlowKey {
        source: v4(5).into(),
        destination: VIP.into(),
        source_port: Port::new(40_000),
        destination_port: Port::new(80),
        zone: 1,
        protocol: 6,
        _pad: 0,
    };
    let entry = Connection {
        destination: v4(2).into(),
        destination_port: Port::new(80),
        frontend: 9,
        backend: 2,
        created: 10 * second,
        last_seen: 60 * second,
        timeout: 8_000,
        flags: ConnectionFlags::FORWARD | ConnectionFlags::REPLIED,
        ..Connection::default()
    };

    let row = view().connection(&key, &entry, 70 * second);

    assert_eq!(
        (row.group.as_str(), row.network.as_str()),
        ("tg-net", "app")
    );
    assert_eq!(row.client.container.as_deref(), Some("web"));
    assert_eq!(row.backend.container.as_deref(), Some("one"));
    assert_eq!((row.age_seconds, row.idle_seconds), (60, 10));
    assert_eq!(row.phase, ConnectionPhase::Established);
}

#[test]
fn a_connection_closes_with_one_side_and_is_closed_with_both() {
    let phase = |flags| {
        super::phase(&Connection {
            flags,
            ..Connection::default()
        })
    };

    assert_eq!(phase(0), ConnectionPhase::New);
    assert_eq!(phase(ConnectionFlags::FIN_CLIENT), ConnectionPhase::Closing);
    assert_eq!(phase(ConnectionFlags::FINISHED), ConnectionPhase::Closed);
    assert_eq!(phase(ConnectionFlags::RESET), ConnectionPhase::Closed);
}

#[test]
fn a_container_is_found_by_name_id_short_id_and_address() {
    let view = view();
    let found = |who: &str| {
        let endpoints = view.endpoints_of(who).into_iter();
        endpoints
            .map(|endpoint| endpoint.container_name.clone())
            .collect::<Vec<_>>()
    };

    assert_eq!(found("web"), ["web"]);
    assert_eq!(found(&id("web").0), ["web"]);
    assert_eq!(found(id("web").short()), ["web"]);
    assert_eq!(found("10.0.0.5"), ["web"]);
    assert!(found("nobody").is_empty());
}
