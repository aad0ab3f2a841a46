use lb_common::{Algorithm, EndpointState, FrontendKey, VethFlags};

use super::super::samples::{container, members, network, observed};
use super::super::{Role, State, dangling, plan};
use super::*;
use crate::config::{GroupConfig, GroupName, NetworkConfig};
use crate::model::{
    Arriving, ContainerId, Group, Member, MemberState, Netns, Policy, RunState, label,
};

mod resolvers;

fn desired(observed: &Observed) -> Desired {
    desired_by(observed, &Config::default())
}

fn desired_by(observed: &Observed, config: &Config) -> Desired {
    let desired = desire(
        observed,
        &Host::default(),
        config,
        &mut Identities::default(),
    );
    assert_eq!(dangling(&desired.state), []);
    desired
}

fn group<'a>(desired: &'a Desired, alias: &str) -> &'a Group {
    let mut groups = desired.groups.iter();
    groups.find(|group| group.alias == alias).expect("a group")
}

/// Endpoint ids in the table of the Group's IPv4 VIP.
fn offered(desired: &Desired, alias: &str) -> Vec<u32> {
    let group = group(desired, alias);
    let vip = group.vip_v4.expect("an IPv4 VIP");
    let frontend = &desired.state.frontends[&FrontendKey::vip(vip.into(), group.zone)];
    let slots = desired.state.slots.get(&frontend.first_slot);
    let slots = slots.map_or(&[][..], |slots| &slots[..frontend.slot_count as usize]);
    slots.iter().map(|slot| slot.endpoint).collect()
}

fn endpoint(desired: &Desired, container: &str) -> u32 {
    let mut endpoints = desired.endpoints.iter();
    let found = endpoints.find(|endpoint| endpoint.container_name == container);
    found.expect("an endpoint").id
}

#[test]
fn containers_that_share_an_alias_are_one_group_with_a_vip() {
    let desired = desired(&observed(members("web", 3, "TG-Net")));

    let group = group(&desired, "tg-net");
    assert_eq!(group.name(), "net/tg-net");
    assert_eq!(group.vip_v4, Some("198.18.0.1".parse().unwrap()));
    assert_eq!(group.vip_v6, Some("fd76:6565:7200::1".parse().unwrap()));
    let names: Vec<_> = group.members.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["web1", "web2", "web3"]);
    let ids = ["web1", "web2", "web3"].map(|name| endpoint(&desired, name));
    assert_eq!(offered(&desired, "tg-net"), ids);
    assert_eq!(desired.state.frontends.len(), 2);
    assert_eq!(desired.notices, []);
}

#[test]
fn a_container_without_alias_is_an_endpoint_in_no_group() {
    let desired = desired(&observed([container("db").attached("net", 1, &[])]));

    assert_eq!(desired.groups, []);
    let (id, endpoint) = desired.state.endpoints.first_key_value().unwrap();
    let veth = &desired.state.veths[&101];
    assert_eq!(
        endpoint.v4.get(),
        "10.1.0.1".parse::<std::net::IpAddr>().unwrap()
    );
    assert_eq!(endpoint.state, EndpointState::Active as u8);
    assert_eq!((veth.endpoint, veth.generation), (*id, endpoint.generation));
    assert!(veth.has(VethFlags::ANTI_SPOOFING));
    assert!(desired.state.attached.contains(&(Role::Endpoint, 101)));
}

#[test]
fn a_containers_own_name_is_no_alias() {
    let desired = desired(&observed([container("web").attached("net", 1, &["Web"])]));

    assert_eq!(desired.groups, []);
}

