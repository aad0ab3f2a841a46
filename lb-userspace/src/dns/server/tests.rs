//! The server with real sockets in real namespaces (root only), without the kernel programs: its
//! private ports are asked directly.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::*;
use crate::dns::Rules;
use crate::model::{
    Attachment, Container, ContainerId, Elsewhere, Network, NetworkId, Observed, RunState,
};
use crate::netns::Namespace;

/// A namespace that plays a container, its loopback interface up.
struct Station {
    namespace: Namespace,
    netns: Netns,
}

impl Station {
    fn new() -> Self {
        let namespace = Namespace::create().expect("a namespace (as root)");
        let mut links = namespace.links().expect("netlink");
        let lo = links.index_of("lo").expect("lo");
        links.set_up(lo).expect("lo up");
        let path = format!("/proc/self/fd/{}", namespace.as_fd().as_raw_fd()).into();
        let cookie = namespace.cookie().expect("a cookie");
        Self {
            namespace,
            netns: Netns { path, cookie },
        }
    }

    fn udp(&self) -> UdpSocket {
        let open = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let socket = self.namespace.run(open).expect("enter");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        socket
    }

    fn tcp(&self, resolver: Resolver) -> TcpStream {
        let address = SocketAddr::from(([127, 0, 0, 11], resolver.tcp.get()));
        let open = || TcpStream::connect(address).expect("connect");
        let stream = self.namespace.run(open).expect("enter");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream
    }

    /// The number of UDP sockets and TCP listeners and connections in the namespace, without those
    /// that only wait for their time to pass.
    fn sockets(&self) -> usize {
        const TIME_WAIT: &str = "06";
        let read = || {
            ["udp", "tcp"].map(|file| {
                fs::read_to_string(format!("/proc/thread-self/net/{file}"))
                    .expect("a list of sockets")
            })
        };
        let lists = self.namespace.run(read).expect("enter");
        let lines = lists.iter().flat_map(|list| list.lines().skip(1));
        lines
            .filter(|line| line.split_whitespace().nth(3) != Some(TIME_WAIT))
            .count()
    }
}

const DEADLINE: Duration = Duration::from_secs(5);

fn start() -> (Dns, Arc<AtomicU32>) {
    let beats = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&beats);
    let dns = Dns::start(Options {
        resolv_conf: "/nonexistent".into(),
        forwarding: Forwarding::default(),
        kernel: None,
        register: None,
        beat: Box::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }),
    });
    (dns.expect("a thread"), beats)
}

/// Records in which the container `web` at 10.0.0.1 lives in the station.
fn records(station: &Station, dns_servers: Vec<std::net::IpAddr>) -> Arc<Records> {
    let network = NetworkId("n".to_string());
    let web = Container {
        id: ContainerId("0123456789abcdef".to_string()),
        name: "web".to_string(),
        hostname: "web".to_string(),
        state: RunState::Running,
        labels: Default::default(),
        netns: Some(station.netns.clone()),
        sharers: Vec::new(),
        dns_servers,
        elsewhere: Elsewhere::Nothing,
        publishing: Default::default(),
        attachments: vec![Attachment {
            network: network.clone(),
            endpoint_id: "e".to_string(),
            v4: Some(Ipv4Addr::new(10, 0, 0, 1)),
            v6: None,
            aliases: Vec::new(),
            linked: Vec::new(),
            link: None,
        }],
    };
    let network = Network {
        id: network,
        name: "front".to_string(),
        bridge: "br".to_string(),
        subnets: Vec::new(),
        internal: false,
        labels: Default::default(),
        policy: Default::default(),
    };
    let observed = Observed {
        networks: vec![network],
        containers: vec![web],
        ..Observed::default()
    };
    Arc::new(Records::build(&observed, &[], &Rules::default()))
}

/// A query for the A records of `name`.
fn question(id: u8, name: &str) -> Vec<u8> {
    let mut bytes = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = message.len() as u16;
    [&length.to_be_bytes()[..], message].concat()
}

fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a length");
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).expect("a message");
    message
}

fn ask(socket: &UdpSocket, resolver: Resolver, question: &[u8]) -> Vec<u8> {
    socket
        .send_to(question, (Ipv4Addr::new(127, 0, 0, 11), resolver.udp.get()))
        .expect("send");
    let mut buffer = [0; 1500];
    let (length, _) = socket.recv_from(&mut buffer).expect("a reply in time");
    buffer[..length].to_vec()
}

const ADDRESS: [u8; 4] = [10, 0, 0, 1];
const SERVFAIL: u8 = 2;

