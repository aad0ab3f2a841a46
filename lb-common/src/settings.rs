//! What the operator chose, for the kernel: the one value of the `settings` map.

use bytemuck::{Pod, Zeroable};

use crate::{Addr, map_types};

/// Settings of the whole datapath.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Settings {
    /// First address of the IPv4 VIP range.
    pub vips_v4: Addr,
    /// Prefix mask of the IPv4 VIP range, over all 128 bits.
    pub vips_v4_mask: Addr,
    /// First address of the IPv6 VIP range.
    pub vips_v6: Addr,
    /// Prefix mask of the IPv6 VIP range.
    pub vips_v6_mask: Addr,
    pub timeouts: Timeouts,
    /// TCP resets and ICMP errors per second and CPU.
    pub refusals: u32,
    /// Events per second and CPU.
    pub events: u32,
    /// First port (in host order) of those that masqueraded packets leave from; 0: none.
    pub masquerade_first: u16,
    /// The last one.
    pub masquerade_last: u16,
    /// A set of [`Mode`].
    pub mode: u32,
    /// One in so many DNS answers of the kernel is told; 0: none.
    pub dns_samples: u32,
    /// Cookie of the network namespace that veer serves: whose processes reach published ports by
    /// their sockets. 0: none.
    pub host_netns: u64,
}

/// Bits of [`Settings::mode`].
#[derive(Debug)]
pub struct Mode;

impl Mode {
    /// Docker's own rules guard and isolate the Networks: veer does not.
    pub const BESIDE: u32 = 1;
}

/// Seconds without a packet after which a Connection is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Timeouts {
    /// TCP, until it is established.
    pub tcp_new: u32,
    pub tcp_established: u32,
    /// TCP, after a FIN from both sides.
    pub tcp_fin: u32,
    /// TCP, after a RST.
    pub tcp_reset: u32,
    /// UDP without a reply.
    pub udp_new: u32,
    /// UDP with a reply.
    pub udp_replied: u32,
    /// ICMP echo.
    pub icmp: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_new: 20,
            tcp_established: 8_000,
            tcp_fin: 30,
            tcp_reset: 10,
            udp_new: 30,
            udp_replied: 120,
            icmp: 10,
        }
    }
}

impl Settings {
    /// Whether every bit of `mode` is set.
    #[inline(always)]
    pub const fn has(&self, mode: u32) -> bool {
        self.mode & mode == mode
    }

    /// Whether masqueraded packets leave from `port` (in host order).
    #[inline(always)]
    pub const fn is_masquerade(&self, port: u16) -> bool {
        self.masquerade_first != 0 && self.masquerade_first <= port && port <= self.masquerade_last
    }

    /// Whether `address` is in a VIP range.
    #[inline(always)]
    pub const fn is_vip(&self, address: &Addr) -> bool {
        (!self.vips_v4.is_none() && address.matches(&self.vips_v4, &self.vips_v4_mask))
            || (!self.vips_v6.is_none() && address.matches(&self.vips_v6, &self.vips_v6_mask))
    }
}

map_types!(Settings: 120, Timeouts: 28);
