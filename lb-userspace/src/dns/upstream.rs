//! Queries for names that are not ours: who is asked, in which order, and which reply counts.
//!
//! Name servers are asked in their order over the client's transport. The next one is asked as soon
//! as one fails, or when it has been silent for [`HEAD_START`]; the earlier ones may still answer.
//! SERVFAIL and REFUSED count as failures, every other reply ends the search. If nobody answers, the
//! client gets what was answered before, for a while, and else SERVFAIL.
//!
//! The host's name servers are asked from the host's namespace, a container's own ones (`--dns`)
//! from the container's: they may be on a Network that only the container reaches. What the ones
//! answer is never given to those who ask the others.
//!
//! # Why
//! hickory-resolver has a cache and a pool of servers, but neither asks from another namespace, nor
//! gives answers that have run out, nor passes on what it does not understand byte for byte. So only
//! its message types are used.

mod exchange;
mod servers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_proto::op::ResponseCode;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout};

use super::cache::{Cache, Kept, Key, Source};
use super::kernel::Kept as InKernel;
use super::query::Query;
use super::records::Upstreams;
use super::resolv_conf::{ResolvConf, own_servers};
use super::rules::Forwarding;
use crate::model::Netns;
use exchange::{Case, exchange};
use servers::Standings;

/// How long one name server may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long a name server is asked alone.
const HEAD_START: Duration = Duration::from_secs(1);

/// How long a query waits while too many are in flight.
const QUEUE: Duration = Duration::from_secs(4);

/// How long servers may take while there is an older answer, RFC 8767 §5.
const STALE_PATIENCE: Duration = Duration::from_millis(1_800);

/// Queries in flight for all containers, each with a socket of its own.
const IN_FLIGHT_TOTAL: usize = 8_192;

/// Queries of each container that need no place among those of all: however many others ask, it can.
const RESERVED: usize = 8;

/// Asks name servers on behalf of containers.
#[derive(Debug)]
pub(super) struct Upstream {
    host: Mutex<ResolvConf>,
    slots: Semaphore,
    standings: Standings,
    cache: Cache,
    rules: Forwarding,
}

/// One container's places for queries in flight.
#[derive(Debug)]
pub(super) struct Places {
    own: Semaphore,
    reserved: Semaphore,
}

/// Where a query is asked from.
#[derive(Clone, Debug)]
enum Origin {
    Host,
    Container(Netns),
}

/// Who is asked, and from where.
#[derive(Clone, Debug)]
struct Way {
    servers: Vec<SocketAddr>,
    origin: Origin,
    source: Source,
}

/// The reply to a forwarded query, and whether a name server gave it.
#[derive(Debug)]
pub(super) enum Forwarded {
    Answered(Vec<u8>),
    /// Nobody answered now, but somebody had before.
    Stale(Vec<u8>),
    Failed(Vec<u8>),
}

impl Places {
    /// Places for `count` queries, the reserved ones included.
    pub(super) fn new(count: usize) -> Self {
        Self {
            own: Semaphore::new(count),
            reserved: Semaphore::new(RESERVED),
        }
    }
}

impl Upstream {
    /// Asks the name servers that `resolv_conf` lists, unless containers have their own.
    pub(super) fn new(resolv_conf: PathBuf, rules: Forwarding, kernel: Option<InKernel>) -> Self {
        Self {
            host: Mutex::new(ResolvConf::new(resolv_conf)),
            slots: Semaphore::new(IN_FLIGHT_TOTAL),
            standings: Standings::default(),
            cache: Cache::new(rules.cache, rules.stale, kernel),
            rules,
        }
    }

    /// Queries of one container at a time.
    pub(super) fn in_flight(&self) -> usize {
        self.rules.in_flight
    }

    /// Looks whether the host's servers are still the same: what the others said is not given any more.
    pub(super) fn look(&self) {
        let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        host.servers();
        self.cache.keep_only(host.edition());
    }

    /// The reply to `query` if it is known and good, and nothing else happens.
    pub(super) fn peek(
        &self,
        query: &Query,
        upstreams: &Upstreams,
        netns: &Netns,
    ) -> Option<Vec<u8>> {
        let key = Key::of(query, self.way(upstreams, netns)?.source)?;
        match self.cache.get(&key, query, Instant::now()) {
            Kept::Fresh { reply, .. } => Some(reply),
            Kept::Stale { .. } | Kept::Nothing => None,
        }
    }

    /// The servers that are asked.
    pub(super) fn servers(&self, upstreams: &Upstreams, netns: &Netns) -> Vec<SocketAddr> {
        self.way(upstreams, netns)
            .map_or_else(Vec::new, |way| way.servers)
    }

    /// How many answers are kept.
    pub(super) fn kept(&self) -> usize {
        self.cache.len()
    }

    /// The reply to `query` if it is known and good. One that is about to run out is asked for again
    /// meanwhile.
    pub(super) fn known(
        self: &Arc<Self>,
        query: &Query,
        upstreams: &Upstreams,
        netns: &Netns,
    ) -> Option<Vec<u8>> {
        let way = self.way(upstreams, netns)?;
        let key = Key::of(query, way.source.clone())?;
        let now = Instant::now();
        match self.cache.get(&key, query, now) {
            Kept::Fresh { reply, runs_out } => {
                // Not from a container's namespace: what is asked there must end with the container.
                if runs_out && matches!(way.origin, Origin::Host) {
                    self.cache.tried(&key, now);
                    let (upstream, query) = (Arc::clone(self), query.clone());
                    tokio::spawn(async move { upstream.ask(&way, &query).await });
                }
                Some(reply)
            }
            Kept::Stale {
                reply,
                just_tried: true,
            } => Some(reply),
            Kept::Stale { .. } | Kept::Nothing => None,
        }
    }

