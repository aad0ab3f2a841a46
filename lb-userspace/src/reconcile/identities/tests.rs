use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::samples::{container, members, network, observed};
use super::super::{Desired, State, Step, dangling, desire, plan};
use super::*;
use crate::model::{Container, Group, Host, Observed};

/// One container of a scene.
#[derive(Clone, Copy, Debug)]
struct Part {
    name: u8,
    /// Another one: the container was recreated.
    incarnation: u8,
    network: u8,
    /// Bits: in which of three Groups it is.
    aliases: u8,
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let part = (0..6u8, 0..2u8, 0..2u8, 0..8u8);
    let part = part.prop_map(|(name, incarnation, network, aliases)| Part {
        name,
        incarnation,
        network,
        aliases,
    });
    vec(part, 0..7)
}

/// The containers of the scene; the last part of a name counts.
fn scene(parts: &[Part]) -> Observed {
    let mut containers: BTreeMap<u8, Container> = BTreeMap::new();
    for part in parts {
        let network = ["net", "other"][usize::from(part.network)];
        let aliases = ["a", "b", "c"].iter().enumerate();
        let aliases = aliases.filter(|(bit, _)| part.aliases & (1 << bit) != 0);
        let aliases: Vec<&str> = aliases.map(|(_, alias)| *alias).collect();
        let number = 4 * u16::from(part.name) + 2 * u16::from(part.incarnation);
        let number = 1 + number + u16::from(part.network);
        let made = container(&format!("c{}", part.name)).attached(network, number, &aliases);
        containers.insert(part.name, made);
    }
    let containers: Vec<Container> = containers.into_values().collect();
    let mut observed = observed(containers);
    observed.networks.push(network("other", 2));
    observed
}

fn wanted(observed: &Observed, identities: &mut Identities) -> Desired {
    desire(observed, &Host::default(), &Config::default(), identities)
}

/// Carries out the whole Plan.
fn reach(actual: &mut State, desired: &State) {
    for step in plan(actual, desired) {
        actual.apply(&step);
        assert_eq!(dangling(actual), [], "after {step:?}");
    }
}

/// Endpoint ids by attachment.
fn endpoint_ids(desired: &Desired) -> BTreeMap<(String, String, Option<Ipv4Addr>), EndpointId> {
    let endpoints = desired.endpoints.iter();
    endpoints
        .map(|e| {
            (
                (e.container_name.clone(), e.network_name.clone(), e.v4),
                e.id,
            )
        })
        .collect()
}

type Shown = (
    Zone,
    Option<Ipv4Addr>,
    Option<Ipv6Addr>,
    Option<u32>,
    Option<u32>,
);

/// Zone, VIPs and Frontend ids by Group.
fn groups(desired: &Desired) -> BTreeMap<String, Shown> {
    let shown = |group: &Group| {
        let (v4, v6) = (group.vip_v4, group.vip_v6);
        (group.zone, v4, v6, group.frontend_v4, group.frontend_v6)
    };
    let groups = desired.groups.iter();
    groups.map(|group| (group.name(), shown(group))).collect()
}

