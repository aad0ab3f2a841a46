//! Ports by the thousand.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use veer_tests::installed::{map_memory, programs_in};

use crate::street::{HOST_V4, OUTSIDE_V4, Street, ask, told};

/// What the Engine has open of its own, besides a socket for each port.
const OTHERS: u64 = 1_000;
const PORTS: u64 = 10_000;

/// What ten thousand ports may cost more than one, in bytes.
const COST: u64 = 1 << 20;

#[test]
fn ten_thousand_published_ports_are_one_frontend_and_no_process() {
    allow_descriptors(PORTS + OTHERS);
    let street = Street::new();
    let net = street.network(102, "");
    let _first = street.run(&net, "");
    let empty = (frontends(&street), map_memory(&street.host.namespace));
    let _single = street.run(&net, "-p 0.0.0.0:8102:80");
    street.published(8_102);
    let single = (frontends(&street), map_memory(&street.host.namespace));

    let web = street.run(&net, "-p 0.0.0.0:20000-29999:30000-39999");
    street.published(29_999);

    let all = (frontends(&street), map_memory(&street.host.namespace));
    assert_eq!(all.0 - single.0, single.0 - empty.0, "entries of FRONTENDS");
    let cost = all.1.saturating_sub(single.1);
    assert!(
        cost <= single.1.saturating_sub(empty.1) + COST,
        "{cost} bytes of maps; one port: {single:?}, none: {empty:?}"
    );
    let said = status(&street)["memory"]["maps_bytes"].as_u64().unwrap();
    assert!(
        said.abs_diff(all.1) <= COST,
        "status says that maps take {said} bytes: {all:?}"
    );
    for port in [20_000, 25_000, 29_999] {
        let _server = web.serves(port + 10_000);
        let answer = ask(&street.outside, HOST_V4, port).unwrap();
        assert_eq!(answer, told(&web.name, OUTSIDE_V4), "port {port}");
    }
    let programs = programs_in(&street.host.namespace);
    let count = |name: &str| programs.iter().filter(|one| *one == name).count();
    assert_eq!(count("veer"), 1, "{programs:?}");
    assert_eq!(count("docker-proxy"), 0, "{programs:?}");
    street.has_no_rules();
}

/// How many entries of the map of that name are used.
fn frontends(street: &Street) -> u64 {
    let status = status(street);
    let maps = status["maps"].as_array().unwrap();
    let map = maps.iter().find(|map| map["name"] == "FRONTENDS").unwrap();
    map["used"].as_u64().unwrap()
}

fn status(street: &Street) -> serde_json::Value {
    let status = street.daemon.veer(["status", "--json"]);
    serde_json::from_str(&status).unwrap()
}

/// So many for this process and those that it starts. Panics if the machine forbids it.
fn allow_descriptors(count: u64) {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let most = most.max(count);
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
        .unwrap_or_else(|error| panic!("this needs {count} file descriptors (ulimit -n): {error}"));
}
