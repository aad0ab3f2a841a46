//! One parsed packet: what the decisions read.

use bytemuck::{Pod, Zeroable};
use lb_common::{Addr, Connection, ConnectionFlags as Flags, FlowKey, Port, Reason, Zone};

use crate::frame::Frame;
use crate::headers::{
    ETHERNET, ICMP, ICMPV6, Icmp, Ipv4, Ipv6, Ipv6Extension, Ipv6Fragment, SCTP, TCP, TCP_ACK,
    TCP_RST, TCP_SYN, TYPE_IPV4, Tcp, UDP, Udp,
};

/// What is known of a packet. Plain data, so that it can live in a per-CPU map.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Packet {
    pub flow: FlowKey,
    /// Offset of the transport header.
    pub l4: u32,
    /// Identification, if it is a fragment.
    pub fragment_id: u32,
    /// A [`Kind`].
    kind: u8,
    /// A [`Fragment`].
    fragment: u8,
    /// The TCP flags' low byte.
    pub tcp_flags: u8,
    pub icmp_type: u8,
    /// 4 or 6.
    pub version: u8,
    /// Time to live, or hop limit.
    pub hops: u8,
    _pad: [u8; 2],
}

/// What kind of packet it is, as far as balancing cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A protocol or ICMP type that is not balanced.
    Other = 0,
    Tcp = 1,
    Udp = 2,
    /// ICMP echo request.
    EchoRequest = 3,
    EchoReply = 4,
    /// ICMP error: carries the packet it complains about.
    IcmpError = 5,
    /// Neighbour discovery.
    Discovery = 6,
    /// Only its addresses can be rewritten.
    Sctp = 7,
}

/// Whether the packet is a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fragment {
    Whole = 0,
    /// Carries the transport header.
    First = 1,
    /// Carries none.
    Later = 2,
}

impl Packet {
    #[inline(always)]
    pub const fn kind(&self) -> Kind {
        match self.kind {
            1 => Kind::Tcp,
            2 => Kind::Udp,
            3 => Kind::EchoRequest,
            4 => Kind::EchoReply,
            5 => Kind::IcmpError,
            6 => Kind::Discovery,
            7 => Kind::Sctp,
            _ => Kind::Other,
        }
    }

    #[inline(always)]
    pub const fn fragment(&self) -> Fragment {
        match self.fragment {
            1 => Fragment::First,
            2 => Fragment::Later,
            _ => Fragment::Whole,
        }
    }

    /// Whether any of these TCP flags is set.
    #[inline(always)]
    pub const fn has_tcp(&self, flags: u8) -> bool {
        self.tcp_flags & flags != 0
    }

    /// Whether it is the TCP segment that opens a Connection.
    #[inline(always)]
    pub const fn is_opening(&self) -> bool {
        self.has_tcp(TCP_SYN) && !self.has_tcp(TCP_ACK | TCP_RST)
    }

