//! DNS takeover: where a container's queries to 127.0.0.11 go.

use bytemuck::{Pod, Zeroable};

use crate::{Port, map_types};

/// Value of the `resolvers` map, keyed by the cookie (u64) of the container's network namespace:
/// ports on 127.0.0.11 inside that namespace where the daemon listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Resolver {
    pub udp: Port,
    pub tcp: Port,
    /// Where Docker's own resolver listens, if its rules there were taken away; 0: they lead to it.
    pub docker_udp: Port,
    pub docker_tcp: Port,
}

impl Resolver {
    /// The address that containers ask, 127.0.0.11, as the wire's four bytes in a native word.
    pub const ADDRESS: u32 = u32::from_ne_bytes([127, 0, 0, 11]);

    /// The port that containers ask.
    pub const PORT: Port = Port::new(53);

    /// Nanoseconds after the last heartbeat at which Docker's own resolver is asked again.
    pub const PATIENCE: u64 = 1_000_000_000;
}

map_types!(Resolver: 8);
