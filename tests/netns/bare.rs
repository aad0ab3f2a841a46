//! An uplink without Ethernet: a tun device, with the programs and maps of the test's own.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{Array, HashMap};
use aya::programs::{SchedClassifier, TcAttachType};
use bytemuck::{Pod, bytes_of};
use etherparse::{IpNumber, SlicedPacket, TransportSlice};
use lb_common::{
    Addr, Cells, Endpoint, EndpointState, Frontend, FrontendKey, Mac, Network, NetworkFlags, Port,
    Settings, Slot, Timeouts, Veth,
};
use lb_userspace::netns::Namespace;
use veer_tests::host::Host;
use veer_tests::packets::{End, Ip, datagram, udp_datagram};
use veer_tests::station::{ANSWER, Family, Station};

/// How soon it is noticed that a packet has left.
const TICK: Duration = Duration::from_millis(1);

const UDP: u8 = 17;
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OUTSIDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// The programs, attached in one namespace. They are detached when the value is dropped.
struct Programs(Ebpf);

impl Programs {
    fn load() -> Self {
        let mut loader = veer_tests::object::loader();
        let object = veer_tests::object::bytes();
        Self(loader.load(object).expect("load the object: root"))
    }

    fn attach(&mut self, inside: &Namespace, program: &str, interface: &str, side: TcAttachType) {
        let program = self.0.program_mut(program).expect("a program");
        let program: &mut SchedClassifier = program.try_into().expect("a classifier");
        program.load().expect("load the program");
        let attached = inside.run(|| program.attach(interface, side)).unwrap();
        attached.expect("attach the program");
    }

    fn put<const K: usize, const V: usize>(&mut self, map: &str, key: impl Pod, value: impl Pod) {
        let map = self.0.map_mut(map).expect("a map");
        let mut map: HashMap<_, [u8; K], [u8; V]> = map.try_into().expect("a hash");
        let (key, value) = (bytes_of(&key), bytes_of(&value));
        map.insert(
            <[u8; K]>::try_from(key).unwrap(),
            <[u8; V]>::try_from(value).unwrap(),
            0,
        )
        .expect("write");
    }

    fn put_at<const V: usize>(&mut self, map: &str, index: u32, value: impl Pod) {
        let map = self.0.map_mut(map).expect("a map");
        let mut map: Array<_, [u8; V]> = map.try_into().expect("an array");
        let value = <[u8; V]>::try_from(bytes_of(&value)).unwrap();
        map.set(index, value, 0).expect("write");
    }

    /// Publishes 8053/udp of the host: 53 of the container.
    fn publish(&mut self, web: &Station, bridge: u32) {
        self.put_at::<120>(
            "SETTINGS",
            0,
            Settings {
                timeouts: Timeouts::default(),
                ..Settings::default()
            },
        );
        let endpoint = Endpoint {
            v4: web.v4.into(),
            ifindex: web.host_ifindex,
            generation: 1,
            mac: Mac::new(web.mac),
            zone: web.zone,
            state: EndpointState::Active as u8,
            ..Endpoint::default()
        };
        self.put_at::<64>("ENDPOINTS", 1, endpoint);
        let veth = Veth {
            v4: web.v4.into(),
            endpoint: 1,
            generation: 1,
            mac: Mac::new(web.mac),
            zone: web.zone,
            ..Veth::default()
        };
        self.put::<4, 72>("VETHS", web.host_ifindex, veth);
        let network = Network {
            bridge,
            flags: NetworkFlags::SERVED,
            ..Network::default()
        };
        self.put_at::<144>("NETWORKS", u32::from(web.zone), network);
        let port = 8_053;
        let index = Cells::index(UDP, port).unwrap();
        self.put_at::<8>("PORTS", index, Cells::default().with(port, port));
        let slot = Slot {
            endpoint: 1,
            port: Port::new(53),
            _pad: 0,
        };
        self.put_at::<8>("SLOTS", 0, slot);
        let frontend = Frontend {
            id: 1,
            slot_count: 1,
            ..Frontend::default()
        };
        let key = FrontendKey::published(Addr::from(HOST), Port::new(port), UDP);
        self.put::<24, 24>("FRONTENDS", key, frontend);
    }
}

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

#[test]
fn a_port_is_published_on_an_interface_without_ethernet() {
    let ground = Host::new();
    let network = ground.network();
    let [web] = ground.stations(&network, ["web"]);
    let inside = &ground.namespace;
    let mut device = tun(inside, "tun0");
    let mut links = inside.links().unwrap();
    let tun0 = links.index_of("tun0").unwrap();
    links.set_up(tun0).unwrap();
    links
        .add_address(tun0, format!("{HOST}/24").parse().unwrap())
        .unwrap();
    let forward = || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    inside.run(forward).unwrap();
    let mut programs = Programs::load();
    programs.publish(&web, network.bridge);
    programs.attach(inside, "uplink_in_bare", "tun0", TcAttachType::Ingress);
    programs.attach(inside, "endpoint_in", "n1s1", TcAttachType::Ingress);
    let _server = web.serves_udp(Family::V4, 53);

    let end = |addr: Ipv4Addr, port| End {
        mac: Mac::NONE,
        addr: IpAddr::V4(addr),
        port,
    };
    let (from, to) = (end(OUTSIDER, 40_000), end(HOST, 8_053));
    let question = udp_datagram(from, to, b"who");
    let question = datagram(from.addr, to.addr, Ip::default(), IpNumber::UDP, &question);
    let mut writer = device.try_clone().unwrap();
    let asked = thread::spawn(move || writer.write_all(&question));
    let answer = answer_from(&mut device, 8_053);

    asked.join().unwrap().unwrap();
    assert_eq!(answer, format!("web {OUTSIDER}:40000\nwho"));
}

/// The payload of the first datagram from `port` that leaves by the device.
fn answer_from(device: &mut File, port: u16) -> String {
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
        if let Some(TransportSlice::Udp(udp)) = packet.transport
            && udp.source_port() == port
        {
            return String::from_utf8(udp.payload().to_vec()).unwrap();
        }
    }
    panic!("nothing has left from port {port}")
}
