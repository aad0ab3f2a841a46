//! Servers inside stations. Each answers with the station's name and the client's address as it saw
//! it, and ends when it is dropped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lb_userspace::netns::Namespace;

use crate::station::{ANSWER, Family, Station};

/// How soon a server notices that it is to end.
const TICK: Duration = Duration::from_millis(20);

/// A server in a thread of its own.
#[derive(Debug)]
pub struct Server {
    is_over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// Who answered, and as whom it saw the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub server: String,
    pub client: SocketAddr,
}

impl Server {
    /// How many clients have been answered so far.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    fn start(mut serve_one: impl FnMut() -> bool + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicUsize::new(0));
        let (is_over_there, served_there) = (is_over.clone(), served.clone());
        let thread = thread::spawn(move || {
            while !is_over_there.load(Ordering::Relaxed) {
                if serve_one() {
                    served_there.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self {
            is_over,
            served,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("a server has panicked");
        }
    }
}

impl Station {
    /// Answers TCP on `port`, as [`serve_tcp`].
    pub fn serves_tcp(&self, family: Family, port: u16) -> Server {
        serve_tcp(&self.namespace, &self.name, family, port)
    }

    /// Answers UDP on `port`, as [`serve_udp`].
    pub fn serves_udp(&self, family: Family, port: u16) -> Server {
        serve_udp(&self.namespace, &self.name, family, port)
    }

    /// Who answers a TCP connection to `to`.
    pub fn ask_tcp(&self, to: impl Into<SocketAddr>) -> std::io::Result<Answer> {
        let mut stream = self.connect(to)?;
        read_answer(&mut stream)
    }

    /// Who answers a datagram to `to` from a socket of its own.
    pub fn ask_udp(&self, to: impl Into<SocketAddr>) -> std::io::Result<Answer> {
        let to = to.into();
        let socket = self.udp(family_of(to), 0);
        socket.connect(to)?;
        ask_with(&socket, b"who").map(|(answer, _)| answer)
    }
}

/// Answers TCP on `port` inside a namespace: [`Answer`] at once, then everything that the client sends
/// back to it, in a thread for each client, until the client ends.
pub fn serve_tcp(inside: &Namespace, name: &str, family: Family, port: u16) -> Server {
    let bind = || TcpListener::bind((family.any(), port)).unwrap();
    let listener = inside.run(bind).unwrap();
    let name = name.to_owned();
    listener.set_nonblocking(true).unwrap();
    Server::start(move || match accept(&listener) {
        Some((client, from)) => {
            let name = name.clone();
            thread::spawn(move || echo_stream(client, &name, from));
            true
        }
        None => false,
    })
}

/// Answers each datagram on `port` inside a namespace with [`Answer`], a line end and the datagram.
pub fn serve_udp(inside: &Namespace, name: &str, family: Family, port: u16) -> Server {
    let bind = || UdpSocket::bind((family.any(), port)).unwrap();
    let socket = inside.run(bind).unwrap();
    let name = name.to_owned();
    socket.set_read_timeout(Some(TICK)).unwrap();
    let mut buffer = vec![0; 65_536];
    Server::start(move || match socket.recv_from(&mut buffer) {
        Ok((length, from)) => {
            let mut answer = greeting(&name, from).into_bytes();
            answer.extend(&buffer[..length]);
            // A client that is gone by now is no fault of the server.
            socket.send_to(&answer, from).is_ok()
        }
        Err(_elapsed) => false,
    })
}

/// Sends `question` over a connected socket: who answers, and what follows the answer.
pub fn ask_with(socket: &UdpSocket, question: &[u8]) -> std::io::Result<(Answer, Vec<u8>)> {
    socket.send(question)?;
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer)?;
    let end = buffer[..length].iter().position(|byte| *byte == b'\n');
    let end = end.expect("a server answers with a line");
    Ok((parse(&buffer[..end]), buffer[end + 1..length].to_vec()))
}

/// What a server says first on `stream`.
pub fn read_answer(stream: &mut TcpStream) -> std::io::Result<Answer> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return Ok(parse(&line));
        }
        line.push(byte[0]);
    }
}

/// The family of an address.
pub fn family_of(address: SocketAddr) -> Family {
    match address {
        SocketAddr::V4(_) => Family::V4,
        SocketAddr::V6(_) => Family::V6,
    }
}

fn greeting(name: &str, client: SocketAddr) -> String {
    format!("{name} {client}\n")
}

fn parse(line: &[u8]) -> Answer {
    let line = std::str::from_utf8(line).unwrap();
    let (server, client) = line.split_once(' ').unwrap();
    Answer {
        server: server.to_string(),
        client: client.parse().unwrap(),
    }
}

fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept() {
        Ok(accepted) => Some(accepted),
        Err(_would_block) => {
            thread::sleep(Duration::from_millis(1));
            None
        }
    }
}

/// Ends with the client, or when it stays silent for too long.
fn echo_stream(mut client: TcpStream, name: &str, from: SocketAddr) {
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(ANSWER * 3)).unwrap();
    if client.write_all(greeting(name, from).as_bytes()).is_err() {
        return;
    }
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(length) = client.read(&mut buffer) {
        if length == 0 || client.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}
