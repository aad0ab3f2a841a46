//! What the Engine's answers say, old and new.

use std::path::Path;

use bollard::models::{ContainerInspectResponse, EventMessage, NetworkInspect};

use super::super::facts::{ContainerFacts, Mode, NetworkFacts, Run, Service};
use super::super::news::{News, What};
use super::super::signal::Signal;
use crate::model::{ContainerId, NetworkId, PortRange, Protocol, PublishedPorts};

const OLD: &str = include_str!("../samples/container-20.10.json");
const NEW: &str = include_str!("../samples/container-29.json");
const CREATED: &str = include_str!("../samples/container-created-20.10.json");
const OLD_NETWORK: &str = include_str!("../samples/network-20.10.json");
const NEW_NETWORK: &str = include_str!("../samples/network-29.json");

fn container(sample: &str) -> ContainerFacts {
    let answer: ContainerInspectResponse = serde_json::from_str(sample).unwrap();
    ContainerFacts::from_inspection(answer).unwrap()
}

fn network(sample: &str) -> NetworkFacts {
    let answer: NetworkInspect = serde_json::from_str(sample).unwrap();
    NetworkFacts::from_inspection(answer).unwrap()
}

#[test]
fn a_container_says_the_same_whatever_the_engines_age() {
    for sample in [OLD, NEW] {
        let facts = container(sample);

        assert_eq!(
            (facts.name.as_str(), facts.hostname.as_str()),
            ("web", "frontdoor")
        );
        assert_eq!((facts.run, facts.mode), (Run::Running, Mode::Networks));
        assert_eq!(facts.stop_signal, Signal(3));
        assert_eq!(facts.labels["veer.weight"], "3");
        assert_eq!(facts.dns_servers.len(), 2);
        let sandbox = Path::new("/var/run/docker/netns/6dcd94c26224");
        assert_eq!(facts.sandbox.as_deref(), Some(sandbox));
        let endpoint = &facts.endpoints["ds"];
        assert_eq!(
            endpoint.aliases,
            ["tg-net", "Web.Blue"],
            "names of its own are no aliases"
        );
        assert_eq!(endpoint.gateway, (true, true));
        assert!(endpoint.endpoint_id.is_some() && endpoint.network.is_some());
    }
}

#[test]
fn a_created_container_has_aliases_and_nothing_else_of_its_networks() {
    let facts = container(CREATED);

    assert_eq!((facts.run, facts.sandbox.as_ref()), (Run::Idle, None));
    assert_eq!(facts.stop_signal, Signal::TERM, "Docker's own choice");
    let endpoint = facts
        .endpoint(&network(OLD_NETWORK).network)
        .expect("found by its name");
    assert_eq!(endpoint.aliases, ["tg-net"]);
    assert_eq!((&endpoint.endpoint_id, &endpoint.network), (&None, &None));
}

#[test]
fn a_network_lists_who_has_been_given_to_a_container() {
    let facts = network(OLD_NETWORK);

    assert_eq!(facts.service, Service::Served);
    assert_eq!(facts.network.bridge, "br-d6b5a6800be9");
    assert_eq!(facts.network.subnets.len(), 2);
    assert_eq!(facts.network.labels["team"], "blue");
    assert_eq!(
        facts.ports.len(),
        1,
        "an endpoint without a container is nobody's"
    );
    let port = facts.ports.values().next().unwrap();
    assert_eq!(port.mac, [2, 0x42, 10, 7, 0, 2]);
    assert_eq!(port.v4, Some("10.7.0.2".parse().unwrap()));
    assert_eq!(port.v6, Some("fd00:7::2".parse().unwrap()));
}

#[test]
fn a_network_of_ipv6_alone_with_a_bridge_of_a_given_name_is_read() {
    let facts = network(NEW_NETWORK);

    assert_eq!(facts.network.bridge, "blue0");
    assert!(facts.network.internal);
    assert_eq!(facts.network.subnets, ["fd00:7::/64".parse().unwrap()]);
    let port = facts.ports.values().next().unwrap();
    assert_eq!(
        (port.v4, port.v6),
        (None, Some("fd00:7::2".parse().unwrap()))
    );
}

#[test]
fn only_a_bridge_of_this_host_is_served() {
    let service = |changes: &[(&str, &str)]| {
        let mut answer: serde_json::Value = serde_json::from_str(NEW_NETWORK).unwrap();
        for (key, value) in changes {
            answer[*key] = (*value).into();
        }
        network(&answer.to_string()).service
    };
    let told = |service: Service, word: &str| match service {
        Service::NotServed(Some(why)) => assert!(why.contains(word), "{why}"),
        other => panic!("{other:?}"),
    };

    assert_eq!(service(&[]), Service::Served);
    assert_eq!(service(&[("Name", "bridge")]), Service::Served);
    assert_eq!(
        service(&[("Driver", "host"), ("Name", "host")]),
        Service::NotServed(None)
    );
    assert_eq!(
        service(&[("Driver", "null"), ("Name", "none")]),
        Service::NotServed(None)
    );
    told(service(&[("Driver", "macvlan")]), "macvlan");
    told(
        service(&[("Driver", "overlay"), ("Scope", "swarm")]),
        "overlay",
    );
    told(service(&[("Name", "docker_gwbridge")]), "Swarm");
}

