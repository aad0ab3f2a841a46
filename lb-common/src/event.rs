//! What the datapath tells about single flows, rate-limited, through the `events` ring buffer.

use bytemuck::{Pod, Zeroable};

use crate::{EndpointId, FlowKey, map_types};

/// One thing that happened to one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds since boot.
    pub at: u64,
    /// The flow as its packet arrived.
    pub flow: FlowKey,
    /// The Backend, 0 if there is none.
    pub backend: EndpointId,
    /// [`crate::Frontend::id`], 0 if there is none.
    pub frontend: u32,
    /// An [`EventKind`].
    pub kind: u8,
    /// A [`crate::Reason`], for [`EventKind::Dropped`].
    pub reason: u8,
    /// Always zero.
    pub _pad: [u8; 6],
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// A Connection was opened.
    New = 0,
    /// A Connection was forgotten.
    Closed = 1,
    /// A packet was dropped or refused.
    Dropped = 2,
}

impl EventKind {
    /// The kind with this number, if there is one.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::New),
            1 => Some(Self::Closed),
            2 => Some(Self::Dropped),
            _ => None,
        }
    }
}

map_types!(Event: 64);
