//! DNS takeover: real clients in a namespace, the real socket programs, the real server.

mod across;
mod beside;
mod churn;
mod hooks;
mod served;
mod site;

use std::collections::BTreeSet;
use std::io::{IoSlice, Write};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use veer_tests::deadline::within;

use served::Served;
use site::{ASKED, OURS, Site, THEIRS, address, framed, question, read_framed};

/// How long Docker's resolver may stay unused after veer's has stopped.
const TAKEBACK: Duration = Duration::from_secs(1);

/// What every client of `web` should print.
const V4: &str = "10.0.0.1";
const V6: &str = "fd00::1";

#[test]
fn dig_is_answered_over_udp_and_tcp_by_the_address_it_asked() {
    for served in Served::both() {
        for (transport, shown) in [("+notcp", "(UDP)"), ("+tcp", "(TCP)")] {
            for edns in ["+edns=0", "+noedns", "+nocookie", "+dnssec"] {
                let words = [transport, edns, "+tries=1", "web.front", "A"];
                let printed = served.site.prints("dig", &words);

                let server = format!("SERVER: 127.0.0.11#53(127.0.0.11) {shown}");
                assert!(printed.contains(&server), "{printed}");
                assert!(
                    printed.contains(V4)
                        && !printed.contains("unexpected source")
                        && !printed.contains("WARNING"),
                    "{printed}"
                );
            }
        }
    }
}

#[test]
fn busybox_is_answered() {
    for served in Served::both() {
        let printed = served.site.prints("busybox", &["nslookup", "web"]);

        assert!(printed.contains("127.0.0.11:53"), "{printed}");
        assert!(printed.contains(V4) && printed.contains(V6), "{printed}");
    }
}

#[test]
fn the_gnu_c_library_is_answered() {
    for served in Served::both() {
        let printed = served.site.prints("getent", &["ahosts", "web"]);

        assert!(printed.contains(V4) && printed.contains(V6), "{printed}");
    }
}

#[test]
fn the_musl_c_library_is_answered() {
    for served in Served::both() {
        let program = built_with_musl(&served.site);

        let printed = served.site.prints(program.to_str().unwrap(), &["web"]);

        let mut addresses: Vec<_> = printed.lines().collect();
        addresses.sort_unstable();
        assert_eq!(addresses, [V4, V6]);
    }
}

#[test]
fn python_is_answered() {
    let script = "import socket; print(socket.gethostbyname('web'), \
                  socket.gethostbyaddr('10.0.0.1')[0], \
                  *sorted({a[4][0] for a in socket.getaddrinfo('web', 80)}))";
    for served in Served::both() {
        let printed = served.site.prints("python3", &["-c", script]);

        assert_eq!(printed.trim(), format!("{V4} web.front {V4} {V6}"));
    }
}

#[test]
fn node_is_answered_by_the_c_library_and_by_its_own_resolver() {
    let script = "const dns = require('dns').promises; (async () => {\
                  console.log((await dns.lookup('web', {family: 4})).address,\
                  ...await dns.resolve4('web'), ...await dns.resolve6('web.front'),\
                  ...await dns.reverse('10.0.0.1')) })()";
    for served in Served::both() {
        let printed = served.site.prints("node", &["-e", script]);

        assert_eq!(printed.trim(), format!("{V4} {V4} {V6} web.front"));
    }
}

#[test]
fn gos_own_resolver_is_answered() {
    for served in Served::both() {
        let program = built_with_go(&served.site);

        let printed = served.site.prints(program.to_str().unwrap(), &["web"]);

        let lines: Vec<_> = printed.lines().collect();
        assert_eq!(lines, [V4, V6, "web.front."]);
    }
}

#[test]
fn java_is_answered() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/netns/dns/Resolve.java");
    for served in Served::both() {
        let printed = served.site.prints("java", &[program, "web"]);

        assert!(printed.contains(V4), "{printed}");
        assert!(printed.contains("fd00:0:0:0:0:0:0:1"), "{printed}");
    }
}

#[test]
fn many_queries_in_one_system_call_are_all_answered() {
    for served in Served::both() {
        let client = served.site.udp("127.0.0.1:0");
        let queries: Vec<Vec<u8>> = (0..16_u8)
            .map(|id| {
                let mut query = question();
                query[1] = id;
                query
            })
            .collect();

        send_at_once(&client, &queries);

        let mut ids = BTreeSet::new();
        for _ in &queries {
            let mut buffer = [0; 512];
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((from, address(&buffer[..length])), (ASKED, OURS));
            ids.insert(buffer[1]);
        }
        assert_eq!(ids.len(), queries.len());
    }
}

