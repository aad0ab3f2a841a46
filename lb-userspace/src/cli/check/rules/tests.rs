use std::path::PathBuf;

use super::super::Level;
use super::super::engine::DockerNetwork;
use super::super::facts::Stranger;
use super::super::routes::Route;
use super::*;
use crate::config::Config;

fn found(health: Health) -> Feature {
    Feature {
        name: "kernel",
        health,
        found: "6.12.9-amd64".into(),
        remedy: "boot another one".into(),
    }
}

/// A host on which everything is as it should be.
fn healthy() -> Facts {
    Facts {
        features: vec![found(Health::Good)],
        routes: vec![Route {
            to: "0.0.0.0/0".parse().unwrap(),
            interface: "eth0".into(),
        }],
        bridge_netfilter: None,
        strangers: Vec::new(),
        engine: Engine::Answering(Settings {
            version: "28.1.0".into(),
            api_version: "1.49".into(),
            iptables: Some(true),
            ..Settings::default()
        }),
        config: Ok((Some(PathBuf::from(Config::PATH)), Config::default().vips)),
        daemon: Daemon::Silent("no such file".into()),
    }
}

/// The verdicts that are not ok.
fn complaints(facts: &Facts) -> Vec<(&'static str, Level)> {
    let verdicts = judge(facts).into_iter();
    verdicts
        .filter(|verdict| verdict.level > Level::Ok)
        .map(|verdict| {
            assert!(verdict.remedy.is_some(), "no remedy: {verdict:?}");
            (verdict.subject, verdict.level)
        })
        .collect()
}

#[test]
fn a_healthy_host_has_nothing_to_complain_about() {
    assert_eq!(complaints(&healthy()), []);
}

#[test]
fn what_the_datapath_lacks_is_judged_as_the_datapath_does() {
    let facts = Facts {
        features: vec![found(Health::Error), found(Health::Warning)],
        ..healthy()
    };

    let errors = complaints(&facts);

    assert_eq!(
        errors,
        [("kernel", Level::Error), ("kernel", Level::Warning)]
    );
}

#[test]
fn a_vip_pool_must_not_contain_a_route_nor_lie_in_a_docker_network() {
    let mut with_route = healthy();
    with_route.routes.push(Route {
        to: "198.18.7.0/24".parse().unwrap(),
        interface: "bench0".into(),
    });
    let mut with_network = healthy();
    if let Engine::Answering(settings) = &mut with_network.engine {
        settings.networks.push(DockerNetwork {
            name: "app".into(),
            driver: "bridge".into(),
            subnets: vec!["fd76::/16".parse().unwrap()],
        });
    }

    assert_eq!(complaints(&with_route), [("vips", Level::Error)]);
    assert_eq!(complaints(&with_network), [("vips", Level::Error)]);
}

#[test]
fn the_halves_of_a_vpns_default_route_do_not_clash() {
    let mut facts = healthy();
    facts.routes.push(Route {
        to: "128.0.0.0/1".parse().unwrap(),
        interface: "tun0".into(),
    });

    assert_eq!(complaints(&facts), []);
}

#[test]
fn settings_of_docker_that_matter_are_told() {
    let mut facts = healthy();
    if let Engine::Answering(settings) = &mut facts.engine {
        settings.swarm = true;
        settings.iptables = Some(false);
        settings.userland_proxy = Some(true);
    }
    facts.bridge_netfilter = Some(true);
    facts.strangers.push(Stranger {
        interface: "veth1".into(),
        program: "cil_from_container".into(),
    });

    let warnings: Vec<_> = complaints(&facts)
        .into_iter()
        .map(|(subject, _)| subject)
        .collect();

    assert_eq!(
        warnings,
        ["swarm", "userland-proxy", "br_netfilter", "other programs"]
    );
}

#[test]
fn a_missing_engine_is_a_warning_and_a_refused_configuration_an_error() {
    let facts = Facts {
        engine: Engine::Absent {
            socket: "/var/run/docker.sock".into(),
            error: "no such file".into(),
        },
        config: Err("veer.toml:3: unknown key".into()),
        ..healthy()
    };

    assert_eq!(
        complaints(&facts),
        [("config", Level::Error), ("engine", Level::Warning)]
    );
}
