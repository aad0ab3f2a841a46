//! Headers as they lie in a packet. Multi-byte fields hold the wire's bytes in native words.

use bytemuck::{Pod, Zeroable};
use lb_common::Mac;

/// Length of an Ethernet header, and offset of the network header.
pub const ETHERNET: u32 = 14;

/// Offset of the EtherType.
pub const ETHERTYPE: u32 = 12;

pub const TYPE_IPV4: u16 = 0x0800_u16.to_be();
pub const TYPE_ARP: u16 = 0x0806_u16.to_be();
pub const TYPE_IPV6: u16 = 0x86dd_u16.to_be();

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;

pub const TCP_FIN: u8 = 0x01;
pub const TCP_SYN: u8 = 0x02;
pub const TCP_RST: u8 = 0x04;
pub const TCP_ACK: u8 = 0x10;

/// Ethernet II.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed(2))]
pub struct Ethernet {
    pub destination: Mac,
    pub source: Mac,
    pub ethertype: u16,
}

/// RFC 791 §3.1, without options.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed(2))]
pub struct Ipv4 {
    /// Version in the high half, header length in 32-bit words in the low half.
    pub version_ihl: u8,
    pub tos: u8,
    pub total_length: u16,
    pub id: u16,
    pub fragment: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: u16,
    pub source: u32,
    pub destination: u32,
}

impl Ipv4 {
    pub const TOTAL_LENGTH: u32 = 2;
    pub const TTL: u32 = 8;
    pub const CHECKSUM: u32 = 10;
    pub const SOURCE: u32 = 12;
    pub const LENGTH: u32 = 20;
    /// "More fragments" and the offset, in [`Ipv4::fragment`].
    pub const MORE_FRAGMENTS: u16 = 0x2000_u16.to_be();
    pub const FRAGMENT_OFFSET: u16 = 0x1fff_u16.to_be();
    pub const DO_NOT_FRAGMENT: u16 = 0x4000_u16.to_be();

    /// Length of the header with options, in bytes.
    #[inline(always)]
    pub const fn header_length(&self) -> u32 {
        ((self.version_ihl & 0x0f) as u32) * 4
    }
}

/// What [`Ipv4`] has from its time to live on.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed(2))]
pub struct Ipv4End {
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: u16,
    pub source: u32,
    pub destination: u32,
}

/// RFC 8200 §3.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed(2))]
pub struct Ipv6 {
    pub version_class_flow: u32,
    pub payload_length: u16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: [u32; 4],
    pub destination: [u32; 4],
}

impl Ipv6 {
    pub const PAYLOAD_LENGTH: u32 = 4;
    pub const NEXT_HEADER: u32 = 6;
    pub const HOP_LIMIT: u32 = 7;
    pub const SOURCE: u32 = 8;
    pub const DESTINATION: u32 = 24;
    pub const LENGTH: u32 = 40;
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// What [`Ipv6`] has before its addresses.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed(2))]
pub struct Ipv6Beginning {
    pub version_class_flow: u32,
    pub payload_length: u16,
    pub next_header: u8,
    pub hop_limit: u8,
}

impl Ipv6Beginning {
    /// Of a packet with this many bytes behind its network header. Traffic class and flow label are zero.
    #[inline(always)]
    pub const fn new(next_header: u8, payload_length: u16, hop_limit: u8) -> Self {
        Self {
            version_class_flow: 0x6000_0000_u32.to_be(),
            payload_length: payload_length.to_be(),
            next_header,
            hop_limit,
        }
    }
}

/// RFC 8200 §4.5.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed(2))]
pub struct Ipv6Fragment {
    pub next_header: u8,
    pub reserved: u8,
    pub offset_more: u16,
    pub id: u32,
}

impl Ipv6Fragment {
    pub const LENGTH: u32 = 8;