/// Asserts that what both have, they have with the same value.
fn same_where_both<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) {
    for (key, value) in after {
        if let Some(before) = before.get(key) {
            assert_eq!(before, value, "{key:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn numbers_stay_whoever_else_comes_and_goes(scenes in vec(parts(), 1..8)) {
        let mut identities = Identities::default();
        let mut actual = State::default();
        let mut before = Desired::default();
        let mut vips = BTreeMap::new();
        for parts in &scenes {
            let desired = wanted(&scene(parts), &mut identities);
            reach(&mut actual, &desired.state);
            identities.release_slots(&actual);
            // The file is read again: the daemon restarts after every round.
            let file = serde_json::to_string(&identities).unwrap();
            identities = serde_json::from_str(&file).unwrap();

            same_where_both(&endpoint_ids(&before), &endpoint_ids(&desired));
            same_where_both(&vips, &groups(&desired));
            vips.extend(groups(&desired));
            before = desired;
        }
    }

    #[test]
    fn a_number_has_one_owner(parts in parts()) {
        let desired = wanted(&scene(&parts), &mut Identities::default());

        let ids: BTreeSet<u32> = endpoint_ids(&desired).into_values().collect();
        prop_assert_eq!(ids.len(), desired.endpoints.len());
        let shown = groups(&desired);
        let vips: BTreeSet<_> = shown.values().map(|shown| (shown.0, shown.1)).collect();
        let frontends: BTreeSet<_> = shown.values().flat_map(|s| [s.3, s.4]).collect();
        prop_assert_eq!((vips.len(), frontends.len()), (shown.len(), 2 * shown.len()));
        let zones: BTreeMap<_, _> = desired.groups.iter().map(|g| (g.zone, &g.network)).collect();
        prop_assert!(desired.groups.iter().all(|group| zones[&group.zone] == &group.network));
    }

    #[test]
    fn an_id_is_not_given_again_before_it_is_released(scenes in vec(parts(), 2..8)) {
        let mut identities = Identities::default();
        let mut owners = BTreeMap::new();
        for parts in &scenes {
            let desired = wanted(&scene(parts), &mut identities);
            for (id, endpoint) in &desired.state.endpoints {
                let owner = (endpoint.v4, endpoint.generation);
                prop_assert_eq!(*owners.entry(*id).or_insert(owner), owner);
            }
        }
    }

    #[test]
    fn without_the_file_numbers_are_recognised(parts in parts()) {
        let observed = scene(&parts);
        let mut actual = State::default();
        reach(&mut actual, &wanted(&observed, &mut Identities::default()).state);

        let mut lost = Identities::default();
        lost.adopt(&actual, &observed, &Config::default());
        let desired = wanted(&observed, &mut lost);

        prop_assert_eq!(plan(&actual, &desired.state), []);
    }

    #[test]
    fn with_the_file_nothing_changes(parts in parts()) {
        let observed = scene(&parts);
        let mut identities = Identities::default();
        let mut actual = State::default();
        let before = wanted(&observed, &mut identities);
        reach(&mut actual, &before.state);

        identities.adopt(&actual, &observed, &Config::default());
        let after = wanted(&observed, &mut identities);

        prop_assert_eq!(&before, &after);
    }

    /// The file, or none, is from another time than the maps, and meanwhile things have changed.
    #[test]
    fn a_number_in_use_is_never_given_to_another(
        then in parts(), meanwhile in parts(), now in parts(), lost in any::<bool>()
    ) {
        let mut identities = Identities::default();
        wanted(&scene(&then), &mut identities);
        let mut stale = identities.clone();
        let mut actual = State::default();
        reach(&mut actual, &wanted(&scene(&meanwhile), &mut identities).state);
        if lost {
            stale = Identities::default();
        }

        stale.adopt(&actual, &scene(&now), &Config::default());
        let desired = wanted(&scene(&now), &mut stale).state;

        for (id, endpoint) in &desired.endpoints {
            let found = actual.endpoints.get(id).filter(|found| found.is_up());
            let owner = |e: &lb_common::Endpoint| (e.v4, e.mac, e.ifindex, e.generation, e.zone);
            prop_assert_eq!(found.map_or(owner(endpoint), owner), owner(endpoint));
        }
        for (key, frontend) in &desired.frontends {
            let others = actual.frontends.iter().filter(|(other, _)| *other != key);
            let mut others = others.map(|(_, other)| other.id);
            prop_assert!(others.all(|id| id != frontend.id));
        }
        for step in plan(&actual, &desired) {
            if let Step::PutSlots { first, slots } = &step {
                let mut published = actual.frontends.values().filter(|f| f.slot_count > 0);
                let end = first + slots.len() as u32;
                let apart = |f: &lb_common::Frontend| {
                    f.first_slot + f.slot_count <= *first || f.first_slot >= end
                };
                prop_assert!(published.all(apart));
            }
        }
        reach(&mut actual, &desired);
    }
}

#[test]
fn a_group_that_comes_back_has_its_vip_again() {
    let mut identities = Identities::default();
    let first = groups(&wanted(&observed(members("web", 2, "tg")), &mut identities));
    wanted(&observed(members("db", 3, "other")), &mut identities);

    let again = groups(&wanted(&observed(members("web", 2, "tg")), &mut identities));

    assert_eq!(first, again);
}

#[test]
fn an_attachment_with_another_interface_is_another_endpoint() {
    let mut identities = Identities::default();
    let mut containers = members("web", 1, "tg");
    let before = wanted(&observed(containers.clone()), &mut identities);
    let link = containers[0].attachments[0].link.as_mut().unwrap();
    link.host_ifindex += 50;

    let after = wanted(&observed(containers), &mut identities);

    assert_ne!(before.endpoints[0].id, after.endpoints[0].id);
}

#[test]
fn an_address_that_is_added_changes_no_id() {
    let mut identities = Identities::default();
    let both = members("web", 1, "tg");
    let mut only_v4 = both.clone();
    only_v4[0].attachments[0].v6 = None;
    let before = wanted(&observed(only_v4), &mut identities);

    let after = wanted(&observed(both), &mut identities);

    assert_eq!(before.endpoints[0].id, after.endpoints[0].id);
    assert!(after.endpoints[0].v6.is_some());
}

#[test]
fn an_endpoint_id_is_given_again_with_the_generation_that_it_was_retired_with() {
    let mut config = Config::default();
    config.maps.endpoints = 2;
    let mut identities = Identities::default();
    let mut actual = State::default();
    let old = desire(
        &observed(members("old", 1, "tg")),
        &Host::default(),
        &config,
        &mut identities,
    );
    reach(&mut actual, &old.state);
    let nobody = desire(&observed([]), &Host::default(), &config, &mut identities);
    reach(&mut actual, &nobody.state);

    let next = observed(members("new", 1, "tg"));
    let early = desire(&next, &Host::default(), &config, &mut identities);
    identities.release_endpoints(&BTreeSet::new());
    identities.release_endpoints(&BTreeSet::new());
    let new = desire(&next, &Host::default(), &config, &mut identities);

    assert_eq!(early.state.endpoints.len(), 0);
    let retired = actual.endpoints[&old.endpoints[0].id].generation;
    assert_eq!(new.endpoints[0].id, old.endpoints[0].id);
    assert_eq!((new.endpoints[0].generation, retired), (2, 2));
}

/// One container in so many Groups.
fn in_groups(name: &str, number: usize) -> Observed {
    let aliases: Vec<String> = (0..number).map(|n| format!("{name}{n}")).collect();
    let aliases: Vec<&str> = aliases.iter().map(String::as_str).collect();
    observed([container("web").attached("net", 1, &aliases)])
}

#[test]
fn a_network_with_more_groups_than_a_slice_has_vips_gets_another_slice() {
    let desired = wanted(&in_groups("g", 1_023), &mut Identities::default());

    let vips: BTreeSet<_> = desired.groups.iter().filter_map(|g| g.vip_v4).collect();
    assert_eq!(vips.len(), 1_023);
    assert_eq!(desired.resolvers[0].routes.len(), 4);
    let unused = [0, 1_023].map(|index| Config::default().vips.v4(index));
    assert!(unused.iter().all(|address| !vips.contains(address)));
}

#[test]
fn when_the_pool_is_full_the_group_that_is_gone_longest_gives_its_vip() {
    let mut config = Config::default();
    config.vips.ipv4 = "10.9.0.0/22".parse().unwrap();
    let mut identities = Identities::default();
    let full = desire(
        &in_groups("old", 1_022),
        &Host::default(),
        &config,
        &mut identities,
    );
    desire(
        &in_groups("old", 1_021),
        &Host::default(),
        &config,
        &mut identities,
    );
    desire(
        &in_groups("old", 1_020),
        &Host::default(),
        &config,
        &mut identities,
    );

    let mut scene = in_groups("old", 1_020);
    let aliases = &mut scene.containers[0].attachments[0].aliases;
    aliases.push("new".to_string());
    let new = desire(&scene, &Host::default(), &config, &mut identities);

    let (full, new) = (groups(&full), groups(&new));
    assert_eq!(new["net/new"].1, full["net/old1021"].1);
    same_where_both(&full, &new);
}

#[test]
fn a_group_for_which_no_vip_is_left_is_told() {
    let mut config = Config::default();
    config.vips.ipv4 = "10.9.0.0/22".parse().unwrap();

    let desired = desire(
        &in_groups("g", 1_023),
        &Host::default(),
        &config,
        &mut Identities::default(),
    );

    assert_eq!(desired.notices.len(), 1);
    assert!(desired.notices[0].message.contains("[vips] ipv4"));
}

#[test]
fn slices_of_networks_that_are_gone_are_given_to_others() {
    let mut config = Config::default();
    config.vips.ipv4 = "10.9.0.0/21".parse().unwrap();
    let mut identities = Identities::default();
    let on = |name: &str| {
        let mut scene = observed([container("web").attached(name, 1, &["tg"])]);
        scene.networks = vec![network(name, 1)];
        scene
    };
    for name in ["first", "second"] {
        desire(&on(name), &Host::default(), &config, &mut identities);
    }

    let third = desire(&on("third"), &Host::default(), &config, &mut identities);

    assert_eq!(third.groups[0].vip_v4, Some("10.9.0.1".parse().unwrap()));
    assert_eq!(third.notices, []);
}

#[test]
fn networks_that_are_gone_are_forgotten_in_the_end() {
    let mut identities = Identities::default();
    for number in 0..300 {
        let name = format!("n{number}");
        let mut scene = observed([container("web").attached(&name, 1, &["tg"])]);
        scene.networks = vec![network(&name, 1)];
        let desired = wanted(&scene, &mut identities);
        assert_eq!(desired.notices, []);
    }

    let file = serde_json::to_value(&identities).unwrap();
    let known = file["networks"]["known"].as_object().unwrap();
    assert!(known.len() < 300, "{} are remembered", known.len());
}

#[test]
fn smaller_pools_take_the_vips_that_they_no_longer_have() {
    let mut identities = Identities::default();
    let scene = in_groups("g", 1_023);
    wanted(&scene, &mut identities);
    let mut config = Config::default();
    config.vips.ipv4 = "198.18.0.0/22".parse().unwrap();

    let desired = desire(&scene, &Host::default(), &config, &mut identities);

    let outside = |group: &&Group| {
        group
            .vip_v4
            .is_some_and(|vip| !config.vips.ipv4.contains(&vip))
    };
    assert_eq!(desired.groups.iter().filter(outside).count(), 0);
    assert_eq!(desired.notices.len(), 1);
}
