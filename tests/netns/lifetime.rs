//! The datapath without its daemon.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lb_common::Reason;
use lb_userspace::config::Maps;
use veer_tests::host::Host;
use veer_tests::server::read_answer;
use veer_tests::station::Family;
use veer_tests::veer::Veer;

#[test]
fn traffic_flows_while_the_daemon_is_away_and_its_return_moves_nothing() {
    let host = Host::new();
    let network = host.network();
    let [client, m1, m2] = host.stations(&network, ["client", "m1", "m2"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &m1, &m2]);
    let vip = veer.group(&[&m1, &m2]);
    let _servers = [&m1, &m2].map(|member| member.serves_tcp(Family::V4, 80));
    let mut stream = client.connect((vip.v4, 80)).unwrap();
    read_answer(&mut stream).unwrap();
    let mut expect_alive = || {
        let mut echo = [0; 5];
        stream.write_all(b"alive").unwrap();
        stream.read_exact(&mut echo).unwrap();
    };

    veer.goes_away();
    expect_alive();
    let away: Vec<_> = (0..4)
        .map(|_| client.ask_tcp((vip.v4, 80)).unwrap().server)
        .collect();
    veer.returns();
    expect_alive();
    let back = client.ask_tcp((vip.v4, 80)).unwrap().server;

    assert_eq!(
        away.iter().filter(|server| *server == "m1").count(),
        2,
        "{away:?}"
    );
    assert_eq!(back, away[0], "the turn goes on where it was");
}

#[test]
fn no_request_fails_while_the_daemon_goes_and_returns_again_and_again() {
    let host = Host::new();
    let network = host.network();
    let [client, m1, m2] = host.stations(&network, ["client", "m1", "m2"]);
    // As large as a daemon's: thousands of requests go by while programs are loaded.
    let mut veer = Veer::with_sizes(&host, Maps::default());
    veer.serve(&[&client, &m1, &m2]);
    let vip = veer.group(&[&m1, &m2]);
    let _servers = [&m1, &m2].map(|member| member.serves_tcp(Family::V6, 80));
    let is_over = AtomicBool::new(false);

    let asked = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !is_over.load(Ordering::Relaxed) {
                client.ask_tcp((vip.v6, 80)).unwrap();
                asked += 1;
            }
            asked
        });
        for _ in 0..5 {
            veer.goes_away();
            veer.returns();
        }
        is_over.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });

    assert!(asked > 0);
    assert_eq!(veer.count(Reason::NoConnection), 0);
    assert_eq!(veer.count(Reason::UnknownVeth), 0);
}
