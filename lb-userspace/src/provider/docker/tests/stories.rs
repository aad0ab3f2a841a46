//! What is observed, as news and answers come in.

use bollard::models::{ContainerInspectResponse, NetworkInspect};
use serde_json::{Value, json};

use super::super::facts::{ContainerFacts, NetworkFacts};
use super::super::inside::Inside;
use super::super::look::{Errand, Extent};
use super::super::news::{News, What};
use super::super::observe::observe;
use super::super::signal::Signal;
use super::super::view::{Subject, View};
use crate::model::{ContainerId, Elsewhere, NetworkId, Observed, RunState};
use crate::netns::{Header, Interface, InterfaceKind};

pub(super) fn id(number: u32) -> ContainerId {
    ContainerId(format!("{number:064x}"))
}

pub(super) fn network_id(number: u32) -> NetworkId {
    NetworkId(format!("{number:064x}"))
}

fn mac(network: u32, container: u32) -> String {
    format!(
        "02:42:0a:{network:02x}:{:02x}:{:02x}",
        container >> 8,
        container & 255
    )
}

fn address(network: u32, container: u32) -> String {
    format!("10.{network}.{}.{}", container >> 8, container & 255)
}

/// An inspection of container `number`, connected to `networks` when it runs.
pub(super) fn container(number: u32, status: &str, networks: &[u32]) -> Value {
    let running = matches!(status, "running" | "paused");
    let endpoint = |network: &u32| {
        let settings = json!({
            "Aliases": ["tg-net", id(number).short()],
            "NetworkID": if running { network_id(*network).0 } else { String::new() },
            "EndpointID": if running { format!("e{number}-{network}") } else { String::new() },
            "Gateway": if running { "10.0.0.1" } else { "" },
            "MacAddress": if running { mac(*network, number) } else { String::new() },
            "IPAddress": if running { address(*network, number) } else { String::new() },
        });
        (format!("net{network}"), settings)
    };
    let networks: serde_json::Map<_, _> = networks.iter().map(endpoint).collect();
    json!({
        "Id": id(number).0, "Name": format!("/web{number}"),
        "State": { "Status": status, "StartedAt": if running { "today" } else { "never" } },
        "HostConfig": { "NetworkMode": "net1" },
        "Config": { "Hostname": id(number).short(), "Labels": {} },
        "NetworkSettings": { "SandboxKey": "", "Networks": networks },
    })
}

/// An inspection of network `number` with these containers.
pub(super) fn network(number: u32, containers: &[u32]) -> Value {
    let port = |container: &u32| {
        let port = json!({
            "Name": format!("web{container}"), "EndpointID": format!("e{container}-{number}"),
            "MacAddress": mac(number, *container),
            "IPv4Address": format!("{}/16", address(number, *container)),
            "IPv6Address": "",
        });
        (id(*container).0, port)
    };
    let containers: serde_json::Map<_, _> = containers.iter().map(port).collect();
    json!({
        "Name": format!("net{number}"), "Id": network_id(number).0, "Driver": "bridge",
        "Scope": "local", "Internal": false,
        "IPAM": { "Config": [{ "Subnet": format!("10.{number}.0.0/16") }] },
        "Containers": containers, "Options": {}, "Labels": {},
    })
}

#[derive(Default)]
pub(super) struct Story {
    pub(super) view: View,
}

impl Story {
    pub(super) fn inspected(&mut self, answer: Value) -> Vec<NetworkId> {
        let answer: ContainerInspectResponse = serde_json::from_value(answer).unwrap();
        let facts = ContainerFacts::from_inspection(answer).unwrap();
        self.view.read_container(facts)
    }

    pub(super) fn network(&mut self, answer: Value) -> Vec<ContainerId> {
        let answer: NetworkInspect = serde_json::from_value(answer).unwrap();
        let facts = NetworkFacts::from_inspection(answer).unwrap();
        self.view.read_network(facts)
    }

    pub(super) fn heard(&mut self, what: What) -> Vec<Subject> {
        let at = std::time::SystemTime::now();
        let news = News { at, what };
        news.tell(&mut self.view);
        news.subjects(&self.view)
    }

    pub(super) fn observed(&self) -> Observed {
        observe(&self.view)
    }

