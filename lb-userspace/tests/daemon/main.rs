//! The program itself, from the outside: a daemon on a lab in a namespace of its own, and the verbs
//! that ask it.

#![allow(
    clippy::unwrap_used,
    reason = "what fails in here fails the test that asked for it"
)]

mod host;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use host::Host;
use lb_userspace::priority::{DAEMON, USUAL};
use rustix::process::{Pid, getpriority_process};

#[test]
fn a_name_is_balanced_exactly_over_its_members() {
    let host = Host::new();
    host.lab_up(2);
    let _daemon = host.start_daemon();

    let mut answers: Vec<_> = (0..6).map(|_| host.fetch("tg-net")).collect();

    answers.sort();
    let expected = [
        "member-1", "member-1", "member-1", "member-2", "member-2", "member-2",
    ];
    assert_eq!(answers, expected);
    let groups = host.rows("groups --json");
    let members = groups[0]["members"].as_array().unwrap();
    let counted: Vec<_> = members
        .iter()
        .map(|member| member["connections"].as_u64())
        .collect();
    assert_eq!(counted, [Some(3), Some(3)]);
}

#[test]
fn a_killed_daemon_loses_no_connection_and_the_next_one_adopts_everything() {
    let host = Host::new();
    host.lab_up(2);
    let mut daemon = host.start_daemon();
    let vip = host.vip();
    let mut open = host.connect(vip);
    let before = host.rows("endpoints --json");

    daemon.kill();
    let while_away = ask(&mut open);
    let new_while_away = ask(&mut host.connect(vip));
    let daemon = host.start_daemon();

    assert!(while_away.starts_with("HTTP/1.1 200"), "{while_away}");
    assert!(
        new_while_away.starts_with("HTTP/1.1 200"),
        "{new_while_away}"
    );
    assert!(ask(&mut open).starts_with("HTTP/1.1 200"));
    let ids = |rows: &[serde_json::Value]| -> Vec<_> {
        rows.iter()
            .map(|row| (row["container"].clone(), row["id"].clone()))
            .collect()
    };
    assert_eq!(ids(&host.rows("endpoints --json")), ids(&before));
    assert_eq!(host.fetch("tg-net").len(), "member-1".len());
    drop(daemon);
}

#[test]
fn a_daemon_that_stops_gives_dns_back_and_leaves_the_datapath() {
    let host = Host::new();
    host.lab_up(1);
    let mut daemon = host.start_daemon();
    assert_eq!(host.fetch("tg-net"), "member-1");
    let vip = host.vip();

    daemon.terminate();

    let status = host.veer("status");
    assert_eq!(status.code, 69, "{}", status.stderr);
    assert!(status.stderr.contains("veer run"), "{}", status.stderr);
    // The lab has no other resolver than veer's.
    assert_ne!(host.get("tg-net").code, 0);
    assert_eq!(host.fetch(&vip.to_string()), "member-1");
}

#[test]
fn a_second_daemon_is_refused_with_the_first_ones_number() {
    let host = Host::new();
    host.lab_up(1);
    let daemon = host.start_daemon();

    let second = host.veer("run --provider lab");

    assert_eq!(second.code, 1, "{}", second.stderr);
    let number = daemon.id().to_string();
    assert!(second.stderr.contains(&number), "{}", second.stderr);
}

#[test]
fn a_user_without_rights_is_told_what_is_missing() {
    let host = Host::new();
    host.lab_up(1);

    let run = host.veer_as_nobody("run --provider lab");
    let _daemon = host.start_daemon();
    let status = host.veer_as_nobody("status");

    assert_eq!(
        (run.code, status.code),
        (1, 1),
        "{} {}",
        run.stderr,
        status.stderr
    );
    assert!(run.stderr.contains("run veer as root"), "{}", run.stderr);
    assert!(status.stderr.contains("group `veer`"), "{}", status.stderr);
}

#[test]
fn a_configuration_that_is_wrong_is_refused_with_its_line_before_anything_is_touched() {
    let host = Host::new();
    let file = host.file("veer.toml", "[dns]\nttl = \"5s\"\nttttl = 6\n");

    let run = host.veer(&format!("run --config {file}"));
    let config = host.veer(&format!("config --config {file}"));

    assert_eq!((run.code, config.code), (64, 64), "{}", run.stderr);
    assert!(run.stderr.contains("veer.toml:3"), "{}", run.stderr);
    assert!(!host.state_folder().exists());
}

#[test]
fn a_reload_takes_over_what_may_change_while_the_daemon_runs() {
    let host = Host::new();
    host.lab_up(1);
    let file = host.file("veer.toml", "[dns]\nttl = \"5s\"\n");
    let daemon = host.start_daemon_with(&format!("--config {file}"));

    host.file("veer.toml", "[dns]\nttl = \"77s\"\n");
    daemon.reload();

    host.eventually("the new ttl is in effect", || {
        host.veer("config --running")
            .stdout
            .contains("ttl = \"77s\"")
    });
    host.file("veer.toml", "[dns]\nttl = \"many\"\n");
    daemon.reload();
    host.eventually("the refusal is logged", || daemon.log().contains("refused"));
    assert!(
        host.veer("config --running")
            .stdout
            .contains("ttl = \"77s\"")
    );
}