#[test]
fn a_namespace_is_answered_over_udp_and_tcp() {
    let (dns, _) = start();
    let station = Station::new();
    dns.publish(records(&station, Vec::new()));
    let resolver = dns.take_over(&station.netns).expect("takeover");

    let reply = ask(&station.udp(), resolver, &question(1, "web"));
    let mut stream = station.tcp(resolver);
    let both = [
        framed(&question(2, "web")),
        framed(&question(3, "Web.front")),
    ]
    .concat();
    let (first, rest) = both.split_at(7);
    stream.write_all(first).expect("write");
    stream.write_all(rest).expect("write");
    let replies = [read_framed(&mut stream), read_framed(&mut stream)];

    assert!(reply.ends_with(&ADDRESS), "{reply:?}");
    assert_eq!(replies.each_ref().map(|reply| reply[1]), [2, 3]);
    assert!(
        replies.iter().all(|reply| reply.ends_with(&ADDRESS)),
        "{replies:?}"
    );
    assert_eq!(
        dns.counts(),
        Counts {
            answered: 3,
            ..Counts::default()
        }
    );
}

#[test]
fn strangers_names_and_malformed_queries_get_their_errors() {
    let (dns, _) = start();
    let station = Station::new();
    dns.publish(records(&station, Vec::new()));
    let resolver = dns.take_over(&station.netns).expect("takeover");
    let socket = station.udp();

    let no_upstream = ask(&socket, resolver, &question(1, "example.com"));
    let malformed = ask(&socket, resolver, &question(2, "web")[..14]);

    assert_eq!(no_upstream[3] & 0x0f, SERVFAIL);
    assert_eq!(malformed[3] & 0x0f, 1);
    let counts = Counts {
        failed: 1,
        malformed: 1,
        ..Counts::default()
    };
    assert_eq!(dns.counts(), counts);
}

#[test]
fn a_tcp_client_that_breaks_the_protocol_is_cut_off_alone() {
    let (dns, _) = start();
    let station = Station::new();
    dns.publish(records(&station, Vec::new()));
    let resolver = dns.take_over(&station.netns).expect("takeover");
    let mut patient = station.tcp(resolver);
    let (half, rest) = (
        &framed(&question(1, "web"))[..9],
        &framed(&question(1, "web"))[9..],
    );
    patient.write_all(half).expect("write");

    for rubbish in [&[0, 0][..], &[0xff; 40], &framed(&[0; 5])] {
        let mut stream = station.tcp(resolver);
        stream.write_all(rubbish).expect("write");
        assert!(
            matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)),
            "closed without an answer"
        );
    }

    patient.write_all(rest).expect("write");
    assert!(read_framed(&mut patient).ends_with(&ADDRESS));
}

#[test]
fn a_tcp_client_that_only_listens_any_more_still_gets_its_answers() {
    let (dns, _) = start();
    let station = Station::new();
    dns.publish(records(&station, Vec::new()));
    let resolver = dns.take_over(&station.netns).expect("takeover");
    let mut stream = station.tcp(resolver);

    let questions = [
        framed(&question(1, "web")),
        framed(&question(2, "example.com")),
    ];
    stream.write_all(&questions.concat()).expect("write");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("shutdown");

    let mut ids = [read_framed(&mut stream)[1], read_framed(&mut stream)[1]];
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
    assert!(
        matches!(stream.read(&mut [0; 1]), Ok(0)),
        "closed when all is said"
    );
}

#[test]
fn queries_wait_until_records_know_the_namespace() {
    let (dns, _) = start();
    let station = Station::new();
    let resolver = dns.take_over(&station.netns).expect("takeover");
    let (socket, mut stream) = (station.udp(), station.tcp(resolver));
    let address = (Ipv4Addr::new(127, 0, 0, 11), resolver.udp.get());
    let early = framed(&question(1, "web"));
    stream.write_all(&early).expect("write");
    socket.send_to(&early[2..], address).expect("send");
    // Which is answered at once, so that the one before it has been read.
    let malformed = ask(&socket, resolver, &question(2, "web")[..14]);

    dns.publish(records(&station, Vec::new()));

    assert_eq!(malformed[1], 2);
    let mut buffer = [0; 512];
    let (length, _) = socket.recv_from(&mut buffer).expect("a reply in time");
    assert!(buffer[..length].ends_with(&ADDRESS));
    assert!(read_framed(&mut stream).ends_with(&ADDRESS));
}

#[test]
fn whoever_stays_unknown_is_told_to_try_again() {
    let (dns, _) = start();
    let station = Station::new();
    let resolver = dns.take_over(&station.netns).expect("takeover");
    let socket = station.udp();
    let patience = Some(6 * DEADLINE);
    socket.set_read_timeout(patience).expect("a timeout");

    let reply = ask(&socket, resolver, &question(1, "web"));

    assert_eq!(reply[3] & 0x0f, SERVFAIL);
}

#[test]
fn own_servers_are_asked_from_inside_the_namespace() {
    let (dns, _) = start();
    let station = Station::new();
    let own_server = Ipv4Addr::new(127, 0, 0, 99);
    dns.publish(records(&station, vec![own_server.into()]));
    let resolver = dns.take_over(&station.netns).expect("takeover");
    let listen = || UdpSocket::bind((own_server, 53)).expect("bind");
    let server = station.namespace.run(listen).expect("enter");
    server.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let serving = thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, client) = server.recv_from(&mut buffer).expect("the query in time");
        buffer[2] |= 0x80;
        buffer[3] = 3;
        server.send_to(&buffer[..length], client).expect("send");
    });

    let reply = ask(&station.udp(), resolver, &question(7, "example.com"));

    serving.join().expect("the name server was asked");
    assert_eq!((reply[1], reply[3] & 0x0f), (7, 3));
    assert_eq!(dns.counts().forwarded, 1);
}

