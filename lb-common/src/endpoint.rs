//! The value of the `endpoints` map: a container's attachment to one Network.

use bytemuck::{Pod, Zeroable};

use crate::{Addr, Mac, Zone, map_types};

/// Index of an Endpoint in `endpoints`. 0 is no Endpoint. Not reused while a Connection may hold it.
pub type EndpointId = u32;

/// One Endpoint, one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Endpoint {
    /// IPv4 address, or [`Addr::NONE`].
    pub v4: Addr,
    /// Global IPv6 address, or [`Addr::NONE`].
    pub v6: Addr,
    /// Interface index of the host-side veth.
    pub ifindex: u32,
    /// Raised when the Endpoint goes: what was pinned to an older one is void.
    pub generation: u32,
    /// MAC address of the container's interface.
    pub mac: Mac,
    pub zone: Zone,
    /// An [`EndpointState`].
    pub state: u8,
    /// Always zero.
    pub _pad: [u8; 3],
    /// The next Endpoint of the same container, in a ring of all it has; 0: it is the only one.
    pub sibling: EndpointId,
    /// Always zero.
    pub _rest: [u8; 8],
}

/// What may be sent to an Endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EndpointState {
    /// Nothing: the Endpoint is gone, or was never there.
    Down = 0,
    /// Everything.
    Active = 1,
    /// What is established, no new Connections.
    Draining = 2,
}

impl Endpoint {
    /// Whether new Connections may go here.
    #[inline(always)]
    pub const fn is_active(&self) -> bool {
        self.state == EndpointState::Active as u8
    }

    /// Whether packets may be delivered here.
    #[inline(always)]
    pub const fn is_up(&self) -> bool {
        self.state != EndpointState::Down as u8
    }
}

map_types!(Endpoint: 64);
