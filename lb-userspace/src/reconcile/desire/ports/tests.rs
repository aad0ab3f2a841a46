use std::net::IpAddr;

use lb_common::{Addr, FrontendKey, Port, Slot};

use super::*;
use crate::config::{FirewallRule, GroupName, PublishConfig};
use crate::model::{Container, Host, PublishedPorts, label};
use crate::reconcile::samples::{container, members, observed};
use crate::reconcile::{State, dangling, desire};
use crate::sysctl::Sysctl;

fn desired_by(containers: Vec<Container>, config: &Config) -> Desired {
    let (host, mut identities) = (Host::default(), Identities::default());
    let desired = desire(&observed(containers), &host, config, &mut identities);
    assert_eq!(dangling(&desired.state), []);
    desired
}

fn desired(containers: Vec<Container>) -> Desired {
    desired_by(containers, &Config::default())
}

impl Container {
    /// The same, with `count` ports from `port` on at `host`.
    fn publishing(mut self, host: &str, host_port: u16, port: u16, count: u16) -> Self {
        let gateway = self
            .attachments
            .first()
            .map(|attachment| attachment.network.clone());
        self.publishing.gateway_v4 = gateway.clone();
        self.publishing.gateway_v6 = gateway;
        self.publishing.ports.push(PublishedPorts {
            protocol: Protocol::Tcp,
            host: host.parse().ok(),
            host_port: Some(host_port),
            port,
            count,
        });
        self
    }
}

fn web(number: u16) -> Container {
    container(&format!("web{number}")).attached("net", number, &["tg"])
}

/// The Frontend that the kernel finds for TCP to this address and port, as it looks for it.
fn found(state: &State, address: &str, port: u16) -> Option<Frontend> {
    let address: IpAddr = address.parse().unwrap();
    let cell = Port::new(state.cells.cell(6, port));
    let wildcard = FrontendKey::wildcard(address.is_ipv4());
    let at = |address: Addr| {
        let key = FrontendKey::published(address, cell, 6);
        state.frontends.get(&key).copied()
    };
    (!cell.is_none()).then(|| at(address.into()).or_else(|| at(wildcard)))?
}

/// Endpoint and port of the only Backend that `address:port` leads to.
fn backend(state: &State, address: &str, port: u16) -> Option<(u32, u16)> {
    let frontend = found(state, address, port)?;
    let slot = match state.slots.get(&frontend.first_slot).map(Vec::as_slice) {
        Some([slot]) => *slot,
        _ => Slot::default(),
    };
    Some((
        slot.endpoint,
        slot.port.get() + (port - frontend.origin.get()),
    ))
}

#[test]
fn a_range_is_one_cell_and_one_frontend_for_each_address() {
    let desired = desired(vec![web(1).publishing("", 20_000, 30_000, 10_000)]);

    assert_eq!(desired.state.cells.runs().count(), 1);
    let published = desired.state.frontends.keys().filter(|key| key.zone == 0);
    assert_eq!(published.count(), 2);
    let id = desired.endpoints[0].id;
    for (port, expected) in [(20_000, 30_000), (29_999, 39_999)] {
        assert_eq!(
            backend(&desired.state, "192.0.2.1", port),
            Some((id, expected))
        );
        assert_eq!(
            backend(&desired.state, "2001:db8::1", port),
            Some((id, expected))
        );
    }
    assert_eq!(backend(&desired.state, "192.0.2.1", 30_000), None);
}

#[test]
fn an_exact_address_counts_before_all_addresses_within_a_range() {
    let desired = desired(vec![
        web(1).publishing("0.0.0.0", 8_000, 8_000, 100),
        web(2).publishing("127.0.0.2", 8_050, 80, 1),
    ]);

    let ids: Vec<u32> = desired
        .endpoints
        .iter()
        .map(|endpoint| endpoint.id)
        .collect();
    let state = &desired.state;
    assert_eq!(state.cells.runs().count(), 3);
    assert_eq!(backend(state, "127.0.0.2", 8_050), Some((ids[1], 80)));
    assert_eq!(backend(state, "127.0.0.3", 8_050), Some((ids[0], 8_050)));
    assert_eq!(backend(state, "127.0.0.2", 8_051), Some((ids[0], 8_051)));
    assert_eq!(backend(state, "::1", 8_050), None);
}

#[test]
fn ports_are_at_the_endpoint_that_leads_outside() {
    let mut two = web(1).attached("other", 2, &[]).publishing("", 80, 80, 1);
    two.publishing.gateway_v4 = Some(crate::model::NetworkId("id-of-other".to_string()));
    let mut scene = observed([two]);
    scene
        .networks
        .push(crate::reconcile::samples::network("other", 2));
    let mut identities = Identities::default();

    let desired = desire(
        &scene,
        &Host::default(),
        &Config::default(),
        &mut identities,
    );

    let on = |name: &str| {
        let mut endpoints = desired.endpoints.iter();
        endpoints
            .find(|endpoint| endpoint.network_name == name)
            .unwrap()
            .id
    };
    assert_eq!(
        backend(&desired.state, "192.0.2.1", 80),
        Some((on("other"), 80))
    );
    assert_eq!(
        backend(&desired.state, "2001:db8::1", 80),
        Some((on("net"), 80))
    );
}

