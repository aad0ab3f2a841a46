//! What a host process's socket asked for before it was led to a Backend, and which Backend it keeps.

use bytemuck::{Pod, Zeroable};

use crate::{Addr, EndpointId, Port, map_types};

/// Key of the `socket_reverse` map: a socket and the Backend that it talks to. Of `socket_backends`: a
/// socket and what it asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct SocketKey {
    /// The socket's cookie.
    pub cookie: u64,
    pub address: Addr,
    pub port: Port,
    /// Always zero.
    pub _pad: [u16; 3],
}

/// Value of the `socket_backends` map, keyed by a socket and what it asks for: the Backend that its
/// datagrams go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SocketBackend {
    /// When a datagram went there, in nanoseconds since boot, not more than a second ago by the last one.
    pub last_used: u64,
    pub address: Addr,
    pub port: Port,
    /// Always zero.
    pub _pad: u16,
    pub endpoint: EndpointId,
    /// The Endpoint's generation. Another one: the Backend is gone.
    pub generation: u32,
    /// [`crate::Frontend::id`] of the one that chose it.
    pub frontend: u32,
}

/// Value of the `socket_reverse` map: what the process called it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SocketReverse {
    pub address: Addr,
    pub port: Port,
    /// Always zero.
    pub _pad: u16,
}

map_types!(SocketKey: 32, SocketReverse: 20, SocketBackend: 40);
