use super::samples::*;
use super::*;
use crate::dns::Rules;

fn v4_of(records: &Records, cookie: u64, name: &str) -> Option<Vec<Ipv4Addr>> {
    let view = records.view(cookie).expect("the asker is known");
    view.addresses(name).map(|known| known.v4.clone())
}

#[test]
fn a_container_is_known_by_name_short_id_and_hostname_in_any_case() {
    let web = container("Web", 1, &[FRONT]);
    let short = web.id.short().to_string();

    let records = Records::build(&observed(vec![web]), &[], &Rules::default());

    let expected = Some(vec![Ipv4Addr::new(10, 0, 0, 1)]);
    for name in ["web", "WEB", "host-web", &short, &short.to_uppercase()] {
        assert_eq!(v4_of(&records, 1, name), expected, "{name}");
    }
    assert_eq!(v4_of(&records, 1, "we"), None);
    assert_eq!(v4_of(&records, 1, ""), None);
}

#[test]
fn a_name_may_carry_its_networks_exact_name() {
    let records = Records::build(
        &observed(vec![container("web", 1, &[FRONT])]),
        &[],
        &Rules::default(),
    );

    assert!(v4_of(&records, 1, "WEB.front").is_some());
    assert_eq!(v4_of(&records, 1, "web.Front"), None);
    assert_eq!(v4_of(&records, 1, "web.back"), None);
    assert_eq!(v4_of(&records, 1, "web.front.front"), None);
    assert_eq!(v4_of(&records, 1, ".front"), None);
}

#[test]
fn dots_are_split_everywhere_and_the_longest_name_wins() {
    let mut dotted = observed(vec![container("a.b", 1, &[FRONT, "b.front", "c.d"])]);
    dotted.networks.push(network("b.front"));
    dotted.networks.push(network("c.d"));
    dotted.containers.push(container("a", 2, &["b.front"]));

    let records = Records::build(&dotted, &[], &Rules::default());

    let own = Some(vec![Ipv4Addr::new(10, 0, 0, 1)]);
    let second = Some(vec![Ipv4Addr::new(10, 0, 0, 2)]);
    assert_eq!(v4_of(&records, 1, "a.b"), own);
    assert_eq!(
        v4_of(&records, 1, "a.b.front"),
        own,
        "a.b on front comes before a on b.front"
    );
    assert_eq!(v4_of(&records, 2, "a.b.front"), second);
    assert_eq!(
        v4_of(&records, 1, "a.b.c.d"),
        Some(vec![Ipv4Addr::new(10, 2, 0, 1)])
    );
}

#[test]
fn only_the_askers_own_networks_answer() {
    let all = observed(vec![
        container("web", 1, &[FRONT]),
        container("db", 2, &[BACK]),
    ]);

    let records = Records::build(&all, &[], &Rules::default());

    assert_eq!(v4_of(&records, 1, "db"), None);
    assert_eq!(v4_of(&records, 1, "db.back"), None);
    assert_eq!(v4_of(&records, 2, "web"), None);
    assert!(records.view(3).is_none());
}

#[test]
fn the_first_network_that_knows_a_name_answers_alone() {
    let asker = container("asker", 1, &[BACK, FRONT]);
    let (left, right) = (
        container("left", 2, &[FRONT]),
        container("right", 3, &[BACK]),
    );
    let groups = [
        group(FRONT, "web", EndpointMode::Dnsrr, &[&left]),
        group(BACK, "web", EndpointMode::Dnsrr, &[&right]),
    ];

    let records = Records::build(
        &observed(vec![asker, left, right]),
        &groups,
        &Rules::default(),
    );

    assert_eq!(
        v4_of(&records, 1, "web"),
        Some(vec![Ipv4Addr::new(10, 0, 0, 3)])
    );
    assert_eq!(
        v4_of(&records, 1, "web.front"),
        Some(vec![Ipv4Addr::new(10, 0, 0, 2)])
    );
}

#[test]
fn the_first_network_answers_even_if_only_another_has_the_family() {
    let asker = container("asker", 1, &[BACK, FRONT]);
    let (old, new) = (container("old", 2, &[BACK]), container("new", 3, &[FRONT]));
    let mut on_both = observed(vec![asker, old, new]);
    on_both.containers[1].hostname = "web".to_string();
    on_both.containers[2].hostname = "web".to_string();

    let records = Records::build(&on_both, &[], &Rules::default());

    let view = records.view(1).expect("the asker is known");
    assert_eq!(view.addresses("web").map(|known| known.v6.len()), Some(0));
}