#[test]
fn a_container_that_cannot_take_connections_keeps_its_port() {
    let mut gone = web(1).publishing("", 80, 80, 1);
    gone.attachments[0].link = None;

    let desired = desired(vec![gone]);

    let frontend = found(&desired.state, "192.0.2.1", 80).unwrap();
    assert_eq!(frontend.slot_count, 0, "so that clients are refused");
}

#[test]
fn a_port_keeps_its_frontend_id_when_its_container_is_replaced() {
    let (host, config) = (Host::default(), Config::default());
    let mut identities = Identities::default();
    let mut id = |number| {
        let scene = observed([web(number).publishing("0.0.0.0", 80, 80, 1)]);
        let desired = desire(&scene, &host, &config, &mut identities);
        found(&desired.state, "192.0.2.1", 80).unwrap().id
    };

    assert_eq!(id(1), id(2));
}

#[test]
fn the_first_one_keeps_a_port_that_two_want() {
    let config = Config {
        publish: vec![publish(8_080..=8_090)],
        ..Config::default()
    };

    let desired = desired_by(vec![web(1).publishing("0.0.0.0", 8_085, 80, 1)], &config);

    assert!(found(&desired.state, "192.0.2.1", 8_085).is_some());
    assert_eq!(found(&desired.state, "192.0.2.1", 8_086), None);
    assert!(found(&desired.state, "2001:db8::1", 8_086).is_some());
    let told = &desired.notices[0].message;
    assert!(told.contains("container web1 is"), "{told}");
}

fn publish(ports: std::ops::RangeInclusive<u16>) -> PublishConfig {
    PublishConfig {
        address: None,
        ports,
        protocol: Protocol::Tcp,
        group: GroupName {
            network: "net".to_string(),
            alias: "tg".to_string(),
        },
        target_port: None,
        algorithm: None,
        allow: Vec::new(),
        deny: Vec::new(),
    }
}

#[test]
fn a_group_is_published_with_its_members_ports() {
    let config = Config {
        publish: vec![publish(80..=80)],
        ..Config::default()
    };
    let mut containers = members("web", 3, "tg");
    containers[1] = containers[1].clone().labelled(label::PORT, "8080");

    let desired = desired_by(containers, &config);

    let frontend = found(&desired.state, "192.0.2.1", 80).unwrap();
    let table = &desired.state.slots[&frontend.first_slot];
    let ports: Vec<u16> = table.iter().map(|slot| slot.port.get()).collect();
    assert_eq!(ports, [80, 8_080, 80]);
    assert_eq!(desired.notices, []);
}

#[test]
fn ports_that_the_engine_does_not_hold_are_reserved() {
    let config = Config {
        publish: vec![publish(40_000..=40_010)],
        ..Config::default()
    };
    let mut containers = members("web", 2, "tg");
    containers.push(web(9).publishing("", 45_000, 80, 1));

    let desired = desired_by(containers, &config);

    let masquerade = 61_000..=65_535;
    let reserved = Sysctl::Reserved(vec![40_000..=40_010, masquerade]);
    assert!(desired.sysctls.contains(&reserved), "{:?}", desired.sysctls);
}

#[test]
fn a_label_publishes_the_group_once_whoever_says_it() {
    let containers = members("web", 2, "tg").into_iter();
    let containers = containers.map(|one| one.labelled(label::PUBLISH, "192.0.2.1:80:81"));

    let desired = desired(containers.collect());

    let frontend = found(&desired.state, "192.0.2.1", 80).unwrap();
    assert_eq!(frontend.slot_count, 2);
    assert_eq!(found(&desired.state, "192.0.2.2", 80), None);
    assert_eq!(desired.notices, []);
}

#[test]
fn rules_about_one_address_hold_there_alone() {
    let rule = FirewallRule {
        allows: false,
        source: None,
        address: Some("192.0.2.1".parse().unwrap()),
        ports: Some(8_010..=8_019),
        protocol: None,
    };
    let config = Config {
        firewall: vec![rule],
        ..Config::default()
    };

    let desired = desired_by(
        vec![web(1).publishing("0.0.0.0", 8_000, 8_000, 100)],
        &config,
    );

    let list = |address, port| found(&desired.state, address, port).unwrap().sources;
    assert_ne!(list("192.0.2.1", 8_015), 0);
    assert_eq!(list("192.0.2.1", 8_020), 0);
    assert_eq!(list("192.0.2.2", 8_015), 0);
}

#[test]
fn sctp_is_published_at_its_own_number_alone() {
    let mut same = web(1).publishing("0.0.0.0", 80, 80, 1);
    same.publishing.ports[0].protocol = Protocol::Sctp;
    let mut other = web(2).publishing("0.0.0.0", 81, 82, 1);
    other.publishing.ports[0].protocol = Protocol::Sctp;

    let desired = desired(vec![same, other]);

    let key = |port| FrontendKey::published(FrontendKey::wildcard(true), Port::new(port), 132);
    assert!(desired.state.frontends.contains_key(&key(80)));
    assert!(!desired.state.frontends.contains_key(&key(81)));
    assert!(
        desired.notices[0].message.contains("82:82/sctp"),
        "{:?}",
        desired.notices
    );
}
