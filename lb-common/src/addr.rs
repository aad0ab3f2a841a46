//! Addresses as map keys: IPv4 and IPv6 alike, in network byte order.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::{Pod, Zeroable};

use crate::map_types;

/// An IPv4 or IPv6 address: 16 bytes as on the wire, IPv4 as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
///
/// The bytes are held as four words so that the kernel compares and copies them in four steps.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct Addr {
    words: [u32; 4],
}

impl Addr {
    /// The IPv6 address `::`, which is also "no address" in map values.
    pub const NONE: Self = Self { words: [0; 4] };

    const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

    /// An IPv4 address from its four bytes, read from the wire as one native word.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self {
            words: [0, 0, Self::MAPPED, word],
        }
    }

    /// An IPv6 address from its sixteen bytes, read from the wire as native words.
    #[inline(always)]
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self { words }
    }

    /// The four native words whose bytes are in network order.
    #[inline(always)]
    pub const fn words(&self) -> [u32; 4] {
        self.words
    }

    /// The last word: all of an IPv4 address.
    #[inline(always)]
    pub const fn v4_word(&self) -> u32 {
        self.words[3]
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == Self::MAPPED
    }

    /// Whether this is [`Addr::NONE`].
    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == 0 && self.words[3] == 0
    }

    /// `127.0.0.1` or `::1`.
    #[inline(always)]
    pub const fn loopback(is_v4: bool) -> Self {
        if is_v4 {
            Self::from_v4_word(u32::from_ne_bytes([127, 0, 0, 1]))
        } else {
            Self::from_words([0, 0, 0, 1_u32.to_be()])
        }
    }

    /// The first byte of an IPv4 address.
    #[inline(always)]
    const fn first_v4(&self) -> u8 {
        self.words[3].to_ne_bytes()[0]
    }

    /// Whether this is in 127.0.0.0/8, or is ::1.
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() {
            return self.first_v4() == 127;
        }
        self.words[0] == 0
            && self.words[1] == 0
            && self.words[2] == 0
            && self.words[3] == 1_u32.to_be()
    }

    /// Whether this is in 169.254.0.0/16 or in fe80::/10.
    #[inline(always)]
    pub const fn is_link_local(&self) -> bool {
        if self.is_v4() {
            let bytes = self.words[3].to_ne_bytes();
            return bytes[0] == 169 && bytes[1] == 254;
        }
        let bytes = self.words[0].to_ne_bytes();
        bytes[0] == 0xfe && bytes[1] & 0xc0 == 0x80
    }

    /// Whether this has a meaning on the link alone: link-local, multicast, broadcast, or unspecified.
    #[inline(always)]
    pub const fn is_on_link(&self) -> bool {
        if self.is_link_local() || self.is_none() {
            return true;
        }
        if self.is_v4() {
            let first = self.first_v4();
            // 0.0.0.0/8 is "this host"; 224.0.0.0/4 multicast, 240.0.0.0/4 reserved, with broadcast.
            return first == 0 || first >= 224;
        }
        self.words[0].to_ne_bytes()[0] == 0xff
    }

    /// Whether `self` and `other` agree in every bit that `mask` has set.
    #[inline(always)]
    pub const fn matches(&self, other: &Self, mask: &Self) -> bool {
        (self.words[0] ^ other.words[0]) & mask.words[0] == 0
            && (self.words[1] ^ other.words[1]) & mask.words[1] == 0
            && (self.words[2] ^ other.words[2]) & mask.words[2] == 0
            && (self.words[3] ^ other.words[3]) & mask.words[3] == 0
    }

    /// A mask of `bits` leading ones out of 128; an IPv4 prefix of n bits is 96 + n.
    pub const fn mask(bits: u8) -> Self {
        let value = if bits == 0 {
            0
        } else {
            u128::MAX << (128 - bits as u32)
        };
        let b = value.to_be_bytes();
        Self {
            words: [
                u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
                u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
                u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
                u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
            ],
        }
    }

    /// The address as the standard library's type, the one way out of network byte order.
    pub fn get(&self) -> IpAddr {
        if self.is_v4() {
            return IpAddr::V4(Ipv4Addr::from(self.words[3].to_ne_bytes()));
        }
        let bytes: [u8; 16] = bytemuck::cast(self.words);
        IpAddr::V6(Ipv6Addr::from(bytes))
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(addr: Ipv4Addr) -> Self {
        Self::from_v4_word(u32::from_ne_bytes(addr.octets()))
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(addr: Ipv6Addr) -> Self {
        Self {
            words: bytemuck::cast(addr.octets()),
        }
    }
}

impl From<IpAddr> for Addr {
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A port, or an ICMP echo identifier, in network byte order.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Port(u16);

impl Port {
    /// No port: in a Frontend "every port", in a Slot "the port that was asked for".
    pub const NONE: Self = Self(0);

    /// A port from its number in host order.
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// A port from two bytes of the wire, read as one native half-word.
    #[inline(always)]
    pub const fn from_wire(word: u16) -> Self {
        Self(word)
    }

    /// The native half-word whose bytes are in network order.
    #[inline(always)]
    pub const fn wire(self) -> u16 {
        self.0
    }

    /// The number in host order, the one way out of network byte order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// Whether this is [`Port::NONE`].
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// An Ethernet address, as on the wire.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct Mac {
    halves: [u16; 3],
}

impl Mac {
    /// No address.
    pub const NONE: Self = Self { halves: [0; 3] };

    /// An address from its six bytes in the order of the wire.
    #[inline(always)]
    pub const fn new(b: [u8; 6]) -> Self {
        Self {
            halves: [
                u16::from_ne_bytes([b[0], b[1]]),
                u16::from_ne_bytes([b[2], b[3]]),
                u16::from_ne_bytes([b[4], b[5]]),
            ],
        }
    }

    /// The six bytes in the order of the wire.
    #[inline(always)]
    pub fn bytes(&self) -> [u8; 6] {
        bytemuck::cast(self.halves)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.bytes();
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

map_types!(Addr: 16, Port: 2, Mac: 6);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_is_held_mapped_and_comes_back() {
        let addr = Addr::from(Ipv4Addr::new(10, 1, 2, 3));

        assert!(addr.is_v4());
        assert_eq!(addr.get(), IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)));
        assert_eq!(bytemuck::bytes_of(&addr)[10..], [0xff, 0xff, 10, 1, 2, 3]);
    }

    #[test]
    fn an_ipv6_address_comes_back() {
        let v6: Ipv6Addr = [0xfd00, 1, 2, 3, 4, 5, 6, 7].into();

        assert_eq!(Addr::from(v6).get(), IpAddr::V6(v6));
        assert!(!Addr::from(v6).is_v4());
    }

    #[test]
    fn a_mask_covers_exactly_its_prefix() {
        let base = Addr::from(Ipv4Addr::new(198, 18, 0, 0));
        let inside = Addr::from(Ipv4Addr::new(198, 19, 255, 255));
        let outside = Addr::from(Ipv4Addr::new(198, 20, 0, 0));

        let mask = Addr::mask(96 + 15);

        assert!(inside.matches(&base, &mask));
        assert!(!outside.matches(&base, &mask));
        assert!(outside.matches(&base, &Addr::mask(0)));
    }

    #[test]
    fn addresses_with_a_meaning_of_their_own_are_known() {
        let addr = |text: &str| Addr::from(text.parse::<IpAddr>().unwrap());

        for loopback in ["127.0.0.1", "127.255.0.9", "::1"] {
            assert!(addr(loopback).is_loopback(), "{loopback}");
        }
        for on_link in [
            "169.254.1.1",
            "224.0.0.251",
            "255.255.255.255",
            "0.0.0.0",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
        ] {
            assert!(addr(on_link).is_on_link(), "{on_link}");
        }
        for other in [
            "10.0.0.1",
            "128.0.0.1",
            "169.253.0.1",
            "223.255.0.1",
            "2001:db8::1",
            "fec0::1",
            "::2",
        ] {
            assert!(
                !addr(other).is_on_link() && !addr(other).is_loopback(),
                "{other}"
            );
        }
    }

    #[test]
    fn a_port_is_in_network_order_inside_and_host_order_outside() {
        assert_eq!(bytemuck::bytes_of(&Port::new(0x1234)), [0x12, 0x34]);
        assert_eq!(Port::new(443).get(), 443);
    }
}
