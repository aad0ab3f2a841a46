//! Fast failure.

use etherparse::{Icmpv4Type, Icmpv6Type, IpNumber};
use lb_common::{Reason, VIP_MAC};
use veer_tests::packets::{self, ACK, End, FIN, Ip, SYN, Segment, icmp, tcp, udp};

use super::{Talk, both, both_in, delivered, dropped};
use crate::engine::{Scenario, Step};
use crate::world::{CLIENT, EMPTY, Family, NOBODY, ONE, Vip, World};

/// The client's segment is answered with a reset; `next` is the sequence number after it.
pub fn reset(talk: &Talk, segment: Segment, payload: &[u8], next: u32) -> Step {
    let (client, vip) = talk.outside();
    let answer = if segment.ack {
        Segment {
            rst: true,
            sequence: segment.acknowledgment,
            ..Segment::default()
        }
    } else {
        Segment {
            rst: true,
            ack: true,
            acknowledgment: next,
            ..Segment::default()
        }
    };
    delivered(
        talk.client,
        tcp(client, vip, segment, payload),
        talk.client,
        Reason::ResetSent,
        tcp(vip.at(VIP_MAC), client, answer, b""),
    )
}

/// The packet is answered with destination unreachable.
fn unreachable(client: End, vip: End, packet: Vec<u8>, v4_code: u8, v6_code: u8) -> Step {
    let header = if client.addr.is_ipv4() { 20 } else { 40 };
    let quoted = packet[14..14 + header + 8].to_vec();
    let v4 = Icmpv4Type::Unknown {
        type_u8: 3,
        code_u8: v4_code,
        bytes5to8: [0; 4],
    };
    let v6 = Icmpv6Type::Unknown {
        type_u8: 1,
        code_u8: v6_code,
        bytes5to8: [0; 4],
    };
    let answer = icmp(vip, client, v4, v6, &quoted);
    delivered(CLIENT, packet, CLIENT, Reason::UnreachableSent, answer)
}

fn refused(family: Family, vip: Vip, reason: Reason) -> Vec<Step> {
    let talk = Talk::new(family, CLIENT, vip, ONE);
    let (client, end) = talk.outside();
    let pinged = (client.on(0), end.on(0));
    let sctp = packets::ip(client, end, Ip::default(), IpNumber::SCTP, &[0; 12]);
    vec![
        reset(&talk, SYN, b"", 1_001),
        reset(&talk, SYN, b"fast open", 1_010),
        unreachable(client, end, udp(client, end, b"a longer datagram"), 3, 4),
        unreachable(client, end, udp(client, end, b""), 3, 4),
        unreachable(
            pinged.0,
            pinged.1,
            packets::echo(pinged.0, pinged.1, true, 7, b"data"),
            1,
            3,
        ),
        Step::Counted(reason, 5),
        unreachable(client, end, sctp, 2, 3),
        Step::Connections(0, 0),
    ]
}

pub fn all() -> Vec<Scenario> {
    [
        both("a group without members refuses at once", |family| {
            refused(family, EMPTY, Reason::NoBackend)
        }),
        both("a vip that no group has refuses at once", |family| {
            refused(family, NOBODY, Reason::NoFrontend)
        }),
        both(
            "a segment that belongs to no connection is reset",
            |family| {
                let talk = Talk::new(family, CLIENT, crate::world::PAIR, ONE);
                vec![
                    reset(&talk, ACK, b"data", 0),
                    reset(&talk, FIN, b"", 0),
                    Step::Counted(Reason::NoConnection, 2),
                ]
            },
        ),
        limited(),
    ]
    .concat()
}

fn limited() -> Vec<Scenario> {
    let mut world = World::new();
    world.settings.refusals = 1;
    both_in("refusals are limited", world, |family| {
        let talk = Talk::new(family, CLIENT, EMPTY, ONE);
        let (client, vip) = talk.outside();
        vec![
            reset(&talk, SYN, b"", 1_001),
            dropped(CLIENT, tcp(client, vip, SYN, b""), Reason::RateLimited),
            Step::Counted(Reason::NoBackend, 2),
        ]
    })
}
