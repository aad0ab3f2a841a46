//! Name servers of others, and networks of others: Docker's own tests of its resolver, against veer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use lb_userspace::netns::{Namespace, PairEnd};
use veer_tests::deadline::eventually;
use veer_tests::dns::{A, AAAA, PTR};

use super::asking::{ASKED, Said, ask, dockers};
use super::server::{NameServer, WORLD};
use super::site_with;
use crate::site::Site;

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// A host whose first name server is dead. The second listens on an address of IPv6 that only the host
/// itself reaches.
struct World {
    site: Site,
    _server: NameServer,
}

impl World {
    fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<World>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(world) = shared.upgrade() {
            return world;
        }
        let site = site_with("[dns]\nupstreams = [\"127.0.0.52\", \"::1\"]\n");
        let server = NameServer::start_at(&site.host.namespace, "[::1]:53");
        let world = Arc::new(Self {
            site,
            _server: server,
        });
        *shared = Arc::downgrade(&world);
        world
    }

    fn network(&self, prefix: &str, options: &str) -> String {
        let name = self.site.host.name(prefix);
        self.site
            .docker(&format!("network create {options} {name}"));
        name
    }

    /// A container of this Network that veer answers.
    fn container(&self, network: &str, options: &str) -> (String, Namespace) {
        let name = self.site.host.name("member");
        self.site.run(network, &name, options);
        let inside = self.site.host.engine.namespace_of(&name);
        eventually("veer answers it", || {
            ask(&inside, ASKED, &name, A).ttls == BTreeSet::from([5])
        });
        (name, inside)
    }
}

fn world(inside: &Namespace) -> Said {
    ask(inside, ASKED, "www.example.com", A)
}

fn is_world(said: &Said) -> bool {
    said.answers == BTreeSet::from([format!("{WORLD:?}")])
}

/// 43.
#[test]
fn a_container_is_answered_about_the_outside_as_long_as_it_has_a_way_out() {
    let world_of = World::shared();
    let (out, internal) = (
        world_of.network("out", "--subnet 172.27.24.0/25"),
        world_of.network("internal", "--internal --subnet 172.27.24.128/25"),
    );
    let site = &world_of.site;
    let (name, inside) = world_of.container(&out, "");
    assert!(is_world(&world(&inside)));

    site.docker(&format!("network connect {internal} {name}"));
    assert!(is_world(&world(&inside)));
    site.docker(&format!("network disconnect {out} {name}"));
    eventually("nobody is asked any more", || {
        world(&inside).code == SERVFAIL
    });
    site.docker(&format!("network connect {out} {name}"));
    eventually("it is answered again", || is_world(&world(&inside)));
}

/// 44.
#[test]
fn a_containers_own_server_may_be_on_its_internal_network() {
    let world_of = World::shared();
    let net = world_of.network("internal", "--internal --subnet 172.27.25.0/25");
    let (_, inside) = world_of.container(&net, "--ip 172.27.25.53");
    let _server = NameServer::start(&inside);

    let (_, client) = world_of.container(&net, "--dns 172.27.25.53");

    assert!(is_world(&world(&client)));
}

/// 45, and 46: the first server is dead, and the second is the host's own.
#[test]
fn the_hosts_servers_are_asked_from_the_host_one_after_the_other() {
    let world_of = World::shared();
    let net = world_of.network("out", "--subnet 172.27.26.0/25");

    let (_, inside) = world_of.container(&net, "");

    assert!(is_world(&world(&inside)));
    assert_eq!(ask(&inside, ASKED, "www.example.org", A).code, NXDOMAIN);
}

/// 46: a resolver does not ask itself.
#[test]
fn the_resolvers_own_address_is_no_server() {
    let world_of = World::shared();
    let net = world_of.network("out", "--subnet 172.27.27.0/25");

    let (_, alone) = world_of.container(&net, "--dns 127.0.0.11");
    assert_eq!(world(&alone).code, SERVFAIL);

    let (_, served) = world_of.container(&net, "--ip 172.27.27.53");
    let _server = NameServer::start(&served);
    let (_, second) = world_of.container(&net, "--dns 127.0.0.11 --dns 172.27.27.53");
    assert!(is_world(&world(&second)));
}

/// 48.
#[test]
fn an_alias_holds_on_its_network_for_as_long_as_somebody_has_it() {
    let world_of = World::shared();
    let site = &world_of.site;
    let (first, second) = (
        world_of.network("first", "--subnet 172.27.28.0/25"),
        world_of.network("second", "--subnet 172.27.28.128/25"),
    );
    let (one, _) = world_of.container(&first, "--net-alias both");
    let (two, _) = world_of.container(&first, "--net-alias both");
    let (_, elsewhere) = world_of.container(&second, "");
    let (_, client) = world_of.container(&first, "");
    let knows = |inside: &Namespace| ask(inside, ASKED, "both", A).answers.len() == 1;

    eventually("the alias is known", || knows(&client));
    assert!(!knows(&elsewhere), "on its Network alone");
    site.docker(&format!("network disconnect {first} {one}"));
    assert!(knows(&client), "the other one has it");
    site.docker(&format!("network disconnect {first} {two}"));
    eventually("nobody has it", || !knows(&client));
}

