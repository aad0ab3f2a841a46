//! Packets as data: built whole, checksums computed from nothing, by a library that knows nothing of
//! the datapath.

use std::net::IpAddr;

use etherparse::{
    EtherType, Ethernet2Header, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber,
    Ipv4Header, Ipv6Header, TcpHeader, UdpHeader,
};
use lb_common::Mac;

/// One end of a packet.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub mac: Mac,
    pub addr: IpAddr,
    pub port: u16,
}

impl End {
    /// The same end on another port.
    pub fn on(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// The same end under another MAC address.
    pub fn at(self, mac: Mac) -> Self {
        Self { mac, ..self }
    }
}

/// What distinguishes IP packets from each other, apart from their ends.
#[derive(Clone, Copy, Debug)]
pub struct Ip {
    pub ttl: u8,
    pub id: u32,
    /// Offset in bytes and "more fragments".
    pub fragment: Option<(u16, bool)>,
    pub dont_fragment: bool,
}

impl Default for Ip {
    fn default() -> Self {
        Self {
            ttl: 64,
            id: 0,
            fragment: None,
            dont_fragment: true,
        }
    }
}

impl Ip {
    /// A fragment of packet `id` from byte `offset` on.
    pub fn fragment(id: u32, offset: u16, more: bool) -> Self {
        Self {
            id,
            fragment: Some((offset, more)),
            dont_fragment: false,
            ..Self::default()
        }
    }
}

/// A whole frame: Ethernet, IP, and `payload` as it is.
pub fn ip(from: End, to: End, ip: Ip, protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let ether_type = if from.addr.is_ipv4() {
        EtherType::IPV4
    } else {
        EtherType::IPV6
    };
    Ethernet2Header {
        source: from.mac.bytes(),
        destination: to.mac.bytes(),
        ether_type,
    }
    .write(&mut frame)
    .expect("write to memory");
    frame.extend(datagram(from.addr, to.addr, ip, protocol, payload));
    frame
}

/// The same frame one hop further.
pub fn hop(mut frame: Vec<u8>) -> Vec<u8> {
    let header = &mut frame[14..];
    if header[0] >> 4 == 6 {
        header[7] -= 1;
        return frame;
    }
    header[8] -= 1;
    let (mut ip, _) = Ipv4Header::from_slice(header).expect("a frame of IPv4");
    ip.header_checksum = ip.calc_header_checksum();
    header[..20].copy_from_slice(&ip.to_bytes());
    frame
}

/// An IP packet without Ethernet.
pub fn datagram(from: IpAddr, to: IpAddr, ip: Ip, protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(payload.len()).expect("a packet's length");
            let mut header = Ipv4Header::new(length, ip.ttl, protocol, from.octets(), to.octets())
                .expect("a packet's length");
            header.identification = ip.id as u16;
            header.dont_fragment = ip.dont_fragment;
            if let Some((offset, more)) = ip.fragment {
                header.fragment_offset = (offset / 8).try_into().expect("a fragment's offset");
                header.more_fragments = more;
            }
            header.header_checksum = header.calc_header_checksum();
            [&header.to_bytes(), payload].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut body = Vec::new();
            let mut next = protocol;
            if let Some((offset, more)) = ip.fragment {
                body.extend([protocol.0, 0]);
                body.extend((offset | u16::from(more)).to_be_bytes());
                body.extend(ip.id.to_be_bytes());
                next = IpNumber::IPV6_FRAGMENTATION_HEADER;
            }
            body.extend_from_slice(payload);
            let header = Ipv6Header {
                payload_length: u16::try_from(body.len()).expect("a packet's length"),
                next_header: next,
                hop_limit: ip.ttl,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            [header.to_bytes().as_slice(), &body].concat()
        }
        _ => panic!("{from} and {to} are of different families"),
    }
}

/// What distinguishes TCP segments from each other, apart from their ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub window: u16,
}

pub const SYN: Segment = Segment {
    syn: true,
    sequence: 1_000,
    ..EMPTY
};
pub const SYN_ACK: Segment = Segment {
    syn: true,
    ack: true,
    sequence: 9_000,
    acknowledgment: 1_001,
    ..EMPTY
};
pub const ACK: Segment = Segment {
    ack: true,
    sequence: 1_001,
    acknowledgment: 9_001,
    ..EMPTY
};
pub const FIN: Segment = Segment { fin: true, ..ACK };
pub const RST: Segment = Segment {
    rst: true,
    sequence: 1_001,
    ..EMPTY
};
const EMPTY: Segment = Segment {
    syn: false,
    ack: false,
    fin: false,
    rst: false,
    sequence: 0,
    acknowledgment: 0,
    window: 500,
};

/// A TCP segment without IP.
pub fn tcp_segment(from: End, to: End, segment: Segment, payload: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(from.port, to.port, segment.sequence, segment.window);
    header.syn = segment.syn;
    header.ack = segment.ack;
    header.fin = segment.fin;
    header.rst = segment.rst;
    header.acknowledgment_number = segment.acknowledgment;
    header.checksum = match (from.addr, to.addr) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            header.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload)
        }
        _ => panic!("two families"),
    }
    .expect("a segment's length");
    [header.to_bytes().as_slice(), payload].concat()
}

