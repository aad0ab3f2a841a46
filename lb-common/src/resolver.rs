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
    /// Other name servers whose port 53 is led here, as the wire's four bytes in native words; 0: none.
    pub servers: [u32; Resolver::SERVERS],
}

impl Resolver {
    /// Name servers that a container asks at most, as the C library does.
    pub const SERVERS: usize = 3;

    /// Whether queries to this IPv4 address are led here, 127.0.0.11 apart.
    #[inline(always)]
    pub const fn stands_for(&self, address: u32) -> bool {
        let [a, b, c] = self.servers;
        address != 0 && (address == a || address == b || address == c)
    }

    /// The address that containers ask, 127.0.0.11, as the wire's four bytes in a native word.
    pub const ADDRESS: u32 = u32::from_ne_bytes([127, 0, 0, 11]);

    /// The same in halves.
    pub const WORDS: [u16; 2] = [u16::from_ne_bytes([127, 0]), u16::from_ne_bytes([0, 11])];

    /// The mark of the daemon's own sockets in containers' namespaces, which are led nowhere.
    pub const MARK: u32 = 0x7665_6572;

    /// The port that containers ask.
    pub const PORT: Port = Port::new(53);

    /// Nanoseconds after the last heartbeat at which Docker's own resolver is asked again.
    pub const PATIENCE: u64 = 1_000_000_000;
}

map_types!(Resolver: 20);
