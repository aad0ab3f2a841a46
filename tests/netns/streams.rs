//! Long streams, whatever the interfaces do for their senders.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use nix::sys::socket::{setsockopt, sockopt};
use veer_tests::host::Host;
use veer_tests::offload::Offload;
use veer_tests::server::read_answer;
use veer_tests::station::Family;
use veer_tests::veer::Veer;

const LENGTH: usize = 64 << 20;

#[test]
fn long_streams_pass_both_ways_with_every_offload() {
    let host = Host::new();
    let network = host.network();
    let [client, member] = host.stations(&network, ["client", "member"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &member]);
    let vip = veer.group(&[&member]);

    for family in Family::BOTH {
        let _server = member.serves_tcp(family, 80);
        for offload in Offload::ALL {
            client.set_offload(offload);
            member.set_offload(offload);

            let stream = client.connect((vip.address(family), 80)).unwrap();

            assert_eq!(echoed(stream, LENGTH), Ok(LENGTH), "{family:?} {offload:?}");
        }
    }
}

#[test]
fn a_train_of_datagrams_that_the_interface_cuts_arrives_whole() {
    const DATAGRAM: usize = 1_200;
    const DATAGRAMS: usize = 40;
    let host = Host::new();
    let network = host.network();
    let [client, member] = host.stations(&network, ["client", "member"]);
    let mut veer = Veer::on(&host);
    veer.serve(&[&client, &member]);
    let vip = veer.group(&[&member]);

    for family in Family::BOTH {
        for checksums in [true, false] {
            client.set_offload(Offload {
                checksums,
                segmentation: true,
            });
            let inbox = member.udp(family, 443);
            let socket = client.udp(family, 0);
            socket.connect((vip.address(family), 443)).unwrap();
            setsockopt(&socket, sockopt::UdpGsoSegment, &(DATAGRAM as i32)).unwrap();
            let train: Vec<u8> = (0..DATAGRAM * DATAGRAMS)
                .map(|n| (n / DATAGRAM) as u8)
                .collect();

            socket.send(&train).unwrap();

            let mut buffer = [0; 2 * DATAGRAM];
            for number in 0..DATAGRAMS {
                let length = inbox.recv(&mut buffer).unwrap();
                assert_eq!(buffer[..length], [number as u8; DATAGRAM], "{family:?}");
            }
        }
    }
}

/// Sends a pattern of `length` bytes to an echo server and reads it back: how long it is, or where
/// it first differs.
pub(crate) fn echoed(mut stream: TcpStream, length: usize) -> Result<usize, usize> {
    read_answer(&mut stream).unwrap();
    let mut sender = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        for number in 0..length / BLOCK {
            sender.write_all(&pattern(number)).unwrap();
        }
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let mut block = vec![0; BLOCK];
    for number in 0..length / BLOCK {
        stream.read_exact(&mut block).unwrap();
        if block != pattern(number) {
            return Err(number * BLOCK);
        }
    }
    sending.join().unwrap();
    Ok(length)
}

const BLOCK: usize = 1 << 16;

/// Differs from block to block and at both ends of each, so that nothing can be lost or swapped
/// unseen.
fn pattern(number: usize) -> Vec<u8> {
    let number = number as u64;
    let mut bytes = vec![0xa5; BLOCK];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[BLOCK - 8..].copy_from_slice(&number.to_le_bytes());
    bytes
}
