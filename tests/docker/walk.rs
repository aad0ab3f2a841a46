//! Docker's own tutorials with veer beside it.

use std::net::{IpAddr, SocketAddr};

use veer_tests::deadline::eventually;

use crate::site::{Site, Tally, ask, tally};

const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

/// Whether `addr` is from the default pools of VIPs.
fn is_vip(addr: &IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => v4.octets()[..2] == [198, 18] || v4.octets()[..2] == [198, 19],
        IpAddr::V6(v6) => v6.segments()[..3] == [0xfd76, 0x6565, 0x7200],
    }
}

#[test]
fn a_group_behind_a_frontend_container_is_resolved_pinged_and_balanced_exactly() {
    let site = Site::shared();
    let name = |prefix: &str| site.host.name(prefix);
    let (net, front) = (name("tutorial"), name("frontend"));
    let members = [name("member"), name("member"), name("member")];
    site.docker(&format!(
        "network create --subnet 172.28.0.0/16 --ip-range 172.28.5.0/24 --gateway 172.28.5.254 {net}"
    ));
    for member in &members {
        site.web(&net, member, "--net-alias tg-net");
    }
    site.run(&net, &front, "");

    let found = site.resolve(&front, "tg-net", "A");
    assert!(found.len() == 1 && is_vip(&found[0]), "one VIP: {found:?}");
    let ping = site.exec(&front, "ping -c 3 -W 5 tg-net").unwrap();
    assert!(ping.contains(" 0% packet loss"), "{ping}");
    let [one, two, three] = members.each_ref().map(String::as_str);
    assert_eq!(
        site.fetch_all(&front, "tg-net", 9),
        tally([(one, 3), (two, 3), (three, 3)])
    );

    let fourth = name("member");
    site.web(&net, &fourth, "--net-alias tg-net");
    let all = tally([(one, 1), (two, 1), (three, 1), (&fourth, 1)]);
    assert_eq!(
        site.fetch_all(&front, "tg-net", 4),
        all,
        "the fourth is used at once"
    );

    site.docker(&format!("stop -t 1 {two}"));
    let left = tally([(one, 4), (three, 4), (&fourth, 4)]);
    assert_eq!(
        site.fetch_all(&front, "tg-net", 12),
        left,
        "the second is never used again"
    );

    site.docker(&format!("network disconnect {net} {three}"));
    let left = tally([(one, 5), (&fourth, 5)]);
    eventually("the third is out", || members_of(&site, &net).len() == 2);
    assert_eq!(
        site.fetch_all(&front, "tg-net", 10),
        left,
        "10 over 2 are 5 and 5"
    );
    site.docker(&format!("network connect --alias tg-net {net} {three}"));
    eventually("the third is in", || members_of(&site, &net).len() == 3);
    let all = tally([(one, 2), (three, 2), (&fourth, 2)]);
    assert_eq!(
        site.fetch_all(&front, "tg-net", 6),
        all,
        "the third is back"
    );

    direct_traffic_is_as_ever(&site, &front, one);
    the_firewall_is_none_of_ours(&site);
    what_happened_is_told(&site, &front, &net);
}

/// The containers that are active Members of the Group in this network.
fn members_of(site: &Site, network: &str) -> Vec<String> {
    let groups = site.daemon.veer(["groups", "--json"]);
    let groups = groups
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let group =
        |group: &serde_json::Value| group["network"] == network && group["alias"] == "tg-net";
    let Some(group) = groups.into_iter().find(group) else {
        return Vec::new();
    };
    let members = group["members"].as_array().unwrap().iter();
    members
        .filter(|member| member["state"] == "active")
        .map(|member| member["container"].as_str().unwrap().to_string())
        .collect()
}

