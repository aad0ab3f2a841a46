//! Where a container is answered on the host.

use std::net::Ipv4Addr;

/// The host's own address on one of a container's Networks. The container reaches it by its own route to that
/// Network, whatever other routes it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Name and index of the Network's bridge.
    pub bridge: String,
    pub ifindex: u32,
    pub gateway: Ipv4Addr,
    /// The container's address on that Network.
    pub guest: Ipv4Addr,
}
