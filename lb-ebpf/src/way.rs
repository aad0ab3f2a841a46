//! Where a packet leaves the host: the question to its routes, and their answer.

use bytemuck::{Pod, Zeroable};
use lb_common::{Addr, Mac, Port};

use crate::frame::Frame;
use crate::headers::{ETHERNET, TCP, Tcp};
use crate::packet::Packet;

/// Index of the loopback interface, in every namespace.
pub const LOOPBACK: u32 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Question and answer, laid out as the kernel's `struct bpf_fib_lookup`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Way {
    family: u8,
    protocol: u8,
    source_port: Port,
    destination_port: Port,
    /// Length of the network packet in bytes; in the answer [`Route::TooBig`], what fits.
    length: u16,
    /// Asked: the interface that the packet seems to come from. Answered: the one it leaves by.
    pub ifindex: u32,
    class: u32,
    /// Of IPv4, the first word.
    source: [u32; 4],
    /// Of IPv4, the first word. Answered: the next hop.
    destination: [u32; 4],
    vlan: u32,
    /// Of the interface, where the answer is [`Route::Neighbour`].
    pub source_mac: Mac,
    /// Of the next hop, where the answer is [`Route::Neighbour`].
    pub destination_mac: Mac,
}

const _: () = assert!(size_of::<Way>() == 64);

/// What the routes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The next hop's MAC address is known.
    Neighbour,
    /// It has to be asked for, or the interface has none.
    NoNeighbour,
    /// The packet is larger than what fits there.
    TooBig,
    /// To the host itself, by its loopback interface.
    Home,
    /// Nowhere.
    None,
}

impl Way {
    /// Asks for the way of a packet with these addresses and ports of `packet`'s protocol that comes
    /// from `ifindex` and has `length` bytes; 0: the routes need not look at its length.
    #[inline(always)]
    pub fn ask(&mut self, from: (Addr, Port), to: (Addr, Port), packet: &Packet, ifindex: u32) {
        self.protocol = packet.flow.protocol;
        self.source_port = from.1;
        self.destination_port = to.1;
        self.length = 0;
        self.ifindex = ifindex;
        self.class = 0;
        self.vlan = 0;
        if to.0.is_v4() {
            self.family = AF_INET;
            self.source = [from.0.v4_word(), 0, 0, 0];
            self.destination = [to.0.v4_word(), 0, 0, 0];
        } else {
            self.family = AF_INET6;
            self.source = from.0.words();
            self.destination = to.0.words();
        }
    }

    /// Says how long the packet is: one that is several segments as long as each of them.
    #[inline(always)]
    pub fn measure(&mut self, frame: &impl Frame, packet: &Packet) {
        let size = frame.segment_size();
        let length = if size == 0 {
            frame.len() - ETHERNET
        } else {
            packet.l4 - ETHERNET + header_length(frame, packet) + size
        };
        self.length = if length > u16::MAX as u32 {
            u16::MAX
        } else {
            length as u16
        };
    }

    /// The packet will be longer by so many bytes.
    #[inline(always)]
    pub const fn add(&mut self, bytes: u16) {
        self.length = self.length.saturating_add(bytes);
    }

    /// What fits is shorter by so many bytes.
    #[inline(always)]
    pub const fn take(&mut self, bytes: u16) {
        self.length = self.length.saturating_sub(bytes);
    }

    /// The largest network packet that fits, in bytes, after [`Route::TooBig`].
    #[inline(always)]
    pub const fn fits(&self) -> u16 {
        self.length
    }

    /// Address of the next hop, or of the destination where there is none, as the wire's words.
    #[inline(always)]
    pub const fn next_hop(&self) -> (bool, [u32; 4]) {
        (self.family == AF_INET, self.destination)
    }

    /// Answers, outside the kernel: the packet leaves by `ifindex`, from `macs.0` to `macs.1`.
    #[cfg(any(feature = "native", test))]
    pub fn answer(&mut self, ifindex: u32, mtu: u16, macs: Option<(Mac, Mac)>) -> Route {
        self.ifindex = ifindex;
        if self.length > mtu {
            self.length = mtu;
            return Route::TooBig;
        }
        let Some((source, destination)) = macs else {
            return Route::NoNeighbour;
        };
        self.source_mac = source;
        self.destination_mac = destination;
        Route::Neighbour
    }

    /// The destination asked for.
    #[cfg(any(feature = "native", test))]
    pub fn destination(&self) -> Addr {
        if self.family == AF_INET {
            Addr::from_v4_word(self.destination[0])
        } else {
            Addr::from_words(self.destination)
        }
    }
}

/// Length of the transport header in bytes.
#[inline(always)]
fn header_length(frame: &impl Frame, packet: &Packet) -> u32 {
    if packet.flow.protocol != TCP {
        return 8;
    }
    match frame.load::<Tcp>(packet.l4) {
        Some(tcp) => (tcp.offset >> 4) as u32 * 4,
        None => Tcp::LENGTH,
    }
}
