//! ARP and neighbour discovery: VIPs are answered here, lies are dropped.

use lb_common::{Addr, Mac, Reason, Settings, VIP_MAC, Veth, VethFlags};

use crate::checksum::pseudo;
use crate::frame::Frame;
use crate::headers::{
    Advertisement, Arp, ETHERNET, Ethernet, ICMPV6, Ipv6, LinkOption, Neighbour, TYPE_ARP,
    TYPE_IPV6, joined,
};
use crate::outcome::Outcome;
use crate::spoof;
use crate::tables::{Tables, Work};

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const ROUTER_SOLICITATION: u8 = 133;
const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;
/// "Solicited" and "override" (RFC 4861 §4.4).
const SOLICITED_OVERRIDE: u32 = 0x6000_0000_u32.to_be();

/// Answers ARP requests for VIPs; checks what the container says of itself.
#[inline(always)]
pub fn arp(
    frame: &mut impl Frame,
    tables: &impl Tables,
    settings: &Settings,
    veth: &Veth,
) -> Result<Outcome, Reason> {
    let arp: Arp = frame.load(ETHERNET).ok_or(Reason::Malformed)?;
    if !arp.is_ipv4() {
        return Err(Reason::NotIp);
    }
    let sender = Addr::from_v4_word(joined(arp.sender));
    // A probe has no sender address yet (RFC 5227 §1.1).
    let is_probe = sender == Addr::from_v4_word(0);
    let is_own = arp.sender_mac == veth.mac && (sender == veth.v4 || is_probe);
    if veth.has(VethFlags::ANTI_SPOOFING) && !is_own && !asks_from_elsewhere(tables, veth, &arp) {
        return Err(Reason::SpoofedNeighbour);
    }
    let target = Addr::from_v4_word(joined(arp.target));
    if arp.operation != Arp::REQUEST || is_probe || !settings.is_vip(&target) {
        return Err(Reason::Direct);
    }
    let answer = Arp {
        operation: Arp::REPLY,
        sender_mac: VIP_MAC,
        sender: arp.target,
        target_mac: arp.sender_mac,
        target: arp.sender,
        ..arp
    };
    frame.store(0, &ethernet_to(veth, TYPE_ARP))?;
    frame.store(ETHERNET, &answer)?;
    frame.address_to_host()?;
    Ok(Outcome::deliver(frame.ifindex(), Reason::ArpAnswered))
}

/// Whether the container asks for its gateway in the name that it has on another of its Networks: Linux
/// asks in the name of the packet that it wants to send there (`arp_announce`).
#[inline(always)]
fn asks_from_elsewhere(tables: &impl Tables, veth: &Veth, arp: &Arp) -> bool {
    let target = Addr::from_v4_word(joined(arp.target));
    arp.operation == Arp::REQUEST
        && arp.sender_mac == veth.mac
        && tables
            .network(veth.zone)
            .is_some_and(|network| network.is_gateway(&target))
        && spoof::is_elsewhere(tables, veth, &Addr::from_v4_word(joined(arp.sender)))
}

/// Answers neighbour solicitations for VIPs; checks what the container says of itself.
#[inline(never)]
pub fn discovery(
    frame: &mut impl Frame,
    settings: &Settings,
    veth: &Veth,
    work: &mut Work,
) -> Outcome {
    discover(frame, settings, veth, work).into()
}

#[inline(always)]
fn discover(
    frame: &mut impl Frame,
    settings: &Settings,
    veth: &Veth,
    work: &Work,
) -> Result<Outcome, Reason> {
    let packet = &work.packet;
    if veth.has(VethFlags::ANTI_SPOOFING) {
        check_discovery(frame, veth, packet.icmp_type, packet.l4)?;
    }
    if packet.icmp_type != SOLICITATION || packet.flow.source.is_none() {
        return Err(Reason::Direct);
    }
    let solicitation: Neighbour = frame.load(packet.l4).ok_or(Reason::Malformed)?;
    let target = Addr::from_words(solicitation.target);
    if !settings.is_vip(&target) {
        return Err(Reason::Direct);
    }
    advertise(frame, veth, target, packet.flow.source)?;
    Ok(Outcome::deliver(frame.ifindex(), Reason::NeighbourAnswered))
}

