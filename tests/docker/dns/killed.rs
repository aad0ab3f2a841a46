//! What containers hear while a killed daemon's files are being closed.

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use veer_tests::deadline::eventually;
use veer_tests::dns::A;

use super::asking::{ASKED, ask, question};
use super::site_with;

/// Enough for their links to take a hundred milliseconds, one after the other.
const CONTAINERS: usize = 8;

/// What a query in flight may take that nobody answers any more.
const LOST: Duration = Duration::from_millis(200);

/// Queries that may have been led to the daemon's port at the very moment.
const RACES: usize = 3;

#[test]
fn nobody_is_refused_while_a_killed_daemon_goes() {
    let mut site = site_with("");
    let net = site.host.name("app");
    site.docker(&format!("network create --subnet 172.27.24.0/24 {net}"));
    let names: Vec<String> = (0..CONTAINERS)
        .map(|number| site.host.name(&format!("c{number}-")))
        .collect();
    for name in &names {
        site.run(&net, name, "");
    }
    let first = &names[0];
    for name in &names {
        let inside = site.host.engine.namespace_of(name);
        eventually("veer answers", || {
            ask(&inside, ASKED, first, A).ttls == [5].into()
        });
    }
    let inside = site.host.engine.namespace_of(first);
    let query = question(first, A);
    let is_asked = || -> io::Result<usize> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(LOST))?;
        socket.connect(ASKED)?;
        socket.send(&query)?;
        socket.recv(&mut [0; 512])
    };

    let is_over = AtomicBool::new(false);
    let outcomes = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut outcomes = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                outcomes.push(inside.run(is_asked).unwrap().map_err(|error| error.kind()));
            }
            outcomes
        });
        site.daemon.killed();
        is_over.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });

    let refused = |outcome: &&Result<_, _>| **outcome == Err(io::ErrorKind::ConnectionRefused);
    let refused = outcomes.iter().filter(refused).count();
    assert!(outcomes.iter().any(Result::is_ok), "{outcomes:?}");
    assert!(refused <= RACES, "{refused} of {}", outcomes.len());
    assert_eq!(ask(&inside, ASKED, first, A).ttls, [600].into());
}
