//! One round after the other: what the daemon knows of the datapath, and how it brings it where the
//! last observation wants it.
//!
//! The order for what is new: identities on disk, maps and programs, routes inside the namespaces,
//! names, and only then the takeover of a namespace's queries. Whoever asks veer's DNS for a name
//! can therefore reach what it answers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lb_common::{Addr, Resolver};

use super::apply::{Ended, carry_out};
use super::failures::Subject;
use super::inside::Inside;
use super::memory;
use super::pace::Pace;
use super::quiet::{Quiet, Rules};
use super::report::View;
use super::shared::Shared;
use super::visits::{Takeover, Visit, Visited};
use super::{identities, round, settings, spaces};
use crate::config::{Config, Lead, Maps};
use crate::datapath::DatapathError;
use crate::dns::{Nat, Records};
use crate::model::Observed;
use crate::netns::for_each;
use crate::nft::Table;
use crate::provider::Snapshot;
use crate::reconcile::{Desired, Identities, State, desire, guard, plan};
use crate::sysctl::Sysctls;

/// Plans made in one round at most: each but the last leaves out one more attachment.
const PLANS: usize = 32;

/// Namespaces entered in a round that was much work.
const MANY: usize = 64;

/// The daemon's side of everything that was written.
#[derive(Debug)]
pub(super) struct Rounds {
    shared: Arc<Shared>,
    actual: State,
    identities: Identities,
    /// What the file has.
    saved: Option<Identities>,
    file: PathBuf,
    /// How large the maps really are: those that were found may be of another configuration.
    sizes: Maps,
    /// Whether the numbers were compared with what the maps hold.
    adopted: bool,
    visited: Visited,
    inside: Inside,
    pace: Pace,
    sysctls: Sysctls,
    rules: Table,
    quiet: Quiet,
}

impl Rounds {
    /// Begins with what the maps hold.
    pub(super) fn new(shared: Arc<Shared>, file: PathBuf) -> Result<Self, DatapathError> {
        let (actual, sizes) = {
            let datapath = shared.datapath();
            (
                datapath.actual()?,
                datapath.sizes(shared.config.load().maps),
            )
        };
        let table = Table::open(shared.instance.rules());
        let nat = Nat::open(shared.instance.nat());
        let rules = Rules::wanted(&shared);
        let quiet = Quiet::start(nat, rules);
        let sysctls = Sysctls::open(shared.instance.sysctls());
        let saved = identities::load(&file).unwrap_or_else(|error| {
            tracing::warn!(%error, "identities are taken from the maps instead");
            None
        });
        Ok(Self {
            shared,
            actual,
            sizes,
            identities: saved.clone().unwrap_or_default(),
            saved,
            file,
            adopted: false,
            visited: Visited::default(),
            inside: Inside::default(),
            pace: Pace::default(),
            sysctls,
            rules: table,
            quiet,
        })
    }

    /// Brings everything where `snapshot` wants it, as far as that works.
    pub(super) fn run(&mut self, snapshot: &Snapshot, is_news: bool) {
        let now = Instant::now();
        let (observed, desired, changed) = self.program(&snapshot.observed, now);
        let programmed = now.elapsed();
        let names = names(&observed);
        self.visited.confirm(&self.shared.dns.served_namespaces());
        let visits = self.visited.missing(&desired.resolvers, self.takes_over());
        self.route(&visits.enter, &names, now);
        let routed = now.elapsed();
        self.publish(&observed, &desired);
        for cookie in &visits.give_back {
            self.give_back(*cookie);
            self.visited.given_back(*cookie);
        }
        self.take_over(&visits.enter, &names, now);
        // Whoever came is served now; what follows is for those who went, and for the host.
        let has_changed = changed || !visits.enter.is_empty();
        if is_news && has_changed {
            self.measure(snapshot.caused_at);
        }
        tracing::debug!(
            changed,
            visits = visits.enter.len(),
            ?programmed,
            routed = ?routed - programmed,
            taken_over = ?now.elapsed() - routed,
            since_cause = ?snapshot.caused_at.and_then(|cause| cause.elapsed().ok()),
            "round"
        );
        self.leave(&visits.leave);
        self.inside.keep_bridges(|ifindex| {
            let mut gates = desired.resolvers.iter().flat_map(|space| &space.gate);
            gates.any(|gate| gate.ifindex == ifindex)
        });
        self.forward(&desired);
        self.masquerade(&desired);
        self.quiet.run(&self.shared, &desired, &observed);
        self.settle(&desired, now);
        self.shared.view.store(Arc::new(View {
            observed,
            desired: Arc::new(desired),
        }));
        if visits.enter.len() >= MANY {
            memory::give_back();
        }
    }