    /// Of a fragment of IPv4, whose identification and fragment field are given as on the wire (RFC 7915
    /// §4.1).
    #[inline(always)]
    pub const fn from_v4(next_header: u8, id: u16, fragment: u16) -> Self {
        let has_more = fragment & Ipv4::MORE_FRAGMENTS != 0;
        let offset = u16::from_be(fragment & Ipv4::FRAGMENT_OFFSET);
        let [c, d] = id.to_ne_bytes();
        Self {
            next_header,
            reserved: 0,
            offset_more: (offset << 3 | has_more as u16).to_be(),
            id: u32::from_ne_bytes([0, 0, c, d]),
        }
    }

    /// What [`Ipv4::fragment`] is for the same fragment (RFC 7915 §5.1.1).
    #[inline(always)]
    pub const fn of_v4(&self) -> u16 {
        let offset_more = u16::from_be(self.offset_more);
        let has_more = offset_more & 1 != 0;
        (offset_more >> 3).to_be() | if has_more { Ipv4::MORE_FRAGMENTS } else { 0 }
    }

    /// What there is room for in IPv4: the lower half of the identification, as on the wire.
    #[inline(always)]
    pub const fn short_id(&self) -> u16 {
        let [_, _, c, d] = self.id.to_ne_bytes();
        u16::from_ne_bytes([c, d])
    }
}

/// The first two bytes of any other extension header.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed(2))]
pub struct Ipv6Extension {
    pub next_header: u8,
    pub length: u8,
}

/// The first 16 bytes of RFC 9293 §3.1, without window, checksum and urgent pointer's end.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed(2))]
pub struct Tcp {
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub acknowledgment: u32,
    /// Data offset in 32-bit words in the high half.
    pub offset: u8,
    pub flags: u8,
    pub window: u16,
    pub checksum: u16,
    pub urgent: u16,
}

impl Tcp {
    pub const CHECKSUM: u32 = 16;
    pub const LENGTH: u32 = 20;
}

/// RFC 768.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed(2))]
pub struct Udp {
    pub source_port: u16,
    pub destination_port: u16,
    pub length: u16,
    pub checksum: u16,
}

impl Udp {
    pub const CHECKSUM: u32 = 6;
}

/// RFC 792 and RFC 4443 §2.1; the last four bytes depend on the type.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed(2))]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub checksum: u16,
    /// Echo: the identifier.
    pub id: u16,
    pub sequence: u16,
}

impl Icmp {
    pub const CHECKSUM: u32 = 2;
    pub const ID: u32 = 4;
    pub const LENGTH: u32 = 8;
}

/// RFC 826, for Ethernet and IPv4.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed(2))]
pub struct Arp {
    pub hardware: u16,
    pub protocol: u16,
    pub hardware_length: u8,
    pub protocol_length: u8,
    pub operation: u16,
    pub sender_mac: Mac,
    pub sender: [u16; 2],
    pub target_mac: Mac,
    pub target: [u16; 2],
}

impl Arp {
    pub const REQUEST: u16 = 1_u16.to_be();
    pub const REPLY: u16 = 2_u16.to_be();

    /// Whether this is Ethernet and IPv4.
    #[inline(always)]
    pub const fn is_ipv4(&self) -> bool {
        self.hardware == 1_u16.to_be()
            && self.protocol == TYPE_IPV4
            && self.hardware_length == 6
            && self.protocol_length == 4
    }
}

/// Neighbour solicitation and advertisement without options (RFC 4861 §4.3, §4.4).
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed(2))]
pub struct Neighbour {
    pub kind: u8,
    pub code: u8,
    pub checksum: u16,
    pub flags: u32,
    pub target: [u32; 4],
}

/// Link-layer address option (RFC 4861 §4.6.1).
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed(2))]
pub struct LinkOption {
    pub kind: u8,
    /// In units of eight bytes.
    pub length: u8,
    pub mac: Mac,
}

/// A [`Neighbour`] with its [`LinkOption`]: what answers a solicitation.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed(2))]
pub struct Advertisement {
    pub neighbour: Neighbour,
    pub option: LinkOption,
}

/// The two halves of an IPv4 address in an ARP message, as one word.
#[inline(always)]
pub const fn joined(halves: [u16; 2]) -> u32 {
    let [a, b] = halves[0].to_ne_bytes();
    let [c, d] = halves[1].to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}
