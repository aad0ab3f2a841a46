//! Queries for names that are not ours: who is asked, in which order, and which reply counts.
//!
//! Name servers are asked in their order over the client's transport. The next one is asked as soon
//! as one fails, or when it has been silent for [`HEAD_START`]; the earlier ones may still answer.
//! SERVFAIL and REFUSED count as failures, every other reply ends the search. If nobody answers, the
//! client gets SERVFAIL.
//!
//! The host's name servers are asked from the host's namespace, a container's own ones (`--dns`)
//! from the container's: they may be on a Network that only the container reaches.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::query::{Query, Transport};
use super::records::Upstreams;
use super::resolv_conf::{ResolvConf, own_servers};
use super::takeover::open_inside;
use crate::model::Netns;

/// How long one name server may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long a name server is asked alone.
const HEAD_START: Duration = Duration::from_secs(1);

/// How long a query waits while too many are in flight.
const QUEUE: Duration = Duration::from_secs(4);

/// Queries in flight for one container.
pub(super) const IN_FLIGHT: usize = 1024;

/// Queries in flight for all containers, each with a socket of its own.
const IN_FLIGHT_TOTAL: usize = 8192;

/// Longest message, RFC 1035 §4.2.2.
const LONGEST: usize = 65_535;

/// Asks name servers on behalf of containers.
#[derive(Debug)]
pub(super) struct Upstream {
    host: Mutex<ResolvConf>,
    slots: Semaphore,
}

/// Where a query is asked from.
#[derive(Clone, Debug)]
enum Origin {
    Host,
    Container(Netns),
}

/// The reply to a forwarded query, and whether a name server gave it.
#[derive(Debug)]
pub(super) enum Forwarded {
    Answered(Vec<u8>),
    Failed(Vec<u8>),
}

impl Upstream {
    /// Asks the name servers that `resolv_conf` lists, unless containers have their own.
    pub(super) fn new(resolv_conf: PathBuf) -> Self {
        Self {
            host: Mutex::new(ResolvConf::new(resolv_conf)),
            slots: Semaphore::new(IN_FLIGHT_TOTAL),
        }
    }

    /// The reply to `query`, asked in the name of the container in `netns`, whose queries share
    /// `slots`. Takes at most 10 s.
    pub(super) async fn forward(
        &self,
        query: &Query,
        upstreams: &Upstreams,
        netns: &Netns,
        slots: &Semaphore,
    ) -> Forwarded {
        let Ok(_slots) = timeout(QUEUE, self.admit(slots)).await else {
            return Forwarded::Failed(query.failure(ResponseCode::Refused));
        };
        let (servers, origin) = match upstreams {
            Upstreams::Host => (self.host_servers(), Origin::Host),
            Upstreams::Own(addresses) => (own_servers(addresses), Origin::Container(netns.clone())),
            Upstreams::Nobody => (Vec::new(), Origin::Host),
        };
        match ask(&servers, query, &origin).await {
            Some(reply) => Forwarded::Answered(reply),
            None => Forwarded::Failed(query.failure(ResponseCode::ServFail)),
        }
    }

    /// The container's share first: who waits for it must not hold a place that others could use.
    async fn admit<'a>(&'a self, slots: &'a Semaphore) -> [Option<SemaphorePermit<'a>>; 2] {
        // Neither semaphore is ever closed.
        let own = slots.acquire().await.ok();
        [own, self.slots.acquire().await.ok()]
    }

    fn host_servers(&self) -> Vec<SocketAddr> {
        let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        host.servers().to_vec()
    }
}

/// The first reply that counts; `None` if no server gives one.
async fn ask(servers: &[SocketAddr], query: &Query, origin: &Origin) -> Option<Vec<u8>> {
    let mut waiting = servers.iter();
    let mut asked = FuturesUnordered::new();
    loop {
        if let Some(&server) = waiting.next() {
            asked.push(timeout(PATIENCE, exchange(server, query, origin)));
        } else if asked.is_empty() {
            return None;
        }
        let others_wait = waiting.len() > 0;
        tokio::select! {
            Some(result) = asked.next() => {
                if let Ok(Ok(reply)) = result {
                    return Some(reply);
                }
            }
            () = sleep(HEAD_START), if others_wait => {}
        }
    }
}

/// What `server` replies to `query`, as the client is to get it.
async fn exchange(server: SocketAddr, query: &Query, origin: &Origin) -> io::Result<Vec<u8>> {
    let id: u16 = rand::random();
    match query.transport() {
        Transport::Udp => exchange_datagrams(server, query, origin, id).await,
        Transport::Tcp => exchange_over_stream(server, query, origin, id).await,
    }
}

async fn exchange_datagrams(
    server: SocketAddr,
    query: &Query,
    origin: &Origin,
    id: u16,
) -> io::Result<Vec<u8>> {
    // The kernel picks a random port, and once connected lets only the server's datagrams through.
    let socket = open(origin, move || {
        let socket = std::net::UdpSocket::bind(unspecified(server))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let socket = UdpSocket::from_std(socket.await?)?;
    socket.connect(server).await?;
    socket.send(&query.with_id(id)).await?;
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
                if let Some(reply) = query.accept(id, datagram) {
                    return reply.ok_or_else(refusal);
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

async fn exchange_over_stream(
    server: SocketAddr,
    query: &Query,
    origin: &Origin,
    id: u16,
) -> io::Result<Vec<u8>> {
    let socket = open(origin, move || match server {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    });
    let mut stream = socket.await?.connect(server).await?;
    stream.write_all(&framed(&query.with_id(id))).await?;
    loop {
        let length = stream.read_u16().await?;
        let mut message = vec![0; length.into()];
        stream.read_exact(&mut message).await?;
        if let Some(reply) = query.accept(id, message) {
            return reply.ok_or_else(refusal);
        }
    }
}

/// `message` with the length in front that TCP needs, RFC 1035 §4.2.2.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    // No message is longer: it was a datagram, came framed itself, or was encoded to a limit.
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend(length.to_be_bytes());
    framed.extend(&message[..length.into()]);
    framed
}

/// What `open` makes, in the namespace of `origin`.
async fn open<T: AsRawFd + Send + 'static>(
    origin: &Origin,
    open: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match origin {
        Origin::Host => open(),
        Origin::Container(netns) => {
            let netns = netns.clone();
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

#[cfg(test)]
mod tests;
