//! Anti-spoofing: a container speaks for itself alone.
//!
//! One that is on several Networks may send from an address that it has on one of them by the interface
//! of another: its answers to who came in by a Network that is not its way out do. What may become of
//! such a packet is for the Network that the address belongs to.

use lb_common::{Addr, Endpoint, NetworkFlags, Reason, Veth, VethFlags};

use crate::headers::{Ethernet, ICMPV6, UDP};
use crate::packet::{Kind, Packet};
use crate::tables::{Tables, Work};

/// How many Networks of a container are looked at for an address.
const SIBLINGS: u32 = 16;

/// The frame's source MAC must be the container's.
#[inline(always)]
pub fn check_mac(ethernet: &Ethernet, veth: &Veth) -> Result<(), Reason> {
    if veth.has(VethFlags::ANTI_SPOOFING) && ethernet.source != veth.mac {
        return Err(Reason::SpoofedMac);
    }
    Ok(())
}

/// Who speaks in a packet from `veth`: the packet's source address must be the container's, or none where
/// a protocol says so. An address that it has on another of its Networks makes that Network's veth the
/// speaker, and the packet one of its zone.
#[inline(always)]
pub fn speaker<'t>(
    tables: &'t impl Tables,
    veth: &'t Veth,
    work: &mut Work,
) -> Result<&'t Veth, Reason> {
    if veth.owns(&work.packet.flow.source) {
        return Ok(veth);
    }
    let other = elsewhere(tables, veth, work) as u32;
    if other != 0
        && let Some(other) = tables.veth(other)
    {
        work.packet.flow.zone = other.zone;
        return Ok(other);
    }
    if veth.has(VethFlags::ANTI_SPOOFING) && !may_have_no_source(&work.packet) {
        return Err(Reason::SpoofedAddress);
    }
    Ok(veth)
}

/// The interface of another Network that the container has the packet's source address on; 0: there is
/// none, or the packet does not leave that Network by its nature, and then it must be sent there.
#[inline(never)]
fn elsewhere(tables: &impl Tables, veth: &Veth, work: &Work) -> u64 {
    let flow = &work.packet.flow;
    if work.packet.kind() == Kind::Discovery || flow.destination.is_on_link() {
        return 0;
    }
    let Some(endpoint) = sibling(tables, veth, &flow.source) else {
        return 0;
    };
    let network = tables.network(endpoint.zone);
    let leaves = network.is_some_and(|network| {
        network.has(NetworkFlags::SERVED) && !network.contains(&flow.destination)
    });
    if leaves { endpoint.ifindex as u64 } else { 0 }
}

/// The Endpoint by which the container of `veth` has `address` on another Network.
#[inline(always)]
fn sibling<'t>(tables: &'t impl Tables, veth: &Veth, address: &Addr) -> Option<&'t Endpoint> {
    if address.is_none() {
        return None;
    }
    let mut next = tables.endpoint(veth.endpoint)?.sibling;
    for _ in 0..SIBLINGS {
        if next == 0 || next == veth.endpoint {
            break;
        }
        let endpoint = tables.endpoint(next)?;
        if endpoint.is_up() && (endpoint.v4 == *address || endpoint.v6 == *address) {
            return Some(endpoint);
        }
        next = endpoint.sibling;
    }
    None
}

/// Whether the container of `veth` has the address on another of its Networks.
#[inline(never)]
pub fn is_elsewhere(tables: &impl Tables, veth: &Veth, address: &Addr) -> bool {
    sibling(tables, veth, address).is_some()
}

/// Duplicate address detection and multicast listener reports may come from `::` (RFC 4862 §5.4.2,
/// RFC 3590); DHCP discovery comes from 0.0.0.0 (RFC 2131 §4.1).
#[inline(always)]
fn may_have_no_source(packet: &Packet) -> bool {
    let flow = &packet.flow;
    if packet.is_v4() {
        return flow.source == Addr::from_v4_word(0)
            && flow.protocol == UDP
            && flow.source_port.get() == 68
            && flow.destination_port.get() == 67;
    }
    flow.source.is_none()
        && flow.protocol == ICMPV6
        && matches!(packet.icmp_type, 131 | 132 | 135 | 143)
}
