//! SCTP through a published port, as packets: not every kernel has the protocol.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use lb_userspace::netns::Namespace;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use veer_tests::host::Host;
use veer_tests::station::{ANSWER, Family};

use crate::ports::{host, outsider, site};

/// A socket for whole messages of SCTP. The standard library's UDP socket sends and receives whatever the
/// kernel's one does.
fn messages(inside: &Namespace, family: Family) -> UdpSocket {
    let domain = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC;
    let open = || socket(domain, SockType::Raw, flags, SockProtocol::Sctp).unwrap();
    let socket = UdpSocket::from(inside.run(open).unwrap());
    socket.set_read_timeout(Some(ANSWER)).unwrap();
    socket
}

/// A message: ports, a tag, a checksum that must not change, and a chunk.
fn message(from: u16, to: u16, tag: u8) -> Vec<u8> {
    let mut message = [from.to_be_bytes(), to.to_be_bytes()].concat();
    message.extend([0, 0, 0, tag, 0xab, 0xcd, 0xef, 0x01, 1, 0, 0, 4]);
    message
}

/// The next message without its IP header, and whom it is from.
fn next(socket: &UdpSocket, family: Family) -> (Vec<u8>, IpAddr) {
    let mut buffer = [0; 256];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    // Of IPv4, such sockets receive the header as well.
    let header = if family == Family::V4 { 20 } else { 0 };
    (buffer[header..length].to_vec(), from.ip())
}

#[test]
fn a_port_of_sctp_is_reached_from_outside_and_answers_with_nothing_changed_but_addresses() {
    let ground = Host::new();
    let (_network, server, outside, mut veer) = site(&ground, "server");
    veer.publish_sctp(3_868, &server);

    for family in Family::BOTH {
        let (client, served) = (
            messages(&outside, family),
            messages(&server.namespace, family),
        );
        let (asked, answer) = (message(40_000, 3_868, 0), message(3_868, 40_000, 7));

        client
            .send_to(&asked, SocketAddr::new(host(family), 0))
            .unwrap();
        assert_eq!(next(&served, family), (asked, outsider(family)));
        served
            .send_to(&answer, SocketAddr::new(outsider(family), 0))
            .unwrap();
        assert_eq!(next(&client, family), (answer, host(family)));
    }
}
