//! How name servers have behaved, and so in which order they are asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::exchange::Case;

/// How long a server that did not answer is asked after the others.
const BENCHED: Duration = Duration::from_secs(30);

/// Servers that are remembered; beyond that all are forgotten, which costs a question or two.
const REMEMBERED: usize = 4_096;

/// A server as one asker reaches it: `None` from the host, else the cookie of a namespace.
pub(super) type Reached = (Option<u64>, SocketAddr);

/// What is known of every server.
#[derive(Debug, Default)]
pub(super) struct Standings(Mutex<HashMap<Reached, Standing>>);

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// Smoothed, as TCP does it: seven parts of the old to one of the new.
    round_trip: Option<Duration>,
    /// Until when it is asked last.
    benched: Option<Instant>,
    /// Whether names have come back in the case in which they were sent.
    echoes: Option<bool>,
}

impl Standings {
    /// `servers` in the order in which to ask them: as listed or the fastest first, one that has never
    /// been asked before all others, and those that did not answer last time at the end.
    pub(super) fn order(
        &self,
        from: Option<u64>,
        servers: &[SocketAddr],
        fastest_first: bool,
        now: Instant,
    ) -> Vec<SocketAddr> {
        let known = self.lock();
        let mut servers = servers.to_vec();
        servers.sort_by_key(|server| {
            let standing = known.get(&(from, *server)).copied().unwrap_or_default();
            let is_benched = standing.benched.is_some_and(|until| until > now);
            let speed = standing.round_trip.filter(|_| fastest_first);
            (is_benched, speed)
        });
        servers
    }

    /// How to write names to a server of the host.
    pub(super) fn case(&self, server: Reached) -> Case {
        let known = self.lock();
        match known.get(&server).and_then(|standing| standing.echoes) {
            Some(true) => Case::RandomEchoed,
            Some(false) => Case::AsAsked,
            None => Case::Random,
        }
    }

    /// Notes an answer.
    pub(super) fn answered(&self, server: Reached, after: Duration, echoed: Option<bool>) {
        self.note(server, |standing| {
            let smoothed = standing.round_trip.map(|old| (old * 7 + after) / 8);
            standing.round_trip = Some(smoothed.unwrap_or(after));
            standing.benched = None;
            standing.echoes = echoed.or(standing.echoes);
        });
    }

    /// Notes that there was no answer. A server whose answers came back in another case is asked in
    /// the client's own next time.
    pub(super) fn failed(&self, server: Reached, now: Instant) {
        self.note(server, |standing| {
            standing.benched = Some(now + BENCHED);
            standing.echoes = standing.echoes.map(|_| false);
        });
    }

    fn note(&self, server: Reached, note: impl FnOnce(&mut Standing)) {
        let mut known = self.lock();
        if known.len() >= REMEMBERED && !known.contains_key(&server) {
            known.clear();
        }
        note(known.entry(server).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Reached, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
    const B: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2);

    #[test]
    fn servers_are_asked_as_listed_unless_the_fastest_is_to_be_first() {
        let standings = Standings::default();
        let now = Instant::now();
        standings.answered((None, A), Duration::from_millis(20), None);
        standings.answered((None, B), Duration::from_millis(2), None);

        assert_eq!(standings.order(None, &[A, B], false, now), [A, B]);
        assert_eq!(standings.order(None, &[A, B], true, now), [B, A]);
    }

    #[test]
    fn a_server_that_did_not_answer_is_asked_last_for_a_while() {
        let standings = Standings::default();
        let now = Instant::now();

        standings.failed((None, A), now);

        assert_eq!(standings.order(None, &[A, B], false, now), [B, A]);
        assert_eq!(standings.order(Some(7), &[A, B], false, now), [A, B]);
        assert_eq!(standings.order(None, &[A, B], false, now + BENCHED), [A, B]);
        standings.answered((None, A), Duration::from_millis(20), None);
        assert_eq!(standings.order(None, &[A, B], false, now), [A, B]);
    }

    #[test]
    fn a_server_that_has_echoed_the_case_must_go_on_until_it_fails() {
        let standings = Standings::default();
        assert_eq!(standings.case((None, A)), Case::Random);

        standings.answered((None, A), Duration::ZERO, Some(true));
        assert_eq!(standings.case((None, A)), Case::RandomEchoed);

        standings.failed((None, A), Instant::now());
        assert_eq!(standings.case((None, A)), Case::AsAsked);
    }
}
