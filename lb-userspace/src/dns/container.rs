//! One container's side of the server: its two sockets and everything under way on them.
//!
//! # Why
//! All of it is one future, so that dropping that future closes every socket in the container's
//! namespace at once. A task for each query would have to be found and stopped one by one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_proto::op::ResponseCode;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::sleep;

use super::counters::Counters;
use super::query::{Query, Rejected, Transport};
use super::records::{Records, Upstreams};
use super::reply::{Decision, decide};
use super::samples::Samples;
use super::stream::converse;
use super::takeover::Sockets;
use super::tally::{Path, Tally};
use super::upstream::{Forwarded, Places, Upstream};
use crate::model::Netns;

/// Longest query that is read, in bytes. Real ones are a tenth of that.
pub(super) const LONGEST_QUERY: usize = 4096;

/// Datagrams that are read before others get their turn.
const BURST: usize = 64;

/// TCP connections that are served at a time; the kernel keeps some more waiting.
const STREAMS: usize = 32;

/// How long to wait when a connection cannot be accepted, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all containers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) records: ArcSwap<Records>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) counters: Counters,
    pub(super) tally: Tally,
    pub(super) samples: Samples,
}

/// One asker: everything that lives in one network namespace.
#[derive(Debug)]
pub(super) struct Asker {
    netns: Netns,
    shared: Arc<Shared>,
    places: Places,
}

/// What to do about bytes from a client.
#[derive(Debug)]
#[must_use]
pub(super) enum Next {
    Nothing,
    Reply(Vec<u8>),
    Forward(Stranger),
}

/// A query for a name that is not ours.
#[derive(Debug)]
pub(super) struct Stranger {
    query: Query,
    upstreams: Upstreams,
}

impl Asker {
    pub(super) fn new(netns: Netns, shared: Arc<Shared>) -> Self {
        let places = Places::new(shared.upstream.in_flight());
        Self {
            netns,
            shared,
            places,
        }
    }

    /// What to do about `bytes`, one message.
    pub(super) fn take(&self, bytes: &[u8], transport: Transport) -> Next {
        let counters = &self.shared.counters;
        let query = match Query::parse(bytes, transport) {
            Ok(query) => query,
            Err(rejected) => {
                counters.malformed.add();
                return match rejected {
                    Rejected::Ignored => Next::Nothing,
                    Rejected::Refused(reply) => Next::Reply(reply),
                };
            }
        };
        let records = self.shared.records.load();
        match decide(&query, records.view(self.netns.cookie)) {
            Decision::Reply(reply, network) => {
                counters.answered.add();
                self.note(&query, network, Path::Daemon, &reply);
                Next::Reply(reply)
            }
            Decision::Forward(upstreams) => {
                let upstream = &self.shared.upstream;
                if let Some(reply) = upstream.known(&query, upstreams, &self.netns) {
                    counters.cached.add();
                    self.note(&query, None, Path::Cache, &reply);
                    return Next::Reply(reply);
                }
                let upstreams = upstreams.clone();
                Next::Forward(Stranger { query, upstreams })
            }
        }
    }

    /// The reply that somebody else gives.
    pub(super) async fn forward(&self, stranger: Stranger) -> Vec<u8> {
        let Stranger { query, upstreams } = stranger;
        let upstream = &self.shared.upstream;
        let forwarded = upstream.forward(&query, &upstreams, &self.netns, &self.places);
        let counters = &self.shared.counters;
        let (counter, path, reply) = match forwarded.await {
            Forwarded::Answered(reply) => (&counters.forwarded, Path::Upstream, reply),
            Forwarded::Stale(reply) => (&counters.stale, Path::Stale, reply),
            Forwarded::Failed(reply) => (&counters.failed, Path::Nobody, reply),
        };
        counter.add();
        self.note(&query, None, path, &reply);
        reply
    }

    /// The reply while too many queries are under way already.
    fn refuse(&self, stranger: &Stranger) -> Vec<u8> {
        self.shared.counters.failed.add();
        let reply = stranger.query.failure(ResponseCode::Refused);
        self.note(&stranger.query, None, Path::Nobody, &reply);
        reply
    }

    /// Counts a reply, and logs it if it is one of those.
    fn note(&self, query: &Query, network: Option<&str>, path: Path, reply: &[u8]) {
        let shared = &self.shared;
        shared.tally.note(network, path, reply);
        let netns = self.netns.cookie;
        shared.samples.note(netns, query, network, path, reply);
    }
}

/// Answers what comes in over `sockets`, until dropped. Ends only if the sockets cannot be used.
pub(super) async fn serve(sockets: Sockets, asker: Asker) -> io::Result<()> {
    let udp = UdpSocket::from_std(sockets.udp)?;
    let tcp = TcpListener::from_std(sockets.tcp)?;
    let mut forwards = FuturesUnordered::new();
    let mut streams = FuturesUnordered::new();
    // In flight and waiting to be; more are refused at once.
    let most = 2 * asker.shared.upstream.in_flight();
    loop {
        tokio::select! {
            ready = udp.readable() => {
                ready?;
                for (stranger, client) in drain(&udp, &asker) {
                    if forwards.len() < most {
                        let reply = asker.forward(stranger);
                        forwards.push(async move { (reply.await, client) });
                    } else {
                        send(&udp, &asker.refuse(&stranger), client);
                    }
                }
            }
            Some((reply, client)) = forwards.next() => send(&udp, &reply, client),
            stream = accept(&tcp), if streams.len() < STREAMS => {
                streams.extend(stream.map(|stream| converse(stream, &asker)));
            }
            Some(()) = streams.next() => {}
        }
    }
}

/// Reads a burst of datagrams and replies where the records suffice; gives the others back.
fn drain(udp: &UdpSocket, asker: &Asker) -> Vec<(Stranger, SocketAddr)> {
    let mut strangers = Vec::new();
    let mut buffer = [0; LONGEST_QUERY];
    for _ in 0..BURST {
        let Ok((length, client)) = udp.try_recv_from(&mut buffer) else {
            break;
        };
        match asker.take(&buffer[..length], Transport::Udp) {
            Next::Nothing => {}
            Next::Reply(reply) => send(udp, &reply, client),
            Next::Forward(stranger) => strangers.push((stranger, client)),
        }
    }
    strangers
}

/// A reply that cannot be sent now is lost, as any datagram may be: the client asks again.
fn send(udp: &UdpSocket, reply: &[u8], client: SocketAddr) {
    let _ = udp.try_send_to(reply, client);
}

/// The next connection; `None` after a pause if it could not be accepted.
async fn accept(tcp: &TcpListener) -> Option<TcpStream> {
    match tcp.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(_) => {
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