    /// Whether it is of ICMP or ICMPv6.
    #[inline(always)]
    pub const fn is_icmp(&self) -> bool {
        (self.version == 4 && self.flow.protocol == ICMP)
            || (self.version == 6 && self.flow.protocol == ICMPV6)
    }

    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.version == 4
    }

    /// Whether the way of `entry` leads from one zone into another, which is a router's work; inside a zone
    /// it is a bridge's, and the host's own packets are not forwarded by it.
    #[inline(always)]
    const fn crosses(&self, entry: &Connection) -> bool {
        self.flow.zone != entry.other_zone && !entry.has(Flags::OF_HOST)
    }

    /// Hops that are left once the packet has gone by `entry`.
    #[inline(always)]
    pub const fn hops_after(&self, entry: &Connection) -> u8 {
        self.hops.wrapping_sub(self.crosses(entry) as u8)
    }

    /// Whether no hop is left for the way of `entry` (RFC 1812 §5.3.1, RFC 8200 §3).
    #[inline(always)]
    pub const fn is_spent(&self, entry: &Connection) -> bool {
        self.crosses(entry) && self.hops <= 1
    }

    /// Parses the network and transport header of an IPv4 or IPv6 packet into `self`.
    ///
    /// Fails with [`Reason::Malformed`] where headers are cut short or contradict themselves.
    #[inline(always)]
    pub fn parse(&mut self, frame: &impl Frame, ethertype: u16, zone: Zone) -> Result<(), Reason> {
        self.flow.zone = zone;
        self.flow._pad = 0;
        self.flow.source_port = Port::NONE;
        self.flow.destination_port = Port::NONE;
        self.tcp_flags = 0;
        self.icmp_type = 0;
        if ethertype == TYPE_IPV4 {
            self.parse_v4(frame)?;
        } else {
            self.parse_v6(frame)?;
        }
        if self.fragment == Fragment::Later as u8 {
            self.kind = match self.flow.protocol {
                TCP => Kind::Tcp as u8,
                UDP => Kind::Udp as u8,
                SCTP => Kind::Sctp as u8,
                // Which ICMP it is, only the first fragment says.
                _ => Kind::Other as u8,
            };
            return Ok(());
        }
        self.parse_l4(frame)
    }

    #[inline(always)]
    fn parse_v4(&mut self, frame: &impl Frame) -> Result<(), Reason> {
        let ip: Ipv4 = frame.load(ETHERNET).ok_or(Reason::Malformed)?;
        if ip.version_ihl >> 4 != 4 || ip.header_length() < Ipv4::LENGTH {
            return Err(Reason::Malformed);
        }
        self.version = 4;
        self.hops = ip.ttl;
        self.flow.source = Addr::from_v4_word(ip.source);
        self.flow.destination = Addr::from_v4_word(ip.destination);
        self.flow.protocol = ip.protocol;
        self.l4 = ETHERNET + ip.header_length();
        self.fragment_id = ip.id as u32;
        self.fragment = if ip.fragment & Ipv4::FRAGMENT_OFFSET != 0 {
            Fragment::Later as u8
        } else if ip.fragment & Ipv4::MORE_FRAGMENTS != 0 {
            Fragment::First as u8
        } else {
            Fragment::Whole as u8
        };
        Ok(())
    }

    #[inline(always)]
    fn parse_v6(&mut self, frame: &impl Frame) -> Result<(), Reason> {
        let ip: Ipv6 = frame.load(ETHERNET).ok_or(Reason::Malformed)?;
        if ip.version_class_flow.to_ne_bytes()[0] >> 4 != 6 {
            return Err(Reason::Malformed);
        }
        self.version = 6;
        self.hops = ip.hop_limit;
        self.flow.source = Addr::from_words(ip.source);
        self.flow.destination = Addr::from_words(ip.destination);
        // An IPv4 address in an IPv6 header would be another family's key (RFC 4038 §4.2).
        if self.flow.source.is_v4() || self.flow.destination.is_v4() {
            return Err(Reason::Malformed);
        }
        self.flow.protocol = ip.next_header;
        self.l4 = ETHERNET + Ipv6::LENGTH;
        self.fragment = Fragment::Whole as u8;
        self.fragment_id = 0;
        if is_extension(ip.next_header) {
            return self.skip_extensions(frame);
        }
        Ok(())
    }

    /// Walks the extension headers (RFC 8200 §4), at most six.
    #[inline(always)]
    fn skip_extensions(&mut self, frame: &impl Frame) -> Result<(), Reason> {
        for _ in 0..6 {
            if !is_extension(self.flow.protocol) || self.fragment == Fragment::Later as u8 {
                return Ok(());
            }
            if self.flow.protocol == Ipv6::FRAGMENT {
                let header: Ipv6Fragment = frame.load(self.l4).ok_or(Reason::Malformed)?;
                let offset_more = u16::from_be(header.offset_more);
                self.fragment_id = header.id;
                self.fragment = if offset_more & 0xfff8 != 0 {
                    Fragment::Later as u8
                } else if offset_more & 1 != 0 {
                    Fragment::First as u8
                } else {
                    Fragment::Whole as u8
                };
                self.flow.protocol = header.next_header;
                self.l4 += 8;
                continue;
            }
            let header: Ipv6Extension = frame.load(self.l4).ok_or(Reason::Malformed)?;
            // RFC 4302 §2.2: the authentication header counts in other units.
            let length = if self.flow.protocol == Ipv6::AUTHENTICATION {
                (header.length as u32 + 2) * 4
            } else {
                (header.length as u32 + 1) * 8
            };
            self.flow.protocol = header.next_header;
            self.l4 += length;
        }
        if is_extension(self.flow.protocol) {
            Err(Reason::Malformed)
        } else {
            Ok(())
        }
    }

    #[inline(always)]
    fn parse_l4(&mut self, frame: &impl Frame) -> Result<(), Reason> {
        match self.flow.protocol {
            TCP => {
                let tcp: Tcp = frame.load(self.l4).ok_or(Reason::Malformed)?;
                self.kind = Kind::Tcp as u8;
                self.tcp_flags = tcp.flags;
                self.ports(tcp.source_port, tcp.destination_port);
            }
            UDP => {
                let udp: Udp = frame.load(self.l4).ok_or(Reason::Malformed)?;
                self.kind = Kind::Udp as u8;
                self.ports(udp.source_port, udp.destination_port);
            }
            SCTP => {
                let ports: [u16; 2] = frame.load(self.l4).ok_or(Reason::Malformed)?;
                self.kind = Kind::Sctp as u8;
                self.ports(ports[0], ports[1]);
            }
            ICMP if self.version == 4 => self.parse_icmp(frame)?,
            ICMPV6 if self.version == 6 => self.parse_icmp(frame)?,
            _ => self.kind = Kind::Other as u8,
        }
        Ok(())
    }

    #[inline(always)]
    fn parse_icmp(&mut self, frame: &impl Frame) -> Result<(), Reason> {
        let icmp: Icmp = frame.load(self.l4).ok_or(Reason::Malformed)?;
        self.icmp_type = icmp.kind;
        let kind = icmp_kind(self.version, icmp.kind);
        self.kind = kind as u8;
        match kind {
            Kind::EchoRequest => self.ports(icmp.id, 0),
            Kind::EchoReply => self.ports(0, icmp.id),
            _ => {}
        }
        Ok(())
    }

    #[inline(always)]
    fn ports(&mut self, source: u16, destination: u16) {
        self.flow.source_port = Port::from_wire(source);
        self.flow.destination_port = Port::from_wire(destination);
    }
}

/// What an ICMP type is (IANA's ICMP and ICMPv6 parameters).
#[inline(always)]
pub const fn icmp_kind(version: u8, kind: u8) -> Kind {
    if version == 4 {
        return match kind {
            0 => Kind::EchoReply,
            8 => Kind::EchoRequest,
            3 | 11 | 12 => Kind::IcmpError,
            _ => Kind::Other,
        };
    }
    match kind {
        1..=4 => Kind::IcmpError,
        128 => Kind::EchoRequest,
        129 => Kind::EchoReply,
        133..=137 => Kind::Discovery,
        _ => Kind::Other,
    }
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        Ipv6::HOP_BY_HOP
            | Ipv6::ROUTING
            | Ipv6::FRAGMENT
            | Ipv6::AUTHENTICATION
            | Ipv6::DESTINATION_OPTIONS
    )
}
