//! What the decisions read and write: BPF maps in the kernel, memory elsewhere.

use bytemuck::{Pod, Zeroable};
use lb_common::{
    Addr, Affinity, AffinityKey, Connection, Endpoint, EndpointId, Event, FlowKey, FragmentKey,
    FragmentPorts, Frontend, FrontendKey, Interface, Limit, Link, Network, OpenPort, Reason,
    Settings, Slot, SocketBackend, SocketKey, SocketReverse, Source, SourceKey, Veth, Zone,
};

use crate::frame::Frame;
use crate::packet::Packet;
use crate::way::Way;

/// Which of the two Connection maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Established Connections. Nothing is ever evicted from it.
    Connections,
    /// Everything else. The least recently used make room.
    HalfOpen,
}

/// Whether an existing entry may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insert {
    /// Fail if there is one.
    New,
    /// Replace it.
    Any,
}

/// No room, or an entry where none may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A change of one Connection entry, made in place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Amend {
    /// Bits of [`lb_common::ConnectionFlags`] to set.
    pub set: u16,
    /// Bits to clear.
    pub clear: u16,
    /// Seconds; 0: as it is.
    pub timeout: u32,
    /// Nanoseconds since boot.
    pub last_seen: u64,
}

impl Amend {
    /// Makes the change.
    #[inline(always)]
    pub fn apply(&self, entry: &mut Connection) {
        entry.flags = (entry.flags | self.set) & !self.clear;
        if self.timeout != 0 {
            entry.timeout = self.timeout;
        }
        if self.last_seen != 0 {
            entry.last_seen = self.last_seen;
        }
    }
}

/// The tables of one datapath. Values that change under the reader's hands come as copies.
pub trait Tables {
    fn settings(&self) -> Option<&Settings>;
    /// Good until another one is looked up, which may take its place.
    fn veth(&self, ifindex: u32) -> Option<&Veth>;
    fn endpoint(&self, id: EndpointId) -> Option<&Endpoint>;
    fn frontend(&self, key: &FrontendKey) -> Option<Frontend>;
    fn slot(&self, index: u32) -> Option<Slot>;

    /// First port of the cell that `port` belongs to, both in host order; 0: nobody's, or a protocol
    /// without cells.
    fn cell(&self, protocol: u8, port: u16) -> u16;
    /// The rule with the longest prefix.
    fn source(&self, key: &SourceKey) -> Option<Source>;
    /// One Connection judged by a rule, `now` in nanoseconds since boot.
    fn count_rule(&self, rule: u16, now: u64);
    /// Whether it is an address of the host's own, loopback apart.
    fn is_local(&self, address: &Addr) -> bool;
    fn interface(&self, ifindex: u32) -> Option<&Interface>;
    /// When the daemon last was alive, in nanoseconds since boot.
    fn heartbeat(&self) -> u64;
    fn network(&self, zone: Zone) -> Option<&Network>;
    /// The Network that an address belongs to.
    fn subnet(&self, address: &Addr) -> Option<Zone>;
    fn is_open(&self, port: &OpenPort) -> bool;
    fn is_linked(&self, link: &Link) -> bool;
    /// What a socket asked for before it was led to its peer.
    fn socket(&self, key: &SocketKey) -> Option<SocketReverse>;
    fn set_socket(&self, key: &SocketKey, value: &SocketReverse);
    /// Where a socket's datagrams to what it asks for go.
    fn socket_backend(&self, key: &SocketKey) -> Option<SocketBackend>;
    fn set_socket_backend(&self, key: &SocketKey, value: &SocketBackend);

    /// Looks a Connection entry up and copies it to `into`.
    fn find(&self, store: Store, key: &FlowKey, into: &mut Connection) -> bool;
    /// Looks an established Connection's entry up, notes in it that a packet passes ([`Connection::pass`]),
    /// and copies it to `into`. `now` in nanoseconds since boot.
    fn meet(&self, key: &FlowKey, now: u64, into: &mut Connection) -> bool;
    /// Whether there is an entry.
    fn has(&self, store: Store, key: &FlowKey) -> bool;
    fn insert(
        &self,
        store: Store,
        key: &FlowKey,
        value: &Connection,
        how: Insert,
    ) -> Result<(), Full>;
    /// Changes an entry in place, if there is one.
    fn amend(&self, store: Store, key: &FlowKey, amend: &Amend);
    /// Deletes an entry; whether there was one.
    fn remove(&self, store: Store, key: &FlowKey) -> bool;

    /// The next turn of a Frontend: 0, 1, 2 … in the order of calls, over all CPUs.
    fn take_turn(&self, frontend: u32) -> u64;
    fn random(&self) -> u32;
    /// Established Connections of a Backend.
    fn load(&self, endpoint: EndpointId) -> u64;
    /// One established Connection more or less.
    fn add_load(&self, endpoint: EndpointId, opened: bool);
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity>;
    fn set_affinity(&self, key: &AffinityKey, value: &Affinity);
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts>;
    fn set_fragment(&self, key: &FragmentKey, value: &FragmentPorts);

    /// Takes a token. `now` in nanoseconds since boot.
    fn allows(&self, limit: Limit, now: u64) -> bool;
    fn count(&self, reason: Reason);
    /// One Connection opened at a Frontend, on a Backend.
    fn count_opened(&self, frontend: u32, backend: EndpointId);
    fn count_refused(&self, frontend: u32);
    /// One packet of `bytes` to or from a Backend.
    fn count_packet(&self, backend: EndpointId, bytes: u32);
    /// Hands an event to userspace, if there is room.
    fn emit(&self, event: &Event);
}

/// Room for what a packet needs and the stack has not: per CPU in the kernel.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Work {
    pub packet: Packet,
    /// Key of the other direction.
    pub reverse: FlowKey,
    /// The entry that was found, or is being made, for this direction.
    pub this: Connection,
    /// The entry of the other direction.
    pub other: Connection,
    pub event: Event,
    /// The Frontend that a Connection is opened at.
    pub frontend: Frontend,
    /// The beginning of a packet that an ICMP error quotes.
    pub quoted: [u32; 12],
    /// The sum of what goes into the ICMP error's checksum, folded.
    pub sum: u32,
    /// Offset of the transport header that a translated ICMP error quotes.
    pub quotation: u32,
    /// Where the packet leaves the host.
    pub way: Way,
    /// The zone that a packet leaves for: 0 or another Network's.
    pub beyond: Zone,
    /// Always zero.
    pub _pad: [u16; 3],
    /// Nanoseconds since boot.
    pub now: u64,
    /// [`Frame::tick`] at `now`.
    tick: u64,
    blurred: u64,
}

impl Work {
    /// Sets `now`. The clock, which is a call away, is asked once in each of its steps.
    #[inline(always)]
    pub fn look_at_clock(&mut self, frame: &impl Frame) {
        let tick = frame.tick();
        if self.tick != tick {
            (self.tick, self.now) = (tick, frame.now());
        }
    }

    /// `value` as it was, from memory. The verifier follows every constant that a step returns through
    /// all that comes after it; a word in a map may be anything to it, and is followed once.
    #[inline(always)]
    pub fn blur(&mut self, value: u64) -> u64 {
        self.blurred = value;
        *core::hint::black_box(&mut self.blurred)
    }
}
