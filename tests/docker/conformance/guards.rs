//! Containers that start while nobody programs them.

use veer_tests::deadline::eventually;

use super::{is_barred, is_pinged};
use crate::street::{HOST_V4, OUTSIDE_V4, SILENCE, Server, Street, ask_within, told};

#[test]
fn a_container_that_starts_while_the_daemon_is_away_is_reached_by_nobody_outside() {
    let mut street = Street::new();
    let net = street.network(101, "");
    let _first = street.run(&net, "");
    street.routes(101);
    street.daemon.killed();

    let words = format!("run -d --name late --network {net} -p 8101:80 veer-test sleep 100000");
    street.host.engine.docker(words.split(' '));
    let late = street.host.engine.namespace_of("late");
    let _servers = [80, 81].map(|port| Server::start(&late, "late", port));

    for address in ["10.101.0.3", "fd00:101::3"] {
        assert!(!is_pinged(&street.outside, address), "{address}");
        is_barred(&street.outside, address, 80);
        is_barred(&street.outside, address, 81);
    }
    let answer = ask_within(&street.outside, HOST_V4, 8_101, SILENCE);
    assert!(!answer.is_ok_and(|answer| answer.contains("late")));
    street.daemon.returns();
    eventually("it is reached", || {
        ask_within(&street.outside, HOST_V4, 8_101, SILENCE)
            .is_ok_and(|answer| answer == told("late", OUTSIDE_V4))
    });
}
