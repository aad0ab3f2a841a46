//! A network that is made while nobody attends has no guards: nothing is let in from outside.

use std::net::{SocketAddr, UdpSocket};

use lb_common::Reason;
use lb_userspace::netns::Namespace;
use veer_tests::deadline::eventually;
use veer_tests::host::Host;
use veer_tests::station::{Family, SILENCE};

use crate::ports::{host, outsider, site};

/// A datagram from somebody outside.
fn knocks(outside: &Namespace, to: SocketAddr) {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let send = || UdpSocket::bind(any)?.send_to(b"let me in", to);
    outside.run(send).unwrap().unwrap();
}

#[test]
fn a_datagram_gets_into_a_network_that_veer_does_not_know_only_while_the_daemon_is_there() {
    let ground = Host::new();
    let (_network, _known, outside, veer) = site(&ground, "known");
    let unknown = ground.network();
    let [late] = ground.stations(&unknown, ["late"]);
    let mut links = outside.links().unwrap();

    for family in Family::BOTH {
        links.add_default_route(host(family)).unwrap();
        let inbox = late.udp(family, 53);
        inbox.set_read_timeout(Some(SILENCE)).unwrap();
        let to = SocketAddr::new(late.address(family), 53);
        let before = veer.count(Reason::NotProgrammed);

        knocks(&outside, to);
        eventually("it is counted", || {
            veer.count(Reason::NotProgrammed) > before
        });
        assert!(inbox.recv_from(&mut [0; 16]).is_err(), "{family:?}");

        // One that is there puts guards on the bridge itself, which is not played here.
        let heartbeat = veer.datapath().heartbeat().unwrap();
        eventually("it gets in", || {
            heartbeat.beat().unwrap();
            knocks(&outside, to);
            let from = inbox.recv_from(&mut [0; 16]);
            from.is_ok_and(|(_, from)| from.ip() == outsider(family))
        });
        eventually("the sign of life is an old one", || {
            let counted = veer.count(Reason::NotProgrammed);
            knocks(&outside, to);
            veer.count(Reason::NotProgrammed) > counted
        });
    }
}
