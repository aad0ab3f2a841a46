//! A host whose Engine has no rules and no proxy, veer in their place, and somebody outside.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lb_userspace::netns::{Namespace, PairEnd};
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, SockaddrStorage, bind, connect, shutdown, socket,
};
use veer_tests::daemon::Daemon;
use veer_tests::deadline::eventually;
use veer_tests::engine::Engine;

use crate::stage::{Host, again};

/// How long an answer may take: a SYN that is lost is sent again after 1 s.
const ANSWER: Duration = Duration::from_secs(8);
/// How long nothing must come for it to be nothing.
pub(crate) const SILENCE: Duration = Duration::from_millis(1_500);

/// Addresses of the host's uplink.
pub(crate) const HOST_V4: &str = "192.0.2.1";
pub(crate) const HOST_V6: &str = "2001:db8:1::1";
/// How an Engine is started that leaves everything to veer.
pub(crate) const WITHOUT_RULES: &[&str] = &[
    "--iptables=false",
    "--ip6tables=false",
    "--userland-proxy=false",
];
/// Addresses of who is outside.
pub(crate) const OUTSIDE_V4: &str = "192.0.2.2";
pub(crate) const OUTSIDE_V6: &str = "2001:db8:1::2";

/// The host, and the network that its uplink leads to.
#[derive(Debug)]
pub(crate) struct Street {
    /// Before the host: what veer loaded is in the host's namespace.
    pub(crate) daemon: Daemon,
    pub(crate) host: Host,
    pub(crate) outside: Namespace,
}

impl Street {
    pub(crate) fn new() -> Self {
        Self::configured("")
    }

    /// The same with more in veer's configuration.
    pub(crate) fn configured(config: &str) -> Self {
        Self::started(WITHOUT_RULES, config)
    }

    /// One whose Engine has its rules and proxies.
    pub(crate) fn beside() -> Self {
        Self::started(&[], "")
    }

    pub(crate) fn started(arguments: &[&str], config: &str) -> Self {
        let (namespace, outside) = joined();
        let engine = Engine::start_with(again(&namespace), arguments);
        let host = Host { namespace, engine };
        let daemon = Daemon::start_with(again(&host.namespace), &host.engine.socket(), config);
        Self {
            daemon,
            host,
            outside,
        }
    }

    /// The one that tests share which only look at what they made themselves.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Street>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(street) = shared.upgrade() {
            return street;
        }
        let street = Arc::new(Self::new());
        *shared = Arc::downgrade(&street);
        street
    }

    pub(crate) fn docker(&self, arguments: &str) -> String {
        self.host.docker(arguments)
    }

    /// A network of both families: 10.`number`.0.0/16 and fd00:`number`::/64.
    pub(crate) fn network(&self, number: u8, options: &str) -> String {
        let name = self.host.name("net");
        self.docker(&format!(
            "network create --ipv6 --subnet 10.{number}.0.0/16 --subnet fd00:{number}::/64 {options} \
             {name}"
        ));
        name
    }

    /// A container that does nothing, with `options` of `docker run`; returns when veer serves it.
    pub(crate) fn run(&self, network: &str, options: &str) -> Resident {
        let name = self.host.name("c");
        self.docker(&format!(
            "run -d --name {name} --network {network} {options} veer-test sleep 100000"
        ));
        eventually("veer serves the container", || {
            let endpoints = self.daemon.veer(["endpoints", "--json"]);
            endpoints.contains(&format!("\"{name}\""))
        });
        let namespace = self.host.engine.namespace_of(&name);
        Resident { name, namespace }
    }

    /// Asserts that the host has no rules, whoever made them.
    #[track_caller]
    pub(crate) fn has_no_rules(&self) {
        for (program, arguments) in [
            ("iptables-save", &[][..]),
            ("ip6tables-save", &[]),
            ("nft", &["list", "ruleset"]),
        ] {
            let mut command = Command::new(program);
            command.args(arguments);
            let output = self.host.namespace.run(|| command.output());
            let output = output.unwrap().unwrap();
            assert!(output.status.success(), "{program} fails");
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            // nft prints nothing of a host without tables.
            let is_rule = |line: &&str| program == "nft" || line.starts_with("-A");
            let rules: Vec<_> = told.lines().filter(is_rule).collect();
            assert!(rules.is_empty(), "{program}:\n{told}");
        }
    }

    /// Waits until veer has published the port.
    pub(crate) fn published(&self, port: u16) {
        eventually("veer has published the port", || {
            let frontends = self.daemon.veer(["frontends", "--json"]);
            let rows = frontends
                .lines()
                .map(|row| serde_json::from_str(row).unwrap());
            let mut rows =
                rows.map(|row: serde_json::Value| (row["port"].clone(), row["last_port"].clone()));
            rows.any(|(first, last)| {
                let (first, last) = (first.as_u64(), last.as_u64());
                first
                    .is_some_and(|first| (first..=last.unwrap_or(first)).contains(&u64::from(port)))
            })
        });
    }
}

/// Runs `ip` in `space`.
pub(crate) fn ip(space: &Namespace, words: &str) {
    let mut command = Command::new("ip");
    command.args(words.split(' '));
    let output = space.run(|| command.output()).unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {said}");
}

/// Joins the host, by an interface with this name, to `outside`, by its `eth0`.
pub(crate) fn pair(host: &Namespace, name: &str, outside: &Namespace) {
    let end = |name, namespace| PairEnd {
        name,
        mac: None,
        namespace,
        master: None,
    };
    let mut links = host.links().unwrap();
    links
        .add_pair(end(name, None), end("eth0", Some(outside)))
        .unwrap();
}

