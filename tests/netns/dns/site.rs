//! A container's namespace that is served, and clients in it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::{fs, thread};

use lb_userspace::model::{Gate, Netns, Observed};
use lb_userspace::netns::{Namespace, PairEnd};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
use serde_json::json;
use tempfile::TempDir;
use veer_tests::station::ANSWER;

/// The resolver as containers know it.
pub const ASKED: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);

/// What veer answers for `web`.
pub const OURS: [u8; 4] = [10, 0, 0, 1];

/// What the other resolver answers for everything.
pub const THEIRS: [u8; 4] = [192, 0, 2, 53];

/// A namespace with a loopback interface.
pub struct Site {
    pub namespace: Namespace,
    folder: TempDir,
}

/// The host's address on the Network of a site that is plugged in, and the site's own.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 2);

impl Site {
    pub fn new() -> Self {
        let namespace = Namespace::create().unwrap();
        let mut links = namespace.links().unwrap();
        let lo = links.index_of("lo").unwrap();
        links.set_up(lo).unwrap();
        let folder = TempDir::new().unwrap();
        let resolv_conf = "nameserver 127.0.0.11\noptions ndots:0\n";
        fs::write(folder.path().join("resolv.conf"), resolv_conf).unwrap();
        Self { namespace, folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn netns(&self) -> Netns {
        Netns {
            path: self.path(),
            cookie: self.namespace.cookie().unwrap(),
        }
    }

    /// Runs `program` inside, with 127.0.0.11 as its name server. Returns what it prints.
    pub fn prints(&self, program: &str, args: &[&str]) -> String {
        let bind = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display()));
        command.args(["unshare", "--mount", "sh", "-c", bind]);
        command
            .arg(self.folder().join("resolv.conf"))
            .arg(program)
            .args(args);
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(
            output.status.success(),
            "{program} {args:?}: {}: {text}",
            output.status
        );
        text
    }

    /// A datagram socket inside.
    pub fn udp(&self, bind: &str) -> UdpSocket {
        let socket = self
            .namespace
            .run(|| UdpSocket::bind(bind).unwrap())
            .unwrap();
        socket.set_read_timeout(Some(ANSWER)).unwrap();
        socket
    }

    /// A connection from inside.
    pub fn tcp(&self, to: &str) -> TcpStream {
        let stream = self
            .namespace
            .run(|| TcpStream::connect(to).unwrap())
            .unwrap();
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        stream
    }

    /// The address that a new client inside gets for `web`.
    pub fn resolves(&self) -> [u8; 4] {
        let socket = self.udp("127.0.0.1:0");
        socket.send_to(&question(), ASKED).unwrap();
        let mut buffer = [0; 512];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(from, ASKED);
        address(&buffer[..length])
    }