fn direct_traffic_is_as_ever(site: &Site, front: &str, member: &str) {
    let found = site.resolve(front, member, "A");
    assert!(
        found.len() == 1 && !is_vip(&found[0]),
        "its own address: {found:?}"
    );
    assert_eq!(site.fetch(front, member).as_deref(), Ok(member));
    let ping = site.exec(front, &format!("ping -c 2 -W 5 {}", found[0]));
    assert!(ping.unwrap().contains(" 0% packet loss"));
    assert_eq!(
        site.fetch(front, &found[0].to_string()).as_deref(),
        Ok(member)
    );
}

fn the_firewall_is_none_of_ours(site: &Site) {
    for program in ["iptables-save", "ip6tables-save"] {
        let mut command = std::process::Command::new(program);
        let rules = site
            .host
            .namespace
            .run(|| command.output())
            .unwrap()
            .unwrap();
        let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
        for ours in ["veer", "198.18.", "198.19.", "fd76:6565"] {
            assert!(!rules.contains(ours), "{program}:\n{rules}");
        }
    }
}

fn what_happened_is_told(site: &Site, front: &str, net: &str) {
    let groups = site.daemon.veer(["groups"]);
    assert!(
        groups.contains("tg-net") && groups.contains(net),
        "{groups}"
    );
    let connections = site.daemon.veer(["connections", "--client", front]);
    assert!(connections.contains(front), "{connections}");
    let status = site.daemon.veer(["status"]);
    assert!(status.contains("Docker Engine"), "{status}");
}

#[test]
fn two_members_get_five_of_ten_requests_each_over_both_families() {
    let site = Site::shared();
    let name = |prefix: &str| site.host.name(prefix);
    let (net, front) = (name("dual"), name("frontend"));
    let (one, two) = (name("member"), name("member"));
    site.docker(&format!(
        "network create --ipv6 --subnet 172.29.0.0/16 --subnet fd00:29::/64 {net}"
    ));
    site.run(&net, &front, "");
    let mut servers = Vec::new();
    for member in [&one, &two] {
        site.run(&net, member, "--net-alias tg-net");
        servers.push(site.serves(member, V6));
    }
    let client = site.host.engine.namespace_of(&front);
    for record in ["A", "AAAA"] {
        let found = site.resolve(&front, "tg-net", record);
        assert!(found.len() == 1 && is_vip(&found[0]), "{record}: {found:?}");

        let mut answers = Tally::new();
        for _ in 0..10 {
            let answer = ask(&client, SocketAddr::new(found[0], 80)).unwrap();
            *answers.entry(answer).or_default() += 1;
        }

        assert_eq!(answers, tally([(&one, 5), (&two, 5)]), "{record}");
    }
}

#[test]
fn a_group_on_an_internal_network_is_balanced_and_other_networks_cannot_reach_it() {
    let site = Site::shared();
    let name = |prefix: &str| site.host.name(prefix);
    let (net, other, front, stranger) = (
        name("internal"),
        name("other"),
        name("frontend"),
        name("stranger"),
    );
    let (one, two) = (name("member"), name("member"));
    site.docker(&format!(
        "network create --internal --subnet 172.30.0.0/16 {net}"
    ));
    site.docker(&format!("network create --subnet 172.31.0.0/16 {other}"));
    site.run(&net, &front, "");
    site.run(&other, &stranger, "");
    let mut servers = Vec::new();
    for member in [&one, &two] {
        site.run(&net, member, "--net-alias tg-net");
        servers.push(site.serves(member, V4));
    }
    let client = site.host.engine.namespace_of(&front);

    let found = site.resolve(&front, "tg-net", "A");

    let vip = SocketAddr::new(found[0], 80);
    let mut answers = Tally::new();
    for _ in 0..10 {
        *answers.entry(ask(&client, vip).unwrap()).or_default() += 1;
    }
    assert_eq!(answers, tally([(&one, 5), (&two, 5)]));
    assert_eq!(site.resolve(&stranger, "tg-net", "A"), [] as [IpAddr; 0]);
    let words = format!("timeout 2 wget -qO- http://{}/", found[0]);
    let answer = site.exec(&stranger, &words);
    assert!(
        answer.is_err(),
        "another Network's VIP is nobody: {answer:?}"
    );
}