#[test]
fn taking_over_twice_is_once() {
    let (dns, _) = start();
    let station = Station::new();

    let first = dns.take_over(&station.netns).expect("takeover");
    let second = dns.take_over(&station.netns).expect("takeover");

    assert_eq!(first, second);
    assert_eq!(station.sockets(), 2);
    assert_eq!(dns.served_namespaces(), [station.netns.cookie]);
}

#[test]
fn what_is_stood_in_for_is_nothing_of_where_it_is_listened() {
    let (dns, _) = start();
    let station = Station::new();
    let cookie = station.netns.cookie;
    let servers = [7, 8, 0];
    dns.stand_in(cookie, servers);
    assert_eq!(dns.resolver(cookie), None, "nobody listens yet");

    let first = dns.take_over(&station.netns).expect("takeover");
    dns.stand_in(cookie, servers);

    let second = dns.take_over(&station.netns).expect("takeover");
    assert_eq!(second, first);
    dns.release(cookie);
    assert_eq!(dns.resolver(cookie), None);
    assert_eq!(station.sockets(), 0);
}

#[test]
fn several_threads_may_take_over_the_same_namespace() {
    let (dns, _) = start();
    let station = Station::new();

    let resolvers = thread::scope(|scope| {
        let take_over = || dns.take_over(&station.netns).expect("takeover");
        let threads = [0; 4].map(|_| scope.spawn(take_over));
        threads.map(|thread| thread.join().expect("no panic"))
    });

    assert!(resolvers.iter().all(|resolver| *resolver == resolvers[0]));
    assert_eq!(station.sockets(), 2);
}

#[test]
fn a_path_that_means_another_namespace_now_is_not_taken_over() {
    let (dns, _) = start();
    let (gone, other) = (Station::new(), Station::new());
    let netns = Netns {
        path: other.netns.path.clone(),
        ..gone.netns.clone()
    };

    let result = dns.take_over(&netns);

    assert!(
        matches!(result, Err(TakeoverError::Open { .. })),
        "{result:?}"
    );
    assert_eq!(other.sockets(), 0);
}

#[test]
fn a_released_namespace_has_no_socket_left_whatever_is_under_way() {
    let (dns, _) = start();
    let station = Station::new();
    // Nobody listens there, but nothing says so either: forwarding lasts.
    let silent = Ipv4Addr::new(127, 0, 0, 98);
    let listen = || UdpSocket::bind((silent, 53)).expect("bind");
    let silent_server = station.namespace.run(listen).expect("enter");
    dns.publish(records(&station, vec![silent.into()]));
    let resolver = dns.take_over(&station.netns).expect("takeover");
    let mut stream = station.tcp(resolver);
    stream
        .write_all(&framed(&question(1, "web")))
        .expect("write");
    read_framed(&mut stream);
    let client = station.udp();
    let address = (Ipv4Addr::new(127, 0, 0, 11), resolver.udp.get());
    client
        .send_to(&question(1, "example.com"), address)
        .expect("send");
    silent_server
        .set_read_timeout(Some(DEADLINE))
        .expect("a timeout");
    silent_server
        .recv_from(&mut [0; 512])
        .expect("the query is under way");
    assert!(station.sockets() > 5, "both ends of everything");

    dns.release(station.netns.cookie);

    let closed = stream.read(&mut [0; 1]);
    assert!(
        matches!(closed, Ok(0)),
        "the connection was closed: {closed:?}"
    );
    drop((stream, client, silent_server));
    assert_eq!(station.sockets(), 0);
    assert!(dns.served_namespaces().is_empty());
}

#[test]
fn the_server_ends_with_its_handle_and_leaves_no_socket() {
    let (dns, _) = start();
    let stations = [Station::new(), Station::new()];
    for station in &stations {
        dns.take_over(&station.netns).expect("takeover");
    }

    drop(dns);

    assert_eq!(stations.each_ref().map(Station::sockets), [0, 0]);
}

#[test]
fn the_thread_that_answers_beats() {
    let started = Instant::now();
    let (_dns, beats) = start();

    while beats.load(Ordering::Relaxed) < 3 && started.elapsed() < DEADLINE {
        thread::yield_now();
    }

    assert!(beats.load(Ordering::Relaxed) >= 3);
    assert!(started.elapsed() >= 2 * BEAT, "no faster than told");
}

#[test]
fn a_released_namespace_can_be_taken_over_again() {
    let (dns, _) = start();
    let station = Station::new();
    dns.publish(records(&station, Vec::new()));

    for id in 1..20 {
        let resolver = dns.take_over(&station.netns).expect("takeover");
        let reply = ask(&station.udp(), resolver, &question(id, "web"));
        assert!(reply.ends_with(&ADDRESS), "{reply:?}");
        dns.release(station.netns.cookie);
        assert_eq!(station.sockets(), 0);
    }
}