    /// The same of a client that is connected; `None` if nobody is there.
    pub fn try_resolves(&self) -> Option<[u8; 4]> {
        let socket = self.udp("127.0.0.1:0");
        socket.connect(ASKED).unwrap();
        socket.send(&question()).ok()?;
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).ok()?;
        Some(address(&buffer[..length]))
    }

    /// Who asks by a UDP socket, bound to `own` or to any address of either family, connected or not, is answered
    /// by veer, and sees the answer come from where it asked. Panics if not.
    pub fn is_answered_over_udp(&self, own: &str) {
        let mapped: SocketAddr = "[::ffff:127.0.0.11]:53".parse().unwrap();
        for (bind, asked) in [(own, ASKED), ("0.0.0.0", ASKED), ("[::]", mapped)] {
            let mut buffer = [0; 512];
            let bind = format!("{bind}:0");
            let sending = self.udp(&bind);
            sending.send_to(&question(), asked).unwrap();
            let (length, from) = sending.recv_from(&mut buffer).unwrap();
            assert_eq!((from, address(&buffer[..length])), (asked, OURS), "{bind}");

            let connected = self.udp(&bind);
            connected.connect(asked).unwrap();
            connected.send(&question()).unwrap();
            let (length, from) = connected.recv_from(&mut buffer).unwrap();
            assert_eq!((from, address(&buffer[..length])), (asked, OURS), "{bind}");
            assert_eq!(connected.peer_addr().unwrap(), asked, "{bind}");
        }
    }

    /// The address that a new client inside gets for `web` over TCP.
    pub fn resolves_over_tcp(&self) -> [u8; 4] {
        let mut stream = self.tcp("127.0.0.11:53");
        stream.write_all(&framed(&question())).unwrap();
        address(&read_framed(&mut stream))
    }

    /// Who asks over TCP is answered by veer, one question after the other. Panics if not.
    pub fn is_answered_over_tcp(&self) {
        for asked in ["127.0.0.11:53", "[::ffff:127.0.0.11]:53"] {
            let mut stream = self.tcp(asked);
            for _ in 0..3 {
                stream.write_all(&framed(&question())).unwrap();
                assert_eq!(address(&read_framed(&mut stream)), OURS);
            }
            assert_eq!(stream.peer_addr().unwrap(), asked.parse().unwrap());
        }
    }

    /// dig takes veer's answer for one of the server that it asked. Panics if not.
    pub fn has_dig_content(&self) {
        for transport in ["+notcp", "+tcp"] {
            let printed = self.prints("dig", &[transport, "+tries=1", "web.front", "A"]);

            assert!(printed.contains("SERVER: 127.0.0.11#53"), "{printed}");
            assert!(printed.contains("10.0.0.1"), "{printed}");
            assert!(!printed.contains("unexpected source"), "{printed}");
        }
    }

    /// Other ports and addresses than those of the resolver are as anywhere. Panics if not.
    pub fn leaves_others_alone(&self) {
        let other = self.udp("127.0.0.11:5353");
        let port53 = self.udp("127.0.0.12:53");
        let client = self.udp("127.0.0.1:0");

        for server in [other, port53] {
            let server_address = server.local_addr().unwrap();
            client.send_to(b"hello", server_address).unwrap();
            let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
            server.send_to(b"hello", from).unwrap();

            let (_, answered) = client.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(answered, server_address);
        }
    }

    /// Gives a site that is plugged in one more address.
    pub fn has_also(&self, address: &str) {
        let mut links = self.namespace.links().unwrap();
        let eth0 = links.index_of("eth0").unwrap();
        links.add_address(eth0, address.parse().unwrap()).unwrap();
    }

    /// A connection from this address inside.
    pub fn tcp_from(&self, address: &str, to: (Ipv4Addr, u16)) -> TcpStream {
        let from = SockaddrIn::from(SocketAddrV4::new(address.parse().unwrap(), 0));
        let connect = || {
            let socket = socket(
                AddressFamily::Inet,
                SockType::Stream,
                SockFlag::empty(),
                None,
            );
            let socket = socket.unwrap();
            bind(socket.as_raw_fd(), &from).unwrap();
            let to = SockaddrIn::from(SocketAddrV4::new(to.0, to.1));
            socket::connect(socket.as_raw_fd(), &to).unwrap();
            TcpStream::from(socket)
        };
        let stream = self.namespace.run(connect).unwrap();
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        stream
    }

    /// Plugs the site into a bridge of a new host. Gives both.
    pub fn plug_in(&self) -> (Namespace, Gate) {
        let host = Namespace::create().unwrap();
        let mut outside = host.links().unwrap();
        let ifindex = outside.add_bridge("br").unwrap();
        let on_network = |address: Ipv4Addr| format!("{address}/24").parse().unwrap();
        outside.add_address(ifindex, on_network(GATEWAY)).unwrap();
        let end = |name, namespace, master| PairEnd {
            name,
            mac: None,
            namespace,
            master,
        };
        let near = end("veth", None, Some(ifindex));
        let far = end("eth0", Some(&self.namespace), None);
        outside.add_pair(near, far).unwrap();
        let mut inside = self.namespace.links().unwrap();
        let eth0 = inside.index_of("eth0").unwrap();
        inside.add_address(eth0, on_network(GUEST)).unwrap();
        inside.set_up(eth0).unwrap();
        let gate = Gate {
            bridge: "br".to_owned(),
            ifindex,
            gateway: GATEWAY,
            guest: GUEST,
        };
        (host, gate)
    }

    /// Starts another resolver on 127.0.0.11:53 that knows one answer, as Docker's would be there. It
    /// ends with the test's process.
    pub fn start_other_resolver(&self) {
        self.start_resolver_at(ASKED.port());
    }

    /// Starts it as Docker does, on ports that queries are led to by the rules in its NAT table. Gives the
    /// ports of UDP and TCP.
    pub fn start_dockers_resolver(&self, rules: Dockers) -> [u16; 2] {
        let ports = self.start_resolver_at(0);
        rules.load(&self.namespace, ports);
        ports
    }

    /// Gives the ports of UDP and TCP.
    fn start_resolver_at(&self, port: u16) -> [u16; 2] {
        let address = (ASKED.ip(), port);
        let open = || {
            (
                UdpSocket::bind(address).unwrap(),
                TcpListener::bind(address).unwrap(),
            )
        };
        let (udp, tcp) = self.namespace.run(open).unwrap();
        let ports = [udp.local_addr().unwrap(), tcp.local_addr().unwrap()].map(|it| it.port());
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, client)) = udp.recv_from(&mut buffer) {
                udp.send_to(&answer_of_others(&buffer[..length]), client)
                    .unwrap();
            }
        });
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let query = read_framed(&mut stream);
                stream
                    .write_all(&framed(&answer_of_others(&query)))
                    .unwrap();
            }
        });
        ports
    }

    /// As any process of the machine may open it.
    fn path(&self) -> PathBuf {
        let file = self.namespace.as_fd().as_raw_fd();
        format!("/proc/{}/fd/{file}", process::id()).into()
    }
}

