//! veer before the Engine, as at boot: what must not be reached is not, from the first moment on.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;
use veer_tests::child::Guarded;
use veer_tests::daemon::Daemon;
use veer_tests::deadline::{eventually, within};
use veer_tests::engine::Engine;

use lb_userspace::netns::Namespace;

use crate::stage::{Host, again};
use crate::street::{
    HOST_V4, HOST_V6, OUTSIDE_V4, OUTSIDE_V6, Server, Street, WITHOUT_RULES, ask, ip, joined, told,
};

/// Addresses of the container that is there again after the boot.
const OWN_V4: &str = "10.103.0.5";
const OWN_V6: &str = "fd00:103::5";

/// What nobody outside may reach: the container itself, and a port of a loopback address.
const BARRED: [(&str, u16); 5] = [
    (OWN_V4, 80),
    (OWN_V4, 81),
    (OWN_V6, 80),
    (OWN_V6, 81),
    (HOST_V4, 8_104),
];

/// How long one attempt waits, and so how seldom there is one where nobody answers.
const ATTEMPT: Duration = Duration::from_millis(100);
/// Long enough for an Engine to start its containers, on a machine with little to spare.
const BOOT: Duration = Duration::from_secs(90);

#[test]
fn what_nobody_may_reach_is_never_reached_while_veer_the_engine_and_containers_start() {
    let (namespace, outside) = joined();
    ip(&outside, &format!("route add 10.103.0.0/16 via {HOST_V4}"));
    ip(
        &outside,
        &format!("-6 route add fd00:103::/64 via {HOST_V6}"),
    );
    let mut engine = Engine::start_with(again(&namespace), WITHOUT_RULES);
    first_life(&engine);
    for (address, port) in BARRED.into_iter().take(4) {
        eventually("without veer it is reached", || {
            is_answered(&outside, address, port)
        });
    }
    engine.stop();
    without_bridges(&namespace);

    // What the Engine's settings say at their usual place, before there is an Engine.
    let replace = "[ports]\nmode = \"replace\"\n";
    let daemon = Daemon::start_with(again(&namespace), &engine.socket(), replace);
    eventually("veer says that there is no Engine", || {
        daemon.veer(["status"]).contains("FAILING")
    });
    let attempts = Attempts::start(&outside);
    engine.start_again(WITHOUT_RULES);
    let host = Host { namespace, engine };
    let street = Street {
        daemon,
        host,
        outside,
    };
    within(BOOT, "the container runs again", || {
        street.host.docker("ps --format {{.Names}}") == "steady"
    });
    let inside = street.host.engine.namespace_of("steady");
    let _server = Server::start(&inside, "steady", 82);
    street.published(8_103);

    for (address, client) in [(HOST_V4, OUTSIDE_V4), (HOST_V6, OUTSIDE_V6)] {
        let answer = ask(&street.outside, address, 8_103).unwrap();
        assert_eq!(answer, told("steady", client));
    }
    let (made, reached) = attempts.end();
    assert_eq!(reached, [] as [String; 0], "of {made} attempts");
    assert!(made > BARRED.len(), "{made} attempts");
}

/// What there is before the boot: a container that starts with the Engine.
fn first_life(engine: &Engine) {
    let run = |words: &str, script: &str| {
        let script = Some(script).filter(|script| !script.is_empty());
        engine.docker(words.split_whitespace().chain(script))
    };
    run(
        "network create --ipv6 --subnet 10.103.0.0/16 --subnet fd00:103::/64 net",
        "",
    );
    run(
        &format!(
            "run -d --name steady --network net --ip {OWN_V4} --ip6 {OWN_V6} --restart always \
             --stop-signal KILL -p 8103:82 -p 8105:80 -p 127.0.0.1:8104:80 veer-test sh -c"
        ),
        "httpd -p 81 -h /etc; exec httpd -f -p 80 -h /etc",
    );
}

/// As after a boot: what the Engine has made is gone.
fn without_bridges(host: &Namespace) {
    let mut links = host.links().unwrap();
    let all = links.interfaces().unwrap();
    let bridges = all
        .iter()
        .filter(|one| one.name == "docker0" || one.name.starts_with("br-"));
    let bridges: Vec<_> = bridges.map(|one| one.ifindex).collect();
    assert_eq!(bridges.len(), 2, "{all:?}");
    links.remove_all(&bridges).unwrap();
}

fn is_answered(client: &Namespace, address: &str, port: u16) -> bool {
    let to = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
    let connect = || TcpStream::connect_timeout(&to, ATTEMPT).is_ok();
    client.run(connect).unwrap()
}

/// Somebody who tries for what is [`BARRED`] all the time.
struct Attempts {
    ended: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Option<String>>>,
    pings: Vec<(Guarded, &'static str)>,
    folder: TempDir,
}

impl Attempts {
    fn start(outside: &Namespace) -> Self {
        let (ended, made) = (Arc::default(), Arc::default());
        let folder = tempfile::tempdir().unwrap();
        let threads = BARRED.map(|(address, port)| {
            let (outside, ended, made) = (again(outside), Arc::clone(&ended), Arc::clone(&made));
            thread::spawn(move || try_for(&outside, address, port, &ended, &made))
        });
        let pings = [OWN_V4, OWN_V6].map(|address| {
            let mut command = Command::new("busybox");
            let output = File::create(folder.path().join(address)).unwrap();
            command.args(["ping", "-i", "0.1", address]);
            command.stdout(output).stderr(Stdio::null());
            let ping = outside.run(|| Guarded::start(&mut command));
            (ping.unwrap().unwrap(), address)
        });
        Self {
            ended,
            made,
            threads: threads.into(),
            pings: pings.into(),
            folder,
        }
    }

    /// How many attempts there were, and what was reached.
    fn end(self) -> (usize, Vec<String>) {
        self.ended.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        let mut reached: Vec<_> = threads.filter_map(|one| one.join().unwrap()).collect();
        for (mut ping, address) in self.pings {
            ping.kill();
            let told = std::fs::read_to_string(self.folder.path().join(address)).unwrap();
            reached.extend(
                told.contains(" bytes from ")
                    .then(|| format!("ping {address}")),
            );
        }
        (self.made.load(Ordering::Relaxed), reached)
    }
}

/// Tries until it `ended` or succeeds; tells what was reached.
fn try_for(
    outside: &Namespace,
    address: &str,
    port: u16,
    ended: &AtomicBool,
    made: &AtomicUsize,
) -> Option<String> {
    while !ended.load(Ordering::Relaxed) {
        made.fetch_add(1, Ordering::Relaxed);
        if is_answered(outside, address, port) {
            return Some(format!("{address} port {port}"));
        }
        // Who is refused, or has no route yet, would ask without end.
        thread::sleep(Duration::from_millis(20));
    }
    None
}
