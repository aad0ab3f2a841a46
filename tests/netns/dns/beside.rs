//! Takeover without programs on sockets: beside the rules that Docker writes into containers.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lb_userspace::datapath::can_lead_inside;
use veer_tests::deadline::within;

use super::served::Served;
use super::site::{ASKED, Dockers, OURS, THEIRS, address, framed, question, read_framed};

/// How long Docker's resolver may stay unused after veer's has stopped; load of the machine included.
const TAKEBACK: Duration = Duration::from_secs(5);

/// A site for each kind of rules.
fn both() -> [Served; 2] {
    assert!(
        can_lead_inside(),
        "this kernel is older than 6.13: run with `--skip dns::beside`"
    );
    [Dockers::Iptables, Dockers::Nftables].map(Served::beside)
}

#[test]
fn every_kind_of_udp_socket_sees_the_answer_come_from_where_it_asked() {
    for served in both() {
        served.site.is_answered_over_udp("127.0.0.1");
    }
}

#[test]
fn tcp_clients_are_answered_one_question_after_the_other() {
    for served in both() {
        served.site.is_answered_over_tcp();
    }
}

#[test]
fn dig_takes_the_answer_for_the_one_it_asked_for() {
    for served in both() {
        served.site.has_dig_content();
    }
}

#[test]
fn who_asks_on_with_the_same_socket_is_answered_by_docker_when_veer_is_gone() {
    for mut served in both() {
        let client = served.site.udp("127.0.0.1:0");
        client.connect(ASKED).unwrap();
        let ask = || {
            let mut buffer = [0; 512];
            client.send(&question()).unwrap();
            let length = client.recv(&mut buffer).unwrap();
            address(&buffer[..length])
        };
        assert_eq!(ask(), OURS);

        drop(served.dns.take());

        assert_eq!(ask(), THEIRS);
        assert_eq!(served.site.resolves(), THEIRS);
        assert_eq!(served.site.resolves_over_tcp(), THEIRS);
    }
}

#[test]
fn docker_answers_while_veer_hangs_and_a_stream_stays_with_whom_it_began() {
    for served in both() {
        let mut stream = served.site.tcp("127.0.0.11:53");
        stream.write_all(&framed(&question())).unwrap();
        assert_eq!(address(&read_framed(&mut stream)), OURS);

        served.is_beating.store(false, Ordering::Relaxed);

        within(TAKEBACK, "Docker's resolver answers", || {
            served.site.resolves() == THEIRS
        });
        stream.write_all(&framed(&question())).unwrap();
        assert_eq!(address(&read_framed(&mut stream)), OURS);
        served.is_beating.store(true, Ordering::Relaxed);
        within(TAKEBACK, "veer answers again", || {
            served.site.resolves() == OURS
        });
    }
}

#[test]
fn other_ports_and_addresses_are_left_alone() {
    for served in both() {
        served.site.leaves_others_alone();
    }
}
