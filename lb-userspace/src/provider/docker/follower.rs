//! What is done about each piece of news.

mod looking;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::causes::Causes;
use super::engine::{Engine, EngineError, Listed};
use super::facts::{ContainerFacts, NetworkFacts, Run};
use super::inside::Sandbox;
use super::look::{Errand, Extent, Seen};
use super::news::News;
use super::observe::observe;
use super::reads::Reads;
use super::view::{Subject, View};
use crate::model::{ContainerId, NetworkId};
use crate::netns::{Interface, LinkChange, Namespace};
use crate::provider::Publisher;
use looking::{Glimpsing, Looking};

/// How long an interface may be nobody's before the Engine is asked whose it is.
const STRAY: Duration = Duration::from_millis(200);

/// How soon a network is read of which a container has said that it is in it. What the container says is
/// told first, and many of them ask once.
const DOUBT: Duration = Duration::from_millis(100);

/// Everything between the Engine's and the kernel's news and the observations.
pub(super) struct Follower {
    host: Arc<Namespace>,
    publisher: Publisher,
    view: View,
    reads: Reads,
    /// What was asked for and has not come back.
    pub(super) tasks: JoinSet<Answer>,
    stage: Stage,
    /// What was heard of since the lists were asked for, which they may not have.
    heard: BTreeSet<Subject>,
    /// Whether everything was known once: then every observation is complete.
    complete: bool,
    /// What is being read because of some news, not in the course of reading everything.
    urgent: BTreeSet<Subject>,
    /// Whether an observation may have something new to say.
    changed: bool,
    /// Whether that can wait until everything has been read.
    pressing: bool,
    /// Whether there is something to tell that must not wait for what a visit brings.
    early: bool,
    causes: Causes,
    looking: Looking,
    glimpsing: Glimpsing,
    pub(super) look_at: Option<Instant>,
    pub(super) stray_at: Option<Instant>,
    /// Networks that have not said what a container says of them.
    doubted: BTreeSet<NetworkId>,
    pub(super) ask_doubted_at: Option<Instant>,
    pub(super) last_event: Option<SystemTime>,
}

/// How far a reading of everything has come.
#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Lists,
    /// The networks come first: a container's inspection is compared with them.
    Networks {
        awaited: BTreeSet<Subject>,
        /// Containers to be read next, and those of them that must be known for an observation.
        containers: Vec<Subject>,
        running: BTreeSet<Subject>,
        /// Which namespaces are looked into in the end.
        extent: Extent,
    },
    Containers {
        awaited: BTreeSet<Subject>,
        extent: Extent,
    },
    Looking,
    Done,
}

/// Why an Engine is followed no longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Kernel(#[from] io::Error),
    #[error("a request to the Engine ended without an answer: {0}")]
    Request(#[from] tokio::task::JoinError),
}

/// Something that was asked for.
pub(super) enum Answer {
    Container(ContainerId, Result<Option<ContainerFacts>, EngineError>),
    Network(NetworkId, Result<Option<NetworkFacts>, EngineError>),
    Lists(Result<(Vec<Listed>, Vec<NetworkId>), EngineError>),
    Looked(io::Result<Seen>),
    Glimpsed(io::Result<Vec<Sandbox>>),
}

impl Follower {
    pub(super) fn new(host: Arc<Namespace>, publisher: Publisher) -> Self {
        Self {
            host,
            publisher,
            view: View::default(),
            reads: Reads::default(),
            tasks: JoinSet::new(),
            stage: Stage::default(),
            heard: BTreeSet::new(),
            complete: false,
            urgent: BTreeSet::new(),
            changed: false,
            pressing: false,
            early: false,
            causes: Causes::default(),
            looking: Looking::default(),
            glimpsing: Glimpsing::default(),
            look_at: None,
            stray_at: None,
            doubted: BTreeSet::new(),
            ask_doubted_at: None,
            last_event: None,
        }
    }