    /// The reply to `query`, asked in the name of the container in `netns`, whose queries share
    /// `places`. Takes at most 10 s.
    pub(super) async fn forward(
        &self,
        query: &Query,
        upstreams: &Upstreams,
        netns: &Netns,
        places: &Places,
    ) -> Forwarded {
        let Some(way) = self.way(upstreams, netns) else {
            return Forwarded::Failed(query.failure(ResponseCode::ServFail));
        };
        let key = Key::of(query, way.source.clone());
        let kept = key.as_ref().map_or(Kept::Nothing, |key| {
            self.cache.get(key, query, Instant::now())
        });
        let asking = self.ask_in_turn(&way, query, places);
        match (kept, key) {
            (Kept::Stale { reply, .. }, Some(key)) => match timeout(STALE_PATIENCE, asking).await {
                Ok(Forwarded::Answered(reply)) => Forwarded::Answered(reply),
                Ok(Forwarded::Stale(_) | Forwarded::Failed(_)) | Err(_) => {
                    self.cache.tried(&key, Instant::now());
                    Forwarded::Stale(reply)
                }
            },
            // Somebody else has asked meanwhile.
            (Kept::Fresh { reply, .. }, _) => Forwarded::Answered(reply),
            (Kept::Stale { .. } | Kept::Nothing, _) => asking.await,
        }
    }

    async fn ask_in_turn(&self, way: &Way, query: &Query, places: &Places) -> Forwarded {
        let Ok(_places) = timeout(QUEUE, self.admit(places)).await else {
            return Forwarded::Failed(query.failure(ResponseCode::Refused));
        };
        match self.ask(way, query).await {
            Some(reply) => Forwarded::Answered(query.fit(reply)),
            None => Forwarded::Failed(query.failure(ResponseCode::ServFail)),
        }
    }

    /// The container's share first: who waits for it must not hold a place that others could use.
    async fn admit<'a>(&'a self, places: &'a Places) -> [Option<SemaphorePermit<'a>>; 2] {
        // No semaphore is ever closed.
        let own = places.own.acquire().await.ok();
        let place = tokio::select! {
            biased;
            reserved = places.reserved.acquire() => reserved.ok(),
            shared = self.slots.acquire() => shared.ok(),
        };
        [own, place]
    }

    /// `None` if nobody may be asked.
    fn way(&self, upstreams: &Upstreams, netns: &Netns) -> Option<Way> {
        Some(match upstreams {
            Upstreams::Host => {
                let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
                Way {
                    servers: host.servers().to_vec(),
                    origin: Origin::Host,
                    source: Source::Host(host.edition()),
                }
            }
            Upstreams::Own(addresses) => Way {
                servers: own_servers(addresses),
                origin: Origin::Container(netns.clone()),
                source: Source::Own(netns.cookie),
            },
            Upstreams::Nobody => return None,
        })
    }

    /// The first reply that counts, whole; `None` if no server gives one. It is kept.
    async fn ask(&self, way: &Way, query: &Query) -> Option<Vec<u8>> {
        let from = match &way.origin {
            Origin::Host => None,
            Origin::Container(netns) => Some(netns.cookie),
        };
        let first = self.rules.fastest_first;
        let servers = self
            .standings
            .order(from, &way.servers, first, Instant::now());
        let mut waiting = servers.into_iter();
        let mut asked = FuturesUnordered::new();
        let mut silent: Vec<(SocketAddr, Instant)> = Vec::new();
        loop {
            if let Some(server) = waiting.next() {
                silent.push((server, Instant::now()));
                asked.push(self.ask_one((from, server), query, &way.origin));
            } else if asked.is_empty() {
                return None;
            }
            let others_wait = waiting.len() > 0;
            tokio::select! {
                Some((server, reply)) = asked.next() => {
                    silent.retain(|(other, _)| *other != server);
                    if let Some(reply) = reply {
                        self.note_silent(from, &silent);
                        if let Some(key) = Key::of(query, way.source.clone()) {
                            self.cache.put(key, query, &reply, Instant::now());
                        }
                        return Some(reply);
                    }
                }
                () = sleep(HEAD_START), if others_wait => {}
            }
        }
    }

    /// Those that were overtaken.
    fn note_silent(&self, from: Option<u64>, silent: &[(SocketAddr, Instant)]) {
        let now = Instant::now();
        for (server, since) in silent {
            if now.saturating_duration_since(*since) >= HEAD_START {
                self.standings.failed((from, *server), now);
            }
        }
    }

    async fn ask_one(
        &self,
        reached: servers::Reached,
        query: &Query,
        origin: &Origin,
    ) -> (SocketAddr, Option<Vec<u8>>) {
        let (from, server) = reached;
        // A container's own server may be any program at all.
        let case = if self.rules.random_case && from.is_none() {
            self.standings.case(reached)
        } else {
            Case::AsAsked
        };
        let started = Instant::now();
        let result = timeout(PATIENCE, exchange(server, query, origin, case)).await;
        let reply = match result {
            Ok(Ok(exchanged)) => {
                let echoed = (case != Case::AsAsked).then_some(exchanged.echoed);
                self.standings.answered(reached, started.elapsed(), echoed);
                Some(exchanged.message)
            }
            Ok(Err(_)) | Err(_) => {
                self.standings.failed(reached, Instant::now());
                None
            }
        };
        (server, reply)
    }
}

#[cfg(test)]
mod tests;
