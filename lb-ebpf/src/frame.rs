//! The bytes of one packet, wherever they are.

use bytemuck::Pod;
use lb_common::Reason;

use crate::headers::ETHERTYPE;
use crate::way::{Route, Way};

/// How a transport checksum takes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The change is in the pseudo header: addresses.
    Pseudo,
    /// The change is in the segment: ports, identifiers.
    Segment,
}

/// One packet, from the Ethernet header on. Offsets and lengths in bytes.
///
/// Writing fails with [`Reason::RewriteFailed`] where the bytes do not exist or the kernel cannot
/// make them writable.
pub trait Frame {
    /// Interface that the packet arrived on.
    fn ifindex(&self) -> u32;

    /// Interface that the packet reached the host on, when it is about to leave; 0: the host made it.
    fn came_from(&self) -> u32;

    /// The EtherType as on the wire, as the kernel says: also of a packet without Ethernet.
    fn protocol(&self) -> u16;

    /// The EtherType as on the wire, `None` if the frame is too short.
    fn ethertype(&self) -> Option<u16> {
        self.load(ETHERTYPE)
    }

    /// Bytes of payload in each segment of a packet that will be cut; 0: it will not.
    fn segment_size(&self) -> u32;

    /// Asks the host's routes.
    fn route(&self, way: &mut Way) -> Route;

    /// Gives the packet the MAC addresses of `way`, and has it leave there. Only for an answer that has
    /// an interface.
    fn send_out(&mut self, way: &Way, route: Route) -> Result<(), Reason>;

    /// Has the packet leave by the interface that it came in on.
    fn send_back(&mut self);

    /// Nanoseconds since boot.
    fn now(&self) -> u64;

    /// A number that is another one as soon as [`Frame::now`] is, give or take one step of that clock, and
    /// that costs nothing to ask for.
    fn tick(&self) -> u64;

    /// Length of the whole frame.
    fn len(&self) -> u32;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads a header, `None` if the frame ends before.
    fn load<T: Pod>(&self, offset: u32) -> Option<T>;

    /// Writes a header or field. Checksums are not touched.
    fn store<T: Pod>(&mut self, offset: u32, value: &T) -> Result<(), Reason>;

    /// Writes a field of the network header that no checksum but the header's own covers. Where the kernel
    /// keeps the sum of the whole packet, it follows.
    fn store_summed<T: Pod>(&mut self, offset: u32, value: &T) -> Result<(), Reason>;

    /// Applies a folded [`crate::Delta`] to the transport checksum at `offset`. The field may hold
    /// the sum of the pseudo header alone (checksum offload); the implementation knows. With `udp`,
    /// zero means "no checksum" and stays (RFC 768).
    fn patch_l4(
        &mut self,
        offset: u32,
        delta: u32,
        kind: Checksum,
        udp: bool,
    ) -> Result<(), Reason>;

    /// Makes room for an IPv4 header where an IPv6 header is, or the other way round, and changes the
    /// EtherType. The header's bytes are undefined then.
    fn exchange_header(&mut self, to_v4: bool) -> Result<(), Reason>;

    /// Makes `bytes` more room between the network header and what follows, or less if negative. What is
    /// in new room is undefined.
    fn widen(&mut self, bytes: i32) -> Result<(), Reason>;

    /// Puts an Ethernet header without addresses in front of a packet that has none.
    fn dress(&mut self, ethertype: u16) -> Result<(), Reason>;

    /// Cuts the frame or extends it with undefined bytes.
    fn resize(&mut self, len: u32) -> Result<(), Reason>;

    /// Marks the packet as being for its receiver, whatever MAC address it had.
    ///
    /// Before kernel 6.15 `bpf_redirect_peer` kept the mark that the host-side veth had given, and
    /// `ip_rcv` drops what is marked as another host's.
    fn address_to_host(&mut self) -> Result<(), Reason>;
}