#[test]
fn a_hostname_that_several_containers_have_gives_all_of_them() {
    let mut all = observed(vec![
        container("a", 1, &[FRONT]),
        container("b", 2, &[FRONT]),
    ]);
    all.containers
        .iter_mut()
        .for_each(|container| container.hostname = "twin".to_string());

    let records = Records::build(&all, &[], &Rules::default());

    let both = vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
    assert_eq!(v4_of(&records, 1, "twin"), Some(both));
}

#[test]
fn an_alias_is_its_vip_and_tasks_are_all_members() {
    let (a, b) = (container("a", 1, &[FRONT]), container("b", 2, &[FRONT]));
    let mut web = group(FRONT, "web", EndpointMode::Vip, &[&a, &b]);
    web.members[1].state = MemberState::Draining;

    let records = Records::build(&observed(vec![a, b]), &[web], &Rules::default());

    let both = vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
    assert_eq!(v4_of(&records, 1, "Web"), Some(vec![VIP4]));
    assert_eq!(v4_of(&records, 1, "web.front"), Some(vec![VIP4]));
    assert_eq!(v4_of(&records, 1, "tasks.web"), Some(both.clone()));
    assert_eq!(v4_of(&records, 1, "TASKS.web.front"), Some(both));
    assert_eq!(v4_of(&records, 1, "tasks.a"), None);
}

#[test]
fn dnsrr_gives_the_members_that_take_new_connections() {
    let (a, b) = (container("a", 1, &[FRONT]), container("b", 2, &[FRONT]));
    let mut web = group(FRONT, "web", EndpointMode::Dnsrr, &[&a, &b]);
    web.members[0].state = MemberState::Draining;
    let mut leaving = group(FRONT, "leaving", EndpointMode::Dnsrr, &[&a]);
    leaving.members[0].state = MemberState::Draining;

    let records = Records::build(&observed(vec![a, b]), &[web, leaving], &Rules::default());

    assert_eq!(
        v4_of(&records, 1, "web"),
        Some(vec![Ipv4Addr::new(10, 0, 0, 2)])
    );
    assert_eq!(
        v4_of(&records, 1, "leaving"),
        Some(vec![Ipv4Addr::new(10, 0, 0, 1)])
    );
}

#[test]
fn a_group_that_got_no_vip_is_answered_with_its_members() {
    let a = container("a", 1, &[FRONT]);
    let mut web = group(FRONT, "web", EndpointMode::Vip, &[&a]);
    (web.vip_v4, web.vip_v6) = (None, None);

    let records = Records::build(&observed(vec![a]), &[web], &Rules::default());

    assert_eq!(
        v4_of(&records, 1, "web"),
        Some(vec![Ipv4Addr::new(10, 0, 0, 1)])
    );
}

#[test]
fn a_members_own_name_that_is_the_groups_alias_gives_the_vip() {
    let (web, other) = (
        container("web", 1, &[FRONT]),
        container("other", 2, &[FRONT]),
    );
    let groups = [group(FRONT, "web", EndpointMode::Vip, &[&web, &other])];

    let records = Records::build(&observed(vec![web, other]), &groups, &Rules::default());

    assert_eq!(v4_of(&records, 2, "web"), Some(vec![VIP4]));
}

#[test]
fn an_alias_that_a_stranger_is_called_gives_everybody_and_no_vip() {
    let (web, other) = (
        container("web", 1, &[FRONT]),
        container("other", 2, &[FRONT]),
    );
    let groups = [group(FRONT, "web", EndpointMode::Vip, &[&other])];

    let records = Records::build(&observed(vec![web, other]), &groups, &Rules::default());

    let everybody = vec![Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1)];
    assert_eq!(v4_of(&records, 2, "web"), Some(everybody));
    assert_eq!(
        v4_of(&records, 2, "tasks.web"),
        Some(vec![Ipv4Addr::new(10, 0, 0, 2)])
    );
}

