//! Client affinity: which Backend a client had last.

use bytemuck::{Pod, Zeroable};

use crate::{Addr, EndpointId, Port, map_types};

/// One client of one Frontend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct AffinityKey {
    pub client: Addr,
    /// [`crate::Frontend::id`].
    pub frontend: u32,
}

/// The Backend that the client's new Connections go to while it is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Affinity {
    /// When a Connection was last opened, in nanoseconds since boot.
    pub last_used: u64,
    pub endpoint: EndpointId,
    /// The Endpoint's generation; another one: the Endpoint is gone.
    pub generation: u32,
    /// The Backend's port, [`Port::NONE`] for the port that was asked for.
    pub port: Port,
    /// Always zero.
    pub _pad: [u16; 3],
}

map_types!(AffinityKey: 20, Affinity: 24);
