use std::fs;
use std::net::UdpSocket as StdUdpSocket;
use std::time::Instant;

use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// What a test's name server makes of each query that it gets.
type Behaviour = fn(&[u8]) -> Vec<Vec<u8>>;

const NO_ERROR: u8 = 0;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;

fn query(transport: Transport) -> Query {
    let mut message = Message::new(99, MessageType::Query, OpCode::Query);
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

async fn code_of(servers: &[SocketAddr]) -> Option<u8> {
    let reply = ask(servers, &query(Transport::Udp), &Origin::Host).await?;
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

    let reply = ask(&[address], &query(Transport::Tcp), &Origin::Host).await;

    serving.await.expect("no panic");
    assert_eq!(reply.map(|reply| reply.len()), Some(3000));
}

#[tokio::test]
async fn without_a_server_that_answers_the_client_gets_servfail() {
    let folder = tempfile::tempdir().expect("a folder");
    let upstream = Upstream::new(folder.path().join("missing"));
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
            .forward(&query, &upstreams, &netns, &Semaphore::new(1))
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
    let upstream = Upstream::new(path);
    let netns = Netns {
        path: "/dev/null".into(),
        cookie: 1,
    };
    let full = Semaphore::new(0);

    let query = query(Transport::Udp);
    let forwarded = upstream
        .forward(&query, &Upstreams::Host, &netns, &full)
        .await;

    let Forwarded::Failed(reply) = forwarded else {
        panic!("nobody can have answered");
    };
    assert_eq!(reply[3] & 0x0f, REFUSED);
}