    /// Sets what the kernel needs for forwarding.
    fn forward(&mut self, desired: &Desired) {
        for sysctl in &desired.sysctls {
            if let Err(error) = self.sysctls.set(sysctl) {
                self.shared.fail(
                    Subject::Host("kernel settings".to_owned()),
                    error.to_string(),
                );
            }
        }
    }

    /// Has the kernel masquerade, or no longer.
    fn masquerade(&mut self, desired: &Desired) {
        match self.rules.set(desired.rules.as_deref()) {
            Ok(true) => tracing::info!("veer's table in nftables was changed"),
            Ok(false) => {}
            Err(error) => {
                let subject = Subject::Host("masquerade by the kernel".to_owned());
                self.shared.fail(subject, error.to_string());
            }
        }
    }

    /// Puts guards onto bridges that Docker may have made, before anything is known about them.
    pub(super) fn guard(&mut self) {
        let (host, config) = (self.shared.host.load_full(), self.shared.config.load_full());
        let steps = plan(&self.actual, &guard(&self.actual, &host, &config));
        let ended = carry_out(
            &steps,
            &mut *self.shared.datapath_mut(),
            &mut self.actual,
            &Desired::default(),
            &mut self.shared.progress().failures,
            Instant::now(),
        );
        if ended == Ended::PlanAgain {
            tracing::warn!("not every bridge has its guard");
        }
    }

    /// Writes the maps and attaches the programs. Returns what that was made from, and whether there
    /// was anything to do.
    fn program(
        &mut self,
        observed: &Arc<Observed>,
        now: Instant,
    ) -> (Arc<Observed>, Desired, bool) {
        let host = self.shared.host.load_full();
        let mut config = Config::clone(&self.shared.config.load());
        config.maps = self.sizes;
        if !self.adopted {
            self.identities.adopt(&self.actual, observed, &config);
            self.adopted = true;
        }
        let mut plans = 0;
        let mut has_changed = false;
        loop {
            let rest = round::without(observed, self.shared.progress().failures.paused(now));
            let rest = rest.map_or_else(|| Arc::clone(observed), Arc::new);
            let desired = desire(&rest, &host, &config, &mut self.identities);
            self.save();
            let steps = plan(&self.actual, &desired.state);
            plans += 1;
            has_changed |= !steps.is_empty();
            let ended = if steps.is_empty() {
                Ended::Done
            } else {
                carry_out(
                    &steps,
                    &mut *self.shared.datapath_mut(),
                    &mut self.actual,
                    &desired,
                    &mut self.shared.progress().failures,
                    now,
                )
            };
            if ended == Ended::Done || plans == PLANS {
                self.identities.release_slots(&self.actual);
                return (rest, desired, has_changed);
            }
        }
    }

    /// Numbers must be on disk before the kernel knows them: after a crash nobody else gets them.
    fn save(&mut self) {
        if self.saved.as_ref() == Some(&self.identities) {
            return;
        }
        match identities::save(&self.file, &self.identities) {
            Ok(()) => self.saved = Some(self.identities.clone()),
            // The maps hold the numbers that matter, so this is no reason to stop.
            Err(error) => self.shared.fail(Subject::Identities, error.to_string()),
        }
    }

    fn takes_over(&self) -> Takeover {
        match self.shared.datapath().lead() {
            _ if !self.shared.config.load().dns.takeover => Takeover::None,
            Lead::Veth => Takeover::OnHost,
            Lead::Auto | Lead::Sockets | Lead::Loopback => Takeover::Inside,
        }
    }

    fn is_paused(&self, visit: &Visit, names: &BTreeMap<u64, String>, now: Instant) -> bool {
        let subject = namespace(visit, names);
        self.shared.progress().failures.is_paused(&subject, now)
    }

