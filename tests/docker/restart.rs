//! What a daemon's death costs: nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use veer_tests::deadline::{eventually, within};

use crate::site::{Site, Tally, ask_here};

const REQUESTS: usize = 10_000;

#[test]
fn no_request_of_ten_thousand_fails_while_the_daemon_is_killed_and_started_again() {
    let mut site = Site::new();
    site.docker("network create --subnet 172.28.0.0/16 net");
    site.run("net", "frontend", "");
    let mut servers = Vec::new();
    let members = ["one", "two", "three"];
    for member in members {
        site.run("net", member, "--net-alias tg-net");
        servers.push(site.serves(member, Ipv4Addr::UNSPECIFIED.into()));
    }
    let vip = vip(&site);
    let client = site.host.engine.namespace_of("frontend");
    let done = AtomicUsize::new(0);

    let answers = thread::scope(|scope| {
        let requests = scope.spawn(|| client.run(|| request_all(vip, &done)).unwrap());
        let until = |count| {
            let limit = std::time::Duration::from_secs(120);
            within(limit, "the requests go on", || {
                done.load(Ordering::Relaxed) >= count
            });
        };
        until(REQUESTS / 5);
        site.daemon.killed();
        until(REQUESTS * 2 / 5);
        site.daemon.returns();
        until(REQUESTS);
        requests.join().unwrap()
    });

    let counts: Vec<_> = members.map(|member| answers[member]).into();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 1, "exact through the restart: {answers:?}");
    site.run("net", "four", "--net-alias tg-net");
    servers.push(site.serves("four", Ipv4Addr::UNSPECIFIED.into()));
    eventually("the daemon that returned serves what is new", || {
        client.run(|| ask_here(vip)).unwrap().unwrap() == "four"
    });
}

fn vip(site: &Site) -> SocketAddr {
    let mut found: Vec<IpAddr> = Vec::new();
    eventually("the alias is resolved", || {
        found = site.resolve("frontend", "tg-net", "A");
        found.len() == 1
    });
    SocketAddr::new(found[0], 80)
}

/// One request after the other, each on a connection of its own. The first that fails ends it.
fn request_all(vip: SocketAddr, done: &AtomicUsize) -> Tally {
    let mut answers = Tally::new();
    for number in 0..REQUESTS {
        let answer = ask_here(vip).unwrap_or_else(|error| panic!("request {number}: {error}"));
        *answers.entry(answer).or_default() += 1;
        done.store(number + 1, Ordering::Relaxed);
    }
    answers
}
