//! One question to one name server, and its answer.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use lb_common::Resolver;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Mark;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::task::spawn_blocking;

use super::Origin;
use crate::dns::query::{Came, Query, Sent, TC, Transport, framed};
use crate::dns::takeover::open_inside;

/// Longest message, RFC 1035 §4.2.2.
const LONGEST: usize = 65_535;

/// How the case of letters is sent and expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// As the client wrote them.
    AsAsked,
    /// At random, and any case may come back.
    Random,
    /// At random, and what comes back in another case is not this server's.
    RandomEchoed,
}

/// What a name server replied.
#[derive(Debug)]
pub(super) struct Exchanged {
    /// With the client's id and case, whole.
    pub(super) message: Vec<u8>,
    /// Whether the name came back in the case in which it was sent.
    pub(super) echoed: bool,
}

/// What `server` replies to `query`, over the transport that the client used. An answer that was cut
/// is asked for again over TCP: the client may take more than the server sends in a datagram.
pub(super) async fn exchange(
    server: SocketAddr,
    query: &Query,
    origin: &Origin,
    case: Case,
) -> io::Result<Exchanged> {
    let sent = query.sent(rand::random(), || {
        case != Case::AsAsked && rand::random::<bool>()
    });
    if query.transport() == Transport::Tcp {
        return over_stream(server, query, origin, &sent).await;
    }
    let exchanged = over_datagrams(server, query, origin, &sent, case).await?;
    if exchanged.message[2] & TC == 0 {
        return Ok(exchanged);
    }
    match over_stream(server, query, origin, &sent).await {
        Ok(whole) => Ok(whole),
        // Some servers have no TCP. The client may know better.
        Err(_) => Ok(exchanged),
    }
}

async fn over_datagrams(
    server: SocketAddr,
    query: &Query,
    origin: &Origin,
    sent: &Sent,
    case: Case,
) -> io::Result<Exchanged> {
    // The kernel picks a random port, and once connected lets only the server's datagrams through.
    let socket = open(origin, move || {
        let socket = std::net::UdpSocket::bind(unspecified(server))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let socket = UdpSocket::from_std(socket.await?)?;
    socket.connect(server).await?;
    socket.send(sent.bytes()).await?;
    loop {
        // An unreachable port is only an error, nothing to read.
        if socket
            .ready(Interest::READABLE | Interest::ERROR)
            .await?
            .is_error()
            && let Some(error) = socket.take_error()?
        {
            return Err(error);
        }
        match receive(&socket) {
            Ok(datagram) => {
                if let Some(came) = query.accept(sent, datagram)
                    && let Some(exchanged) = judged(came, case)?
                {
                    return Ok(exchanged);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// One datagram. The buffer is on the stack, so that those who wait need none.
fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut buffer = [0; LONGEST];
    let length = socket.try_recv(&mut buffer)?;
    Ok(buffer[..length].to_vec())
}

async fn over_stream(
    server: SocketAddr,
    query: &Query,
    origin: &Origin,
    sent: &Sent,
) -> io::Result<Exchanged> {
    let socket = open(origin, move || match server {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    });
    let mut stream = socket.await?.connect(server).await?;
    stream.write_all(&framed(sent.bytes())).await?;
    loop {
        let length = stream.read_u16().await?;
        let mut message = vec![0; length.into()];
        stream.read_exact(&mut message).await?;
        if let Some(came) = query.accept(sent, message)
            && let Some(exchanged) = judged(came, Case::Random)?
        {
            return Ok(exchanged);
        }
    }
}

/// `None`: somebody else's reply, who did not see the case in which this server was asked.
fn judged(came: Came, case: Case) -> io::Result<Option<Exchanged>> {
    match came {
        Came::Refusal => Err(refusal()),
        Came::Reply { echoed: false, .. } if case == Case::RandomEchoed => Ok(None),
        Came::Reply { message, echoed } => Ok(Some(Exchanged { message, echoed })),
    }
}

/// What `open` makes, in the namespace of `origin`.
async fn open<T: AsFd + AsRawFd + Send + 'static>(
    origin: &Origin,
    open: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match origin {
        Origin::Host => open(),
        Origin::Container(netns) => {
            let netns = netns.clone();
            let open = move || {
                let socket = open()?;
                // Its query must not be led back here.
                setsockopt(&socket, Mark, &Resolver::MARK)?;
                Ok(socket)
            };
            // Entering waits for a thread.
            spawn_blocking(move || open_inside(&netns, open)).await?
        }
    }
}

fn unspecified(server: SocketAddr) -> SocketAddr {
    match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn refusal() -> io::Error {
    io::Error::other("the name server could not or would not answer")
}