    fn route(&mut self, visits: &[Visit], names: &BTreeMap<u64, String>, now: Instant) {
        let due: Vec<_> = visits
            .iter()
            .filter(|visit| !self.is_paused(visit, names, now))
            .collect();
        let results = for_each(&due, |visit| spaces::route(visit));
        for (visit, result) in due.into_iter().zip(results) {
            match result {
                Ok(()) => self.visited.routed(visit),
                Err(error) => self.shared.fail(namespace(visit, names), error.to_string()),
            }
        }
    }

    fn publish(&self, observed: &Observed, desired: &Desired) {
        let config = self.shared.config.load();
        let rules = settings::rules(&config.dns);
        let named = round::with_names(observed, config.dns.default_bridge);
        let records = Arc::new(Records::build(&named, &desired.groups, &rules));
        self.shared.dns.publish(Arc::clone(&records));
        self.shared.records.store(records);
    }

    fn take_over(&mut self, visits: &[Visit], names: &BTreeMap<u64, String>, now: Instant) {
        let is_due = |visit: &&Visit| visit.take_over && !self.is_paused(visit, names, now);
        let due: Vec<_> = visits.iter().filter(is_due).collect();
        let results = for_each(&due, |visit| {
            let dns = &self.shared.dns;
            let resolver = match &visit.gate {
                Some(gate) => dns.take_over_at(&visit.netns, gate),
                None => dns.take_over(&visit.netns),
            };
            let resolver = resolver.map_err(|error| error.to_string())?;
            let servers = std::array::from_fn(|index| word(visit.servers.get(index)));
            let stands_in = !visit.servers.is_empty();
            if stands_in {
                dns.stand_in(visit.netns.cookie, servers);
            }
            let resolver = Resolver {
                servers,
                ..self.quiet.beside(visit.netns.cookie, resolver)
            };
            let datapath = self.shared.datapath();
            datapath
                .set_resolver(visit.netns.cookie, resolver)
                .map_err(|error| error.to_string())?;
            if !stands_in {
                dns.stand_in(visit.netns.cookie, servers);
            }
            let is_missing = datapath.leads_inside() && !self.inside.leads(visit.netns.cookie);
            let led = is_missing.then(|| datapath.lead_inside(&visit.netns));
            led.transpose()
                .map_err(|error| format!("lead DNS queries inside: {error}"))
        });
        for (visit, result) in due.into_iter().zip(results) {
            match result {
                Ok(led) => {
                    if let Some(led) = led {
                        self.inside.keep(visit.netns.cookie, led);
                    }
                    let is_new = self.visited.taken_over(visit);
                    if !is_new || !self.shared.dns.answers_in_kernel() {
                        continue;
                    }
                    match &visit.gate {
                        Some(gate) => self.inside.answer_at(&self.shared.datapath(), gate),
                        None => self.inside.want(visit.netns.clone()),
                    }
                }
                Err(error) => self.shared.fail(namespace(visit, names), error),
            }
        }
    }

    /// Whether there are namespaces in which the kernel does not answer yet.
    pub(super) fn has_namespaces_waiting(&self) -> bool {
        self.inside.is_waiting()
    }

    /// Has the kernel answer in some of the namespaces that wait for it. Until then the daemon answers
    /// there, which is why this comes after a round and not in it.
    pub(super) fn answer_inside(&mut self) {
        self.inside.attach_some(&self.shared.datapath());
    }

    /// Has the next round look for Docker's rules in containers anew: the Engine may have been started
    /// again. Whether any are known.
    pub(super) fn expect_other_rules(&mut self) -> bool {
        self.quiet.look_again()
    }

    fn leave(&mut self, cookies: &[u64]) {
        for cookie in cookies {
            self.give_back(*cookie);
            self.visited.left(*cookie);
        }
    }

    /// Leaves a namespace's queries to Docker's resolver.
    fn give_back(&mut self, cookie: u64) {
        self.quiet.put_back(cookie);
        // First the kernel, then the sockets: a query in between goes to Docker's resolver.
        if let Err(error) = self.shared.datapath().remove_resolver(cookie) {
            tracing::warn!(cookie, %error, "a resolver entry stays");
        }
        self.inside.forget(cookie);
        self.shared.dns.release(cookie);
    }

