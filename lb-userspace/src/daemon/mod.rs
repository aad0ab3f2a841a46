//! The daemon: observe → desire → plan → apply → report. The only place that joins the edges.
//!
//! A provider publishes whole observations; the loop takes the latest one, and never begins a round
//! before the last one has ended. What fails is tried again, alone, while everything else is served.
//! When the daemon stops, containers ask Docker's resolver again; maps and programs stay.

mod answers;
mod apply;
mod explain;
mod failures;
mod hints;
mod identities;
mod inside;
mod latency;
mod memory;
mod notify;
mod pace;
mod quiet;
mod report;
mod round;
mod rounds;
mod settings;
mod shared;
mod source;
mod spaces;
mod visits;

use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use lb_common::dns::Sample;
use lb_common::{Event, Mode};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinHandle, block_in_place, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until};

use answers::Answers;
use notify::Notify;
use rounds::Rounds;
use shared::{Parts, Shared};

use crate::api::Server;
use crate::config::Config;
use crate::datapath::{self, Datapath, EventStream, PacketLog};
use crate::dns::{self, Dns};
use crate::engine::Habits;
use crate::model::{Host, Notice};
use crate::netns::{HostWatch, Namespace, watch_host};
use crate::priority;
use crate::provider::{Feed, ProviderHealth};

pub use settings::{ConfigSource, Overrides};
pub use source::Source;

/// Time between two comparisons of the maps with what was written.
const AUDIT: Duration = Duration::from_secs(60);

/// What a daemon is told.
#[derive(Debug)]
pub struct Options {
    pub config: Config,
    /// Where the configuration was read from, and is read from again on SIGHUP.
    pub source: ConfigSource,
    /// Where the API listens, if not at the instance's usual place.
    pub socket: Option<PathBuf>,
    /// Whether to print what to try next, when the lab is served.
    pub hints: bool,
    /// Whether the programs log every packet, for debugging alone.
    pub log_packets: bool,
}

/// Serves the network namespace of the calling thread until SIGTERM or SIGINT. Must be called within
/// a multi-threaded tokio runtime.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut daemon = Daemon::start(&options).await?;
    Notify::Ready.send();
    let result = daemon.serve(&options).await;
    Notify::Stopping.send();
    block_in_place(|| daemon.rounds.release_resolvers());
    tracing::info!("stopped; the datapath goes on without the daemon");
    result
}

/// A daemon at work.
struct Daemon {
    shared: Arc<Shared>,
    rounds: Rounds,
    feed: Feed,
    watch: HostWatch,
    /// A look at the host that is under way.
    looking: Option<JoinHandle<std::io::Result<Host>>>,
    source: Source,
    signals: Signals,
    _server: Server,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }
}

impl Daemon {
    async fn start(options: &Options) -> anyhow::Result<Self> {
        let signals = Signals::new().context("listen to signals")?;
        let config = options.config.clone();
        let mut places =
            datapath::Options::here(config.maps).context("find this network namespace")?;
        places.log = options.log_packets;
        places.lead = config.dns.lead;
        let (mut datapath, adopted) = block_in_place(|| Datapath::open(&places))?;
        let instance = places.instance.clone();
        tracing::info!(%instance, adopted = adopted.found, "the datapath is loaded");
        if !priority::is_raised() {
            tracing::info!(
                "the daemon waits for processors like any other process: it was given a nice value, or lacks \
                 CAP_SYS_NICE"
            );
        }
        let warnings: Vec<_> = adopted.warnings.iter().map(Notice::from).collect();
        for notice in &warnings {
            tracing::warn!(subject = %notice.subject, message = %notice.message, "notice");
        }

        datapath.forget_leads()?;
        datapath.forget_gates()?;
        forget_resolvers(&datapath)?;
        let dns = start_dns(&datapath, &config, &instance.folder())?;
        let events = datapath.events()?;
        let samples = datapath.dns_samples()?;
        dns.log_queries(config.dns.query_log);
        if let Some(log) = datapath.take_log() {
            tokio::spawn(log_packets(log));
        }
        let source = Source::choose(&config).await;
        let feed = source.start(&config, &instance)?;
        let mut watch = watch_host().context("watch this network namespace")?;
        let was_beside = || {
            datapath
                .actual()
                .map(|state| state.settings.has(Mode::BESIDE))
        };
        let engine = adopted.found.then(was_beside).transpose()?;
        let engine = engine.map(|has_rules| Habits {
            has_rules,
            allows_direct_routing: false,
        });
        let host = look(&config, source, engine).context("look at this network namespace")?;
        watch.has_seen(&host);
        let shared = Arc::new(Shared::new(Parts {
            host,
            provider: source.name(),
            health: feed.health.clone(),
            instance,
            config,
            file: options.source.file(),
            datapath,
            dns,
            warnings,
        }));
        tracing::info!(provider = source.name(), "following");
        let rounds = Rounds::new(Arc::clone(&shared), shared.instance.identities())?;
        let socket = options
            .socket
            .clone()
            .unwrap_or_else(|| shared.instance.socket());
        let server = Server::start(&socket, Arc::new(Answers(Arc::clone(&shared))))?;
        tokio::spawn(tell(events));
        tokio::spawn(log_queries(samples, Arc::clone(&shared)));
        if options.hints && source == Source::Lab {
            hints::print();
        }
        Ok(Self {
            shared,
            rounds,
            feed,
            watch,
            looking: None,
            source,
            signals,
            _server: server,
        })
    }

