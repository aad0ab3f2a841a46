//! ICMP: echo requests as `ping` sends them, and errors as routers send them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg,
    setsockopt, socket, sockopt,
};

use crate::station::{ANSWER, Family, Station};

const ECHO_REPLY_V4: u8 = 0;
const ECHO_REPLY_V6: u8 = 129;

impl Station {
    /// Sends one echo request with `payload` to `to` and waits for the reply: its payload.
    pub fn ping(&self, to: IpAddr, payload: &[u8]) -> io::Result<Vec<u8>> {
        let socket = self.icmp_socket(family_of(to), SockType::Datagram)?;
        socket.set_read_timeout(Some(ANSWER))?;
        // Not connected: an ICMP socket that is connected is not sent answers from others.
        let kind = if to.is_ipv4() { 8 } else { 128 };
        let mut request = vec![kind, 0, 0, 0, 0, 0, 0, 1];
        request.extend(payload);
        socket.send_to(&request, SocketAddr::new(to, 0))?;
        let mut reply = vec![0; 65_536];
        let (length, from) = socket.recv_from(&mut reply)?;
        let expected = if to.is_ipv4() {
            ECHO_REPLY_V4
        } else {
            ECHO_REPLY_V6
        };
        if from.ip() != to || reply[0] != expected {
            let found = format!("type {} from {from}", reply[0]);
            return Err(io::Error::other(found));
        }
        Ok(reply[8..length].to_vec())
    }

    /// Tells the sender of the UDP datagram from `source` to `port` here that it is too long: only
    /// `mtu` bytes fit. Quotes no more than the first 8 bytes of UDP, as routers may.
    pub fn send_too_big(&self, source: SocketAddr, port: u16, mtu: u16) {
        let own = SocketAddr::new(self.address(family_of(source.ip())), port);
        let message = match (source.ip(), own.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut message = vec![3, 4, 0, 0, 0, 0];
                message.extend(mtu.to_be_bytes());
                message.extend(ipv4_header(from, to));
                message.extend(udp_header(source.port(), port));
                let sum = checksum(&message).to_be_bytes();
                message[2..4].copy_from_slice(&sum);
                message
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                // The kernel fills in the checksum of ICMPv6.
                let mut message = vec![2, 0, 0, 0, 0, 0];
                message.extend(mtu.to_be_bytes());
                message.extend(ipv6_header(from, to));
                message.extend(udp_header(source.port(), port));
                message
            }
            (from, to) => panic!("{from} and {to} are of two families"),
        };
        let family = family_of(source.ip());
        let socket = self.icmp_socket(family, SockType::Raw).unwrap();
        let to = SocketAddr::new(source.ip(), 0);
        socket.send_to(&message, to).unwrap();
    }

    /// The standard library's UDP socket sends and receives whatever the kernel's one does.
    fn icmp_socket(&self, family: Family, kind: SockType) -> io::Result<UdpSocket> {
        let (family, protocol) = match family {
            Family::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
            Family::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let open = || socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol);
        Ok(UdpSocket::from(self.run(open)?))
    }
}

/// An ICMP error about what a socket has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Who says so.
    pub from: IpAddr,
    /// Of ICMP or of ICMPv6.
    pub kind: u8,
    pub code: u8,
}

/// Lets what the socket sends go over so many hops, and keeps errors about it for [`complaint`].
pub fn limit_hops(socket: &UdpSocket, hops: u8) -> nix::Result<()> {
    match socket.local_addr() {
        Ok(SocketAddr::V6(_)) => {
            setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
            setsockopt(socket, sockopt::Ipv6Ttl, &i32::from(hops))
        }
        _ => {
            setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
            setsockopt(socket, sockopt::Ipv4Ttl, &i32::from(hops))
        }
    }
}

/// The next error about what the socket has sent, if there is one.
pub fn complaint(socket: &UdpSocket) -> Option<Complaint> {
    let mut space = cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let told = recvmsg::<()>(socket.as_raw_fd(), &mut [], Some(&mut space), flags).ok()?;
    told.cmsgs().ok()?.find_map(|message| {
        let (error, from) = match message {
            ControlMessageOwned::Ipv4RecvErr(error, from) => {
                let from = Ipv4Addr::from(u32::from_be(from?.sin_addr.s_addr));
                (error, IpAddr::V4(from))
            }
            ControlMessageOwned::Ipv6RecvErr(error, from) => {
                let from = Ipv6Addr::from(from?.sin6_addr.s6_addr);
                (error, IpAddr::V6(from))
            }
            _ => return None,
        };
        Some(Complaint {
            from,
            kind: error.ee_type,
            code: error.ee_code,
        })
    })
}

/// Length of the UDP datagram that errors quote the beginning of, header included.
const QUOTED: u16 = 1_408;

fn udp_header(source: u16, destination: u16) -> Vec<u8> {
    [source, destination, QUOTED, 0]
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect()
}

fn ipv4_header(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend((QUOTED + 20).to_be_bytes());
    // Identification 1, "don't fragment", time to live 64, UDP, checksum to come.
    header.extend([0, 1, 0x40, 0, 64, 17, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    header
}

fn ipv6_header(from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(QUOTED.to_be_bytes());
    header.extend([17, 64]);
    header.extend(from.octets());
    header.extend(to.octets());
    header
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u16::from_be_bytes([*high, *low]),
        rest => u16::from_be_bytes([rest[0], 0]),
    });
    let mut sum: u32 = words.map(u32::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}
