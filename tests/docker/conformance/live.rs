//! An Engine that is restarted while containers run, and one that hands its work over to veer.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use veer_tests::deadline::eventually;
use veer_tests::installed::programs_in;

use crate::street::{
    HOST_V4, HOST_V6, OUTSIDE_V4, OUTSIDE_V6, SILENCE, Server, Street, WITHOUT_RULES, ask, ask_udp,
    ask_within, ip, told,
};

/// How long an answer on an open connection may take.
const ANSWER: Duration = Duration::from_secs(20);

#[test]
fn s24_ports_and_connections_outlive_a_restart_of_the_engine_with_live_restore() {
    let arguments = [WITHOUT_RULES, &["--live-restore"]].concat();
    let mut street = Street::started(&arguments, "");
    let net = street.network(106, "");
    let web = street.run(&net, "-p 8106:80 -p 8106:80/udp -p 8107:81");
    let _server = web.serves(80);
    street.published(8_107);
    let talk = Talk::open(&street, &web, 8_107, 81);
    let ports = street.docker(&format!("port {}", web.name));
    let answers = |street: &Street| {
        for (address, client) in [(HOST_V4, OUTSIDE_V4), (HOST_V6, OUTSIDE_V6)] {
            let expected = told(&web.name, client);
            assert_eq!(ask(&street.outside, address, 8_106).unwrap(), expected);
            assert_eq!(ask_udp(&street.outside, address, 8_106).unwrap(), expected);
        }
    };
    answers(&street);

    street.host.engine.stop();
    eventually("veer says that there is no Engine", || {
        street.daemon.veer(["status"]).contains("FAILING")
    });
    answers(&street);
    talk.says("while the Engine is away");
    ip(&street.host.namespace, "address add 192.0.2.9/24 dev up0");
    eventually("ports are published at a new address", || {
        let answer = ask_within(&street.outside, "192.0.2.9", 8_106, SILENCE);
        answer.is_ok_and(|answer| answer == told(&web.name, OUTSIDE_V4))
    });
    let status = street.daemon.veer(["status"]);
    assert!(status.contains("replace mode"), "as it was: {status}");
    street.host.engine.start_again(&arguments);

    eventually("veer follows the Engine again", || {
        let status = street.daemon.veer(["status"]);
        status.contains("following Docker Engine") && !status.contains("FAILING")
    });
    assert_eq!(street.docker(&format!("port {}", web.name)), ports);
    answers(&street);
    talk.says("after it");
    let later = street.run(&net, "-p 8108:80");
    let _later = later.serves(80);
    street.published(8_108);
    let answer = ask(&street.outside, HOST_V4, 8_108).unwrap();
    assert_eq!(answer, told(&later.name, OUTSIDE_V4));
}

#[test]
fn an_engine_hands_over_to_veer_and_takes_back_and_containers_run_on() {
    let mut street = Street::started(&[], "");
    let settings = street.host.engine.settings();
    let before = "{ \"live-restore\":true }";
    fs::write(&settings, before).unwrap();
    street.host.engine.stop();
    street.host.engine.start_again(&[]);
    let web = street.run(&street.network(107, ""), "-p 8109:80");
    let _server = web.serves(80);
    street.published(8_109);
    let _outside = Server::start(&street.outside, "outside", 8_110);
    let first = street.host.engine.pid_of(&web.name);
    is_served(&street, "beside mode", &told(&web.name, OUTSIDE_V4));
    assert!(has_proxies(&street), "an Engine as it is installed");

    for words in [&["show"][..], &["apply", "--dry-run"]] {
        let said = migrate(&street, words);
        assert!(said.contains("+   \"userland-proxy\": false"), "{said}");
        assert_eq!(fs::read_to_string(&settings).unwrap(), before, "{words:?}");
    }
    migrate(&street, &["apply"]);
    street.host.engine.stop();
    street.host.engine.start_again(&[]);

    is_served(&street, "replace mode", &told(&web.name, OUTSIDE_V4));
    eventually("proxies have ended", || !has_proxies(&street));
    assert_eq!(street.host.engine.pid_of(&web.name), first, "it runs on");

    migrate(&street, &["revert"]);
    assert_eq!(fs::read_to_string(&settings).unwrap(), before);
    street.host.engine.stop();
    street.host.engine.start_again(&[]);
    is_served(&street, "beside mode", &told(&web.name, OUTSIDE_V4));
    assert_eq!(street.host.engine.pid_of(&web.name), first, "it runs on");
}

fn migrate(street: &Street, words: &[&str]) -> String {
    let file = street.host.engine.settings();
    let file = file.to_str().unwrap();
    street
        .daemon
        .veer([&["migrate"], words, &["--daemon-json", file]].concat())
}

fn has_proxies(street: &Street) -> bool {
    let programs = programs_in(&street.host.namespace);
    programs.iter().any(|program| program == "docker-proxy")
}

/// Waits for the mode. The port is reached from outside then, and the outside from the container.
fn is_served(street: &Street, mode: &str, expected: &str) {
    eventually(mode, || street.daemon.veer(["status"]).contains(mode));
    eventually("the port is reached", || {
        ask_within(&street.outside, HOST_V4, 8_109, SILENCE).is_ok_and(|answer| answer == expected)
    });
    let (web, _) = expected.split_once(' ').unwrap();
    let inside = street.host.engine.namespace_of(web);
    eventually("the way out is there", || {
        ask_within(&inside, OUTSIDE_V4, 8_110, SILENCE)
            .is_ok_and(|answer| answer == told("outside", HOST_V4))
    });
}

/// A connection from outside that stays open.
struct Talk {
    near: TcpStream,
    far: TcpStream,
}

impl Talk {
    fn open(street: &Street, web: &crate::street::Resident, port: u16, inside: u16) -> Self {
        let listen = || TcpListener::bind(("0.0.0.0", inside)).unwrap();
        let listener = web.namespace.run(listen).unwrap();
        let to: SocketAddr = format!("{HOST_V4}:{port}").parse().unwrap();
        let connect = || TcpStream::connect_timeout(&to, ANSWER).unwrap();
        let near = street.outside.run(connect).unwrap();
        let (far, _) = listener.accept().unwrap();
        for end in [&near, &far] {
            end.set_read_timeout(Some(ANSWER)).unwrap();
        }
        Self { near, far }
    }

    /// Both ends hear what the other one says.
    #[track_caller]
    fn says(&self, words: &str) {
        for (mut from, mut to) in [(&self.near, &self.far), (&self.far, &self.near)] {
            from.write_all(words.as_bytes()).unwrap();
            let mut heard = vec![0; words.len()];
            to.read_exact(&mut heard).unwrap();
            assert_eq!(heard, words.as_bytes());
        }
    }
}
