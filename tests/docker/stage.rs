//! A host with an Engine, and provider `docker` following it.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use lb_userspace::model::{Attachment, Container, Network, Observed};
use lb_userspace::netns::{Namespace, PairEnd};
use lb_userspace::provider::docker::{Options, start};
use lb_userspace::provider::{Feed, ProviderHealth};
use tokio::sync::oneshot;
use veer_tests::engine::Engine;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace that plays the host, and an Engine in it.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    pub(crate) engine: Engine,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self::with_engine(&[])
    }

    /// The same with an Engine that is started with `arguments`.
    pub(crate) fn with_engine(arguments: &[&str]) -> Self {
        let namespace = Namespace::create().expect("create a namespace");
        let mut links = namespace.links().expect("open the host's netlink");
        let loopback = links.index_of("lo").expect("find lo");
        links.set_up(loopback).expect("set lo up");
        let engine = Engine::start_with(again(&namespace), arguments);
        Self { namespace, engine }
    }

    /// The one that tests share which only look at what they made themselves. It ends with the last
    /// of them that uses it.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Host>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = shared.upgrade() {
            return host;
        }
        let host = Arc::new(Self::new());
        *shared = Arc::downgrade(&host);
        host
    }

    /// A name that nobody else uses on this host.
    pub(crate) fn name(&self, prefix: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("{prefix}{}", COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// An interface of the host that leads nowhere.
    pub(crate) fn uplink(&self, prefix: &str) -> String {
        let (near, far) = (self.name(prefix), self.name(prefix));
        let end = |name| PairEnd {
            name,
            mac: None,
            namespace: None,
            master: None,
        };
        let mut links = self.namespace.links().expect("open the host's netlink");
        links.add_pair(end(&near), end(&far)).expect("make a pair");
        near
    }

    pub(crate) fn docker(&self, arguments: &str) -> String {
        self.engine.docker(arguments.split_whitespace())
    }

    /// Follows the Engine from inside the host.
    pub(crate) fn follow(&self) -> Following {
        Following::new(again(&self.namespace), self.engine.socket())
    }
}

/// Another handle on the same namespace.
pub(crate) fn again(namespace: &Namespace) -> Namespace {
    namespace.try_clone().expect("open a namespace again")
}

/// One observation, and when it was published.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) at: SystemTime,
    pub(crate) caused_at: Option<SystemTime>,
    pub(crate) observed: Arc<Observed>,
}

#[derive(Debug, Default)]
struct Record {
    published: Mutex<Vec<Published>>,
    more: Condvar,
}

/// A provider at work, and everything that it published.
#[derive(Debug)]
pub(crate) struct Following {
    record: Arc<Record>,
    feed: Feed,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Following {
    pub(crate) fn new(host: Namespace, socket: PathBuf) -> Self {
        let record = Arc::new(Record::default());
        let (stop, stopped) = oneshot::channel();
        let (sender, receiver) = std::sync::mpsc::channel();
        let shared = Arc::clone(&record);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("build a runtime");
            runtime.block_on(async move {
                let feed = start(Options {
                    socket,
                    ..Options::default()
                });
                sender.send(feed.clone()).expect("the test waits for it");
                tokio::select! {
                    () = keep(feed, shared) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::spawn(move || host.run(run).expect("enter the host's namespace"));
        Self {
            record,
            feed: receiver.recv().expect("the provider starts"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The first observation, old or new, of which `is` says something. Panics after a while.
    pub(crate) fn until<T>(&self, what: &str, is: impl Fn(&Published) -> Option<T>) -> T {
        self.after(SystemTime::UNIX_EPOCH, what, is)
    }

    /// The same, of those published after `moment`, or the last one before.
    pub(crate) fn after<T>(
        &self,
        moment: SystemTime,
        what: &str,
        is: impl Fn(&Published) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut published = lock(&self.record.published);
        loop {
            let late = published.iter().position(|one| one.at > moment);
            let first = late.unwrap_or(published.len()).saturating_sub(1);
            if let Some(found) = published.iter().skip(first).find_map(&is) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{what}: not seen; health {:?}; last {:#?}",
                self.health(),
                published.last()
            );
            let waited = self.record.more.wait_timeout(published, left);
            published = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn health(&self) -> ProviderHealth {
        self.feed.health.borrow().clone()
    }

    /// Waits until the container is there, complete with namespace and interfaces.
    pub(crate) fn ready(&self, name: &str) -> Container {
        self.until(&format!("{name} is ready"), |published| {
            container(&published.observed, name)
                .filter(is_complete)
                .cloned()
        })
    }

    /// The last observation.
    pub(crate) fn last(&self) -> Arc<Observed> {
        let published = lock(&self.record.published);
        Arc::clone(&published.last().expect("something was published").observed)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn keep(mut feed: Feed, record: Arc<Record>) {
    while feed.observed.changed().await.is_ok() {
        let snapshot = feed.observed.borrow_and_update().clone();
        if let Some(snapshot) = snapshot {
            lock(&record.published).push(Published {
                at: SystemTime::now(),
                caused_at: snapshot.caused_at,
                observed: snapshot.observed,
            });
            record.more.notify_all();
        }
    }
}

fn lock<T: Debug>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn container<'a>(observed: &'a Observed, name: &str) -> Option<&'a Container> {
    observed
        .containers
        .iter()
        .find(|container| container.name == name)
}

pub(crate) fn network<'a>(observed: &'a Observed, name: &str) -> Option<&'a Network> {
    observed
        .networks
        .iter()
        .find(|network| network.name == name)
}

/// A container's attachment to the network of that name.
pub(crate) fn attachment<'a>(
    observed: &'a Observed,
    container_name: &str,
    network_name: &str,
) -> Option<&'a Attachment> {
    let id = &network(observed, network_name)?.id;
    let container = container(observed, container_name)?;
    container
        .attachments
        .iter()
        .find(|attachment| attachment.network == *id)
}

pub(crate) fn is_complete(container: &&Container) -> bool {
    container.netns.is_some() && container.attachments.iter().all(|one| one.link.is_some())
}