/// A TCP segment.
pub fn tcp(from: End, to: End, segment: Segment, payload: &[u8]) -> Vec<u8> {
    ip(
        from,
        to,
        Ip::default(),
        IpNumber::TCP,
        &tcp_segment(from, to, segment, payload),
    )
}

/// A UDP datagram without IP.
pub fn udp_datagram(from: End, to: End, payload: &[u8]) -> Vec<u8> {
    let header = match (from.addr, to.addr) {
        (IpAddr::V4(a), IpAddr::V4(b)) => UdpHeader::with_ipv4_checksum(
            from.port,
            to.port,
            &Ipv4Header {
                source: a.octets(),
                destination: b.octets(),
                ..Ipv4Header::default()
            },
            payload,
        ),
        (IpAddr::V6(a), IpAddr::V6(b)) => UdpHeader::with_ipv6_checksum(
            from.port,
            to.port,
            &Ipv6Header {
                source: a.octets(),
                destination: b.octets(),
                ..Ipv6Header::default()
            },
            payload,
        ),
        _ => panic!("two families"),
    }
    .expect("a datagram's length");
    [header.to_bytes().as_slice(), payload].concat()
}

/// A UDP datagram.
pub fn udp(from: End, to: End, payload: &[u8]) -> Vec<u8> {
    ip(
        from,
        to,
        Ip::default(),
        IpNumber::UDP,
        &udp_datagram(from, to, payload),
    )
}

/// An ICMP message with its checksum; `v4` and `v6` say the same in both families.
pub fn icmp(from: End, to: End, v4: Icmpv4Type, v6: Icmpv6Type, payload: &[u8]) -> Vec<u8> {
    let (protocol, message) = icmp_message(from, to, v4, v6, payload);
    ip(from, to, Ip::default(), protocol, &message)
}

/// An ICMP message without IP.
pub fn icmp_message(
    from: End,
    to: End,
    v4: Icmpv4Type,
    v6: Icmpv6Type,
    payload: &[u8],
) -> (IpNumber, Vec<u8>) {
    match (from.addr, to.addr) {
        (IpAddr::V4(_), IpAddr::V4(_)) => {
            let header = Icmpv4Header::with_checksum(v4, payload);
            (
                IpNumber::ICMP,
                [header.to_bytes().as_slice(), payload].concat(),
            )
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Icmpv6Header::with_checksum(v6, from.octets(), to.octets(), payload)
                .expect("a message's length");
            (
                IpNumber::IPV6_ICMP,
                [header.to_bytes().as_slice(), payload].concat(),
            )
        }
        _ => panic!("two families"),
    }
}

/// An ICMP echo request (or reply): the client's end carries the identifier as its port.
pub fn echo(from: End, to: End, is_request: bool, id: u16, payload: &[u8]) -> Vec<u8> {
    let header = etherparse::IcmpEchoHeader { id, seq: 1 };
    let (v4, v6) = if is_request {
        (
            Icmpv4Type::EchoRequest(header),
            Icmpv6Type::EchoRequest(header),
        )
    } else {
        (Icmpv4Type::EchoReply(header), Icmpv6Type::EchoReply(header))
    };
    icmp(from, to, v4, v6, payload)
}

/// An ARP message.
pub fn arp(
    source: Mac,
    destination: Mac,
    request: bool,
    sender: (Mac, [u8; 4]),
    target: (Mac, [u8; 4]),
) -> Vec<u8> {
    let mut frame = Vec::new();
    Ethernet2Header {
        source: source.bytes(),
        destination: destination.bytes(),
        ether_type: EtherType::ARP,
    }
    .write(&mut frame)
    .expect("write to memory");
    frame.extend([0, 1, 8, 0, 6, 4, 0, if request { 1 } else { 2 }]);
    frame.extend(sender.0.bytes());
    frame.extend(sender.1);
    frame.extend(target.0.bytes());
    frame.extend(target.1);
    frame
}

/// A neighbour discovery message: `kind` 135 solicits, 136 advertises; options as they are.
pub fn neighbour(
    from: End,
    to: End,
    kind: u8,
    flags: u32,
    target: [u8; 16],
    options: &[u8],
) -> Vec<u8> {
    let unknown = Icmpv6Type::Unknown {
        type_u8: kind,
        code_u8: 0,
        bytes5to8: flags.to_be_bytes(),
    };
    let payload = [target.as_slice(), options].concat();
    let (protocol, message) = icmp_message(
        from,
        to,
        Icmpv4Type::Unknown {
            type_u8: kind,
            code_u8: 0,
            bytes5to8: [0; 4],
        },
        unknown,
        &payload,
    );
    ip(
        from,
        to,
        Ip {
            ttl: 255,
            ..Ip::default()
        },
        protocol,
        &message,
    )
}

/// A link-layer address option: `kind` 1 is the source's, 2 the target's.
pub fn link_option(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1], mac.bytes().as_slice()].concat()
}