/// A namespace for the host and one outside, joined by the host's uplink.
pub(crate) fn joined() -> (Namespace, Namespace) {
    let host = Namespace::create().unwrap();
    let outside = Namespace::create().unwrap();
    pair(&host, "up0", &outside);
    for (space, name, addresses) in [
        (&host, "up0", [HOST_V4, HOST_V6]),
        (&outside, "eth0", [OUTSIDE_V4, OUTSIDE_V6]),
    ] {
        space
            .run(|| {
                // Addresses that are tried out are not used at once.
                std::fs::write("/proc/sys/net/ipv6/conf/all/accept_dad", "0").unwrap();
                std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0").unwrap();
            })
            .unwrap();
        let mut links = space.links().unwrap();
        let loopback = links.index_of("lo").unwrap();
        links.set_up(loopback).unwrap();
        let ifindex = links.index_of(name).unwrap();
        links.set_up(ifindex).unwrap();
        for (address, bits) in addresses.iter().zip([24, 64]) {
            let address = format!("{address}/{bits}").parse().unwrap();
            links.add_address(ifindex, address).unwrap();
        }
    }
    let mut links = host.links().unwrap();
    for gateway in [OUTSIDE_V4, OUTSIDE_V6] {
        links.add_default_route(gateway.parse().unwrap()).unwrap();
    }
    host.run(|| std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap())
        .unwrap();
    (host, outside)
}

/// A container.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) name: String,
    pub(crate) namespace: Namespace,
}

impl Resident {
    /// A server that answers with the container's name and the client's address.
    pub(crate) fn serves(&self, port: u16) -> Server {
        Server::start(&self.namespace, &self.name, port)
    }
}

/// What a server says: who it is, and whom it sees.
pub(crate) fn told(name: &str, client: &str) -> String {
    format!("{name} {client}")
}

/// Servers of TCP and UDP on one port.
#[derive(Debug)]
pub(crate) struct Server {
    tcp: Arc<TcpListener>,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(inside: &Namespace, name: &str, port: u16) -> Self {
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        let sockets = inside.run(|| {
            (
                TcpListener::bind(any).unwrap(),
                UdpSocket::bind(any).unwrap(),
            )
        });
        let (tcp, udp) = sockets.unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let (tcp, stopped) = (Arc::new(tcp), Arc::new(AtomicBool::new(false)));
        let (accepting, named) = (Arc::clone(&tcp), name.to_string());
        let answer_tcp = move || {
            loop {
                match accepting.accept() {
                    // A client that has gone is its own affair, before it is accepted and after.
                    Ok((mut client, peer)) => {
                        let peer = peer.ip().to_canonical();
                        let _ = client.write_all(told(&named, &peer.to_string()).as_bytes());
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(_shut_down) => return,
                }
            }
        };
        let (ended, named) = (Arc::clone(&stopped), name.to_string());
        let answer_udp = move || {
            let mut buffer = [0; 2_048];
            while !ended.load(Ordering::Relaxed) {
                if let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                    let text = told(&named, &peer.ip().to_canonical().to_string());
                    let _ = udp.send_to(text.as_bytes(), peer);
                }
            }
        };
        Self {
            tcp,
            stopped,
            threads: vec![thread::spawn(answer_tcp), thread::spawn(answer_udp)],
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Ends the wait for the next client.
        let _ = shutdown(self.tcp.as_raw_fd(), Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What is answered by TCP to who asks from inside `client`.
pub(crate) fn ask(client: &Namespace, address: &str, port: u16) -> io::Result<String> {
    ask_within(client, address, port, ANSWER)
}

pub(crate) fn ask_within(
    client: &Namespace,
    address: &str,
    port: u16,
    limit: Duration,
) -> io::Result<String> {
    let to = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
    client.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, limit)?;
        stream.set_read_timeout(Some(limit))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?
}

/// What is answered by TCP and by UDP, each from a socket that is bound to `from`.
pub(crate) fn ask_from(
    client: &Namespace,
    from: &str,
    address: &str,
    port: u16,
) -> io::Result<[String; 2]> {
    let to = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
    let from = SocketAddr::new(from.parse::<IpAddr>().unwrap(), 0);
    client.run(|| {
        let family = match from {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(family, SockType::Stream, flags, None)?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
        let mut stream = TcpStream::from(socket);
        // The timeout for sending is also that for connecting (socket(7)).
        stream.set_write_timeout(Some(ANSWER))?;
        stream.set_read_timeout(Some(ANSWER))?;
        connect(stream.as_raw_fd(), &SockaddrStorage::from(to))?;
        let mut streamed = String::new();
        stream.read_to_string(&mut streamed)?;
        let socket = UdpSocket::bind(from)?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.send_to(b"?", to)?;
        let mut buffer = [0; 2_048];
        let (length, who) = socket.recv_from(&mut buffer)?;
        assert_eq!(who, to, "the answer is from whom was asked");
        let datagram = String::from_utf8_lossy(&buffer[..length]).into_owned();
        Ok([streamed, datagram])
    })?
}

/// The same by UDP, from a socket that is connected, and so takes an answer from there alone.
pub(crate) fn ask_udp(client: &Namespace, address: &str, port: u16) -> io::Result<String> {
    let to = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
    let any: IpAddr = if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
    client.run(|| {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.send(b"?")?;
        let mut buffer = [0; 2_048];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })?
}

/// Sends so many datagrams from one socket, and waits for no answer.
pub(crate) fn sends(client: &Namespace, address: &str, port: u16, count: usize) {
    let to = SocketAddr::new(address.parse().unwrap(), port);
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let send = || {
        let socket = UdpSocket::bind(any).unwrap();
        for _ in 0..count {
            socket.send_to(b"?", to).unwrap();
        }
    };
    client.run(send).unwrap();
}
