//! The first packet of a Connection.

use std::net::IpAddr;

use lb_common::VIP_MAC;

use crate::api::Problem;

/// A port that clients use for sources (RFC 6335, dynamic ports).
const SOURCE_PORT: u16 = 49_152;

/// The protocols that are balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    /// An echo request.
    Icmp,
}

impl Protocol {
    pub(super) fn named(name: &str) -> Result<Self, Problem> {
        match name {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "icmp" => Ok(Self::Icmp),
            other => Err(Problem::bad_request(format!(
                "protocol {other}: only tcp, udp and icmp are balanced"
            ))),
        }
    }

    /// The port if none is asked for; a VIP answers on all of them.
    pub(super) const fn usual_port(self) -> u16 {
        match self {
            Self::Tcp => 80,
            Self::Udp => 53,
            Self::Icmp => 0,
        }
    }

    pub(super) const fn number(self, is_v4: bool) -> u8 {
        match (self, is_v4) {
            (Self::Tcp, _) => 6,
            (Self::Udp, _) => 17,
            (Self::Icmp, true) => 1,
            (Self::Icmp, false) => 58,
        }
    }

    /// The transport header; its checksum is left out, because nobody receives it.
    fn header(self, is_v4: bool, port: u16) -> Vec<u8> {
        let [s0, s1] = SOURCE_PORT.to_be_bytes();
        let [d0, d1] = port.to_be_bytes();
        match self {
            // Five words long, SYN.
            Self::Tcp => vec![
                s0, s1, d0, d1, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
            ],
            Self::Udp => vec![s0, s1, d0, d1, 0, 8, 0, 0],
            Self::Icmp => vec![if is_v4 { 8 } else { 128 }, 0, 0, 0, s0, s1, 0, 1],
        }
    }
}

/// The frame that opens a Connection. Without a `source` it comes from the unspecified address.
pub(super) fn opening(
    protocol: Protocol,
    mac: [u8; 6],
    source: Option<IpAddr>,
    destination: IpAddr,
    port: u16,
) -> Vec<u8> {
    let transport = protocol.header(destination.is_ipv4(), port);
    let mut frame = Vec::from(VIP_MAC.bytes());
    frame.extend(mac);
    match destination {
        IpAddr::V4(destination) => {
            let source = match source {
                Some(IpAddr::V4(source)) => source.octets(),
                Some(IpAddr::V6(_)) | None => [0; 4],
            };
            let length = (20 + transport.len() as u16).to_be_bytes();
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend(length);
            // Don't fragment; time to live 64.
            frame.extend([0, 0, 0x40, 0, 64, protocol.number(true), 0, 0]);
            frame.extend(source);
            frame.extend(destination.octets());
        }
        IpAddr::V6(destination) => {
            let source = match source {
                Some(IpAddr::V6(source)) => source.octets(),
                Some(IpAddr::V4(_)) | None => [0; 16],
            };
            let length = (transport.len() as u16).to_be_bytes();
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length);
            frame.extend([protocol.number(false), 64]);
            frame.extend(source);
            frame.extend(destination.octets());
        }
    }
    frame.extend(transport);
    frame
}