/// A container may solicit, and advertise its own addresses with its own MAC. Router advertisements
/// and redirects are not for containers to send (RFC 6105).
#[inline(always)]
fn check_discovery(frame: &impl Frame, veth: &Veth, kind: u8, l4: u32) -> Result<(), Reason> {
    let options = match kind {
        SOLICITATION => l4 + size_of::<Neighbour>() as u32,
        ROUTER_SOLICITATION => l4 + 8,
        ADVERTISEMENT => {
            let neighbour: Neighbour = frame.load(l4).ok_or(Reason::Malformed)?;
            if !veth.owns(&Addr::from_words(neighbour.target)) {
                return Err(Reason::SpoofedNeighbour);
            }
            l4 + size_of::<Neighbour>() as u32
        }
        _ => return Err(Reason::SpoofedNeighbour),
    };
    check_options(frame, veth.mac, options)
}

/// Every link-layer address option must carry `mac`.
#[inline(always)]
fn check_options(frame: &impl Frame, mac: Mac, mut offset: u32) -> Result<(), Reason> {
    // Linux sends at most two; more than four is somebody hiding one.
    for _ in 0..4 {
        let Some(option) = frame.load::<LinkOption>(offset) else {
            return if offset >= frame.len() {
                Ok(())
            } else {
                Err(Reason::Malformed)
            };
        };
        if option.length == 0 {
            return Err(Reason::Malformed);
        }
        let is_link = option.kind == SOURCE_LINK || option.kind == TARGET_LINK;
        if is_link && option.mac != mac {
            return Err(Reason::SpoofedNeighbour);
        }
        offset += option.length as u32 * 8;
    }
    if offset >= frame.len() {
        Ok(())
    } else {
        Err(Reason::SpoofedNeighbour)
    }
}

/// Turns the frame into the advertisement that `target` is at [`VIP_MAC`].
#[inline(always)]
fn advertise(frame: &mut impl Frame, veth: &Veth, target: Addr, asker: Addr) -> Result<(), Reason> {
    let length = size_of::<Advertisement>() as u16;
    let mut answer = Advertisement {
        neighbour: Neighbour {
            kind: ADVERTISEMENT,
            code: 0,
            checksum: 0,
            flags: SOLICITED_OVERRIDE,
            target: target.words(),
        },
        option: LinkOption {
            kind: TARGET_LINK,
            length: 1,
            mac: VIP_MAC,
        },
    };
    let words: [u32; 8] = bytemuck::cast(answer);
    let sum = pseudo(target.words(), asker.words(), ICMPV6, length)
        .words([0; 4], [words[0], words[1], words[2], words[3]])
        .words([0; 4], [words[4], words[5], words[6], words[7]]);
    answer.neighbour.checksum = sum.finish();
    let ip = Ipv6 {
        version_class_flow: 0x6000_0000_u32.to_be(),
        payload_length: length.to_be(),
        next_header: ICMPV6,
        hop_limit: 255,
        source: target.words(),
        destination: asker.words(),
    };
    frame.resize(ETHERNET + Ipv6::LENGTH + length as u32)?;
    frame.store(0, &ethernet_to(veth, TYPE_IPV6))?;
    frame.store(ETHERNET, &ip)?;
    frame.store(ETHERNET + Ipv6::LENGTH, &answer)?;
    frame.address_to_host()
}

/// The Ethernet header of an answer from a VIP to the container.
#[inline(always)]
pub fn ethernet_to(veth: &Veth, ethertype: u16) -> Ethernet {
    Ethernet {
        destination: veth.mac,
        source: VIP_MAC,
        ethertype,
    }
}