    /// The loop.
    async fn serve(&mut self, options: &Options) -> anyhow::Result<()> {
        let mut collect_at = Instant::now();
        let mut audit = every(AUDIT);
        // The first tick of an interval comes at once, and there is nothing to audit yet.
        audit.tick().await;
        self.round(false);
        loop {
            let retry = self.rounds.next_retry();
            tokio::select! {
                changed = self.feed.observed.changed() => {
                    changed.context("the provider ended")?;
                    self.round(true);
                }
                () = at(retry) => self.round(false),
                changed = self.watch.changed(), if self.looking.is_none() => {
                    changed?;
                    self.look();
                }
                changed = self.feed.health.changed(), if self.looking.is_none() => {
                    changed.context("the provider ended")?;
                    self.heard_of_the_engine();
                }
                host = seen(&mut self.looking) => self.seen(host),
                () = std::future::ready(()), if self.rounds.has_namespaces_waiting() => {
                    block_in_place(|| self.rounds.answer_inside());
                }
                () = sleep_until(collect_at.into()) => {
                    let wait = block_in_place(|| self.rounds.collect());
                    collect_at = Instant::now() + wait;
                }
                _ = audit.tick() => {
                    block_in_place(|| {
                        self.rounds.release();
                        self.rounds.audit();
                        memory::give_back();
                    });
                    self.round(false);
                }
                _ = self.signals.reload.recv() => {
                    self.reload(options);
                    self.round(false);
                }
                _ = self.signals.terminate.recv() => return Ok(()),
                _ = self.signals.interrupt.recv() => return Ok(()),
            }
        }
    }

    /// An Engine that is back may have been started otherwise, and its resolver is elsewhere. What is
    /// observed may be the same as before, and then nothing else would bring a round.
    fn heard_of_the_engine(&mut self) {
        let health = self.feed.health.borrow_and_update().clone();
        let is_back = matches!(health, ProviderHealth::Following { .. });
        if is_back && self.rounds.expect_other_rules() {
            self.round(false);
        }
        self.look();
    }

    /// Looks at the host's interfaces, addresses and routes again, and how its Engine was started. The
    /// kernel may keep a look waiting for tens of milliseconds while somebody changes interfaces, and
    /// rounds must not wait with it.
    fn look(&mut self) {
        let (config, source) = (self.shared.config.load_full(), self.source);
        let host = self.shared.host.load();
        let known = Habits {
            has_rules: host.has_docker_rules,
            allows_direct_routing: host.allows_direct_routing,
        };
        self.looking = Some(spawn_blocking(move || look(&config, source, Some(known))));
    }

    fn seen(&mut self, host: std::io::Result<Host>) {
        match host {
            Ok(host) if host == **self.shared.host.load() => {}
            Ok(host) => {
                self.watch.has_seen(&host);
                self.shared.host.store(Arc::new(host));
                self.round(false);
            }
            Err(error) => tracing::warn!(%error, "the host's interfaces stay as they were known"),
        }
    }

    /// Takes over what the file says now. If it is refused, everything stays as it was.
    fn reload(&mut self, options: &Options) {
        Notify::Reloading.send();
        match options.source.load() {
            Ok(config) => self.adopt(config),
            Err(error) => {
                tracing::error!(%error, "the configuration is refused, the old one stays")
            }
        }
        Notify::Ready.send();
    }

