//! Containers without Docker's NAT rules.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use lb_userspace::netns::Namespace;
use veer_tests::deadline::eventually;
use veer_tests::dns::A;

use super::asking::{ASKED, ask};
use super::site_with;

/// Seconds that an answer of veer's may be kept, and one of Docker's.
const OURS: u32 = 5;
const DOCKERS: u32 = 600;

fn rules(inside: &Namespace) -> String {
    let mut save = Command::new("iptables-save");
    save.args(["-t", "nat"]);
    let output = inside.run(|| save.output()).unwrap().unwrap();
    let rules = String::from_utf8_lossy(&output.stdout).into_owned();
    let dockers = rules.lines().filter(|rule| rule.contains("DOCKER"));
    dockers.map(|rule| format!("{rule}\n")).collect()
}

/// Whether any packet passes a hook of nftables inside.
fn has_hooks(inside: &Namespace) -> bool {
    let mut list = Command::new("nft");
    list.args(["list", "ruleset"]);
    let output = inside.run(|| list.output()).unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).contains(" hook ")
}

/// Connections that the kernel tracks inside.
fn tracked(inside: &Namespace) -> u32 {
    let read = || fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
    inside.run(read).unwrap().trim().parse().unwrap()
}

#[test]
fn containers_are_not_tracked_and_docker_still_answers_when_veer_is_gone() {
    let mut site = site_with("[dns]\nno_conntrack = true\n");
    let (net, web) = (site.host.name("quiet"), site.host.name("web"));
    site.docker(&format!("network create --subnet 172.27.22.0/24 {net}"));
    site.run(&net, &web, "");
    let inside = site.host.engine.namespace_of(&web);
    let kept_for = || ask(&inside, ASKED, &web, A).ttls;

    eventually("Docker's rules are gone", || !has_hooks(&inside));
    assert_eq!(rules(&inside), "");
    eventually("veer answers", || kept_for() == BTreeSet::from([OURS]));
    let before = tracked(&inside);
    kept_for();
    assert!(tracked(&inside) <= before, "more than {before}");

    site.daemon.killed();
    assert_eq!(kept_for(), BTreeSet::from([DOCKERS]), "without rules");
    assert_eq!(
        site.exec(&web, &format!("timeout 10 nslookup {web}")).err(),
        None
    );
    assert_eq!(rules(&inside), "");
    assert!(tracked(&inside) <= before, "more than {before}");

    site.daemon.returns();
    eventually("veer answers again", || {
        kept_for() == BTreeSet::from([OURS])
    });
    assert_eq!(rules(&inside), "");

    site.daemon.killed();
    let said = site.daemon.veer(["uninstall"]);
    assert!(said.contains("rules back in 1 container"), "{said}");
    assert!(
        rules(&inside).contains("--dport 53 -j DNAT"),
        "they are back"
    );
    assert_eq!(kept_for(), BTreeSet::from([DOCKERS]));
}
