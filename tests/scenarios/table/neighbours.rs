//! ARP and neighbour discovery for VIPs.

use lb_common::{Mac, Reason, VIP_MAC};
use veer_tests::packets::{End, arp, link_option, neighbour};

use super::{delivered, passed, single};
use crate::engine::Scenario;
use crate::world::{CLIENT, Family, NOBODY, ONE, PAIR, Vip};

const BROADCAST: Mac = Mac::new([0xff; 6]);

fn who_has(vip: Vip) -> Vec<u8> {
    let sender = (CLIENT.mac(), CLIENT.v4().octets());
    arp(
        CLIENT.mac(),
        BROADCAST,
        true,
        sender,
        (Mac::NONE, vip.v4().octets()),
    )
}

fn is_at(vip: Vip) -> Vec<u8> {
    let sender = (VIP_MAC, vip.v4().octets());
    arp(
        VIP_MAC,
        CLIENT.mac(),
        false,
        sender,
        (CLIENT.mac(), CLIENT.v4().octets()),
    )
}

fn solicitation(vip: Vip, with_option: bool) -> Vec<u8> {
    let [.., a, b, c] = vip.v6().octets();
    let group = End {
        mac: Mac::new([0x33, 0x33, 0xff, a, b, c]),
        addr: std::net::Ipv6Addr::new(
            0xff02,
            0,
            0,
            0,
            0,
            1,
            0xff00 | u16::from(a),
            u16::from_be_bytes([b, c]),
        )
        .into(),
        port: 0,
    };
    let options = if with_option {
        link_option(1, CLIENT.mac())
    } else {
        Vec::new()
    };
    neighbour(
        CLIENT.end(Family::V6, 0),
        group,
        135,
        0,
        vip.v6().octets(),
        &options,
    )
}

fn advertisement(vip: Vip) -> Vec<u8> {
    let (vip_end, client) = (vip.end(Family::V6, 0), CLIENT.end(Family::V6, 0));
    let target = vip.v6().octets();
    neighbour(
        vip_end,
        client,
        136,
        0x6000_0000,
        target,
        &link_option(2, VIP_MAC),
    )
}

pub fn all() -> Vec<Scenario> {
    [
        single(
            "arp for a vip is answered, a group has it or not",
            vec![
                delivered(
                    CLIENT,
                    who_has(PAIR),
                    CLIENT,
                    Reason::ArpAnswered,
                    is_at(PAIR),
                ),
                delivered(
                    CLIENT,
                    who_has(NOBODY),
                    CLIENT,
                    Reason::ArpAnswered,
                    is_at(NOBODY),
                ),
            ],
        ),
        single(
            "a solicitation for a vip is answered, with a link option or without",
            vec![
                delivered(
                    CLIENT,
                    solicitation(PAIR, true),
                    CLIENT,
                    Reason::NeighbourAnswered,
                    advertisement(PAIR),
                ),
                delivered(
                    CLIENT,
                    solicitation(NOBODY, false),
                    CLIENT,
                    Reason::NeighbourAnswered,
                    advertisement(NOBODY),
                ),
            ],
        ),
        single("arp and discovery for containers are left to the bridge", {
            let sender = (CLIENT.mac(), CLIENT.v4().octets());
            let ask = arp(
                CLIENT.mac(),
                BROADCAST,
                true,
                sender,
                (Mac::NONE, ONE.v4().octets()),
            );
            let answer = arp(
                CLIENT.mac(),
                ONE.mac(),
                false,
                sender,
                (ONE.mac(), ONE.v4().octets()),
            );
            let (client, one) = (CLIENT.end(Family::V6, 0), ONE.end(Family::V6, 0));
            let link = link_option(1, CLIENT.mac());
            let solicit = neighbour(client, one, 135, 0, ONE.v6().octets(), &link);
            let own = CLIENT.v6().octets();
            let advertise = neighbour(
                client,
                one,
                136,
                0x6000_0000,
                own,
                &link_option(2, CLIENT.mac()),
            );
            [ask, answer, solicit, advertise]
                .map(|packet| passed(CLIENT, packet, Reason::Direct))
                .to_vec()
        }),
    ]
    .concat()
}