    fn adopt(&self, config: Config) {
        let old = self.shared.config.load();
        let unchanged = settings::needs_restart(&old, &config);
        if !unchanged.is_empty() {
            tracing::warn!(sections = ?unchanged, "changes that need a restart are left out");
        }
        let config = settings::keep_running(&old, config);
        self.shared.dns.log_queries(config.dns.query_log);
        self.shared.config.store(Arc::new(config));
        tracing::info!("the configuration was read again");
    }

    /// One round with the latest observation. Before the first one nothing is known, and nothing but
    /// guards is touched.
    fn round(&mut self, is_news: bool) {
        let snapshot = self.feed.observed.borrow_and_update().clone();
        if let Some(snapshot) = snapshot {
            return block_in_place(|| self.rounds.run(&snapshot, is_news));
        }
        block_in_place(|| self.rounds.guard());
    }
}

/// A former daemon's sockets are closed: its entries would lead queries nowhere as soon as somebody
/// beats again.
fn forget_resolvers(datapath: &Datapath) -> anyhow::Result<()> {
    for (cookie, resolver) in datapath.resolvers()? {
        match resolver.closed() {
            None => datapath.remove_resolver(cookie)?,
            Some(closed) => datapath.set_resolver(cookie, closed)?,
        }
    }
    Ok(())
}

fn start_dns(datapath: &Datapath, config: &Config, folder: &Path) -> anyhow::Result<Dns> {
    let heartbeat = datapath.heartbeat()?;
    let mut is_lost = false;
    let beat = move || {
        let result = heartbeat.beat();
        if let Err(error) = &result
            && !is_lost
        {
            tracing::error!(%error, "no sign of life: Docker's resolver answers containers");
        }
        is_lost = result.is_err();
    };
    let options = dns::Options {
        resolv_conf: resolv_conf(config, folder)?,
        forwarding: settings::forwarding(&config.dns),
        // Docker's rules would change what the kernel has made the answer.
        kernel: if config.dns.kernel && !datapath.leads_inside() {
            Some(Arc::new(datapath.names()?))
        } else {
            None
        },
        // Nobody else looks whether the daemon lives.
        register: if datapath.leads_inside() {
            None
        } else {
            Some(Arc::new(datapath.askers()?))
        },
        beat: Box::new(beat),
    };
    Dns::start(options).context("start the DNS server")
}

/// The file that names the servers for strangers' names: the host's, or one with those that the
/// configuration names.
fn resolv_conf(config: &Config, folder: &Path) -> anyhow::Result<PathBuf> {
    if config.dns.upstreams.is_empty() {
        return Ok(PathBuf::from("/etc/resolv.conf"));
    }
    let lines = config
        .dns
        .upstreams
        .iter()
        .map(|server| format!("nameserver {server}\n"));
    let path = folder.join("resolv.conf");
    std::fs::write(&path, lines.collect::<String>())
        .with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// The host as it is now. Of an Engine that does not run it has what was `known`, or else what the settings
/// say about its rules. Must be called from a thread in its namespace.
fn look(config: &Config, source: Source, known: Option<Habits>) -> std::io::Result<Host> {
    let mut host = Namespace::current()?.host()?;
    host.is_confined = !datapath::can_enter_namespaces();
    if source == Source::Docker {
        let habits = Habits::at(&config.engine.socket, known);
        host.has_docker_rules = habits.has_rules;
        host.allows_direct_routing = habits.allows_direct_routing;
    }
    Ok(host)
}

/// Ends with the look that is under way; never, where there is none.
async fn seen(looking: &mut Option<JoinHandle<std::io::Result<Host>>>) -> std::io::Result<Host> {
    let Some(task) = looking else {
        return pending().await;
    };
    let host = task
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    *looking = None;
    host
}

/// Ticks that are never made up for.
fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => pending().await,
    }
}

/// Hands what the programs say of every packet to the log.
async fn log_packets(mut log: PacketLog) {
    loop {
        if let Err(error) = log.forward().await {
            return tracing::warn!(%error, "packets are not logged");
        }
    }
}

/// Tells of single flows at level `debug`. What is not taken from the ring would be counted as lost.
async fn tell(mut events: EventStream<Event>) {
    loop {
        match events.next().await {
            Ok(event) => tracing::debug!(?event, "flow"),
            Err(error) => return tracing::warn!(%error, "events of flows are no longer read"),
        }
    }
}

/// Hands the answers that the kernel tells of to the query log.
async fn log_queries(mut samples: EventStream<Sample>, shared: Arc<Shared>) {
    loop {
        match samples.next().await {
            Ok(sample) => shared.dns.log_kernel(&sample),
            Err(error) => return tracing::warn!(%error, "the kernel's queries are not logged"),
        }
    }
}