    fn states(&self) -> Vec<RunState> {
        let observed = self.observed();
        observed
            .containers
            .iter()
            .map(|container| container.state)
            .collect()
    }
}

#[test]
fn a_container_is_there_from_its_connection_on_though_its_inspection_is_locked() {
    let mut story = Story::default();
    story.network(network(1, &[]));
    story.inspected(container(7, "created", &[1]));
    assert_eq!(story.states(), [], "created is not there yet");

    let again = story.heard(What::Connected(network_id(1), id(7)));
    story.network(network(1, &[7]));

    assert_eq!(
        again,
        [Subject::Network(network_id(1))],
        "no inspection that would wait"
    );
    let observed = story.observed();
    let seen = &observed.containers[0];
    assert_eq!(
        (seen.state, seen.name.as_str()),
        (RunState::Starting, "web7")
    );
    assert_eq!(seen.attachments[0].aliases, ["tg-net"]);
    assert_eq!(seen.attachments[0].v4, Some("10.1.0.7".parse().unwrap()));
}

#[test]
fn a_container_whose_first_inspection_is_locked_is_told_of_by_its_namespace() {
    let mut story = Story::default();
    story.network(network(1, &[]));
    let mut foreign = network(2, &[8]);
    foreign["Driver"] = "macvlan".into();
    story.network(foreign);
    for container in [7, 8] {
        story.heard(What::Connected(network_id(1), id(container)));
    }
    story.network(network(1, &[7, 8]));
    assert_eq!(story.observed().arriving, [], "no namespace is known");
    for (container, number) in [(7, 7), (8, 8)] {
        let inside = Inside::sample(number, Vec::new());
        story.view.looked(&id(container), Ok(inside));
    }

    let arriving = story.observed().arriving;
    let told: Vec<_> = arriving.iter().map(|it| it.netns.cookie).collect();

    assert_eq!(told, [7], "names of the other one's network are Docker's");
    assert_eq!(arriving[0].networks, [network_id(1)]);
    story.inspected(container(7, "running", &[1]));
    let observed = story.observed();
    assert_eq!((observed.arriving.len(), observed.containers.len()), (0, 1));
}

#[test]
fn an_inspection_that_waited_does_not_take_a_starting_container_away() {
    let mut story = Story::default();
    story.network(network(1, &[]));
    story.heard(What::Connected(network_id(1), id(7)));
    story.network(network(1, &[7]));

    story.inspected(container(7, "created", &[1]));

    assert_eq!(story.states(), [RunState::Starting]);
}

#[test]
fn a_running_container_that_is_connected_is_asked_first_and_then_the_network() {
    let mut story = Story::default();
    story.network(network(1, &[7]));
    story.network(network(2, &[]));
    story.inspected(container(7, "running", &[1]));

    let at_once = story.heard(What::Connected(network_id(2), id(7)));
    let afterwards = story.inspected(container(7, "running", &[1, 2]));

    assert_eq!(at_once, [Subject::Container(id(7))], "it has the aliases");
    assert_eq!(afterwards, [network_id(2)]);
}

#[test]
fn who_is_connected_before_anything_is_known_of_it_has_both_asked() {
    let mut story = Story::default();
    story.network(network(1, &[]));

    let again = story.heard(What::Connected(network_id(1), id(7)));

    let network = Subject::Network(network_id(1));
    assert_eq!(again, [network, Subject::Container(id(7))]);
}

#[test]
fn only_what_docker_stop_would_send_makes_a_container_stop() {
    let mut story = Story::default();
    story.network(network(1, &[7]));
    story.inspected(container(7, "running", &[1]));

    story.heard(What::Signalled(id(7), Signal(1)));
    assert_eq!(story.states(), [RunState::Running]);
    story.heard(What::Signalled(id(7), Signal::TERM));
    assert_eq!(story.states(), [RunState::Stopping]);
    story.inspected(container(7, "running", &[1]));
    assert_eq!(
        story.states(),
        [RunState::Stopping],
        "the Engine calls it running to the end"
    );
    story.heard(What::Died(id(7)));
    assert_eq!(story.states(), []);
}