#[test]
fn explain_names_the_backend_that_the_next_connection_gets() {
    let host = Host::new();
    host.lab_up(3);
    let _daemon = host.start_daemon();

    let vip = host.vip().to_string();
    for _ in 0..4 {
        let explained = &host.rows(&format!("explain client {vip}:80 --json"))[0];

        assert_eq!(explained["outcome"]["verdict"], "forwarded");
        assert_eq!(explained["outcome"]["backend"], host.fetch(&vip));
    }
    let outside = &host.rows("explain client 192.0.2.1 --json")[0];
    let verdict = &outside["outcome"]["verdict"];
    assert_eq!(verdict, "dropped", "the host has no way out");
    assert_eq!(host.veer("explain nobody tg-net").code, 1);
}

#[test]
fn a_member_that_joins_is_used_and_one_that_leaves_is_not() {
    let host = Host::new();
    host.lab_up(1);
    let _daemon = host.start_daemon();
    assert_eq!(host.fetch("tg-net"), "member-1");

    host.lab_up(2);
    host.eventually("two Members are active", || host.active_members() == 2);
    let mut both = [host.fetch("tg-net"), host.fetch("tg-net")];
    both.sort();
    host.lab_up(1);
    host.eventually("one Member is active", || host.active_members() == 1);

    assert_eq!(both, ["member-1", "member-2"]);
    for _ in 0..4 {
        assert_eq!(host.fetch("tg-net"), "member-1");
    }
    assert_eq!(
        host.rows("status --json")[0]["failing"],
        serde_json::json!([])
    );
}

#[test]
fn connections_are_listed_with_the_names_of_both_sides() {
    let host = Host::new();
    host.lab_up(2);
    let _daemon = host.start_daemon();
    let mut open = host.connect(host.vip());
    assert!(ask(&mut open).starts_with("HTTP/1.1 200"));

    let rows = host.rows("connections --group tg-net --client client --json");

    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["phase"], "established");
    assert_eq!(rows[0]["client"]["container"], "client");
    assert_eq!(rows[0]["backend"]["container"], "member-1");
    assert_eq!(rows[0]["group"], "tg-net");
    assert_eq!(
        host.rows("connections --backend member-2 --json"),
        [] as [serde_json::Value; 0]
    );
    assert_eq!(host.veer("connections --group nobody").code, 1);
}

#[test]
fn an_audit_free_idle_daemon_says_nothing_twice() {
    let host = Host::new();
    host.lab_up(1);
    let daemon = host.start_daemon();
    host.eventually("a pass over the Connections is done twice", || {
        let status = &host.rows("status --json")[0];
        host.fetch("tg-net");
        status["collection"]["examined"].as_u64() > Some(4)
    });

    let log = daemon.log();
    let mut messages: Vec<_> = log
        .lines()
        .filter_map(|line| line.split_once("Z "))
        .collect();
    let all = messages.len();
    messages.sort_by_key(|(_, message)| *message);
    messages.dedup_by_key(|(_, message)| *message);
    assert_eq!(messages.len(), all, "{log}");
}

#[test]
fn the_daemon_comes_before_others_and_the_processes_of_its_lab_do_not() {
    let host = Host::new();
    // It brings up the lab by itself.
    let daemon = host.start_daemon();
    let process = host.state_folder().join("lab/run/member-1");
    let process = std::fs::read_to_string(process).unwrap();
    let member: i32 = process.split(' ').next().unwrap().parse().unwrap();
    let nice = |process: i32| getpriority_process(Pid::from_raw(process)).unwrap();

    let [daemon, member] = [daemon.id().cast_signed(), member].map(nice);

    // Whoever runs the tests may have chosen a nice value for them.
    let own = getpriority_process(None).unwrap();
    let expected = if own == USUAL { DAEMON } else { own };
    assert_eq!((daemon, member), (expected, own));
}

#[test]
fn uninstall_waits_for_the_daemon_to_stop_and_then_leaves_nothing() {
    let host = Host::new();
    host.lab_up(1);
    let mut daemon = host.start_daemon();

    let refused = host.veer("uninstall");
    daemon.terminate();
    let done = host.veer("uninstall");

    assert_eq!(refused.code, 1, "{}", refused.stdout);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(!host.pins().exists());
    assert_ne!(host.get("198.18.0.1").code, 0);
}

#[test]
fn an_engine_that_does_not_answer_is_waited_for_and_told() {
    let host = Host::new();
    let socket = host.state_folder().join("no-engine.sock");

    let _daemon = host.start_daemon_with(&format!(
        "--provider docker --docker-socket {}",
        socket.display()
    ));

    host.eventually("the status says that the Engine fails", || {
        host.rows("status --json")[0]["provider"]["state"] == "failing"
    });
    let provider = &host.rows("status --json")[0]["provider"];
    assert_eq!(provider["name"], "docker");
    assert!(
        provider["detail"]
            .as_str()
            .unwrap()
            .contains("no-engine.sock"),
        "{provider}"
    );
}

/// Asks for a page over a connection that stays open.
fn ask(stream: &mut TcpStream) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: tg-net\r\n\r\n")
        .unwrap();
    let mut answer = [0; 1_024];
    let length = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// How long a connection may wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

impl Host {
    /// A TCP connection of the client to a VIP.
    fn connect(&self, vip: Ipv4Addr) -> TcpStream {
        let stream = self
            .client()
            .run(|| TcpStream::connect((vip, 80)))
            .unwrap()
            .unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn vip(&self) -> Ipv4Addr {
        let groups = self.rows("groups --json");
        groups[0]["vips"][0].as_str().unwrap().parse().unwrap()
    }

    fn active_members(&self) -> usize {
        let groups = self.rows("groups --json");
        let members = groups[0]["members"].as_array().unwrap();
        members
            .iter()
            .filter(|member| member["state"] == "active")
            .count()
    }
}
