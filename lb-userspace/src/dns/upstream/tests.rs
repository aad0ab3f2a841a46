use std::fs;
use std::net::UdpSocket as StdUdpSocket;

use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use super::*;
use crate::dns::query::{Transport, framed};

/// What a test's name server makes of each query that it gets.
type Behaviour = fn(&[u8]) -> Vec<Vec<u8>>;

const NO_ERROR: u8 = 0;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;

fn query(transport: Transport) -> Query {
    let mut message = Message::new(99, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii("Example.com.").expect("a name");
    message.add_query(hickory_proto::op::Query::query(name, RecordType::A));
    let bytes = message.to_vec().expect("an encodable message");
    Query::parse(&bytes, transport).expect("well-formed")
}

fn reply(query: &[u8], code: u8) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x80;
    reply[3] = code;
    reply
}

/// A name server on loopback, until its handle is aborted or the test ends.
async fn server(behaviour: Behaviour) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    let address = socket.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).await.expect("receive");
            for reply in behaviour(&buffer[..length]) {
                socket.send_to(&reply, client).await.expect("send");
            }
        }
    });
    (address, task)
}

fn upstream() -> Upstream {
    Upstream::new("/nonexistent".into(), Forwarding::default(), None)
}

fn way(servers: &[SocketAddr]) -> Way {
    Way {
        servers: servers.to_vec(),
        origin: Origin::Host,
        source: Source::Host(0),
    }
}

async fn code_of(servers: &[SocketAddr]) -> Option<u8> {
    let query = query(Transport::Udp);
    let reply = upstream().ask(&way(servers), &query).await?;
    assert_eq!(reply[..2], 99u16.to_be_bytes(), "the client's id");
    Some(reply[3])
}

#[tokio::test]
async fn servers_that_fail_pass_the_question_on_at_once() {
    let (failing, _task) = server(|query| vec![reply(query, SERVFAIL)]).await;
    let (refusing, _task) = server(|query| vec![reply(query, REFUSED)]).await;
    let (good, _task) = server(|query| vec![reply(query, NO_ERROR)]).await;
    let started = Instant::now();

    let code = code_of(&[failing, refusing, good]).await;

    assert_eq!(code, Some(NO_ERROR));
    assert!(started.elapsed() < HEAD_START);
}

#[tokio::test]
async fn a_port_where_nobody_listens_passes_the_question_on_at_once() {
    let closed = {
        let socket = StdUdpSocket::bind("127.0.0.1:0").expect("bind");
        socket.local_addr().expect("an address")
    };
    let (good, _task) = server(|query| vec![reply(query, NO_ERROR)]).await;
    let started = Instant::now();

    let code = code_of(&[closed, good]).await;

    assert_eq!(code, Some(NO_ERROR));
    assert!(started.elapsed() < HEAD_START);
}

#[tokio::test]
async fn that_a_name_does_not_exist_is_an_answer() {
    let (first, _task) = server(|query| vec![reply(query, NXDOMAIN)]).await;
    let (second, _task) = server(|query| vec![reply(query, NO_ERROR)]).await;

    assert_eq!(code_of(&[first, second]).await, Some(NXDOMAIN));
}

#[tokio::test]
async fn a_silent_server_is_overtaken_by_the_next() {
    let (silent, _task) = server(|_| Vec::new()).await;
    let (good, _task) = server(|query| vec![reply(query, NO_ERROR)]).await;
    let started = Instant::now();

    let code = code_of(&[silent, good]).await;

    assert_eq!(code, Some(NO_ERROR));
    assert!(started.elapsed() >= HEAD_START && started.elapsed() < PATIENCE);
}

#[tokio::test]
async fn forged_replies_are_passed_over() {
    let (address, _task) = server(|query| {
        let mut other_id = reply(query, NXDOMAIN);
        other_id[0] ^= 1;
        let mut other_name = reply(query, NXDOMAIN);
        other_name[14] ^= 1;
        vec![other_id, other_name, vec![1, 2, 3], reply(query, NO_ERROR)]
    })
    .await;

    assert_eq!(code_of(&[address]).await, Some(NO_ERROR));
}

#[tokio::test]
async fn ids_and_ports_differ_between_queries() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    let address = socket.local_addr().expect("an address");
    let mut seen = Vec::new();

    for _ in 0..2 {
        let asking = tokio::spawn(async move { code_of(&[address]).await });
        let mut buffer = [0; 512];
        let (length, client) = socket.recv_from(&mut buffer).await.expect("receive");
        let reply = reply(&buffer[..length], NO_ERROR);
        socket.send_to(&reply, client).await.expect("send");
        assert_eq!(asking.await.expect("no panic"), Some(NO_ERROR));
        seen.push((buffer[..2].to_vec(), client.port()));
    }

    // By chance they are the same once in 2^31 runs.
    assert_ne!(seen[0], seen[1]);
}

#[tokio::test]
async fn over_tcp_name_servers_are_asked_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let length = stream.read_u16().await.expect("a length");
        let mut message = vec![0; length.into()];
        stream.read_exact(&mut message).await.expect("a message");
        let mut long = reply(&message, NO_ERROR);
        long.resize(3000, 0);
        stream.write_all(&framed(&long)).await.expect("write");
    });

    let reply = upstream()
        .ask(&way(&[address]), &query(Transport::Tcp))
        .await;

    serving.await.expect("no panic");
    assert_eq!(reply.map(|reply| reply.len()), Some(3000));
}