#[test]
fn another_start_is_another_run() {
    let mut story = Story::default();
    story.network(network(1, &[7]));
    story.inspected(container(7, "running", &[1]));
    story.heard(What::Signalled(id(7), Signal::TERM));

    let mut restarted = container(7, "running", &[1]);
    restarted["State"]["StartedAt"] = "tomorrow".into();
    story.inspected(restarted);

    assert_eq!(story.states(), [RunState::Running]);
}

#[test]
fn a_dead_container_is_gone_though_the_network_still_lists_it() {
    let mut story = Story::default();
    story.network(network(1, &[7]));
    story.inspected(container(7, "running", &[1]));

    story.heard(What::Died(id(7)));
    story.network(network(1, &[7]));
    story.inspected(container(7, "exited", &[1]));

    assert_eq!(story.states(), []);
}

#[test]
fn answers_that_disagree_are_asked_for_again() {
    let mut story = Story::default();
    story.network(network(1, &[]));
    story.network(network(2, &[7]));

    let doubted = story.inspected(container(7, "running", &[1]));
    let strangers = story.network(network(1, &[7, 8]));

    assert_eq!(doubted, [network_id(1), network_id(2)]);
    assert_eq!(strangers, [id(8)], "nothing is known of it");
}

#[test]
fn a_container_is_served_by_its_own_inspection_if_that_comes_first() {
    let mut story = Story::default();
    story.network(network(1, &[]));

    let doubted = story.inspected(container(7, "running", &[1]));
    let early = story.observed();
    story.network(network(1, &[7]));
    let late = story.observed();

    assert_eq!(
        doubted,
        [network_id(1)],
        "the network is asked all the same"
    );
    assert_eq!(
        early.containers[0].attachments[0].v4,
        Some("10.1.0.7".parse().unwrap())
    );
    assert_eq!(early, late, "and has nothing to add");
    story.network(network(1, &[]));
    assert!(story.observed().containers.is_empty(), "what it says holds");
}

#[test]
fn what_a_complete_list_does_not_have_is_forgotten() {
    let mut story = Story::default();
    story.network(network(1, &[7, 8]));
    story.inspected(container(7, "running", &[1]));
    story.inspected(container(8, "running", &[1]));

    let there = [Subject::Network(network_id(1)), Subject::Container(id(8))];
    story.view.retain(&there.into());

    let observed = story.observed();
    assert_eq!(observed.containers.len(), 1);
    assert_eq!(observed.containers[0].id, id(8));
    story.view.forget(&Subject::Network(network_id(1)));
    assert_eq!(story.observed(), Observed::default());
}

#[test]
fn what_cannot_be_read_stays_as_it_was_and_is_told() {
    let mut story = Story::default();
    story.network(network(1, &[7]));
    story.inspected(container(7, "running", &[1]));

    let subject = Subject::Container(id(7));
    story
        .view
        .could_not_read(subject, "not to be understood".to_string());

    let observed = story.observed();
    assert_eq!(story.states(), [RunState::Running]);
    assert_eq!(observed.notices[0].subject, "container web7");
    assert!(
        observed.notices[0]
            .message
            .starts_with("not to be understood;")
    );
    story.inspected(container(7, "running", &[1]));
    assert_eq!(story.observed().notices, [], "read again");
}

#[test]
fn networks_come_in_the_order_in_which_dockers_dns_asks_them() {
    let mut story = Story::default();
    let mut internal = network(1, &[7]);
    internal["Internal"] = true.into();
    story.network(internal);
    for number in [4, 3, 2] {
        story.network(network(number, &[7]));
    }
    let mut answer = container(7, "running", &[1, 2, 3, 4]);
    answer["NetworkSettings"]["Networks"]["net4"]["GwPriority"] = 5.into();
    answer["NetworkSettings"]["Networks"]["net3"]["IPv6Gateway"] = "fd00::1".into();
    story.inspected(answer);

    let observed = story.observed();

    let order = observed.containers[0]
        .attachments
        .iter()
        .map(|one| &one.network);
    let wanted = [4, 3, 2, 1].map(network_id);
    assert!(
        order.eq(wanted.iter()),
        "priority, both families, name, internal last"
    );
}

