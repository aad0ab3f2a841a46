//! Docker's NAT rules for 127.0.0.11 inside containers, and where they say that its resolver listens.
//!
//! Containers without connection tracking: the rules are taken out of the namespaces whose queries veer
//! answers, if the configuration says so, and put back when it no longer does. The programs on sockets know
//! where Docker's resolver listens before its rules go, and lead there when veer does not answer: nothing
//! else changes for containers.
//!
//! Where queries are led on the loopback interface the rules stay: the programs there only have to know what
//! they have made of a query.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use lb_common::Resolver;

use super::shared::Shared;
use crate::dns::{Nat, Taken};
use crate::model::{Netns, Observed, RunState};
use crate::netns::for_each;
use crate::reconcile::Desired;

/// How often rules are looked for in the namespace of a container that runs. Docker makes them before
/// the container's first instruction, or when it is connected to its first network.
const LOOKS: u8 = 3;

/// What becomes of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// Nobody needs to know them.
    Ignored,
    /// They are taken away.
    Removed,
    /// They stay, and are known.
    Known,
}

impl Rules {
    /// As it is configured, and as queries are led.
    pub(super) fn wanted(shared: &Shared) -> Self {
        let is_removed = shared.config.load().dns.no_conntrack;
        match shared.datapath().leads_inside() {
            true => {
                if is_removed {
                    tracing::warn!(
                        "no_conntrack is left out: Docker's rules are needed where queries are led on \
                         loopback interfaces"
                    );
                }
                Self::Known
            }
            false if is_removed && shared.host.load().is_confined => {
                tracing::warn!("no_conntrack is left out: it takes CAP_SYS_ADMIN");
                Self::Ignored
            }
            false if is_removed => Self::Removed,
            false => Self::Ignored,
        }
    }
}

/// What was taken away, or is known, by the cookie of its namespace.
#[derive(Debug)]
pub(super) struct Quiet {
    nat: Nat,
    rules: Rules,
    taken: BTreeMap<u64, Taken>,
    looks: BTreeMap<u64, u8>,
}

impl Quiet {
    /// Begins with what a former daemon has taken away. That is put back unless `rules` are to be removed.
    pub(super) fn start(nat: Nat, rules: Rules) -> Self {
        if rules != Rules::Removed
            && let Err(error) = nat.put_all_back()
        {
            tracing::warn!(%error, "not all of Docker's rules in containers are back");
        }
        let all = nat.all().unwrap_or_else(|error| {
            tracing::warn!(%error, "what was taken out of containers is not known");
            Vec::new()
        });
        Self {
            nat,
            rules,
            taken: all.into_iter().map(|it| (it.netns.cookie, it)).collect(),
            looks: BTreeMap::new(),
        }
    }

    /// Where the namespace's queries go, given where veer listens.
    pub(super) fn beside(&self, cookie: u64, resolver: Resolver) -> Resolver {
        let taken = self.taken.get(&cookie);
        taken.map_or(resolver, |taken| taken.beside(resolver))
    }

    /// Looks for the rules anew, in the next round, where they only have to be known. Whether any are.
    pub(super) fn look_again(&mut self) -> bool {
        if self.rules != Rules::Known {
            return false;
        }
        let were_known = !self.taken.is_empty();
        self.taken.clear();
        self.looks.clear();
        were_known
    }

    /// Takes the rules out of every namespace of `desired` in which they are for sure and that veer
    /// answers, or learns them; forgets those that are not served any more.
    pub(super) fn run(&mut self, shared: &Shared, desired: &Desired, observed: &Observed) {
        let served = |cookie: &u64| {
            desired
                .resolvers
                .iter()
                .any(|it| it.netns.cookie == *cookie)
        };
        let gone: Vec<u64> = self
            .taken
            .keys()
            .filter(|it| !served(it))
            .copied()
            .collect();
        for cookie in gone {
            self.put_back(cookie);
        }
        self.looks.retain(|cookie, _| served(cookie));
        if self.rules == Rules::Ignored {
            return;
        }
        let answered = shared.dns.served_namespaces();
        let is_due = |netns: &&Netns| {
            let looks = self.looks.get(&netns.cookie).copied().unwrap_or(0);
            let is_done = self.taken.contains_key(&netns.cookie) || looks >= LOOKS;
            !is_done && answered.contains(&netns.cookie)
        };
        let runs: BTreeSet<u64> = running(observed).map(|netns| netns.cookie).collect();
        let arriving = observed.arriving.iter().map(|it| &it.netns);
        // What only has to be known is there as soon as the container's interface is.
        let arriving = arriving.filter(|_| self.rules == Rules::Known);
        let all = running(observed).chain(arriving);
        let due: Vec<&Netns> = all.filter(is_due).collect();
        let results = for_each(&due, |netns| self.take(shared, netns));
        for (netns, result) in due.into_iter().zip(results) {
            if runs.contains(&netns.cookie) {
                *self.looks.entry(netns.cookie).or_default() += 1;
            }
            match result {
                Ok(taken) => self.taken.extend(taken.map(|it| (netns.cookie, it))),
                Err(error) => {
                    let netns = netns.path.display();
                    tracing::warn!(%netns, %error, "Docker's rules in a container stay as they are");
                }
            }
        }
    }

    fn take(&self, shared: &Shared, netns: &Netns) -> io::Result<Option<Taken>> {
        let Some(found) = self.nat.find(netns)? else {
            return Ok(None);
        };
        // Given up since, with its sockets: the next takeover looks again.
        let Some(ours) = shared.dns.resolver(netns.cookie) else {
            return Ok(None);
        };
        let set = |resolver| shared.datapath().set_resolver(netns.cookie, resolver);
        set(found.beside(ours)).map_err(io::Error::other)?;
        if self.rules == Rules::Removed {
            self.nat.take(&found)?;
        }
        Ok(Some(found))
    }

    /// Puts back what was taken out of the namespace, if anything was.
    pub(super) fn put_back(&mut self, cookie: u64) {
        self.looks.remove(&cookie);
        if let Some(taken) = self.taken.remove(&cookie)
            && self.rules != Rules::Known
            && let Err(error) = self.nat.put_back(&taken)
        {
            let netns = taken.netns.path.display();
            tracing::warn!(%netns, %error, "Docker's rules in a container are not back");
        }
    }
}

/// The namespaces of containers that run, and which therefore have whatever Docker gives them.
fn running(observed: &Observed) -> impl Iterator<Item = &Netns> {
    let containers = observed.containers.iter();
    let running = containers.filter(|it| matches!(it.state, RunState::Running));
    running.filter_map(|it| it.netns.as_ref())
}