#[tokio::test]
async fn without_a_server_that_answers_the_client_gets_servfail() {
    let folder = tempfile::tempdir().expect("a folder");
    let upstream = Upstream::new(folder.path().join("missing"), Forwarding::default(), None);
    let netns = Netns {
        path: "/dev/null".into(),
        cookie: 1,
    };
    let query = query(Transport::Udp);

    for upstreams in [
        Upstreams::Host,
        Upstreams::Nobody,
        Upstreams::Own(Vec::new()),
    ] {
        let forwarded = upstream
            .forward(&query, &upstreams, &netns, &Places::new(1))
            .await;

        let Forwarded::Failed(reply) = forwarded else {
            panic!("nobody can have answered");
        };
        assert_eq!(reply[3] & 0x0f, SERVFAIL);
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_that_finds_no_place_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("resolv.conf");
    fs::write(&path, "nameserver 127.0.0.1\n").expect("write");
    let upstream = Upstream::new(path, Forwarding::default(), None);
    let netns = Netns {
        path: "/dev/null".into(),
        cookie: 1,
    };
    let full = Places::new(0);

    let query = query(Transport::Udp);
    let forwarded = upstream
        .forward(&query, &Upstreams::Host, &netns, &full)
        .await;

    let Forwarded::Failed(reply) = forwarded else {
        panic!("nobody can have answered");
    };
    assert_eq!(reply[3] & 0x0f, REFUSED);
}

/// A reply with one A record that lives for `ttl` seconds.
fn answer(query: &[u8], ttl: u8) -> Vec<u8> {
    let mut reply = reply(query, NO_ERROR);
    reply[7] = 1;
    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, ttl, 0, 4, 192, 0, 2, 1]);
    reply
}

fn netns() -> Netns {
    Netns {
        path: "/dev/null".into(),
        cookie: 1,
    }
}

#[tokio::test]
async fn an_answer_that_was_cut_is_asked_for_again_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    let datagrams = UdpSocket::bind(address).await.expect("the same port");
    let serving = tokio::spawn(async move {
        let mut buffer = [0; 512];
        let (length, client) = datagrams.recv_from(&mut buffer).await.expect("receive");
        let mut cut = reply(&buffer[..length], NO_ERROR);
        cut[2] |= 2;
        datagrams.send_to(&cut, client).await.expect("send");
        let (mut stream, _) = listener.accept().await.expect("accept");
        let length = stream.read_u16().await.expect("a length");
        let mut message = vec![0; length.into()];
        stream.read_exact(&mut message).await.expect("a message");
        stream
            .write_all(&framed(&answer(&message, 60)))
            .await
            .expect("write");
    });

    let reply = upstream()
        .ask(&way(&[address]), &query(Transport::Udp))
        .await
        .expect("a reply");

    serving.await.expect("no panic");
    assert_eq!((reply[2] & 2, reply[7]), (0, 1), "whole, with its record");
}

/// Keeps an answer to `query` as if a server had given it.
fn keep(upstream: &Upstream, query: &Query, source: Source) {
    let mut asked = query.header().to_vec();
    asked.extend(query.question());
    let key = Key::of(query, source).expect("a question that is kept");
    let message = answer(&asked, 60);
    upstream.cache.put(key, query, &message, Instant::now());
}

#[tokio::test]
async fn what_was_answered_is_kept_for_those_who_ask_the_same_servers() {
    let (address, _task) = server(|query| vec![answer(query, 60)]).await;
    let upstream = upstream();
    let query = query(Transport::Udp);
    let way = way(&[address]);

    upstream.ask(&way, &query).await.expect("an answer");

    let now = Instant::now();
    let key = Key::of(&query, way.source).expect("kept");
    assert!(matches!(
        upstream.cache.get(&key, &query, now),
        Kept::Fresh { .. }
    ));
    let own = Key::of(&query, Source::Own(1)).expect("kept");
    assert_eq!(upstream.cache.get(&own, &query, now), Kept::Nothing);
}

#[tokio::test]
async fn nobody_is_asked_for_a_container_without_a_way_out_whatever_is_kept() {
    let upstream = Arc::new(upstream());
    let query = query(Transport::Udp);
    keep(&upstream, &query, Source::Host(0));
    keep(&upstream, &query, Source::Own(1));

    let known = upstream.known(&query, &Upstreams::Nobody, &netns());

    assert_eq!(known, None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_ran_out_is_given_when_no_server_answers() {
    let closed = {
        let socket = StdUdpSocket::bind("127.0.0.1:0").expect("bind");
        socket.local_addr().expect("an address")
    };
    let upstream = upstream();
    let query = query(Transport::Udp);
    let own = Upstreams::Own(vec![closed.ip()]);
    keep(&upstream, &query, Source::Own(1));
    tokio::time::advance(Duration::from_secs(61)).await;

    let forwarded = upstream
        .forward(&query, &own, &netns(), &Places::new(1))
        .await;

    let Forwarded::Stale(reply) = forwarded else {
        panic!("the server cannot have answered: {forwarded:?}");
    };
    assert_eq!(reply[reply.len() - 10..][..4], 30_u32.to_be_bytes(), "30 s");
    let upstream = Arc::new(upstream);
    assert!(
        upstream.known(&query, &own, &netns()).is_some(),
        "nobody is asked again so soon"
    );
}

#[tokio::test]
async fn a_container_has_a_place_however_many_others_ask() {
    let upstream = upstream();
    let _all = upstream
        .slots
        .acquire_many(IN_FLIGHT_TOTAL as u32)
        .await
        .expect("open");
    let places = Places::new(1_024);

    let mut taken = Vec::new();
    for _ in 0..RESERVED {
        let admitted = timeout(Duration::from_secs(5), upstream.admit(&places));
        taken.push(admitted.await.expect("a place of its own"));
    }

    let one_more = timeout(Duration::from_millis(10), upstream.admit(&places));
    assert!(one_more.await.is_err(), "the rest is shared");
}