#[test]
fn ports_are_at_the_network_that_leads_outside_for_each_family() {
    let mut story = Story::default();
    let mut internal = network(1, &[7]);
    internal["Internal"] = true.into();
    story.network(internal);
    story.network(network(2, &[7]));
    story.network(network(3, &[7]));
    let mut macvlan = network(4, &[7]);
    macvlan["Driver"] = "macvlan".into();
    story.network(macvlan);
    let mut gateways = |settings: Value| {
        let mut answer = container(7, "running", &[1, 2, 3, 4]);
        let networks = &mut answer["NetworkSettings"]["Networks"];
        for (network, own) in settings.as_object().unwrap() {
            for (key, value) in own.as_object().unwrap() {
                networks[network][key] = value.clone();
            }
        }
        story.inspected(answer);
        let observed = story.observed();
        let publishing = observed.containers[0].publishing.clone();
        (publishing.gateway_v4, publishing.gateway_v6)
    };

    assert_eq!(
        gateways(json!({})),
        (Some(network_id(2)), None),
        "by name, none internal"
    );
    let prefers = json!({ "net3": { "GwPriority": 1 } });
    assert_eq!(gateways(prefers), (Some(network_id(3)), None));
    let foreign = json!({ "net4": { "IPv6Gateway": "fd00::1", "GwPriority": -1 } });
    let own = (Some(network_id(2)), Some(network_id(4)));
    assert_eq!(gateways(foreign), own, "also one that is not served");
}

#[test]
fn what_a_container_has_on_other_networks_is_observed_and_told() {
    let mut story = Story::default();
    story.network(network(1, &[7]));
    let mut default_bridge = network(2, &[7]);
    default_bridge["Name"] = "bridge".into();
    story.network(default_bridge);
    let mut macvlan = network(3, &[7]);
    macvlan["Driver"] = "macvlan".into();
    story.network(macvlan);

    let mut found = Vec::new();
    for networks in [&[1][..], &[1, 2], &[1, 2, 3]] {
        story.inspected(container(7, "running", networks));
        let observed = story.observed();
        let mut notices = observed.notices.iter();
        let told = notices.any(|notice| notice.message.contains("network net3"));
        found.push((observed.containers[0].elsewhere, told));
    }

    let expected = [
        (Elsewhere::Nothing, false),
        (Elsewhere::WayOut, false),
        (Elsewhere::Names, true),
    ];
    assert_eq!(found, expected);
}

/// A pair's end: `peer` is the other end's index, `elsewhere` the number of its namespace.
pub(super) fn end(
    ifindex: u32,
    peer: u32,
    elsewhere: Option<i32>,
    master: Option<u32>,
) -> Interface {
    Interface {
        ifindex,
        name: format!("veth{ifindex}"),
        mac: [2, 0, 0, 0, 0, 7],
        peer_ifindex: Some(peer),
        peer_netns_id: elsewhere,
        master,
        addresses: Vec::new(),
        kind: InterfaceKind::Veth,
        header: Header::Ethernet,
        is_up: true,
        has_carrier: true,
    }
}

#[test]
fn a_new_interface_of_a_known_container_is_looked_at_before_the_engine_tells() {
    let mut story = Story::default();
    story.network(network(1, &[7]));
    story.inspected(container(7, "running", &[1]));
    story.inspected(container(8, "running", &[]));
    let bridge = bridge(&story);
    let first = end(10, 11, Some(5), Some(3));
    story.view.host.replace(vec![bridge, first]);
    let seen = Inside::sample(5, vec![end(11, 10, None, None)]);
    story.view.looked(&id(7), Ok(seen));
    let incomplete = |story: &Story| Errand::new(&story.view, Extent::Incomplete);
    assert!(incomplete(&story).is_empty(), "all is known");

    story.view.host.changed(end(12, 13, Some(5), Some(3)));
    let is_known = story.view.touched(12);

    assert!(is_known);
    let errand = incomplete(&story);
    assert_eq!(errand.visited().collect::<Vec<_>>(), [&id(7)]);
    story.view.visiting(&id(7));
    assert!(incomplete(&story).is_empty(), "once");
    story.view.host.changed(end(14, 15, Some(6), Some(3)));
    assert!(!story.view.touched(14), "of a namespace that nobody knows");
}

/// The bridge of the first network.
pub(super) fn bridge(story: &Story) -> Interface {
    Interface {
        name: story.view.networks[&network_id(1)].network.bridge.clone(),
        kind: InterfaceKind::Bridge,
        ..end(3, 0, None, None)
    }
}
