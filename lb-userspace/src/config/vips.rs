//! VIPs by index: addresses, and the slices that Networks own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Where VIPs are taken from.
///
/// A VIP has one index for both families. 1,024 consecutive indexes are a slice: a /22 of the IPv4
/// pool and a /64 of the IPv6 pool. A Network owns whole slices, so that one route for each family
/// leads to all of its VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vips {
    /// /22 or larger.
    pub ipv4: Ipv4Net,
    /// /64 or larger.
    pub ipv6: Ipv6Net,
}

impl Default for Vips {
    fn default() -> Self {
        // RFC 2544 sets 198.18.0.0/15 aside for benchmarks between two networks: it is routed
        // nowhere, and no Docker address pool contains it. The IPv6 prefix is a unique local one.
        Self {
            ipv4: Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15),
            ipv6: Ipv6Net::new_assert(Ipv6Addr::new(0xfd76, 0x6565, 0x7200, 0, 0, 0, 0, 0), 48),
        }
    }
}

impl Vips {
    /// How many indexes a slice has. The first and the last one are not used: in IPv4 they could be
    /// taken for the addresses of the network and of its broadcast.
    pub const SLICE: u32 = 1_024;

    /// Prefix length of a slice in IPv4.
    pub const SLICE_PREFIX_V4: u8 = 22;

    /// Prefix length of a slice in IPv6.
    pub const SLICE_PREFIX_V6: u8 = 64;

    /// How many slices both pools have.
    pub fn slices(&self) -> u32 {
        let bits_v4 = Self::SLICE_PREFIX_V4.saturating_sub(self.ipv4.prefix_len());
        let bits_v6 = Self::SLICE_PREFIX_V6.saturating_sub(self.ipv6.prefix_len());
        1 << bits_v4.min(bits_v6)
    }

    /// The IPv4 VIP with this index.
    pub fn v4(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.ipv4.network()) | index)
    }

    /// The IPv6 VIP with this index.
    pub fn v6(&self, index: u32) -> Ipv6Addr {
        let slice = u128::from(index / Self::SLICE) << 64;
        Ipv6Addr::from(u128::from(self.ipv6.network()) | slice | u128::from(index % Self::SLICE))
    }

    /// The index that `address` is the VIP of.
    pub fn index(&self, address: IpAddr) -> Option<u32> {
        let index = match address {
            IpAddr::V4(v4) if self.ipv4.contains(&v4) => {
                u32::from(v4) - u32::from(self.ipv4.network())
            }
            IpAddr::V6(v6) if self.ipv6.contains(&v6) => {
                let offset = u128::from(v6) - u128::from(self.ipv6.network());
                let slice = u32::try_from(offset >> 64).ok()?;
                slice.checked_mul(Self::SLICE)? + (offset as u64 % u64::from(Self::SLICE)) as u32
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        let same = match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => self.v6(index) == v6,
        };
        (same && index / Self::SLICE < self.slices()).then_some(index)
    }

    /// The IPv4 addresses of the slice with this number.
    pub fn slice_v4(&self, slice: u32) -> IpNet {
        let first = self.v4(slice * Self::SLICE);
        IpNet::V4(Ipv4Net::new_assert(first, Self::SLICE_PREFIX_V4))
    }

    /// The IPv6 addresses of the slice with this number.
    pub fn slice_v6(&self, slice: u32) -> IpNet {
        let first = self.v6(slice * Self::SLICE);
        IpNet::V6(Ipv6Net::new_assert(first, Self::SLICE_PREFIX_V6))
    }

    /// Whether `address` is in one of the pools.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.ipv4.contains(&v4),
            IpAddr::V6(v6) => self.ipv6.contains(&v6),
        }
    }

    /// The pool that shares addresses with `other`, and its key in the configuration. A default
    /// route shares none: it is for what nobody else has.
    pub fn clash(&self, other: &IpNet) -> Option<(&'static str, IpNet)> {
        if other.prefix_len() == 0 {
            return None;
        }
        let pools = [
            ("ipv4", IpNet::V4(self.ipv4)),
            ("ipv6", IpNet::V6(self.ipv6)),
        ];
        let overlap = |pool: &IpNet| pool.contains(other) || other.contains(pool);
        pools.into_iter().find(|(_, pool)| overlap(pool))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_one_address_in_each_family_and_comes_back() {
        let vips = Vips::default();

        for index in [1, 1_022, 1_025, 130_000] {
            assert_eq!(vips.index(vips.v4(index).into()), Some(index));
            assert_eq!(vips.index(vips.v6(index).into()), Some(index));
        }
        assert_eq!(vips.v4(1_025), Ipv4Addr::new(198, 18, 4, 1));
        assert_eq!(vips.v6(1_025).to_string(), "fd76:6565:7200:1::1");
    }

    #[test]
    fn addresses_that_are_no_vip_have_no_index() {
        let vips = Vips::default();

        for address in ["10.0.0.1", "fd76:6565:7200::1:0", "fd76:6565:7200:ffff::1"] {
            assert_eq!(vips.index(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn a_slice_holds_exactly_its_indexes() {
        let vips = Vips::default();
        let (v4, v6) = (vips.slice_v4(1), vips.slice_v6(1));

        assert_eq!(v4.to_string(), "198.18.4.0/22");
        assert_eq!(v6.to_string(), "fd76:6565:7200:1::/64");
        for (index, inside) in [(1_023, false), (1_024, true), (2_047, true), (2_048, false)] {
            assert_eq!(v4.contains(&IpAddr::V4(vips.v4(index))), inside);
            assert_eq!(v6.contains(&IpAddr::V6(vips.v6(index))), inside);
        }
    }

    #[test]
    fn a_range_that_shares_addresses_with_a_pool_clashes() {
        let vips = Vips::default();
        let key = |range: &str| vips.clash(&range.parse().unwrap()).map(|(key, _)| key);

        assert_eq!(key("198.19.255.0/24"), Some("ipv4"));
        assert_eq!(key("198.0.0.0/8"), Some("ipv4"));
        assert_eq!(key("fd76:6565:7200:1::/64"), Some("ipv6"));
        assert_eq!((key("0.0.0.0/0"), key("10.0.0.0/8")), (None, None));
    }

    #[test]
    fn the_smaller_pool_says_how_many_slices_there_are() {
        let mut vips = Vips::default();
        assert_eq!(vips.slices(), 128);

        vips.ipv6 = "fd00::/62".parse().unwrap();
        assert_eq!(vips.slices(), 4);

        vips.ipv4 = "10.0.0.0/22".parse().unwrap();
        assert_eq!(vips.slices(), 1);
    }
}
