//! Takeover through containers' veths: nobody listens inside, and queries go to the host.

use std::io::{ErrorKind, Read};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use veer_tests::deadline::within;

use super::served::Served;
use super::site::{ASKED, OURS, THEIRS, address, question};

/// How long the other resolver may stay unused after veer's has stopped; load of the machine included.
const TAKEBACK: Duration = Duration::from_secs(5);

/// A site that is answered by the daemon alone, and one by the kernel where it can.
fn both() -> [Served; 2] {
    [false, true].map(Served::on_host)
}

/// The address that a new client inside gets for `web`, by a socket that is bound nowhere.
fn resolves(served: &Served) -> [u8; 4] {
    let socket = served.site.udp("0.0.0.0:0");
    socket.send_to(&question(), ASKED).unwrap();
    let mut buffer = [0; 512];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, ASKED);
    address(&buffer[..length])
}

#[test]
fn every_kind_of_udp_socket_sees_the_answer_come_from_where_it_asked() {
    for served in both() {
        served.site.is_answered_over_udp("172.20.0.2");
    }
}

#[test]
fn the_kernel_answers_what_it_knows_at_the_bridge() {
    let [by_daemon, by_kernel] = both();

    for served in [&by_daemon, &by_kernel] {
        assert_eq!(resolves(served), OURS);
    }

    assert_eq!(by_daemon.answered_in_kernel(), 0);
    assert_eq!(by_kernel.answered_in_kernel(), 1);
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
fn a_socket_that_cannot_reach_the_host_is_answered_by_the_other_resolver() {
    let served = Served::on_host(false);

    assert_eq!(served.site.resolves(), THEIRS, "bound to 127.0.0.1");
}

#[test]
fn the_other_resolver_answers_as_soon_as_veer_is_gone() {
    for mut served in both() {
        assert_eq!(resolves(&served), OURS);

        drop(served.dns.take());

        assert_eq!(resolves(&served), THEIRS);
        assert_eq!(served.site.resolves_over_tcp(), THEIRS);
    }
}

#[test]
fn the_other_resolver_answers_while_veer_hangs() {
    for served in both() {
        assert_eq!(resolves(&served), OURS);

        served.is_beating.store(false, Ordering::Relaxed);

        within(TAKEBACK, "the other resolver answers", || {
            resolves(&served) == THEIRS
        });
        served.is_beating.store(true, Ordering::Relaxed);
        within(TAKEBACK, "veer answers again", || resolves(&served) == OURS);
    }
}

#[test]
fn a_port_of_the_host_answers_the_container_whose_it_is_alone() {
    let served = Served::on_host(false);
    let cookie = served.site.netns().cookie;
    let resolver = served.dns.as_ref().unwrap().resolver(cookie).unwrap();
    let gateway = Ipv4Addr::from(resolver.gateway.to_ne_bytes());
    served.site.has_also("172.20.0.3/24");
    let neighbour = served.site.udp("172.20.0.3:0");
    let at_host = (gateway, resolver.udp.get());
    neighbour.send_to(&question(), at_host).unwrap();

    assert_eq!(resolves(&served), OURS);

    // Both were asked of one socket, one after the other.
    neighbour.set_nonblocking(true).unwrap();
    let heard = neighbour.recv_from(&mut [0; 512]);
    assert_eq!(heard.unwrap_err().kind(), ErrorKind::WouldBlock);
    let at_host = (gateway, resolver.tcp.get());
    let mut stream = served.site.tcp_from("172.20.0.3", at_host);
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "hung up");
}

#[test]
fn other_ports_and_addresses_are_left_alone() {
    for served in both() {
        served.site.leaves_others_alone();
    }
}