/// Sends every datagram to the resolver with one sendmmsg(2).
fn send_at_once(client: &UdpSocket, queries: &[Vec<u8>]) {
    let parts: Vec<[IoSlice<'_>; 1]> = queries.iter().map(|query| [IoSlice::new(query)]).collect();
    let to = SockaddrStorage::from(ASKED);
    let addresses = vec![Some(to); queries.len()];
    let mut headers = MultiHeaders::preallocate(queries.len(), None);
    let sent = sendmmsg(
        client.as_raw_fd(),
        &mut headers,
        &parts,
        &addresses,
        [],
        MsgFlags::empty(),
    );
    assert_eq!(sent.unwrap().count(), queries.len());
}

#[test]
fn the_kernel_answers_without_the_daemon_what_it_knows() {
    let served = Served::start(true);

    for count in 1..=5 {
        assert_eq!(served.site.resolves(), OURS);
        assert_eq!(served.answered_in_kernel(), count);
    }
    let by_daemon = served.dns.as_ref().unwrap().counts().answered;
    assert_eq!(by_daemon, 0);
}

#[test]
fn the_kernel_goes_on_while_the_daemon_hangs_for_those_who_are_connected() {
    let served = Served::start(true);
    let client = served.site.udp("127.0.0.1:0");
    client.connect(ASKED).unwrap();
    served.is_beating.store(false, Ordering::Relaxed);
    served.site.start_other_resolver();
    within(TAKEBACK * 2, "the other resolver answers", || {
        served.site.resolves() == THEIRS
    });

    client.send(&question()).unwrap();

    let mut buffer = [0; 512];
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(address(&buffer[..length]), OURS);
}

#[test]
fn every_kind_of_udp_socket_sees_the_answer_come_from_where_it_asked() {
    for served in Served::both() {
        served.site.is_answered_over_udp("127.0.0.1");
    }
}

#[test]
fn every_kind_of_tcp_socket_is_connected_to_where_it_asked() {
    let served = Served::new();

    for asked in ["127.0.0.11:53", "[::ffff:127.0.0.11]:53"] {
        let mut stream = served.site.tcp(asked);
        stream.write_all(&framed(&question())).unwrap();

        assert_eq!(address(&read_framed(&mut stream)), OURS);
        assert_eq!(stream.peer_addr().unwrap(), asked.parse().unwrap());
    }
}

#[test]
fn other_ports_and_addresses_are_left_alone() {
    Served::new().site.leaves_others_alone();
}

#[test]
fn a_namespace_that_is_not_served_keeps_its_resolver() {
    let served = Served::new();
    let stranger = Site::new();
    stranger.start_other_resolver();

    assert_eq!(stranger.resolves(), THEIRS);
    assert_eq!(served.site.resolves(), OURS);
}

#[test]
fn a_server_that_is_gone_is_replaced_at_once() {
    let mut served = Served::new();
    served.site.start_other_resolver();
    assert_eq!(served.site.resolves(), OURS);

    drop(served.dns.take());

    let started = Instant::now();
    assert_eq!(served.site.resolves(), THEIRS);
    assert_eq!(served.site.resolves_over_tcp(), THEIRS);
    assert!(started.elapsed() < TAKEBACK);
}

#[test]
fn a_server_whose_socket_was_destroyed_is_replaced() {
    for kind in ["-lun", "-ltn"] {
        let served = Served::new();
        served.site.start_other_resolver();
        assert_eq!(served.site.resolves(), OURS);

        let resolver = served.dns.as_ref().unwrap();
        let resolver = resolver.resolver(served.site.netns().cookie).unwrap();
        let port = if kind == "-lun" {
            resolver.udp
        } else {
            resolver.tcp
        };
        let mut destroy = Command::new("ss");
        destroy.args(["-K", kind, &format!("sport = :{}", port.get())]);
        let destroyed = served.site.namespace.run(|| destroy.output());
        let destroyed = destroyed.unwrap().expect("ss, from iproute2");
        let listed = String::from_utf8_lossy(&destroyed.stdout).into_owned();
        assert_eq!(
            listed.lines().count(),
            2,
            "CONFIG_INET_DIAG_DESTROY: {listed}"
        );

        within(TAKEBACK, "the other resolver answers", || {
            served.site.try_resolves() == Some(THEIRS)
        });
        assert_eq!(served.site.resolves_over_tcp(), THEIRS);
    }
}

#[test]
fn a_server_that_hangs_is_replaced_within_a_second() {
    let served = Served::new();
    served.site.start_other_resolver();
    assert_eq!(served.site.resolves(), OURS);

    served.is_beating.store(false, Ordering::Relaxed);

    let limit = TAKEBACK + Duration::from_millis(500);
    within(limit, "the other resolver answers", || {
        served.site.resolves() == THEIRS
    });
    served.is_beating.store(true, Ordering::Relaxed);
    within(limit, "veer answers again", || {
        served.site.resolves() == OURS
    });
}

#[test]
fn a_released_namespace_has_its_own_resolver_again() {
    let served = Served::new();
    served.site.start_other_resolver();
    let dns = served.dns.as_ref().unwrap();

    dns.release(served.site.netns().cookie);

    assert_eq!(served.site.resolves(), THEIRS);
}

/// `getaddrinfo.c`, which asks as programs in Alpine images do.
fn built_with_musl(site: &Site) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/netns/dns/getaddrinfo.c");
    let program = site.folder().join("getaddrinfo");
    let mut compiler = Command::new("musl-gcc");
    let status = compiler
        .args(["-static", "-o"])
        .arg(&program)
        .arg(source)
        .status();
    assert!(status.expect("musl-gcc, from musl-tools").success());
    program
}

/// `resolve.go`, which asks as programs in Go do that use no C library.
fn built_with_go(site: &Site) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/netns/dns/resolve.go");
    let program = site.folder().join("resolve");
    let mut compiler = Command::new("go");
    let output = compiler
        .args(["build", "-o"])
        .arg(&program)
        .arg(source)
        .env("GO111MODULE", "off")
        .env("GOCACHE", site.folder().join("go"))
        .output();
    let output = output.expect("go, from golang-go");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "go build: {said}");
    program
}
