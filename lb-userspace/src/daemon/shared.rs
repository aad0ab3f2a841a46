//! What the loop and the API share.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use lb_common::Mode as Beside;
use tokio::sync::watch;

use super::failures::Failures;
use super::latency::Histogram;
use super::report::{Counted, View};
use crate::api::{Collection, ConfigReport, DnsReport, PortsReport, ProviderReport, ProviderState};
use crate::config::{Config, Masquerade, Mode};
use crate::datapath::{Datapath, DatapathError};
use crate::dns::{Dns, Records};
use crate::instance::Instance;
use crate::model::{Host, Notice};
use crate::provider::ProviderHealth;
use crate::reconcile::Role;

/// A running daemon, as the loop and the API see it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) instance: Instance,
    pub(super) started: Instant,
    /// `docker` or `lab`.
    pub(super) provider: &'static str,
    pub(super) health: watch::Receiver<ProviderHealth>,
    pub(super) config: ArcSwap<Config>,
    /// Where the configuration was read from; `None`: nowhere.
    pub(super) file: Option<PathBuf>,
    /// The host as it was looked at last.
    pub(super) host: ArcSwap<Host>,
    /// What was applied last.
    pub(super) view: ArcSwap<View>,
    /// What DNS answers.
    pub(super) records: ArcSwap<Records>,
    pub(super) dns: Dns,
    datapath: RwLock<Datapath>,
    progress: Mutex<Progress>,
}

/// What changes with every round.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) failures: Failures,
    pub(super) latency: Histogram,
    pub(super) collection: Collection,
    /// Entries of established and half-open Connections at the last look; `None` before it.
    pub(super) tracked: Option<(usize, usize)>,
    pub(super) taken_over: usize,
    /// What was found when the datapath was opened.
    pub(super) warnings: Vec<Notice>,
}

/// How a daemon begins.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) instance: Instance,
    pub(super) provider: &'static str,
    pub(super) health: watch::Receiver<ProviderHealth>,
    pub(super) config: Config,
    pub(super) host: Host,
    pub(super) file: Option<PathBuf>,
    pub(super) datapath: Datapath,
    pub(super) dns: Dns,
    pub(super) warnings: Vec<Notice>,
}

impl Shared {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            instance: parts.instance,
            started: Instant::now(),
            provider: parts.provider,
            health: parts.health,
            config: ArcSwap::from_pointee(parts.config),
            file: parts.file,
            host: ArcSwap::from_pointee(parts.host),
            view: ArcSwap::default(),
            records: ArcSwap::default(),
            dns: parts.dns,
            datapath: RwLock::new(parts.datapath),
            progress: Mutex::new(Progress {
                warnings: parts.warnings,
                ..Progress::default()
            }),
        }
    }

    /// The datapath, for reading. A thread that panicked while it wrote has left maps of which each
    /// is good; the audit finds the rest.
    pub(super) fn datapath(&self) -> RwLockReadGuard<'_, Datapath> {
        self.datapath.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The datapath, for writing.
    pub(super) fn datapath_mut(&self) -> RwLockWriteGuard<'_, Datapath> {
        self.datapath
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure, and logs it if it is news.
    pub(super) fn fail(&self, subject: super::failures::Subject, error: String) {
        let is_news = self
            .progress()
            .failures
            .note(subject.clone(), error.clone(), Instant::now());
        if is_news {
            tracing::warn!(%subject, %error, "failed and is tried again");
        }
    }

    /// The counters of everything in `view`.
    pub(super) fn counted(&self, view: &View) -> Result<Counted, DatapathError> {
        let datapath = self.datapath();
        let mut counted = Counted::default();
        for id in view.endpoint_ids().collect::<BTreeSet<_>>() {
            counted.backends.insert(id, datapath.backend_counters(id)?);
            counted.loads.insert(id, datapath.load(id));
        }
        for id in view.frontend_ids() {
            counted
                .frontends
                .insert(id, datapath.frontend_counters(id)?);
        }
        Ok(counted)
    }

    pub(super) fn config_report(&self) -> ConfigReport {
        ConfigReport {
            path: self.file.as_ref().map(|file| file.display().to_string()),
            text: self.config.load().effective(),
        }
    }

    /// What is served now.
    pub(super) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    pub(super) fn provider_report(&self) -> ProviderReport {
        let (state, since, detail) = match &*self.health.borrow() {
            ProviderHealth::Connecting => (ProviderState::Connecting, None, String::new()),
            ProviderHealth::Following { since, detail } => {
                (ProviderState::Following, Some(*since), detail.clone())
            }
            ProviderHealth::Failing { since, error } => {
                (ProviderState::Failing, Some(*since), error.clone())
            }
        };
        let now = SystemTime::now();
        let elapsed = since.map_or(self.started.elapsed(), |since| {
            now.duration_since(since).unwrap_or_default()
        });
        ProviderReport {
            name: self.provider.to_owned(),
            state,
            for_seconds: elapsed.as_secs(),
            detail,
        }
    }

    pub(super) fn ports_report(&self, view: &View) -> PortsReport {
        let state = &view.desired.state;
        let host = self.host.load();
        let is_uplink = |ifindex| {
            let roles = [Role::Uplink, Role::BareUplink];
            roles
                .iter()
                .any(|role| state.attached.contains(&(*role, ifindex)))
        };
        let uplinks = host.interfaces.iter().filter(|one| is_uplink(one.ifindex));
        let beside = state.settings.has(Beside::BESIDE);
        let masquerade = match self.config.load().ports.masquerade {
            // Docker's rules do it.
            _ if beside => Masquerade::Kernel,
            configured => configured,
        };
        PortsReport {
            mode: if beside { Mode::Beside } else { Mode::Replace }
                .name()
                .to_owned(),
            masquerade: masquerade.name().to_owned(),
            uplinks: uplinks.map(|one| one.name.clone()).collect(),
            published: view.desired.ports.len(),
        }
    }

    pub(super) fn dns_report(&self, view: &View) -> DnsReport {
        let counts = self.dns.counts();
        let takeover = self.config.load().dns.takeover;
        let lead = self.datapath().lead();
        DnsReport {
            lead: lead.name().to_owned(),
            taken_over: self.progress().taken_over,
            wanted: if takeover {
                view.desired.resolvers.len()
            } else {
                0
            },
            answered: counts.answered,
            in_kernel: self
                .dns
                .kernel_counts()
                .iter()
                .map(|(_, counts)| counts.answered + counts.empty + counts.absent)
                .sum(),
            forwarded: counts.forwarded,
            cached: counts.cached,
            stale: counts.stale,
            kept: self.dns.kept(),
            failed: counts.failed,
        }
    }
}
