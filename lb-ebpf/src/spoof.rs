//! Anti-spoofing: a container speaks for itself alone.

use lb_common::{Addr, Reason, Veth, VethFlags};

use crate::headers::{Ethernet, ICMPV6, UDP};
use crate::packet::Packet;

/// The frame's source MAC must be the container's.
#[inline(always)]
pub fn check_mac(ethernet: &Ethernet, veth: &Veth) -> Result<(), Reason> {
    if veth.has(VethFlags::ANTI_SPOOFING) && ethernet.source != veth.mac {
        return Err(Reason::SpoofedMac);
    }
    Ok(())
}

/// The packet's source address must be the container's, or none where a protocol says so.
#[inline(always)]
pub fn check_source(packet: &Packet, veth: &Veth) -> Result<(), Reason> {
    if !veth.has(VethFlags::ANTI_SPOOFING)
        || veth.owns(&packet.flow.source)
        || may_have_no_source(packet)
    {
        return Ok(());
    }
    Err(Reason::SpoofedAddress)
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
