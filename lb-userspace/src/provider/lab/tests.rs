use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::process::{Process, stop_all};
use super::*;
use crate::model::Observed;
use crate::netns::unpin;
use crate::provider::{Feed, ProviderHealth};

/// A lab on a host of its own, gone at the end of the test.
struct Here {
    lab: Lab,
    state: tempfile::TempDir,
}

impl Here {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let lab = Lab {
            host: Namespace::create().unwrap(),
            ..Lab::open(state.path()).unwrap()
        };
        Self { lab, state }
    }

    /// The same lab, for a second user of it.
    fn another(&self) -> Lab {
        let host = self.lab.host.run(|| Namespace::current().unwrap()).unwrap();
        Lab {
            host,
            ..Lab::open(self.state.path()).unwrap()
        }
    }

    fn up(&self, topology: &str) -> Record {
        self.lab.up(&parse(topology)).unwrap()
    }

    fn interfaces(&self) -> Vec<String> {
        let found = self.lab.host.interfaces().unwrap().into_iter();
        found.map(|interface| interface.name).collect()
    }

    fn states(&self) -> BTreeMap<String, (&'static str, Option<i32>)> {
        let containers = self.lab.show().unwrap().containers.into_iter();
        containers
            .map(|shown| (shown.container.name, (shown.state, shown.pid)))
            .collect()
    }

    fn namespace(&self, container: &str) -> Namespace {
        Namespace::open(&self.lab.netns_path(container)).unwrap()
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if let Err(error) = self.lab.down() {
            eprintln!("{error}");
        }
    }
}

fn parse(topology: &str) -> Topology {
    Topology::parse(topology, Path::new("lab.toml")).unwrap()
}

/// Two containers on one Network, `a` with a process.
const PAIR: &str = r#"
    network = [{ name = "n" }]
    container = [
        { name = "a", networks = ["n"], aliases = ["twin"], command = ["sleep", "1000"] },
        { name = "b", networks = ["n"], aliases = ["twin"] },
    ]
"#;

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn up_twice_is_once_and_down_removes_everything() {
    let here = Here::new();

    let first = here.up(PAIR);
    let (interfaces, states) = (here.interfaces(), here.states());
    let second = here.up(PAIR);

    assert_eq!(second, first);
    assert_eq!(
        (here.interfaces(), here.states()),
        (interfaces, states.clone())
    );
    assert_eq!(states["a"].0, "running");
    assert_eq!(states["b"], ("up", None));
    here.lab.down().unwrap();
    here.lab.down().unwrap();
    assert_eq!(here.interfaces(), ["lo"]);
    assert!(!here.lab.folder.exists());
    assert!(matches!(here.lab.show(), Err(LabError::NotUp)));
}

#[test]
fn containers_reach_each_other_and_the_host_at_once_in_both_families() {
    let here = Here::new();
    let record = here.up(PAIR);

    for (index, port) in [(0, 4004), (1, 6006)] {
        let b = &record.containers[1].attachments[0];
        let address: IpAddr = [b.v4.map(IpAddr::V4), b.v6.map(IpAddr::V6)][index].unwrap();
        let listener = here
            .namespace("b")
            .run(|| TcpListener::bind((address, port)).unwrap())
            .unwrap();
        for from in [&here.namespace("a"), &here.lab.host] {
            let patience = Duration::from_secs(5);
            let connect = || TcpStream::connect_timeout(&(address, port).into(), patience);
            let mut client = from.run(connect).unwrap().unwrap();
            client.write_all(b"hi").unwrap();
            drop(client);
            let mut heard = String::new();
            listener
                .accept()
                .unwrap()
                .0
                .read_to_string(&mut heard)
                .unwrap();
            assert_eq!(heard, "hi");
        }
    }
}

#[test]
fn up_heals_what_was_lost() {
    let here = Here::new();
    let record = here.up(PAIR);
    let lost = Process::load(&here.lab.process_path("a")).unwrap();
    stop_all(&[lost]).unwrap();
    let mut links = here.lab.host.links().unwrap();
    let veth = &record.containers[1].attachments[0].host_name;
    let veth = links.index_of(veth).unwrap();
    links.remove(veth).unwrap();
    unpin(&here.lab.netns_path("b")).unwrap();
    assert_eq!(
        (here.states()["a"].0, here.states()["b"].0),
        ("ended", "gone")
    );

    let healed = here.up(PAIR);

    assert_eq!(healed, record);
    assert_eq!(
        (here.states()["a"].0, here.states()["b"].0),
        ("running", "up")
    );
}

#[test]
fn a_record_without_anything_made_yet_can_be_raised_and_cleared() {
    let (crashed, other) = (Here::new(), Here::new());
    let record = other.up(PAIR);
    fs::create_dir_all(&crashed.lab.folder).unwrap();
    record.save(&crashed.lab.folder).unwrap();

    crashed.lab.down().unwrap();
    assert!(!crashed.lab.folder.exists());

    fs::create_dir_all(&crashed.lab.folder).unwrap();
    record.save(&crashed.lab.folder).unwrap();
    assert_eq!(crashed.up(PAIR), record);
    assert_eq!(crashed.states()["a"].0, "running");
}