#[test]
fn a_container_called_like_tasks_of_an_alias_comes_first() {
    let (odd, other) = (
        container("tasks.web", 1, &[FRONT]),
        container("other", 2, &[FRONT]),
    );
    let groups = [group(FRONT, "web", EndpointMode::Vip, &[&other])];

    let records = Records::build(&observed(vec![odd, other]), &groups, &Rules::default());

    assert_eq!(
        v4_of(&records, 2, "tasks.web"),
        Some(vec![Ipv4Addr::new(10, 0, 0, 1)])
    );
}

#[test]
fn an_address_has_its_containers_or_its_groups_full_name() {
    let (a, b) = (container("a", 1, &[FRONT]), container("b", 2, &[BACK]));
    let groups = [group(FRONT, "web", EndpointMode::Vip, &[&a])];

    let records = Records::build(&observed(vec![a, b]), &groups, &Rules::default());

    let view = records.view(1).expect("the asker is known");
    let owner = |address: IpAddr| view.owner(address);
    assert_eq!(
        owner(Ipv4Addr::new(10, 0, 0, 1).into()).as_deref(),
        Some("a.front")
    );
    assert_eq!(owner(v6(0, 1).into()).as_deref(), Some("a.front"));
    assert_eq!(owner(VIP4.into()).as_deref(), Some("web.front"));
    assert_eq!(owner(VIP6.into()).as_deref(), Some("web.front"));
    assert_eq!(
        owner(Ipv4Addr::new(10, 0, 0, 2).into()),
        None,
        "not on the asker's Networks"
    );
    assert_eq!(
        owner(Ipv4Addr::new(10, 0, 0, 254).into()),
        None,
        "the gateway has no name"
    );
}

#[test]
fn strangers_names_go_to_own_servers_or_the_hosts_or_nowhere() {
    let mut all = observed(vec![
        container("plain", 1, &[FRONT]),
        container("inside", 2, &[BACK]),
        container("own", 3, &[BACK]),
        container("both", 4, &[FRONT, BACK]),
        container("bridged", 5, &[BACK]),
    ]);
    all.networks[1].internal = true;
    let server = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 53));
    all.containers[2].dns_servers = vec![server];
    all.containers[4].elsewhere = Elsewhere::WayOut;

    let records = Records::build(&all, &[], &Rules::default());

    let upstreams = |cookie| records.view(cookie).map(|view| view.upstreams().clone());
    assert_eq!(upstreams(1), Some(Upstreams::Host));
    assert_eq!(upstreams(2), Some(Upstreams::Nobody));
    assert_eq!(upstreams(3), Some(Upstreams::Own(vec![server])));
    assert_eq!(upstreams(4), Some(Upstreams::Host));
    assert_eq!(upstreams(5), Some(Upstreams::Host));
}

#[test]
fn tasks_are_no_names_if_the_operator_says_so() {
    let a = container("a", 1, &[FRONT]);
    let web = group(FRONT, "web", EndpointMode::Vip, &[&a]);
    let rules = Rules {
        tasks: false,
        ..Rules::default()
    };

    let records = Records::build(&observed(vec![a]), &[web], &rules);

    assert_eq!(v4_of(&records, 1, "web"), Some(vec![VIP4]));
    assert_eq!(v4_of(&records, 1, "tasks.web"), None);
}

#[test]
fn a_link_is_a_name_of_the_linking_container_alone() {
    use crate::model::Linked;
    let db = container("db", 2, &[FRONT, BACK]);
    let mut asker = container("asker", 1, &[FRONT, BACK]);
    asker.attachments[1].linked = vec![Linked {
        alias: "Store".to_string(),
        target: "DB".to_string(),
    }];

    let records = Records::build(&observed(vec![asker, db]), &[], &Rules::default());

    let on_back = Some(vec![Ipv4Addr::new(10, 1, 0, 2)]);
    assert_eq!(v4_of(&records, 1, "Store"), on_back);
    assert_eq!(v4_of(&records, 1, "Store.back"), on_back);
    assert_eq!(v4_of(&records, 1, "Store.front"), None);
    assert_eq!(v4_of(&records, 1, "store"), None, "case counts");
    assert_eq!(v4_of(&records, 2, "Store"), None, "nobody else has it");
    let own = |cookie| records.view(cookie).map(|view| view.has_own_names());
    assert_eq!((own(1), own(2)), (Some(true), Some(false)));
}