/// What Docker writes into containers' namespaces.
#[derive(Clone, Copy, Debug)]
pub enum Dockers {
    /// As up to Docker 28, and later with `firewall-backend` as it is by default.
    Iptables,
    /// As Docker 29 with the `firewall-backend` called nftables.
    Nftables,
}

impl Dockers {
    fn load(self, namespace: &Namespace, [udp, tcp]: [u16; 2]) {
        let (program, rules) = match self {
            Self::Iptables => (
                ["iptables-restore", "--noflush"],
                format!(
                    "*nat\n:DOCKER_OUTPUT - [0:0]\n:DOCKER_POSTROUTING - [0:0]\n\
                     -A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT\n\
                     -A POSTROUTING -d 127.0.0.11/32 -j DOCKER_POSTROUTING\n\
                     -A DOCKER_OUTPUT -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:{tcp}\n\
                     -A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:{udp}\n\
                     -A DOCKER_POSTROUTING -s 127.0.0.11/32 -p tcp -m tcp --sport {tcp} -j SNAT --to-source :53\n\
                     -A DOCKER_POSTROUTING -s 127.0.0.11/32 -p udp -m udp --sport {udp} -j SNAT --to-source :53\n\
                     COMMIT\n"
                ),
            ),
            Self::Nftables => (
                ["nft", "-f-"],
                format!(
                    "table ip docker-dns {{\n\
                     chain output {{ type nat hook output priority -100; policy accept;\n\
                     ip daddr 127.0.0.11 udp dport 53 counter dnat to 127.0.0.11:{udp}\n\
                     ip daddr 127.0.0.11 tcp dport 53 counter dnat to 127.0.0.11:{tcp}\n}}\n\
                     chain postrouting {{ type nat hook postrouting priority 100; policy accept;\n\
                     ip saddr 127.0.0.11 udp sport {udp} counter snat to :53\n\
                     ip saddr 127.0.0.11 tcp sport {tcp} counter snat to :53\n}}\n}}\n"
                ),
            ),
        };
        let mut command = Command::new(program[0]);
        command
            .arg(program[1])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = namespace.run(|| command.spawn().unwrap()).unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(rules.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// The container `web`, with both families, on the Network `front`.
pub fn observed(netns: &Netns) -> Observed {
    let observed = json!({
        "networks": [{
            "id": "1", "name": "front", "bridge": "br", "subnets": [], "internal": false, "labels": {},
        }],
        "containers": [{
            "id": "0123456789abcdef", "name": "web", "hostname": "host1", "state": "running",
            "labels": {}, "netns": netns, "sharers": [], "dns_servers": [],
            "attachments": [{
                "network": "1", "endpoint_id": "e", "v4": Ipv4Addr::from(OURS), "v6": "fd00::1",
                "aliases": [], "link": null,
            }],
        }],
        "notices": [],
    });
    serde_json::from_value(observed).unwrap()
}

/// A query for the IPv4 address of `web`.
pub fn question() -> Vec<u8> {
    b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01".to_vec()
}

/// The address in a reply with one A record at its end.
pub fn address(reply: &[u8]) -> [u8; 4] {
    assert_eq!(reply[3] & 0x0f, 0, "no error: {reply:?}");
    *reply.last_chunk().unwrap()
}

fn answer_of_others(query: &[u8]) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x80;
    reply[7] = 1;
    reply.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04");
    reply.extend(THEIRS);
    reply
}

pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap();
    [&length.to_be_bytes()[..], message].concat()
}

pub fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    message
}
