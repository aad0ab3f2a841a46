//! DNS takeover: where a container's queries to 127.0.0.11 go.

use bytemuck::{Pod, Zeroable};

use crate::{Port, map_types};

/// Value of the `resolvers` map, keyed by the cookie (u64) of the container's network namespace:
/// ports where the daemon listens, on 127.0.0.11 inside that namespace or on the host.
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
    /// The host's address on one of the container's Networks, where the daemon listens if not inside; 0: it
    /// does inside. As the wire's four bytes in a native word, and so is the next one.
    pub gateway: u32,
    /// The container's own address on that Network, which it asks from.
    pub source: u32,
}

/// Key of the `dns_gates` map: where the daemon listens on the host for one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct Gate {
    /// As the wire's four bytes in a native word.
    pub gateway: u32,
    /// That of UDP.
    pub port: Port,
    /// Always zero.
    pub _pad: u16,
}

/// Value of the `dns_gates` map: who may ask there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Guest {
    /// The cookie of its namespace.
    pub cookie: u64,
    /// Its address, as the wire's four bytes in a native word.
    pub source: u32,
    /// Always zero.
    pub _pad: u32,
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

    /// What is left of it when the daemon's sockets are closed: where Docker's rules were taken away, it goes
    /// on leading to Docker's resolver.
    pub fn closed(self) -> Option<Self> {
        (self.docker_udp != Port::NONE).then_some(Self {
            udp: Port::NONE,
            tcp: Port::NONE,
            ..self
        })
    }

    /// The address that containers ask, 127.0.0.11, as the wire's four bytes in a native word.
    pub const ADDRESS: u32 = u32::from_ne_bytes([127, 0, 0, 11]);

    /// The mark of the daemon's own sockets in containers' namespaces, which are led nowhere.
    pub const MARK: u32 = 0x7665_6572;

    /// The port that containers ask.
    pub const PORT: Port = Port::new(53);

    /// Nanoseconds after the last heartbeat at which Docker's own resolver is asked again.
    pub const PATIENCE: u64 = 1_000_000_000;
}

map_types!(Resolver: 28, Gate: 8, Guest: 16);
