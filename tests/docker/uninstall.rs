//! `veer uninstall` leaves a host and its containers as veer has found them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use veer_tests::daemon::Daemon;
use veer_tests::deadline::{eventually, within};
use veer_tests::engine::Engine;
use veer_tests::installed::{every_map_id, map_ids, pins};

use crate::stage::{Host, again};
use crate::street::{
    HOST_V4, HOST_V6, OUTSIDE_V4, OUTSIDE_V6, Resident, Server, Street, WITHOUT_RULES, ask, joined,
    told,
};

/// What programs tell of a namespace.
const TOLD: [&[&str]; 8] = [
    &["iptables-save"],
    &["ip6tables-save"],
    &["nft", "--stateless", "list", "ruleset"],
    &["tc", "qdisc", "show"],
    &["ip", "rule"],
    &["ip", "-6", "rule"],
    &["ip", "route"],
    &["ip", "-6", "route"],
];

#[test]
fn after_uninstall_host_and_containers_are_as_they_were_before_veer() {
    let (namespace, outside) = joined();
    let engine = Engine::start_with(again(&namespace), WITHOUT_RULES);
    let mut host = Some(Host { namespace, engine });
    let (web, other) = containers(host.as_ref().unwrap());
    let space = &host.as_ref().unwrap().namespace;
    space.run(not_forwarding).unwrap();
    let _server = web.serves(80);
    let _outside = Server::start(&outside, "outside", 8_112);
    for config in ["", "[ports]\nmasquerade = \"kernel\"\n"] {
        let daemonless = host.take().unwrap();
        let spaces = [&daemonless.namespace, &web.namespace, &other.namespace];
        let before = spaces.map(|space| space.run(settings_and_rules).unwrap());
        let daemon = Daemon::start_with(
            again(&daemonless.namespace),
            &daemonless.engine.socket(),
            config,
        );
        let mut street = Street {
            daemon,
            host: daemonless,
            outside: again(&outside),
        };
        is_served(&street, &web, &other);
        let during = street.host.namespace.run(settings_and_rules).unwrap();
        assert_ne!(during, before[0], "there is something to undo");
        let maps = map_ids(&street.host.namespace);
        assert!(!maps.is_empty());

        let said = street.daemon.uninstalled();

        let space = &street.host.namespace;
        assert!(!pins(space).exists(), "{said}");
        within(std::time::Duration::from_secs(60), "maps are gone", || {
            every_map_id().is_disjoint(&maps)
        });
        let spaces = [space, &web.namespace, &other.namespace];
        for (space, before) in spaces.into_iter().zip(before) {
            let after = space.run(settings_and_rules).unwrap();
            assert_eq!(differences(&before, &after), [] as [String; 0], "{said}");
        }
        drop(street.daemon);
        host = Some(street.host);
    }
}

/// As on a host on which nobody forwards yet.
fn not_forwarding() {
    for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/net/{name}"), "0").unwrap();
    }
}

/// Two containers of one network and a Group.
fn containers(host: &Host) -> (Resident, Resident) {
    host.docker("network create --ipv6 --subnet 10.110.0.0/16 --subnet fd00:110::/64 net");
    let [web, other] = ["web", "other"].map(|name| {
        let ports = if name == "web" { "-p 8110:80" } else { "" };
        host.docker(&format!(
            "run -d --name {name} --network net --net-alias group {ports} veer-test sleep 100000"
        ));
        Resident {
            name: name.to_owned(),
            namespace: host.engine.namespace_of(name),
        }
    });
    (web, other)
}

/// veer has done everything that it does: ports, the way out, and names.
fn is_served(street: &Street, web: &Resident, other: &Resident) {
    street.published(8_110);
    eventually("both namespaces are taken over", || {
        street.daemon.veer(["status"]).contains("2 of 2 namespaces")
    });
    for (address, client) in [(HOST_V4, OUTSIDE_V4), (HOST_V6, OUTSIDE_V6)] {
        let answer = ask(&street.outside, address, 8_110).unwrap();
        assert_eq!(answer, told("web", client));
    }
    for (address, source) in [(OUTSIDE_V4, HOST_V4), (OUTSIDE_V6, HOST_V6)] {
        let answer = ask(&other.namespace, address, 8_112).unwrap();
        assert_eq!(answer, told("outside", source));
    }
    let words = ["exec", &web.name, "nslookup", "-type=A", "group"];
    let found = street.host.engine.docker(words);
    assert!(found.contains("198.18."), "a VIP: {found}");
}

/// Kernel settings of the calling thread's namespace, and what programs tell of it.
fn settings_and_rules() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    read(Path::new("/proc/sys/net"), &mut all);
    for words in TOLD {
        let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
        assert!(output.status.success(), "{words:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().filter(|line| !is_left_out(line));
        let mut lines: Vec<_> = lines.map(without_counters).collect();
        lines.sort();
        all.insert(words.join(" "), lines.join("\n"));
    }
    all
}

/// Comments have the time, and routes to VIPs stay as long as the container, as the manual says.
fn is_left_out(line: &str) -> bool {
    let starts = ["#", "198.18.0.0/22 ", "fd76:6565:7200::/64 "];
    starts.iter().any(|start| line.starts_with(start))
}

/// A line of `iptables-save` about a chain ends with what has met it.
fn without_counters(line: &str) -> &str {
    match line.rsplit_once(" [") {
        Some((chain, _)) if line.starts_with(':') => chain,
        _ => line,
    }
}

fn read(path: &Path, into: &mut BTreeMap<String, String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            read(&entry.unwrap().path(), into);
        }
    } else if let Ok(text) = fs::read_to_string(path) {
        // Some may only be written; one counts.
        let name = path.strip_prefix("/proc/sys").unwrap().to_string_lossy();
        if name != "net/netfilter/nf_conntrack_count" {
            into.insert(name.into_owned(), text);
        }
    }
}

fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let names = before
        .keys()
        .chain(after.keys().filter(|name| !before.contains_key(*name)));
    let differ = names.filter(|name| before.get(*name) != after.get(*name));
    differ
        .map(|name| format!("{name}: {:?}, then {:?}", before.get(name), after.get(name)))
        .collect()
}
