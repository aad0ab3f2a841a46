//! One question, asked from inside a namespace, and what came of it.

use std::fmt::{self, Display, Formatter};
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::cell::Protocol;

/// How long nothing must come for it to be nothing: a SYN that is lost is sent again after 1 and 3 s.
const SILENCE: Duration = Duration::from_secs(5);
/// How often what may get lost is sent.
const AGAIN: Duration = Duration::from_millis(500);

/// What came of a question. `T` is whom the server saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome<T = Seen> {
    /// The server answered.
    Answer(T),
    /// At once: nobody is there.
    Refused,
    /// At once: the client's own routes do not lead there.
    NoRoute,
    /// Nothing.
    Silence,
    /// A connection on which nothing was said.
    Mute,
}

/// Whom a server saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The client, by an address of its own.
    Client,
    /// The gateway of the server's Network.
    Gateway,
    /// The address that was asked for.
    Asked,
    /// Whoever sends an echo request: what answers does not say.
    Anybody,
    Other(IpAddr),
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(seen) => write!(f, "an answer to {seen:?}"),
            Self::Refused => f.write_str("refused"),
            Self::NoRoute => f.write_str("no route"),
            Self::Silence => f.write_str("silence"),
            Self::Mute => f.write_str("a connection without an answer"),
        }
    }
}

/// The answer to an echo request.
pub(super) const PONG: &str = "pong";

/// Asks from the calling thread's namespace. An answer is as the server gave it.
pub(super) fn ask(protocol: Protocol, to: SocketAddr) -> Outcome<String> {
    let answer = match protocol {
        Protocol::Tcp => ask_tcp(to),
        Protocol::Udp => ask_udp(to),
        Protocol::Icmp => ping(to.ip()),
    };
    match answer {
        Ok(answer) if answer.is_empty() => Outcome::Mute,
        Ok(answer) => Outcome::Answer(answer),
        Err(error) => failure(&error),
    }
}

fn failure(error: &io::Error) -> Outcome<String> {
    match error.kind() {
        ErrorKind::ConnectionRefused => Outcome::Refused,
        ErrorKind::NetworkUnreachable => Outcome::NoRoute,
        // A neighbour that does not say where it is.
        ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::HostUnreachable => {
            Outcome::Silence
        }
        _ => panic!("neither an answer nor none: {error}"),
    }
}

fn ask_tcp(to: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, SILENCE)?;
    stream.set_read_timeout(Some(SILENCE))?;
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Ok(_) => Ok(answer),
        // Who says nothing on a connection, or ends it so, is mute.
        Err(_) => Ok(String::new()),
    }
}

/// From a socket that is connected, and so takes an answer from there alone.
fn ask_udp(to: SocketAddr) -> io::Result<String> {
    let any: IpAddr = if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    let answer = exchange(&socket, b"?", |request| socket.send(request))?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn ping(to: IpAddr) -> io::Result<String> {
    let (family, protocol, kind) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128),
    };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)?;
    // The standard library's UDP socket sends and receives whatever the kernel's one does.
    let socket = UdpSocket::from(socket);
    let request = [kind, 0, 0, 0, 0, 0, 0, 1];
    // Not connected: an ICMP socket that is connected is not sent answers from others.
    exchange(&socket, &request, |request| {
        socket.send_to(request, SocketAddr::new(to, 0))
    })?;
    Ok(PONG.to_string())
}

/// Sends until something comes back, or long enough for nothing to come.
fn exchange(
    socket: &UdpSocket,
    request: &[u8],
    send: impl Fn(&[u8]) -> io::Result<usize>,
) -> io::Result<Vec<u8>> {
    socket.set_read_timeout(Some(AGAIN))?;
    let deadline = Instant::now() + SILENCE;
    let mut buffer = [0; 2_048];
    loop {
        send(request)?;
        match socket.recv(&mut buffer) {
            Ok(length) => return Ok(buffer[..length].to_vec()),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_nothing_yet) => {}
        }
    }
}
