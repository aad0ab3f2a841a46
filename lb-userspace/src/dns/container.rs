//! One container's side of the server: its two sockets and everything under way on them.
//!
//! # Why
//! All of it is one future, so that dropping that future closes every socket in the container's
//! namespace at once. A task for each query would have to be found and stopped one by one.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_proto::op::ResponseCode;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::counters::Counters;
use super::query::{Query, Rejected, Transport};
use super::records::{Records, Upstreams, View};
use super::reply::{Decision, decide};
use super::samples::Samples;
use super::stream::converse;
use super::takeover::Sockets;
use super::tally::{Path, Tally};
use super::upstream::{Forwarded, Places, Upstream};
use crate::model::Netns;
use crate::netns::readable;

/// Longest query that is read, in bytes. Real ones are a tenth of that.
pub(super) const LONGEST_QUERY: usize = 4096;

/// Datagrams that are read before others get their turn.
const BURST: usize = 64;

/// TCP connections that are served at a time; the kernel keeps some more waiting.
const STREAMS: usize = 32;

/// How long to wait when a connection cannot be accepted, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a query waits until it is known who asks: clients wait for 5 s.
const UNKNOWN: Duration = Duration::from_secs(4);

/// What all containers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) records: ArcSwap<Records>,
    /// Tells that there are other records.
    pub(super) news: watch::Sender<()>,
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
    Later(Pending),
}

/// A query whose reply takes a while.
#[derive(Debug)]
pub(super) enum Pending {
    /// It is not known yet who asks.
    Unknown(Query),
    Stranger(Stranger),
}

/// A query for a name that is not ours.
#[derive(Debug)]
pub(super) struct Stranger {
    query: Query,
    upstreams: Upstreams,
}

/// What there is to say once it is known who asks.
enum Judged {
    Reply(Vec<u8>),
    Stranger(Stranger),
}