#[test]
fn another_topology_leaves_alone_what_it_shares_with_the_first() {
    let here = Here::new();
    here.up(PAIR);
    let (cookie, process) = (here.namespace("a").cookie().unwrap(), here.states()["a"]);

    let changed = PAIR
        .replace("name = \"b\"", "name = \"c\"")
        .replace("twin", "triplet");
    let record = here.up(&changed);

    assert_eq!(here.namespace("a").cookie().unwrap(), cookie);
    assert_eq!(here.states()["a"], process);
    assert_eq!(record.containers[0].attachments[0].aliases, ["triplet"]);
    assert!(!here.lab.netns_path("b").exists());
    assert_eq!(here.states()["c"].0, "up");
    assert_eq!(here.interfaces().len(), 4, "lo, the bridge and two veths");
}

#[test]
fn a_name_that_is_taken_is_refused_before_anything_is_made() {
    let here = Here::new();
    here.lab.host.links().unwrap().add_bridge("vlb-n").unwrap();

    let told = here.lab.up(&parse(PAIR)).unwrap_err().to_string();

    assert!(told.starts_with("interface vlb-n exists") && told.contains("ip link del vlb-n"));
    assert_eq!(here.interfaces(), ["lo", "vlb-n"]);
    here.lab.down().unwrap();
    assert_eq!(here.interfaces(), ["lo", "vlb-n"], "not ours");
}

#[test]
fn a_command_in_a_container_sees_its_network_and_its_resolver() {
    let here = Here::new();
    let record = here.up(PAIR);
    let out = here.state.path().join("out");
    let script = format!(
        "cat /etc/resolv.conf /proc/net/fib_trie > {}; ls {} >> {0}; exit 7",
        out.display(),
        here.lab.netns_folder().display()
    );

    let status = here
        .lab
        .exec("b", &["sh".to_string(), "-c".to_string(), script])
        .unwrap();

    let seen = fs::read_to_string(out).unwrap();
    let own = record.containers[1].attachments[0].v4.unwrap().to_string();
    assert_eq!(status.code(), Some(7));
    assert!(
        seen.starts_with("nameserver 127.0.0.11\n") && seen.contains(&own),
        "{seen}"
    );
    assert!(
        !seen.lines().any(|line| line == "a"),
        "others' namespaces are out of sight"
    );
    let told = here.lab.exec("z", &["true".to_string()]).unwrap_err();
    assert_eq!(told.to_string(), "the lab has no container z: it has a, b");
}

/// Waits for an observation that `matches`, and returns it.
async fn observed(feed: &mut Feed, matches: impl Fn(&Observed) -> bool) -> Observed {
    let is_there = |snapshot: &Option<crate::provider::Snapshot>| {
        snapshot.as_ref().is_some_and(|s| matches(&s.observed))
    };
    let waiting = feed.observed.wait_for(is_there);
    let found = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    let snapshot = found.expect("an observation within 10 s").unwrap();
    Observed::clone(&snapshot.as_ref().unwrap().observed)
}

fn linked(observed: &Observed) -> usize {
    let attachments = observed.containers.iter().flat_map(|c| &c.attachments);
    attachments
        .filter(|attachment| attachment.link.is_some())
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_follows_the_lab_from_nothing_to_nothing() {
    let here = Here::new();
    let mut feed = start(here.another());
    observed(&mut feed, |seen| *seen == Observed::default()).await;
    let health = feed
        .health
        .wait_for(|health| matches!(health, ProviderHealth::Following { .. }));
    drop(health.await.unwrap());

    let record = here.up(PAIR);

    let seen = observed(&mut feed, |seen| linked(seen) == 2).await;
    let link = seen.containers[0].attachments[0].link.clone().unwrap();
    let (inside, host) = (here.namespace("a"), &here.lab.host);
    let find = |namespace: &Namespace, name: &str| {
        let all = namespace.interfaces().unwrap();
        all.into_iter()
            .find(|interface| interface.name == name)
            .unwrap()
    };
    assert_eq!(find(host, &link.host_name).ifindex, link.host_ifindex);
    assert_eq!(find(&inside, "eth0").ifindex, link.container_ifindex);
    assert_eq!(find(&inside, "eth0").mac, link.mac);
    eventually(
        "the kernel has the link-local address that was foretold",
        || find(&inside, "eth0").link_local() == link.link_local,
    );
    let netns = seen.containers[0].netns.clone().unwrap();
    assert_eq!(netns.cookie, inside.cookie().unwrap());
    assert_eq!(seen.networks[0].subnets, record.networks[0].subnets);

    here.up(&PAIR.replace("twin", "triplet"));
    let renamed = |seen: &Observed| seen.containers[1].attachments[0].aliases == ["triplet"];
    observed(&mut feed, renamed).await;

    here.lab.down().unwrap();
    observed(&mut feed, |seen| *seen == Observed::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_process_ends_is_gone_and_one_without_its_veth_is_unlinked() {
    let here = Here::new();
    let record = here.up(PAIR);
    let mut feed = start(here.another());
    observed(&mut feed, |seen| linked(seen) == 2).await;

    let mut links = here.lab.host.links().unwrap();
    let veth = &record.containers[1].attachments[0].host_name;
    let veth = links.index_of(veth).unwrap();
    links.remove(veth).unwrap();
    observed(&mut feed, |seen| {
        linked(seen) == 1 && seen.containers.len() == 2
    })
    .await;

    stop_all(&[Process::load(&here.lab.process_path("a")).unwrap()]).unwrap();
    let seen = observed(&mut feed, |seen| seen.containers.len() == 1).await;
    assert_eq!(seen.containers[0].name, "b");
    assert_eq!(seen.notices[0].subject, "container a");
}
