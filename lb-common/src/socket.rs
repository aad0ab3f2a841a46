//! What a host process's socket asked for before it was led to a Backend.

use bytemuck::{Pod, Zeroable};

use crate::{Addr, Port, map_types};

/// Key of the `socket_reverse` map: a socket and the Backend that it talks to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct SocketKey {
    /// The socket's cookie.
    pub cookie: u64,
    /// The Backend's address.
    pub address: Addr,
    /// The Backend's port.
    pub port: Port,
    /// Always zero.
    pub _pad: [u16; 3],
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

map_types!(SocketKey: 32, SocketReverse: 20);
