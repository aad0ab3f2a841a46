//! Where a container's packet wants to go that belongs to no Connection: its own Network, the host,
//! a published port, another Network, the outside. And whether it may.

use lb_common::{Addr, Link, Mode, Network, NetworkFlags, OpenPort, Reason, Settings, Veth, Zone};

use crate::packet::Packet;
use crate::published;
use crate::settle::Step;
use crate::tables::{Tables, Work};

/// [`Step::OPEN`] for a published port, [`Step::LEAVE`] for what is sent on; otherwise the Reason that
/// says what becomes of the packet.
#[inline(never)]
pub fn place(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Step {
    placed(tables, veth, work).into()
}

#[inline(always)]
fn placed(tables: &impl Tables, veth: &Veth, work: &mut Work) -> Result<Step, Reason> {
    let settings = tables.settings().ok_or(Reason::Direct)?;
    let network = tables.network(veth.zone).ok_or(Reason::Direct)?;
    if !network.has(NetworkFlags::SERVED) {
        return Err(Reason::Direct);
    }
    let to = work.packet.flow.destination;
    if network.contains(&to) && !network.is_gateway(&to) {
        return Err(neighbour(tables, settings, network, &work.packet));
    }
    if to.is_loopback() {
        return Err(Reason::LoopbackOutside);
    }
    if to.is_on_link() {
        let is_barred = bars_neighbours(settings, network) && !work.packet.is_icmp();
        return Err(if is_barred && !to.is_link_local() {
            Reason::IccDisabled
        } else {
            Reason::Direct
        });
    }
    let is_published = published::find(tables, work);
    let is_internal = network.has(NetworkFlags::INTERNAL);
    if is_published && !is_internal {
        return Ok(Step::OPEN);
    }
    if tables.is_local(&to) {
        // Whoever holds the port for the Engine would answer.
        let is_isolated = network.has(NetworkFlags::isolated(work.packet.is_v4()));
        let is_barred = (is_published || is_isolated) && !settings.has(Mode::BESIDE);
        return Err(if is_barred {
            Reason::InternalNetwork
        } else {
            Reason::Host
        });
    }
    beyond(tables, settings, network, veth.zone, work)
}

/// Another Network or the outside: neither is the container's nor the host's.
#[inline(always)]
fn beyond(
    tables: &impl Tables,
    settings: &Settings,
    network: &Network,
    own: Zone,
    work: &mut Work,
) -> Result<Step, Reason> {
    let is_guarded = !settings.has(Mode::BESIDE);
    if network.has(NetworkFlags::INTERNAL) {
        return Err(if is_guarded {
            Reason::InternalNetwork
        } else {
            Reason::Direct
        });
    }
    let zone = tables.subnet(&work.packet.flow.destination).unwrap_or(0);
    if zone != 0 && (zone == own || !is_guarded) {
        return Err(Reason::Direct);
    }
    if zone != 0 && !admits(tables, zone, &work.packet) {
        return Err(Reason::Isolated);
    }
    if network.has(NetworkFlags::KERNEL_MASQUERADE) {
        return Err(Reason::Direct);
    }
    work.beyond = zone;
    Ok(Step::LEAVE)
}

/// What becomes of a packet to the container's own Network.
#[inline(always)]
fn neighbour(
    tables: &impl Tables,
    settings: &Settings,
    network: &Network,
    packet: &Packet,
) -> Reason {
    if bars_neighbours(settings, network) && !is_linked(tables, packet) {
        Reason::IccDisabled
    } else {
        Reason::Direct
    }
}

/// Whether containers of the Network may not reach each other.
#[inline(always)]
pub const fn bars_neighbours(settings: &Settings, network: &Network) -> bool {
    network.has(NetworkFlags::NO_ICC) && !settings.has(Mode::BESIDE)
}

/// Whether a link allows the packet, or what it answers.
#[inline(always)]
fn is_linked(tables: &impl Tables, packet: &Packet) -> bool {
    let flow = &packet.flow;
    let mut link = Link {
        from: flow.source,
        to: flow.destination,
        port: flow.destination_port,
        zone: flow.zone,
        protocol: flow.protocol,
        _pad: [0; 3],
    };
    if tables.is_linked(&link) {
        return true;
    }
    // Whoever answers opens nothing.
    if packet.is_opening() {
        return false;
    }
    link.from = flow.destination;
    link.to = flow.source;
    link.port = flow.source_port;
    tables.is_linked(&link)
}

/// Whether a Network takes the packet at its containers' own addresses.
#[inline(always)]
pub fn admits(tables: &impl Tables, zone: Zone, packet: &Packet) -> bool {
    let Some(network) = tables.network(zone) else {
        return false;
    };
    if network.has(NetworkFlags::unprotected(packet.is_v4())) {
        return true;
    }
    network.has(NetworkFlags::routed(packet.is_v4()))
        && (packet.is_icmp() || is_open(tables, zone, packet, 0))
}

/// Whether the packet is to a published port at its container's own address, which is open to what comes
/// from `interface`; 0: from everywhere.
#[inline(always)]
pub fn is_open(tables: &impl Tables, zone: Zone, packet: &Packet, interface: u32) -> bool {
    let flow = &packet.flow;
    tables.is_open(&OpenPort {
        address: flow.destination,
        port: flow.destination_port,
        zone,
        protocol: flow.protocol,
        _pad: [0; 3],
        interface,
    })
}

/// Whether a packet to `address` may be for the host behind a bridge: its own addresses, and what only
/// has a meaning on the link.
#[inline(always)]
pub fn is_for_host(tables: &impl Tables, address: &Addr) -> bool {
    address.is_on_link() || tables.is_local(address)
}