/// As far as the Engine has it: a network with both families, where 46 and 52 have IPv6 alone.
#[test]
fn names_have_addresses_of_both_families_as_under_docker() {
    let world_of = World::shared();
    let options = "--ipv6 --subnet 172.27.33.0/25 --subnet fd00:27:33::/64";
    let net = world_of.network("both", options);
    let (name, inside) = world_of.container(&net, "--ip6 fd00:27:33::9");
    let docker = dockers(&inside);
    let agree = |name: &str, kind| {
        let said = ask(&inside, ASKED, name, kind).at_any_time();
        assert_eq!(
            said,
            ask(&inside, docker, name, kind).at_any_time(),
            "{name}"
        );
        said.answers.len()
    };

    assert_eq!((agree(&name, A), agree(&name, AAAA)), (1, 1));
    let zeros = "0.".repeat(19);
    let reverse = format!("9.{zeros}3.3.0.0.7.2.0.0.0.0.d.f.ip6.arpa");
    assert_eq!(agree(&reverse, PTR), 1);
    let hosts = world_of.site.exec(&name, "cat /etc/hosts").unwrap();
    assert!(hosts.contains("::1\tlocalhost"), "{hosts}");
}

/// 49.
#[test]
fn the_default_bridge_has_no_names() {
    let world_of = World::shared();
    let (site, net) = (
        &world_of.site,
        world_of.network("out", "--subnet 172.27.29.0/25"),
    );
    let lonely = site.host.name("lonely");
    site.run("bridge", &lonely, "");
    let (_, client) = world_of.container(&net, "");

    assert_eq!(ask(&client, ASKED, &lonely, A).answers.len(), 0);
    let file = site.exec(&lonely, "cat /etc/resolv.conf").unwrap();
    assert!(!file.contains("127.0.0.11"), "{file}");
}

/// 50.
#[test]
fn names_that_cannot_be_are_answered_and_the_next_question_is_too() {
    let world_of = World::shared();
    let net = world_of.network("out", "--subnet 172.27.30.0/25");
    let (name, inside) = world_of.container(&net, "");

    for odd in [
        "-",
        "_",
        "*",
        "a b",
        "\u{e9}t\u{e9}",
        "x\\y",
        "%s%n",
        "1.2.3.4",
        "a-.example.org",
    ] {
        let said = ask(&inside, ASKED, odd, A);
        assert_eq!((said.code, said.answers.len()), (NXDOMAIN, 0), "{odd}");
    }
    assert_eq!(ask(&inside, ASKED, &name, A).answers.len(), 1);
}

/// 52: the file is Docker's, and stays so.
#[test]
fn hosts_files_are_as_docker_writes_them() {
    let world_of = World::shared();
    let site = &world_of.site;
    let net = world_of.network("out", "--subnet 172.27.31.0/25");
    let (name, _) = world_of.container(
        &net,
        "--ip 172.27.31.9 -h its-host --add-host extra:192.0.2.9",
    );
    let lines = || {
        let file = site.exec(&name, "cat /etc/hosts").unwrap();
        let lines = file.lines().map(|line| line.replace('\t', " "));
        lines.collect::<Vec<String>>()
    };

    let before = lines();
    for line in [
        "127.0.0.1 localhost",
        "192.0.2.9 extra",
        "172.27.31.9 its-host",
    ] {
        assert!(before.iter().any(|it| it == line), "{line}: {before:?}");
    }
    site.docker(&format!("network disconnect {net} {name}"));
    assert!(lines().iter().all(|line| !line.contains("its-host")));
}

/// 53: networks that veer does not serve keep Docker's resolver, which knows their names.
#[test]
fn names_on_macvlan_networks_are_resolved() {
    names_are_resolved_on("macvlan", "172.27.32.0/25");
}

/// The same.
#[test]
#[ignore = "needs the ipvlan driver, which not every kernel has: run it with --ignored where it is"]
fn names_on_ipvlan_networks_are_resolved() {
    names_are_resolved_on("ipvlan", "172.27.32.128/25");
}

fn names_are_resolved_on(driver: &str, subnet: &str) {
    let world_of = World::shared();
    let site = &world_of.site;
    let (parent, end) = (format!("p-{driver}"), format!("q-{driver}"));
    let mut links = site.host.namespace.links().unwrap();
    let [near, far] = [&parent, &end].map(|name| PairEnd {
        name,
        mac: None,
        namespace: None,
        master: None,
    });
    links.add_pair(near, far).unwrap();
    let options = format!("-d {driver} --internal -o parent={parent} --subnet {subnet}");
    let net = world_of.network(driver, &options);
    let (one, two) = (site.host.name("one"), site.host.name("two"));
    site.run(&net, &one, "--net-alias both");
    site.run(&net, &two, "");

    for name in [one.as_str(), "both"] {
        assert_eq!(site.resolve(&two, name, "A").len(), 1, "{name}");
    }
    assert!(site.resolve(&two, "www.example.com", "A").is_empty());
}