#[test]
fn the_endpoints_of_one_container_are_a_ring() {
    let wide = container("wide")
        .attached("net", 1, &[])
        .attached("other", 2, &[])
        .attached("third", 3, &[]);
    let mut observed = observed([wide, container("db").attached("net", 4, &[])]);
    observed
        .networks
        .extend([network("other", 2), network("third", 3)]);

    let desired = desired(&observed);

    let next = |id: u32| desired.state.endpoints[&id].sibling;
    let first = endpoint(&desired, "wide");
    let ring = [first, next(first), next(next(first))];
    assert_eq!(next(ring[2]), first);
    assert_eq!(ring.iter().collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(next(endpoint(&desired, "db")), 0);
}

#[test]
fn a_stopping_member_drains() {
    let mut containers = members("web", 2, "tg");
    containers[0].state = RunState::Stopping;
    let desired = desired(&observed(containers));

    let (first, second) = (endpoint(&desired, "web1"), endpoint(&desired, "web2"));
    assert_eq!(offered(&desired, "tg"), [second]);
    let state = desired.state.endpoints[&first].state;
    assert_eq!(state, EndpointState::Draining as u8);
    assert_eq!(
        group(&desired, "tg").members[0].state,
        MemberState::Draining
    );
}

#[test]
fn a_paused_and_a_starting_member_stay() {
    let mut containers = members("web", 2, "tg");
    containers[0].state = RunState::Paused;
    containers[1].state = RunState::Starting;

    assert_eq!(offered(&desired(&observed(containers)), "tg").len(), 2);
}

#[test]
fn a_member_of_weight_zero_gets_no_new_connections() {
    let mut containers = members("web", 2, "tg");
    containers[0] = containers[0].clone().labelled(label::WEIGHT, "0");
    let desired = desired(&observed(containers));

    assert_eq!(offered(&desired, "tg"), [endpoint(&desired, "web2")]);
    let state = desired.state.endpoints[&endpoint(&desired, "web1")].state;
    assert_eq!(state, EndpointState::Draining as u8);
}

#[test]
fn a_group_without_active_member_keeps_its_frontend_and_offers_nothing() {
    let containers = members("web", 1, "tg")
        .remove(0)
        .in_state(RunState::Stopping);
    let desired = desired(&observed([containers]));

    assert!(offered(&desired, "tg").is_empty());
    assert_eq!(desired.state.slots.len(), 0);
}

#[test]
fn a_group_has_a_vip_only_in_families_that_a_member_has() {
    let mut containers = members("web", 2, "tg");
    for container in &mut containers {
        container.attachments[0].v6 = None;
    }
    let desired = desired(&observed(containers));

    let group = group(&desired, "tg");
    assert!(group.vip_v4.is_some() && group.vip_v6.is_none());
    assert_eq!(desired.state.frontends.len(), 1);
}

#[test]
fn each_family_offers_only_the_members_that_have_it() {
    let mut containers = members("web", 2, "tg");
    containers[0].attachments[0].v4 = None;
    let desired = desired(&observed(containers));

    assert_eq!(offered(&desired, "tg"), [endpoint(&desired, "web2")]);
    let lengths: Vec<usize> = desired.state.slots.values().map(Vec::len).collect();
    assert_eq!(lengths, [1, 2]);
}

#[test]
fn a_dnsrr_group_has_members_and_no_vip() {
    let config = Config {
        endpoint_mode: EndpointMode::Dnsrr,
        ..Default::default()
    };
    let desired = desired_by(&observed(members("web", 2, "tg")), &config);

    let group = group(&desired, "tg");
    assert_eq!(
        (group.vip_v4, group.vip_v6, group.members.len()),
        (None, None, 2)
    );
    assert_eq!(desired.state.frontends.len(), 0);
}

#[test]
fn an_endpoint_without_interface_is_not_in_the_state() {
    let running = container("up")
        .attached("net", 1, &["tg"])
        .with(|a| a.link = None);
    let starting = container("new")
        .attached("net", 2, &["tg"])
        .with(|a| a.link = None)
        .in_state(RunState::Starting);
    let desired = desired(&observed([running, starting]));

    assert_eq!(desired.state.endpoints.len(), 0);
    assert!(offered(&desired, "tg").is_empty());
    let states = group(&desired, "tg").members.iter().map(|m| m.state);
    assert!(states.eq([MemberState::Down, MemberState::Down]));
    let told: Vec<_> = desired.notices.iter().map(|n| n.subject.as_str()).collect();
    assert_eq!(told, ["container up"]);
}

#[test]
fn a_bad_label_is_told_and_the_container_is_served() {
    let web = container("web").attached("net", 1, &["tg"]);
    let desired = desired(&observed([web.labelled(label::ALGORITHM, "fastest")]));

    assert_eq!(desired.notices.len(), 1);
    assert_eq!(desired.notices[0].subject, "container web");
    assert!(desired.notices[0].message.contains("round-robin"));
    assert_eq!(offered(&desired, "tg").len(), 1);
}

/// What the four places say; the later one counts.
#[test]
fn the_policy_of_a_group_comes_from_the_most_special_place() {
    let defaults = Config {
        balancing: crate::config::Balancing {
            algorithm: Algorithm::Random,
            affinity: 1,
        },
        ..Default::default()
    };
    let mut for_network = defaults.clone();
    let network = NetworkConfig {
        affinity: Some(2),
        ..Default::default()
    };
    for_network.networks.insert("net".to_string(), network);
    let mut for_group = for_network.clone();
    let name = GroupName {
        network: "net".to_string(),
        alias: "tg".to_string(),
    };
    let special = GroupConfig {
        affinity: Some(4),
        ..Default::default()
    };
    for_group.groups.insert(name, special);
    let plain = observed(members("web", 1, "tg"));
    let web = members("web", 1, "tg").remove(0);
    let labelled = observed([web.labelled(label::AFFINITY, "3s")]);
    let policy = |observed, config| group(&desired_by(observed, config), "tg").policy;

    assert_eq!(policy(&plain, &defaults).affinity, 1);
    assert_eq!(policy(&plain, &for_network).affinity, 2);
    assert_eq!(policy(&labelled, &for_network).affinity, 3);
    let last = Policy {
        affinity: 4,
        algorithm: Algorithm::Random,
        endpoint_mode: EndpointMode::Vip,
    };
    assert_eq!(policy(&labelled, &for_group), last);
}

#[test]
fn members_that_disagree_are_told_and_the_first_by_name_counts() {
    let [first, second] = [("a", "maglev"), ("b", "random")].map(|(name, algorithm)| {
        let number = name.as_bytes()[0].into();
        let container = container(name).attached("net", number, &["tg"]);
        container.labelled(label::ALGORITHM, algorithm)
    });
    let desired = desired(&observed([second, first]));

    assert_eq!(group(&desired, "tg").policy.algorithm, Algorithm::Maglev);
    assert_eq!(desired.notices.len(), 1);
    assert_eq!(desired.notices[0].subject, "group net/tg");
}

#[test]
fn a_weight_that_the_algorithm_does_not_look_at_is_told() {
    let web = members("web", 1, "tg")
        .remove(0)
        .labelled(label::WEIGHT, "3");
    let idle = desired(&observed([web.clone()]));
    let used = desired(&observed([web.labelled(label::ALGORITHM, "maglev")]));

    assert_eq!((idle.notices.len(), used.notices.len()), (1, 0));
    assert!(idle.notices[0].message.contains("weighted-round-robin"));
}

#[test]
fn a_network_that_is_not_to_be_served_is_left_alone() {
    let mut config = Config::default();
    let left_alone = NetworkConfig {
        serve: Some(false),
        ..Default::default()
    };
    config.networks.insert("net".to_string(), left_alone);
    let desired = desired_by(&observed(members("web", 2, "tg")), &config);

    assert_eq!(desired.groups, []);
    assert_eq!(desired.resolvers, []);
    assert_eq!(desired.state.endpoints.len(), 0);
}

#[test]
fn a_network_whose_subnet_is_in_the_pool_is_not_served() {
    let mut observed = observed(members("web", 2, "tg"));
    observed.networks[0].subnets = vec!["198.19.1.0/24".parse().unwrap()];
    let desired = desired(&observed);

    assert_eq!(desired.endpoints, []);
    assert_eq!(desired.notices[0].subject, "network net");
    assert!(desired.notices[0].message.contains("[vips] ipv4"));
}

#[test]
fn a_container_on_two_networks_is_in_the_groups_of_each() {
    let both = container("web")
        .attached("net", 1, &["tg"])
        .attached("other", 2, &["tg", "api"]);
    let mut observed = observed([both]);
    observed.networks.push(network("other", 2));
    let desired = desired(&observed);

    let names: Vec<_> = desired.groups.iter().map(Group::name).collect();
    assert_eq!(names, ["net/tg", "other/api", "other/tg"]);
    let zones: BTreeSet<_> = desired.groups.iter().map(|group| group.zone).collect();
    assert_eq!(zones.len(), 2);
    let routes: Vec<_> = desired.resolvers[0].routes.iter().collect();
    let to: Vec<_> = routes.iter().map(|route| route.to.to_string()).collect();
    let slices = |n: u32| {
        let vips = Vips::default();
        [vips.slice_v4(n).to_string(), vips.slice_v6(n).to_string()]
    };
    assert_eq!(to, [slices(0), slices(1)].concat());
}

#[test]
fn an_interface_that_two_claim_goes_to_the_first() {
    let mut containers = members("web", 2, "tg");
    let taken = containers[0].attachments[0]
        .link
        .as_ref()
        .unwrap()
        .host_ifindex;
    containers[1].attachments[0]
        .link
        .as_mut()
        .unwrap()
        .host_ifindex = taken;
    let desired = desired(&observed(containers));

    assert_eq!(offered(&desired, "tg"), [endpoint(&desired, "web1")]);
    assert_eq!(desired.notices[0].subject, "container web2");
}

#[test]
fn a_table_without_room_is_told_and_the_group_refuses() {
    let mut config = Config::default();
    config.maps.slots = 3;
    let desired = desired_by(&observed(members("web", 2, "tg")), &config);

    assert_eq!(offered(&desired, "tg").len(), 2);
    assert_eq!(desired.state.slots.len(), 1);
    assert!(desired.notices[0].message.contains("[maps] slots"));
}

#[test]
fn more_endpoints_than_ids_are_told() {
    let mut config = Config::default();
    config.maps.endpoints = 3;
    let desired = desired_by(&observed(members("web", 3, "tg")), &config);

    assert_eq!(desired.state.endpoints.len(), 2);
    assert!(desired.notices[0].message.contains("[maps] endpoints"));
}

#[test]
fn the_same_observation_gives_the_same_and_changes_no_number() {
    let observed = observed(members("web", 5, "tg"));
    let mut identities = Identities::default();
    let first = desire(
        &observed,
        &Host::default(),
        &Config::default(),
        &mut identities,
    );
    let before = identities.clone();

    let second = desire(
        &observed,
        &Host::default(),
        &Config::default(),
        &mut identities,
    );

    assert_eq!((first, before), (second, identities));
}

#[test]
fn the_order_of_an_observation_does_not_matter() {
    let forward = observed(members("web", 5, "tg"));
    let mut backward = forward.clone();
    backward.containers.reverse();

    assert_eq!(desired(&forward).groups, desired(&backward).groups);
}

#[test]
fn a_member_that_joins_changes_one_table_and_moves_nobody() {
    let mut identities = Identities::default();
    let config = Config::default();
    let before = desire(
        &observed(members("web", 2, "tg")),
        &Host::default(),
        &config,
        &mut identities,
    );

    let after = desire(
        &observed(members("web", 3, "tg")),
        &Host::default(),
        &config,
        &mut identities,
    );

    let mut state = before.state.clone();
    let steps = plan(&state, &after.state);
    steps.iter().for_each(|step| state.apply(step));
    assert_eq!(state, after.state);
    for (id, endpoint) in &before.state.endpoints {
        assert_eq!(after.state.endpoints[id], *endpoint);
    }
    // Endpoint, veth, attach; then for each family slots, frontend, release.
    assert_eq!(steps.len(), 3 + 2 * 3);
}

#[test]
fn every_member_says_what_its_endpoint_is() {
    let desired = desired(&observed(members("web", 2, "tg")));

    for member in &group(&desired, "tg").members {
        let Member { endpoint, v4, .. } = member;
        assert_eq!(
            desired.state.endpoints[endpoint].v4,
            Addr::from(v4.unwrap())
        );
    }
}

#[test]
fn nothing_observed_is_nothing_desired_but_settings() {
    let desired = desired(&Observed::default());

    let settings = settings(&Config::default(), &Host::default(), false);
    let nothing = State {
        settings,
        ..Default::default()
    };
    assert_eq!(desired.state, nothing);
}