    /// Forgets what was under way. What is known stays.
    pub(super) fn lost(&mut self, error: &str) {
        self.publisher.failing(error);
        self.tasks = JoinSet::new();
        self.reads = Reads::default();
        self.urgent.clear();
        self.causes.clear();
        self.stage = Stage::default();
        self.looking = Looking::default();
        self.glimpsing = Glimpsing::default();
        (self.look_at, self.stray_at, self.ask_doubted_at) = (None, None, None);
        self.doubted.clear();
    }

    /// Whether everything has been read since the last loss.
    pub(super) fn is_settled(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Asks for the lists of what there is. Afterwards what differs from what is known is read;
    /// everything, after a loss.
    pub(super) fn compare(&mut self, engine: &Engine) {
        self.heard.clear();
        let engine = engine.clone();
        self.tasks.spawn(async move {
            let lists = async { Ok((engine.containers().await?, engine.networks().await?)) };
            Answer::Lists(lists.await)
        });
    }

    /// Takes in the interfaces of the host, read anew.
    pub(super) fn interfaces(&mut self, interfaces: Vec<Interface>) {
        self.view.host.replace(interfaces);
        self.changed = true;
    }

    pub(super) fn news(&mut self, engine: &Engine, news: &News) {
        self.last_event = Some(news.at);
        tracing::debug!(what = ?news.what, late = ?news.at.elapsed().ok(), "event");
        let is_told = news.tell(&mut self.view);
        for subject in news.subjects(&self.view) {
            self.causes.read_for(subject.clone(), news.at);
            self.heard.insert(subject.clone());
            self.read(engine, subject);
        }
        if is_told {
            self.causes.add(news.at);
            self.news_to_tell();
        }
    }

    /// Takes in a change of the host's interfaces. Returns what is to be read again for it, `None`
    /// if news were lost and that is everything.
    pub(super) fn link(&mut self, change: LinkChange) -> Option<Vec<Subject>> {
        match change {
            LinkChange::Changed(interface) => {
                let ifindex = interface.ifindex;
                self.view.host.changed(interface);
                if self.view.host.leads_elsewhere(ifindex) {
                    self.appeared(ifindex);
                }
                Some(Vec::new())
            }
            LinkChange::Gone {
                ifindex, moved_to, ..
            } => {
                if let Some(number) = moved_to {
                    self.moved(ifindex, number);
                }
                let owners = self.view.link_gone(ifindex);
                if !owners.is_empty() {
                    self.causes.add(SystemTime::now());
                    self.news_to_tell();
                }
                let networks = owners.iter().flat_map(|owner| self.view.networks_of(owner));
                let networks: Vec<_> = networks.map(Subject::Network).collect();
                let owners = owners.into_iter().map(Subject::Container);
                Some(owners.chain(networks).collect())
            }
            LinkChange::Missed => None,
        }
    }

    /// An interface was moved to another namespace: by the Engine, if somebody is being started.
    fn moved(&mut self, ifindex: u32, number: i32) {
        let near = self.view.link_moved(ifindex, number);
        if near.is_some_and(|near| self.view.host.leads_elsewhere(near)) {
            self.glimpse();
        }
    }

    /// Some container has the interface whose host side is `ifindex`, or is about to.
    fn appeared(&mut self, ifindex: u32) {
        let is_owned = self.view.is_owned(ifindex);
        let is_awaited = !is_owned && !Errand::new(&self.view, Extent::Incomplete).is_empty();
        // When the Engine tells of a container that it has connected, the kernel's side is done. What
        // it tells can be served at once, without a visit that waits for the lock on interfaces.
        let is_known = self.view.touched(ifindex);
        if !is_owned {
            self.stray_at.get_or_insert(Instant::now() + STRAY);
        }
        if is_awaited {
            self.causes.add(SystemTime::now());
            self.glimpse();
        }
        if is_known || is_awaited {
            self.look(Extent::Incomplete);
        }
    }

    /// Reads the networks that have interfaces of which nobody said whose they are.
    pub(super) fn ask_for_strays(&mut self, engine: &Engine) {
        self.stray_at = None;
        for network in self.view.networks_with_strays() {
            self.read(engine, Subject::Network(network));
        }
    }

    /// Reads the networks that have not confirmed what containers say of them.
    pub(super) fn ask_doubted(&mut self, engine: &Engine) {
        self.ask_doubted_at = None;
        for network in std::mem::take(&mut self.doubted) {
            self.read(engine, Subject::Network(network));
        }
    }

    pub(super) fn answered(&mut self, engine: &Engine, answer: Answer) -> Result<(), Lost> {
        match answer {
            Answer::Container(id, result) => {
                tracing::debug!(container = id.short(), "inspected");
                let subject = Subject::Container(id);
                if self.reads.done(&subject) {
                    self.request(engine, subject);
                } else {
                    self.container(engine, &subject, result)?;
                    self.settle(engine, &subject);
                }
            }
            Answer::Network(id, result) => {
                tracing::debug!(network = %id, "inspected");
                let subject = Subject::Network(id);
                let again = self.reads.done(&subject);
                self.network(engine, &subject, result)?;
                if again {
                    self.request(engine, subject);
                } else {
                    self.settle(engine, &subject);
                }
            }
            Answer::Lists(lists) => {
                let (containers, networks) = lists?;
                self.listed(engine, &containers, networks);
            }
            Answer::Looked(seen) => self.looked(engine, seen?),
            Answer::Glimpsed(sandboxes) => self.glimpsed(sandboxes?),
        }
        Ok(())
    }

    fn container(
        &mut self,
        engine: &Engine,
        subject: &Subject,
        result: Result<Option<ContainerFacts>, EngineError>,
    ) -> Result<(), EngineError> {
        match result {
            Ok(Some(facts)) => {
                let id = facts.id.clone();
                for network in self.view.read_container(facts) {
                    if self.is_settled() && self.view.networks_of(&id).contains(&network) {
                        self.doubted.insert(network);
                        self.ask_doubted_at.get_or_insert(Instant::now() + DOUBT);
                    } else {
                        self.read(engine, Subject::Network(network));
                    }
                }
            }
            Ok(None) => self.view.forget(subject),
            Err(error) if error.is_about_one_answer() => {
                self.view.could_not_read(subject.clone(), error.to_string());
            }
            Err(error) => return Err(error),
        }
        self.changed = true;
        Ok(())
    }

    fn network(
        &mut self,
        engine: &Engine,
        subject: &Subject,
        result: Result<Option<NetworkFacts>, EngineError>,
    ) -> Result<(), EngineError> {
        match result {
            Ok(Some(facts)) => {
                // The first reading of everything comes to them by itself.
                let strangers = self.view.read_network(facts);
                if !matches!(self.stage, Stage::Networks { .. }) {
                    for container in strangers {
                        self.read(engine, Subject::Container(container));
                    }
                }
            }
            Ok(None) => self.view.forget(subject),
            Err(error) if error.is_about_one_answer() => {
                self.view.could_not_read(subject.clone(), error.to_string());
            }
            Err(error) => return Err(error),
        }
        self.changed = true;
        Ok(())
    }

    fn listed(&mut self, engine: &Engine, containers: &[Listed], networks: Vec<NetworkId>) {
        let networks = networks.into_iter().map(Subject::Network);
        let networks: BTreeSet<_> = networks.collect();
        let there = containers
            .iter()
            .map(|listed| Subject::Container(listed.id.clone()));
        let there = there.chain(networks.iter().cloned());
        self.view
            .retain(&there.chain(self.heard.iter().cloned()).collect());
        self.changed = true;

        let everything = self.stage != Stage::Done;
        let is_alive = |listed: &&Listed| listed.run != Run::Idle;
        let subject = |listed: &Listed| Subject::Container(listed.id.clone());
        let wanted = containers.iter().filter(|listed| {
            let known = self.view.facts(&listed.id);
            (everything && is_alive(listed)) || known.is_none_or(|facts| listed.differs(facts))
        });
        // Those that run come first: the others are read for when they are started.
        let (alive, idle): (Vec<_>, Vec<_>) = wanted.partition(is_alive);
        self.stage = Stage::Networks {
            awaited: networks.clone(),
            running: alive.iter().map(|listed| subject(listed)).collect(),
            containers: alive.into_iter().chain(idle).map(subject).collect(),
            extent: if everything {
                Extent::All
            } else {
                Extent::Incomplete
            },
        };
        networks
            .into_iter()
            .for_each(|network| self.reads.later(network));
        self.advance(engine);
    }

    /// `subject` was read: goes on with what waits for it.
    fn settle(&mut self, engine: &Engine, subject: &Subject) {
        match &mut self.stage {
            Stage::Networks { awaited, .. } | Stage::Containers { awaited, .. } => {
                awaited.remove(subject);
            }
            Stage::Lists | Stage::Looking | Stage::Done => {}
        }
        self.advance(engine);
        self.causes.was_read(subject);
        if self.urgent.remove(subject) {
            self.pressing = true;
            self.glimpse();
            self.look(Extent::Incomplete);
        }
    }

    /// Makes the requests whose turn it is, and goes on to the next stage when one is done.
    fn advance(&mut self, engine: &Engine) {
        match &mut self.stage {
            Stage::Networks {
                awaited,
                containers,
                running,
                extent,
            } if awaited.is_empty() => {
                let containers = std::mem::take(containers);
                let (awaited, extent) = (std::mem::take(running), *extent);
                containers
                    .into_iter()
                    .for_each(|subject| self.reads.later(subject));
                self.stage = Stage::Containers { awaited, extent };
                return self.advance(engine);
            }
            Stage::Containers { awaited, extent } if awaited.is_empty() => {
                let extent = *extent;
                self.stage = Stage::Looking;
                self.look(extent);
            }
            _ => {}
        }
        while let Some(subject) = self.reads.next() {
            self.request(engine, subject);
        }
    }

    /// Reads `subject`, or reads it again when a request that is under way has ended.
    pub(super) fn read(&mut self, engine: &Engine, subject: Subject) {
        self.urgent.insert(subject.clone());
        if self.reads.now(&subject) {
            self.request(engine, subject);
        }
    }

    fn request(&mut self, engine: &Engine, subject: Subject) {
        let engine = engine.clone();
        match subject {
            Subject::Container(id) => self.tasks.spawn(async move {
                let answer = engine.container(&id).await;
                Answer::Container(id, answer)
            }),
            Subject::Network(id) => self.tasks.spawn(async move {
                let answer = engine.network(&id).await;
                Answer::Network(id, answer)
            }),
        };
    }

    fn news_to_tell(&mut self) {
        (self.changed, self.pressing) = (true, true);
    }

    /// Publishes what is known, unless nothing can have changed or more is known in a moment.
    pub(super) fn publish(&mut self) {
        if std::mem::take(&mut self.early) && self.complete {
            // What it is for is still to be told.
            let told = self.publisher.publish(observe(&self.view), None);
            tracing::debug!(told, "early observation");
        }
        let ripe = self.pressing || self.stage == Stage::Done;
        if self.complete && self.changed && ripe && !self.is_about_to_see() {
            (self.changed, self.pressing) = (false, false);
            let caused_at = self.causes.untold();
            let told = self.publisher.publish(observe(&self.view), caused_at);
            tracing::debug!(told, since_cause = ?caused_at.and_then(|at| at.elapsed().ok()), "observation");
            // A cause that has changed nothing is over when nothing more is to be read for it.
            if told || self.urgent.is_empty() {
                self.causes.told();
            }
        }
    }
}