    /// Forgets failures that are over: what was tried and did not fail again, and what is gone.
    fn settle(&self, desired: &Desired, now: Instant) {
        let mut progress = self.shared.progress();
        progress.taken_over = self.visited.count_taken_over();
        progress.failures.retain(|subject| match subject {
            Subject::Attachment {
                container, network, ..
            } => desired
                .endpoints
                .iter()
                .any(|endpoint| endpoint.container == *container && endpoint.network == *network),
            Subject::Namespace { cookie, .. } => desired
                .resolvers
                .iter()
                .any(|space| space.netns.cookie == *cookie),
            Subject::Frontend(_)
            | Subject::Host(_)
            | Subject::Settings
            | Subject::Identities
            | Subject::Collection
            | Subject::Audit => true,
        });
        for subject in progress.failures.due(now) {
            progress.failures.clear(&subject);
            tracing::info!(%subject, "works again");
        }
    }

    fn measure(&self, caused_at: Option<SystemTime>) {
        let elapsed = caused_at.and_then(|cause| SystemTime::now().duration_since(cause).ok());
        if let Some(elapsed) = elapsed {
            self.shared.progress().latency.record(elapsed);
        }
    }

    /// Looks at a slice of the Connections. Returns how long to wait before the next one.
    pub(super) fn collect(&mut self) -> Duration {
        let started = Instant::now();
        if self.pace.is_between_passes() {
            let touched = self.shared.datapath().maps().count_touched();
            if let Some(rest) = touched.ok().and_then(|touched| self.pace.skip(touched)) {
                return rest;
            }
        }
        let result = self.shared.datapath_mut().collect_slice(self.pace.slice());
        let elapsed = started.elapsed();
        let collected = match result {
            Ok(collected) => collected,
            Err(error) => {
                self.shared.fail(Subject::Collection, error.to_string());
                return self.pace.note(0, elapsed, true);
            }
        };
        let wait = self
            .pace
            .note(collected.examined, elapsed, collected.finished);
        let mut progress = self.shared.progress();
        progress.failures.clear(&Subject::Collection);
        progress.collection.examined += collected.examined as u64;
        progress.collection.expired += (collected.idle + collected.orphaned) as u64;
        wait
    }

    /// Frees the numbers that no Connection holds any longer.
    pub(super) fn release(&mut self) {
        let held = self.shared.datapath().held();
        match held {
            Ok(held) => {
                self.identities.release_endpoints(&held.endpoints);
                self.identities.release_frontends(&held.frontends);
                self.shared.progress().tracked = Some((held.established, held.half_open));
                self.save();
            }
            Err(error) => self.shared.fail(Subject::Collection, error.to_string()),
        }
    }

    /// Reads the maps again. What somebody else has changed is put right by the next round.
    pub(super) fn audit(&mut self) {
        let found = match self.shared.datapath().actual() {
            Ok(found) => found,
            Err(error) => return self.shared.fail(Subject::Audit, error.to_string()),
        };
        self.shared.progress().failures.clear(&Subject::Audit);
        let wanted = &self.shared.view().desired.state;
        let before = plan(&self.actual, wanted).len();
        let steps = plan(&found, wanted).len();
        if steps > before {
            tracing::warn!(
                steps,
                "the datapath is not as it was written and is put right"
            );
        }
        self.actual = found;
    }

    /// When something that failed is to be tried again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.shared.progress().failures.next_retry()
    }

    /// Gives every namespace's queries back to Docker's resolver.
    pub(super) fn release_resolvers(&mut self) {
        let cookies = self.visited.cookies();
        self.leave(&cookies);
    }
}

fn namespace(visit: &Visit, names: &BTreeMap<u64, String>) -> Subject {
    let cookie = visit.netns.cookie;
    Subject::Namespace {
        cookie,
        name: names
            .get(&cookie)
            .cloned()
            .unwrap_or_else(|| cookie.to_string()),
    }
}

/// Name of the container that lives in each namespace.
pub(super) fn names(observed: &Observed) -> BTreeMap<u64, String> {
    let containers = observed.containers.iter();
    let named = containers.filter_map(|container| {
        let netns = container.netns.as_ref()?;
        Some((netns.cookie, container.name.clone()))
    });
    named.collect()
}

/// As the programs on sockets compare it; 0: none.
fn word(server: Option<&Ipv4Addr>) -> u32 {
    server.map_or(0, |server| Addr::from(*server).v4_word())
}
