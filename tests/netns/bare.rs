//! An uplink without Ethernet: a tun device, written to and read from by the test.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use etherparse::{IpNumber, NetSlice, SlicedPacket, TransportSlice};
use lb_common::Mac;
use lb_userspace::netns::Namespace;
use lb_userspace::reconcile::Role;
use veer_tests::host::{Host, TestNetwork};
use veer_tests::packets::{End, Ip, datagram, udp_datagram};
use veer_tests::station::{ANSWER, Family};
use veer_tests::veer::Veer;

/// How soon it is noticed that a packet has left.
const TICK: Duration = Duration::from_millis(1);

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OUTSIDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A new tun device of this name in the namespace: what is written to it comes in there.
fn tun(inside: &Namespace, name: &str) -> File {
    let open = || {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .unwrap();
        // A `struct ifreq`: the name and the flags.
        let mut request = [0_u8; 40];
        request[..name.len()].copy_from_slice(name.as_bytes());
        let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as u16;
        request[16..18].copy_from_slice(&flags.to_ne_bytes());
        // SAFETY: the request is live, and as large as the kernel's structure.
        let made =
            unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        device
    };
    inside.run(open).unwrap()
}

/// A host whose uplink is a tun device, which is returned, and veer on it.
fn ground() -> (Host, TestNetwork, File, u32) {
    let ground = Host::new();
    let network = ground.network();
    let inside = &ground.namespace;
    let device = tun(inside, "tun0");
    let mut links = inside.links().unwrap();
    let tun0 = links.index_of("tun0").unwrap();
    links.set_up(tun0).unwrap();
    links
        .add_address(tun0, format!("{HOST}/24").parse().unwrap())
        .unwrap();
    let forward = || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    inside.run(forward).unwrap();
    (ground, network, device, tun0)
}

fn end(addr: Ipv4Addr, port: u16) -> End {
    End {
        mac: Mac::NONE,
        addr: IpAddr::V4(addr),
        port,
    }
}

/// A datagram comes in by the device. Nobody waits for it to be taken.
fn comes_in(device: &File, from: End, to: End, payload: &[u8]) {
    let udp = udp_datagram(from, to, payload);
    let packet = datagram(from.addr, to.addr, Ip::default(), IpNumber::UDP, &udp);
    let mut device = device.try_clone().unwrap();
    device.write_all(&packet).unwrap();
}

#[test]
fn a_port_is_published_on_an_interface_without_ethernet() {
    let (ground, network, mut device, tun0) = ground();
    let [web] = ground.stations(&network, ["web"]);
    let mut veer = Veer::on(&ground);
    veer.serve(&[&web]);
    veer.faces_as(Role::BareUplink, tun0, &network);
    veer.publish(8_053, &web, 53);
    let _server = web.serves_udp(Family::V4, 53);

    comes_in(&device, end(OUTSIDER, 40_000), end(HOST, 8_053), b"who");

    let (_, answer) = leaves(&mut device, |from, _| from == (HOST, 8_053));
    assert_eq!(answer, format!("web {OUTSIDER}:40000\nwho").into_bytes());
}

#[test]
fn what_leaves_by_an_interface_without_ethernet_has_the_hosts_name() {
    let (ground, network, mut device, tun0) = ground();
    let [client] = ground.stations(&network, ["client"]);
    let mut veer = Veer::on(&ground);
    veer.serve(&[&client]);
    veer.faces_as(Role::BareUplink, tun0, &network);
    let socket = client.udp(Family::V4, 0);

    socket.send_to(b"who", (OUTSIDER, 53)).unwrap();
    let (from, asked) = leaves(&mut device, |_, to| to == (OUTSIDER, 53));
    comes_in(&device, end(OUTSIDER, 53), end(from.0, from.1), b"it is I");

    let mut answer = [0; 16];
    let (length, sender) = socket.recv_from(&mut answer).unwrap();
    assert_eq!((from.0, asked), (HOST, b"who".to_vec()));
    assert!(from.1 >= 61_000, "{from:?}");
    assert_eq!(&answer[..length], b"it is I");
    assert_eq!(sender, (OUTSIDER, 53).into());
}

type Place = (Ipv4Addr, u16);

/// Source and payload of the first datagram that leaves by the device and is `wanted`, by its source
/// and destination.
fn leaves(device: &mut File, wanted: impl Fn(Place, Place) -> bool) -> (Place, Vec<u8>) {
    let mut buffer = vec![0; 2_048];
    let deadline = Instant::now() + ANSWER;
    while Instant::now() < deadline {
        let Ok(length) = device.read(&mut buffer) else {
            thread::sleep(TICK);
            continue;
        };
        let Ok(packet) = SlicedPacket::from_ip(&buffer[..length]) else {
            continue;
        };
        if let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) =
            (packet.net, packet.transport)
        {
            let header = ip.header();
            let from = (header.source_addr(), udp.source_port());
            let to = (header.destination_addr(), udp.destination_port());
            if wanted(from, to) {
                return (from, udp.payload().to_vec());
            }
        }
    }
    panic!("nothing of the kind has left")
}
