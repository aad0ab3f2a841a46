//! What a container sends to itself, where no program on sockets leads its queries: a query for Docker's
//! resolver goes to the daemon's socket instead, and an answer from there is shown as one from port 53.
//!
//! # Why
//! Docker's NAT rules have changed the port already, and the kernel would change it again before the packet
//! is delivered, whatever it says now. The packet is therefore left as it is and only the socket is chosen,
//! which can be done where it comes in. Whose it is can be seen where it goes out: it is marked there.
//! A packet that nobody marks, or whose socket is not there, gets Docker's answer, as without veer.

use bytemuck::{Pod, Zeroable};
use lb_common::{Port, Resolver};

use crate::checksum::Delta;
use crate::frame::{Checksum, Frame};
use crate::resolver::{Transport, dockers_port, is_alive, port_of};

/// Where Ethernet's type is, and the port that a packet comes from, after an IP header without options.
const ETHERTYPE: u32 = 12;
const SOURCE_PORT: u32 = 14 + 20;
/// Where the checksum of a datagram is.
const UDP_CHECK: u32 = SOURCE_PORT + 6;

/// The upper halves of marks.
const MARK_UDP: u32 = 0x7675_0000;
const MARK_TCP: u32 = 0x7674_0000;

/// What the decision needs to know of the namespace that the packet is in.
pub trait Inside {
    /// Where the daemon said that it listens, and Docker's resolver.
    fn resolver(&self) -> Option<Resolver>;
    /// Nanoseconds since boot at which the daemon last was alive.
    fn heartbeat(&self) -> u64;
    /// Whether there is a connection with these ends, begun or over included: its packets stay its own.
    fn is_connected(&self, ends: &Ends) -> bool;
}

/// The ends of a flow, as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Ends {
    pub source: [u8; 4],
    pub destination: [u8; 4],
    pub source_port: [u8; 2],
    pub destination_port: [u8; 2],
}

/// What is to become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Led {
    /// It goes on as it is.
    Alone,
    /// It goes on, with this mark until it comes in.
    Marked(u32),
    /// It was an answer of the daemon's, is one from port 53 now, and goes on.
    Shown,
    /// It could only be changed in part and must not go on.
    Broken,
}

/// Ethernet's type, the headers of IPv4 without options, and the ports, as on the wire.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Heads {
    ethertype: [u8; 2],
    version_and_length: u8,
    service: u8,
    total_and_id: [u8; 4],
    fragment: [u8; 2],
    hops: u8,
    protocol: u8,
    check: [u8; 2],
    ends: Ends,
}

const _: () = assert!(size_of::<Heads>() == 26);

impl Heads {
    /// Its transport, if it is whole and can be read here.
    #[inline(always)]
    fn transport(&self) -> Option<Transport> {
        let is_whole = u16::from_be_bytes(self.fragment) & 0x3fff == 0;
        let is_plain = self.ethertype == [0x08, 0x00] && self.version_and_length == 0x45;
        if !is_whole || !is_plain {
            return None;
        }
        Transport::from_protocol(u32::from(self.protocol))
    }
}

/// The mark of a packet that is for the daemon's socket of this transport on `port`.
#[inline(always)]
pub const fn mark(transport: Transport, port: Port) -> u32 {
    let kind = match transport {
        Transport::Udp => MARK_UDP,
        Transport::Tcp => MARK_TCP,
    };
    kind | port.get() as u32
}

/// What a mark says; `None` if it is somebody else's.
#[inline(always)]
pub const fn marked(mark: u32) -> Option<(Transport, Port)> {
    let port = Port::new(mark as u16);
    match mark & !0xffff {
        MARK_UDP => Some((Transport::Udp, port)),
        MARK_TCP => Some((Transport::Tcp, port)),
        _ => None,
    }
}

/// Says what is to become of `frame`, which goes out at the loopback interface.
#[inline(always)]
pub fn dns_lead(frame: &mut impl Frame, inside: &impl Inside) -> Led {
    let Some(heads) = frame.load::<Heads>(ETHERTYPE) else {
        return Led::Alone;
    };
    let ends = &heads.ends;
    let (is_query, is_answer) = (is_resolver(ends.destination), is_resolver(ends.source));
    if !is_query && !is_answer {
        return Led::Alone;
    }
    let (Some(transport), Some(resolver)) = (heads.transport(), inside.resolver()) else {
        return Led::Alone;
    };
    // Streams need none of this: they have the ports of their query.
    if is_answer && transport == Transport::Udp && port(ends.source_port) == resolver.udp {
        return show(frame, ends.source_port);
    }
    let is_led = is_query
        && is_dockers(ends, &resolver, transport)
        && is_alive(frame.now(), inside.heartbeat())
        && !(transport == Transport::Tcp && inside.is_connected(ends));
    match is_led {
        true => Led::Marked(mark(transport, port_of(&resolver, transport))),
        false => Led::Alone,
    }
}

/// Whether this goes to Docker's resolver, by the port that Docker's rules have put there or, where they have
/// not, by the one that was asked.
#[inline(always)]
fn is_dockers(ends: &Ends, resolver: &Resolver, transport: Transport) -> bool {
    let to = port(ends.destination_port);
    let dockers = dockers_port(resolver, transport);
    to == Resolver::PORT || (dockers != Port::NONE && to == dockers)
}

/// Has an answer come from port 53.
#[inline(always)]
fn show(frame: &mut impl Frame, from: [u8; 2]) -> Led {
    let shown = Resolver::PORT.wire();
    let delta = Delta::ZERO.half(u16::from_ne_bytes(from), shown);
    let summed = frame.patch_l4(UDP_CHECK, delta.fold(), Checksum::Segment, true);
    if summed.is_err() || frame.store(SOURCE_PORT, &shown).is_err() {
        return Led::Broken;
    }
    Led::Shown
}

#[inline(always)]
fn is_resolver(address: [u8; 4]) -> bool {
    u32::from_ne_bytes(address) == Resolver::ADDRESS
}

#[inline(always)]
fn port(wire: [u8; 2]) -> Port {
    Port::from_wire(u16::from_ne_bytes(wire))
}

#[cfg(test)]
mod tests;