#[test]
fn an_answer_that_lacks_an_id_is_refused_by_name() {
    let answer: ContainerInspectResponse = serde_json::from_str("{}").unwrap();

    let refused = ContainerFacts::from_inspection(answer).unwrap_err();

    assert_eq!(refused.to_string(), "the Engine's answer has no Id");
}

#[test]
fn how_a_container_is_on_the_network_is_read_from_its_mode() {
    let mode = |text: &str| {
        let mut answer: serde_json::Value = serde_json::from_str(NEW).unwrap();
        answer["HostConfig"]["NetworkMode"] = text.into();
        container(&answer.to_string()).mode
    };

    assert_eq!(mode("host"), Mode::Host);
    assert_eq!(mode("none"), Mode::Nothing);
    assert_eq!(mode("container:abc"), Mode::Container("abc".to_string()));
    assert_eq!(mode("ds"), Mode::Networks);
}

#[test]
fn ports_are_read_as_the_engine_has_bound_them() {
    let mut answer: serde_json::Value = serde_json::from_str(NEW).unwrap();
    answer["NetworkSettings"]["Ports"] = serde_json::json!({
        "80/tcp": [
            { "HostIp": "0.0.0.0", "HostPort": "8080" },
            { "HostIp": "::", "HostPort": "8080" },
        ],
        "53/udp": [{ "HostIp": "127.0.0.2", "HostPort": "49153" }],
        "81/tcp": [{ "HostIp": "", "HostPort": "" }],
        "9000/sctp": null,
        "7/other": null,
    });
    answer["HostConfig"]["Links"] = serde_json::json!(["/db:/web/database"]);

    let facts = container(&answer.to_string());

    let port = |protocol, host: &str, host_port, port| PublishedPorts {
        protocol,
        host: host.parse().ok(),
        host_port,
        port,
        count: 1,
    };
    let expected = [
        port(Protocol::Tcp, "", None, 81),
        port(Protocol::Tcp, "0.0.0.0", Some(8080), 80),
        port(Protocol::Tcp, "::", Some(8080), 80),
        port(Protocol::Udp, "127.0.0.2", Some(49153), 53),
    ];
    assert_eq!(facts.ports.published, expected);
    let range = |protocol, first, count| PortRange {
        protocol,
        first,
        count,
    };
    let exposed = [
        range(Protocol::Tcp, 80, 2),
        range(Protocol::Udp, 53, 1),
        range(Protocol::Sctp, 9_000, 1),
    ];
    assert_eq!(facts.ports.exposed, exposed);
    assert_eq!(facts.links, ["db"]);
}

#[test]
fn events_say_where_to_look() {
    let news = |typ: &str, action: &str, attributes: serde_json::Value| {
        let event = serde_json::json!({
            "Type": typ, "Action": action, "scope": "local", "time": 7, "timeNano": 7_000_000_005u64,
            "Actor": { "ID": "abc", "Attributes": attributes },
        });
        let event: EventMessage = serde_json::from_value(event).unwrap();
        News::from_event(&event)
    };
    let what =
        |typ: &str, action: &str, attributes| news(typ, action, attributes).map(|news| news.what);
    let (container, network) = (ContainerId("abc".into()), NetworkId("abc".into()));
    let other = ContainerId("def".into());
    let with = serde_json::json!({ "container": "def" });

    let at = news("container", "start", serde_json::json!({}))
        .unwrap()
        .at;
    assert_eq!(
        at.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos(),
        7_000_000_005
    );
    let quit = serde_json::json!({ "signal": "3" });
    for (event, said) in [
        (
            what("container", "rename", serde_json::json!({})),
            What::Container(container.clone()),
        ),
        (
            what("container", "die", serde_json::json!({})),
            What::Died(container.clone()),
        ),
        (
            what("container", "kill", quit),
            What::Signalled(container, Signal(3)),
        ),
        (
            what("network", "connect", with.clone()),
            What::Connected(network.clone(), other.clone()),
        ),
        (
            what("network", "disconnect", with),
            What::Disconnected(network.clone(), other),
        ),
        (
            what("network", "destroy", serde_json::json!({})),
            What::Network(network),
        ),
    ] {
        assert_eq!(event, Some(said));
    }
    assert_eq!(what("volume", "mount", serde_json::json!({})), None);
}
