//! The value of the `veths` map: whose packets an interface carries.

use bytemuck::{Pod, Zeroable};

use crate::{Addr, EndpointId, Mac, Zone, map_types};

/// A host-side veth, keyed by its interface index (u32): the Endpoint behind it, and what that one
/// may call itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Veth {
    /// IPv4 address, or [`Addr::NONE`].
    pub v4: Addr,
    /// Global IPv6 address, or [`Addr::NONE`].
    pub v6: Addr,
    /// Link-local IPv6 address, or [`Addr::NONE`].
    pub link_local: Addr,
    pub endpoint: EndpointId,
    /// The Endpoint's generation, for the reply entries of its Connections.
    pub generation: u32,
    pub mac: Mac,
    pub zone: Zone,
    /// A set of [`VethFlags`].
    pub flags: u32,
    /// Always zero.
    pub _pad: u32,
}

/// Bits of [`Veth::flags`].
#[derive(Debug)]
pub struct VethFlags;

impl VethFlags {
    /// Packets with another source MAC or IP address are dropped.
    pub const ANTI_SPOOFING: u32 = 1;
}

impl Veth {
    /// Whether `flag` is set.
    #[inline(always)]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag == flag
    }

    /// Whether the Endpoint may send from `address`.
    #[inline(always)]
    pub fn owns(&self, address: &Addr) -> bool {
        !address.is_none()
            && (*address == self.v4 || *address == self.v6 || *address == self.link_local)
    }
}

map_types!(Veth: 72);
