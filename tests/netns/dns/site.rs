//! A container's namespace that is served, and clients in it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use lb_userspace::dns::{Dns, Forwarding, Options, Records, Rules};
use lb_userspace::model::{Netns, Observed};
use lb_userspace::netns::Namespace;
use serde_json::json;
use tempfile::TempDir;
use veer_tests::station::ANSWER;

use super::hooks::Hooks;

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

/// A site whose queries are led to a DNS server.
pub struct Served {
    pub site: Site,
    pub dns: Option<Dns>,
    pub is_beating: Arc<AtomicBool>,
    _hooks: Hooks,
}

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

    /// Starts another resolver on 127.0.0.11:53 that knows one answer, as Docker's would be there. It
    /// ends with the test's process.
    pub fn start_other_resolver(&self) {
        let open = || {
            (
                UdpSocket::bind(ASKED).unwrap(),
                TcpListener::bind(ASKED).unwrap(),
            )
        };
        let (udp, tcp) = self.namespace.run(open).unwrap();
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
    }

    /// As any process of the machine may open it.
    fn path(&self) -> PathBuf {
        let file = self.namespace.as_fd().as_raw_fd();
        format!("/proc/{}/fd/{file}", process::id()).into()
    }
}

impl Served {
    /// A site in which the container `web` lives, served as the daemon does it: by the daemon alone.
    pub fn new() -> Self {
        Self::start(false)
    }

    /// The same site, twice: answered by the daemon alone, and by the kernel where it can.
    pub fn both() -> [Self; 2] {
        [false, true].map(Self::start)
    }

    /// How many answers the kernel has given.
    pub fn answered_in_kernel(&self) -> u64 {
        let dns = self.dns.as_ref().expect("it is there");
        let counts = dns.kernel_counts();
        let all = counts.iter().map(|(_, c)| c.answered + c.empty + c.absent);
        all.sum()
    }

    pub fn start(in_kernel: bool) -> Self {
        let site = Site::new();
        let mut hooks = Hooks::attach();
        let kernel = in_kernel.then(|| hooks.names() as Arc<_>);
        let is_beating = Arc::new(AtomicBool::new(true));
        let mut beat = hooks.beat();
        let beating = Arc::clone(&is_beating);
        let dns = Dns::start(Options {
            resolv_conf: site.folder().join("no-name-servers"),
            forwarding: Forwarding::default(),
            kernel,
            beat: Box::new(move || {
                if beating.load(Ordering::Relaxed) {
                    beat();
                }
            }),
        });
        let dns = dns.unwrap();
        let netns = site.netns();
        dns.publish(Arc::new(Records::build(
            &observed(&netns),
            &[],
            &Rules::default(),
        )));
        let resolver = dns.take_over(&netns).unwrap();
        hooks.lead(netns.cookie, resolver);
        if in_kernel {
            hooks.answer_inside(&site.namespace);
        }
        Self {
            site,
            dns: Some(dns),
            is_beating,
            _hooks: hooks,
        }
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
