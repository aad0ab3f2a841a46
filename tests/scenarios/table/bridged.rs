//! What is not ours stays as it is.

use lb_common::{Mac, Reason};
use veer_tests::packets::{self, ACK, SYN, tcp, udp};

use super::{both, passed, single};
use crate::engine::{Scenario, Send, Step};
use crate::world::{CLIENT, Host, ONE, TWO};

pub fn all() -> Vec<Scenario> {
    let mut scenarios = both(
        "direct traffic inside a network is left to the bridge",
        |family| {
            let (a, b) = (CLIENT.end(family, 40_000), ONE.end(family, 80));
            vec![
                passed(CLIENT, tcp(a, b, SYN, b""), Reason::Direct),
                passed(ONE, tcp(b, a, ACK, b"x"), Reason::Direct),
                passed(CLIENT, udp(a, b, b"x"), Reason::Direct),
                passed(CLIENT, packets::echo(a, b, true, 1, b"x"), Reason::Direct),
                Step::Connections(0, 0),
            ]
        },
    );
    scenarios.extend(both(
        "an unprogrammed interface is left to the bridge",
        |family| {
            let stranger = Host(50);
            let packet = udp(stranger.end(family, 1), TWO.end(family, 2), b"x");
            vec![passed(stranger, packet, Reason::UnknownVeth)]
        },
    ));
    scenarios.extend(single("other protocols than ip are left to the bridge", {
        let mut frame = vec![0xff; 6];
        frame.extend(CLIENT.mac().bytes());
        frame.extend([0x88, 0xcc]);
        frame.resize(60, 0);
        vec![passed(CLIENT, frame, Reason::NotIp)]
    }));
    scenarios.extend(cut_short());
    scenarios
}

fn cut_short() -> Vec<Scenario> {
    both("a packet cut short is dropped", |family| {
        let vip = crate::world::PAIR.end(family, 80);
        let whole = tcp(CLIENT.end(family, 40_000), vip, SYN, b"");
        let l3 = if vip.addr.is_ipv4() { 20 } else { 40 };
        // BPF_PROG_TEST_RUN itself refuses less than a network header.
        [14 + l3, 14 + l3 + 3, 14 + l3 + 19]
            .into_iter()
            .map(|length| {
                Step::Send(Send {
                    at: CLIENT.at(),
                    packet: whole[..length].to_vec(),
                    verdict: lb_ebpf::Verdict::Drop,
                    reason: Reason::Malformed,
                    out: None,
                })
            })
            .collect()
    })
}

/// An address that no container has.
pub const STRANGER: Mac = Mac::new([0x02, 0, 0, 0, 0, 0x66]);