impl Pending {
    fn query(&self) -> &Query {
        match self {
            Self::Unknown(query) => query,
            Self::Stranger(stranger) => &stranger.query,
        }
    }
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
        let Some(view) = records.view(self.netns.cookie) else {
            return Next::Later(Pending::Unknown(query));
        };
        match self.judge(query, Some(view)) {
            Judged::Reply(reply) => Next::Reply(reply),
            Judged::Stranger(stranger) => Next::Later(Pending::Stranger(stranger)),
        }
    }

    /// The reply to `query` under the asker's `view`, if nobody else has to be asked.
    fn judge(&self, query: Query, view: Option<View<'_>>) -> Judged {
        let counters = &self.shared.counters;
        match decide(&query, view) {
            Decision::Reply(reply, network) => {
                counters.answered.add();
                self.note(&query, network, Path::Daemon, &reply);
                Judged::Reply(reply)
            }
            Decision::Forward(upstreams) => {
                let upstream = &self.shared.upstream;
                if let Some(reply) = upstream.known(&query, upstreams, &self.netns) {
                    counters.cached.add();
                    self.note(&query, None, Path::Cache, &reply);
                    return Judged::Reply(reply);
                }
                let upstreams = upstreams.clone();
                Judged::Stranger(Stranger { query, upstreams })
            }
        }
    }

    /// The reply to a query, once there is one.
    pub(super) async fn finish(&self, pending: Pending) -> Vec<u8> {
        let judged = match pending {
            Pending::Stranger(stranger) => Judged::Stranger(stranger),
            Pending::Unknown(query) => {
                self.await_view().await;
                let records = self.shared.records.load();
                self.judge(query, records.view(self.netns.cookie))
            }
        };
        match judged {
            Judged::Reply(reply) => reply,
            Judged::Stranger(stranger) => self.forward(stranger).await,
        }
    }

    /// Returns when it is known what the asker may ask, or after a while.
    async fn await_view(&self) {
        let mut news = self.shared.news.subscribe();
        let known = news.wait_for(|()| {
            let records = self.shared.records.load();
            records.view(self.netns.cookie).is_some()
        });
        // Either way the records say what there is to say.
        let _ = timeout(UNKNOWN, known).await;
    }

    /// The reply that somebody else gives.
    async fn forward(&self, stranger: Stranger) -> Vec<u8> {
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
    fn refuse(&self, pending: &Pending) -> Vec<u8> {
        self.shared.counters.failed.add();
        let reply = pending.query().failure(ResponseCode::Refused);
        self.note(pending.query(), None, Path::Nobody, &reply);
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

/// A container's sockets, heard of by the runtime.
#[derive(Debug)]
pub(super) struct Listening {
    udp: AsyncFd<UdpSocket>,
    tcp: TcpListener,
    guest: Option<IpAddr>,
}

impl Listening {
    /// Must be called within the server's runtime.
    pub(super) fn on(sockets: Sockets) -> io::Result<Self> {
        Ok(Self {
            // Not heard of when another reply can be sent: each one that is delivered would wake the thread again.
            udp: readable(sockets.udp)?,
            tcp: TcpListener::from_std(sockets.tcp)?,
            guest: sockets.guest,
        })
    }
}

/// Answers what comes in, until dropped. Ends only if somebody has destroyed a socket, as `ss -K` does: then
/// nobody is led there any more, and others are opened.
pub(super) async fn serve(listening: Listening, asker: Asker) -> io::Result<()> {
    let Listening { udp, tcp, guest } = listening;
    let mut later = FuturesUnordered::new();
    let mut streams = FuturesUnordered::new();
    // In flight and waiting to be; more are refused at once.
    let most = 2 * asker.shared.upstream.in_flight();
    loop {
        tokio::select! {
            ready = udp.ready(Interest::READABLE | Interest::ERROR) => {
                let mut ready = ready?;
                let burst = drain(udp.get_ref(), guest, &asker)?;
                if burst.is_last {
                    ready.clear_ready();
                }
                for (pending, client) in burst.pending {
                    if later.len() < most {
                        let reply = asker.finish(pending);
                        later.push(async move { (reply.await, client) });
                    } else {
                        send(udp.get_ref(), &asker.refuse(&pending), client);
                    }
                }
            }
            Some((reply, client)) = later.next() => send(udp.get_ref(), &reply, client),
            stream = accept(&tcp, guest), if streams.len() < STREAMS => {
                streams.extend(stream?.map(|stream| converse(stream, &asker)));
            }
            Some(()) = streams.next() => {}
        }
    }
}

/// What came of reading a while.
struct Burst {
    /// Those that could not be answered at once.
    pending: Vec<(Pending, SocketAddr)>,
    /// Whether there was nothing more to read.
    is_last: bool,
}

/// Reads a burst of datagrams and replies where the records suffice; gives the others back. Fails if the socket
/// was destroyed.
fn drain(udp: &UdpSocket, guest: Option<IpAddr>, asker: &Asker) -> io::Result<Burst> {
    let mut pending = Vec::new();
    let mut buffer = [0; LONGEST_QUERY];
    for _ in 0..BURST {
        let (length, client) = match udp.recv_from(&mut buffer) {
            Ok(came) => came,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Err(error),
            Err(error) => {
                let is_last = error.kind() == io::ErrorKind::WouldBlock;
                return Ok(Burst { pending, is_last });
            }
        };
        if !is_guest(client, guest) {
            continue;
        }
        match asker.take(&buffer[..length], Transport::Udp) {
            Next::Nothing => {}
            Next::Reply(reply) => send(udp, &reply, client),
            Next::Later(query) => pending.push((query, client)),
        }
    }
    Ok(Burst {
        pending,
        is_last: false,
    })
}

/// A reply that cannot be sent now is lost, as any datagram may be: the client asks again.
fn send(udp: &UdpSocket, reply: &[u8], client: SocketAddr) {
    let _ = udp.send_to(reply, client);
}

/// Whether this client may ask, given who alone may; `None`: everybody.
fn is_guest(client: SocketAddr, guest: Option<IpAddr>) -> bool {
    guest.is_none_or(|guest| client.ip() == guest)
}

/// The next connection; `None` after a pause if it could not be accepted, and if somebody else wanted it. Fails
/// if the socket was destroyed, and does not listen any more.
async fn accept(tcp: &TcpListener, guest: Option<IpAddr>) -> io::Result<Option<TcpStream>> {
    match tcp.accept().await {
        Ok((stream, client)) => Ok(is_guest(client, guest).then_some(stream)),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(error),
        Err(_) => {
            sleep(ACCEPT_PAUSE).await;
            Ok(None)
        }
    }
}
