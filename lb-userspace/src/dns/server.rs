//! The DNS server: one thread that answers for every container.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use lb_common::Resolver;
use lb_common::dns::{Counts as InKernel, Sample as ToldByKernel};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::warn;

use super::container::{Asker, Listening, Shared, serve};
use super::counters::{Counters, Counts};
use super::kernel::{Kept, Kernel, Mirror};
use super::records::Records;
use super::register::Register;
use super::rules::Forwarding;
use super::samples::{Sample, Samples};
use super::takeover::{Sockets, TakeoverError};
use super::tally::{Outcome, Path, Tally};
use super::told::{Told, told};
use super::upstream::Upstream;
use crate::model::{Gate, Netns, NetworkId};

/// How often the kernel programs are told that somebody answers: four times within
/// [`Resolver::PATIENCE`].
const BEAT: Duration = Duration::from_nanos(Resolver::PATIENCE / 4);

/// Open files that 16,384 containers and 8,192 forwarded queries need, with room to spare.
pub(crate) const FILES: u64 = 65_536;

/// What the server needs from outside.
pub struct Options {
    /// The file with the name servers for strangers' names, `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// How they are asked.
    pub forwarding: Forwarding,
    /// The maps of the programs in the kernel that answer names; `None`: the server answers all.
    pub kernel: Option<Arc<dyn Kernel>>,
    /// What leads queries to the server; `None`: they come by themselves.
    pub register: Option<Arc<dyn Register>>,
    /// Called every 250 ms, by the thread that answers: it writes the time into `HEARTBEAT`.
    pub beat: Box<dyn FnMut() + Send>,
}

/// A running DNS server. Ends, and closes every socket, when dropped.
///
/// Calls may come from any thread; none waits for a query or a name server.
#[derive(Debug)]
pub struct Dns {
    shared: Arc<Shared>,
    served: Arc<Served>,
    kernel: Option<Arc<dyn Kernel>>,
    register: Option<Arc<dyn Register>>,
    /// Of the thread.
    runtime: runtime::Handle,
    /// What the kernel answers.
    mirror: Option<Mutex<Mirror>>,
    commands: UnboundedSender<Command>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Where each namespace is listened in, by its cookie.
#[derive(Debug, Default)]
struct Served(Mutex<BTreeMap<u64, Resolver>>);

#[derive(Debug)]
enum Command {
    Serve(Netns, Listening, Entry),
    /// Says so on the channel when every socket is closed.
    Release(u64, mpsc::Sender<()>),
    Stop,
}

impl Dns {
    /// Starts the thread, with the current thread's network namespace as the host's. Nobody is
    /// answered before [`Dns::publish`].
    pub fn start(options: Options) -> io::Result<Self> {
        let Options {
            resolv_conf,
            forwarding,
            kernel,
            register,
            mut beat,
        } = options;
        // A takeover that comes before the server's own first beat must hold already.
        beat();
        raise_file_limit();
        let life = register.as_deref().map(Register::begin).transpose()?;
        let mirror = kernel.clone().map(Mirror::new).transpose()?;
        let kept = kernel.clone().map(Kept::new);
        let upstream = Upstream::new(resolv_conf, forwarding, kept);
        let shared = Arc::new(Shared {
            records: ArcSwap::default(),
            news: watch::Sender::default(),
            upstream: Arc::new(upstream),
            counters: Counters::default(),
            tally: Tally::default(),
            samples: Samples::default(),
        });
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (commands, received) = unbounded_channel();
        let server = run(received, Arc::clone(&shared), beat, life);
        let handle = runtime.handle().clone();
        let thread = thread::Builder::new()
            .name("dns".to_string())
            .spawn(move || runtime.block_on(server))?;
        Ok(Self {
            shared,
            served: Arc::default(),
            kernel,
            register,
            runtime: handle,
            mirror: mirror.map(Mutex::new),
            commands,
            thread: Some(thread),
        })
    }

    /// Replaces all answers at once.
    pub fn publish(&self, records: Arc<Records>) {
        self.shared.records.store(Arc::clone(&records));
        self.shared.news.send_replace(());
        if let Some(mut mirror) = self.mirror() {
            let served = self.served.lock().clone();
            mirror.publish(&records, served, Instant::now().into());
        }
    }

    fn mirror(&self) -> Option<MutexGuard<'_, Mirror>> {
        let mirror = self.mirror.as_ref()?;
        Some(mirror.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Listens inside `netns` and says where. Asking again gives the same answer.
    ///
    /// Until there are records that know the namespace its queries wait for them; after 4 s they get
    /// SERVFAIL.
    pub fn take_over(&self, netns: &Netns) -> Result<Resolver, TakeoverError> {
        if let Some(resolver) = self.resolver(netns.cookie) {
            return Ok(resolver);
        }
        // Not under a lock: one container does not wait for another.
        let sockets = Sockets::open(netns)?;
        self.claim(&sockets, netns.cookie);
        self.serve(netns, sockets)
    }

    /// The same without entering `netns`: listens at the host's address on a Network of its container. Must
    /// be called from a thread in the host's namespace.
    pub fn take_over_at(&self, netns: &Netns, gate: &Gate) -> Result<Resolver, TakeoverError> {
        if let Some(resolver) = self.resolver(netns.cookie) {
            return Ok(resolver);
        }
        let sockets = Sockets::open_at(gate)?;
        self.serve(netns, sockets)
    }

    /// Queries that the namespace with this cookie sends to `servers` may come as well; 0 is none. Must be said
    /// before they are led, and taken back after.
    pub fn stand_in(&self, cookie: u64, servers: [u32; Resolver::SERVERS]) {
        let mut served = self.served.lock();
        let Some(resolver) = served.get_mut(&cookie) else {
            return;
        };
        if resolver.servers == servers {
            return;
        }
        resolver.servers = servers;
        let resolver = *resolver;
        drop(served);
        if let Some(mut mirror) = self.mirror() {
            mirror.admit(&self.shared.records.load(), cookie, resolver);
        }
    }

    /// Where the namespace with this cookie is listened for, as [`Dns::take_over`] said.
    pub fn resolver(&self, cookie: u64) -> Option<Resolver> {
        let resolver = self.served.lock().get(&cookie).copied()?;
        let servers = [0; Resolver::SERVERS];
        Some(Resolver {
            servers,
            ..resolver
        })
    }

    /// Has the thread answer what comes in over `sockets`, unless it has others already.
    fn serve(&self, netns: &Netns, sockets: Sockets) -> Result<Resolver, TakeoverError> {
        let (cookie, resolver) = (netns.cookie, sockets.resolver);
        let listening = {
            let _inside = self.runtime.enter();
            Listening::on(sockets).map_err(TakeoverError::Listen)?
        };
        let mut served = self.served.lock();
        if let Some(&earlier) = served.get(&cookie) {
            return Ok(earlier);
        }
        served.insert(cookie, resolver);
        let entry = Entry {
            served: Arc::clone(&self.served),
            register: self.register.clone(),
            cookie,
            resolver,
        };
        // Under the lock, so that commands about one namespace come in the order of its entries.
        let command = Command::Serve(netns.clone(), listening, entry);
        let sent = self.commands.send(command);
        drop(served);
        // A command that is given back takes its entry along when it is dropped.
        sent.map_err(|_| TakeoverError::Stopped)?;
        if let Some(mut mirror) = self.mirror() {
            mirror.admit(&self.shared.records.load(), cookie, resolver);
        }
        Ok(resolver)
    }

    /// Lets the kernel know the namespace by the socket that its queries are led to.
    fn claim(&self, sockets: &Sockets, cookie: u64) {
        if let Some(kernel) = &self.kernel
            && let Err(error) = kernel.claim(sockets.udp.as_fd(), cookie)
        {
            warn!(cookie, %error, "the kernel may answer no names of a container");
        }
    }

    /// Closes every socket inside the namespace with this cookie; they are closed on return. Nothing
    /// happens if it is not served.
    pub fn release(&self, cookie: u64) {
        if let Some(mut mirror) = self.mirror() {
            mirror.dismiss(cookie);
        }
        let (done, closed) = mpsc::channel();
        let mut served = self.served.lock();
        if served.remove(&cookie).is_none() {
            return;
        }
        // First: a query in between goes to Docker's resolver.
        if let Some(register) = &self.register {
            register.forget(cookie);
        }
        let sent = self.commands.send(Command::Release(cookie, done));
        drop(served);
        if sent.is_ok() {
            // Fails only if the thread has ended, which closed everything.
            let _ = closed.recv();
        }
    }

    /// The cookies of the namespaces that are served.
    pub fn served_namespaces(&self) -> Vec<u64> {
        self.served.lock().keys().copied().collect()
    }

    /// How many answers of other name servers are kept.
    pub fn kept(&self) -> usize {
        self.shared.upstream.kept()
    }

    /// Whether the kernel answers what it can.
    pub fn answers_in_kernel(&self) -> bool {
        self.mirror.is_some()
    }

    /// What the kernel has answered so far: of each Network's names, and of what the host's servers
    /// said.
    pub fn kernel_counts(&self) -> Vec<(Option<NetworkId>, InKernel)> {
        self.mirror()
            .map_or_else(Vec::new, |mirror| mirror.counts())
    }

    /// How many answers were given so far: by the Network whose name was asked for (`None`: a name
    /// of others), by who gave them, and by what they said.
    pub fn tally(&self) -> Vec<(Option<String>, Path, Outcome, u64)> {
        let records = self.shared.records.load();
        let name = |id: &NetworkId| records.network_name(id).map(str::to_owned);
        let mut all = self.shared.tally.all();
        for (network, counts) in self.kernel_counts() {
            let network = network.as_ref().and_then(name);
            for (outcome, count) in [
                (Outcome::Records, counts.answered),
                (Outcome::Empty, counts.empty),
                (Outcome::Absent, counts.absent),
            ] {
                if count > 0 {
                    all.push((network.clone(), Path::Kernel, outcome, count));
                }
            }
        }
        all.sort();
        all
    }

    /// From now on logs one in `every` answers of the server; 0: none.
    pub fn log_queries(&self, every: u32) {
        self.shared.samples.set(every);
    }

    /// Logs an answer that the kernel gave.
    pub fn log_kernel(&self, told: &ToldByKernel) {
        let Some(mirror) = self.mirror() else {
            return;
        };
        let network = mirror.network(told.table).cloned();
        let age = mirror.age(told.at);
        drop(mirror);
        let records = self.shared.records.load();
        let name = network.and_then(|id| records.network_name(&id).map(str::to_owned));
        self.shared.samples.note_kernel(told, name, age);
    }

    /// What was logged after the answer with this number, oldest first, and the number of the latest.
    pub fn logged(&self, after: u64) -> (Vec<Sample>, u64) {
        self.shared.samples.after(after)
    }

    /// Gives the number of the latest answer that was logged, whenever there is another one.
    pub fn watch_log(&self) -> watch::Receiver<u64> {
        self.shared.samples.watch()
    }

    /// What the container in `netns` would be answered about the records of the type called `kind` of
    /// `name`, without asking anybody; `None` if there are no such name and type.
    pub fn told(&self, netns: &Netns, name: &str, kind: &str) -> Option<Told> {
        let records = self.shared.records.load();
        let resolver = self.served.lock().get(&netns.cookie).copied();
        let resolver = resolver.filter(|_| self.answers_in_kernel());
        let kind = kind.to_ascii_uppercase().parse().ok()?;
        let upstream = &self.shared.upstream;
        told(&records, upstream, netns, resolver, name, kind)
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.shared.counters.counts()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        // Fails only if the thread has ended already.
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Served {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Resolver>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A namespace's place in [`Served`], which is given up when its sockets are closed, for whatever
/// reason: no queries are led there any longer, and the next [`Dns::take_over`] opens new ones.
#[derive(Debug)]
struct Entry {
    served: Arc<Served>,
    register: Option<Arc<dyn Register>>,
    cookie: u64,
    resolver: Resolver,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut served = self.served.lock();
        // A later takeover of the same namespace has an entry of its own.
        let ports = |one: &Resolver| (one.gateway, one.udp, one.tcp);
        let kept = served.get(&self.cookie).map(ports);
        if kept == Some(ports(&self.resolver)) {
            served.remove(&self.cookie);
            if let Some(register) = &self.register {
                register.forget(self.cookie);
            }
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = f.debug_struct("Options");
        options
            .field("resolv_conf", &self.resolv_conf)
            .field("forwarding", &self.forwarding)
            .finish_non_exhaustive()
    }
}

/// Makes room for the sockets of thousands of containers: two for each, and one for each query that
/// is forwarded.
fn raise_file_limit() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let wanted = hard.max(FILES);
    let raised = setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted)
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(soft, %error, "cannot raise the limit of open files");
    }
}

/// The thread's work: containers come and go until the last [`Dns`] handle is gone.
async fn run(
    mut commands: UnboundedReceiver<Command>,
    shared: Arc<Shared>,
    mut beat: Box<dyn FnMut() + Send>,
    _life: Option<OwnedFd>,
) {
    let mut served: BTreeMap<u64, JoinHandle<()>> = BTreeMap::new();
    let mut beats = interval_at(Instant::now() + BEAT, BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beats.tick() => {
                beat();
                shared.upstream.look();
            }
            command = commands.recv() => match command {
                Some(Command::Serve(netns, listening, entry)) => {
                    let asker = Asker::new(netns, Arc::clone(&shared));
                    let cookie = entry.cookie;
                    served.insert(cookie, tokio::spawn(answer(listening, asker, entry)));
                }
                Some(Command::Release(cookie, done)) => {
                    if let Some(task) = served.remove(&cookie) {
                        close(task).await;
                    }
                    // Nobody may wait any more.
                    let _ = done.send(());
                }
                Some(Command::Stop) | None => return,
            },
        }
    }
}

async fn answer(listening: Listening, asker: Asker, _entry: Entry) {
    if let Err(error) = serve(listening, asker).await {
        warn!(%error, "stopped answering DNS queries of a container");
    }
}

/// Drops a container's future, and with it its sockets, before returning.
async fn close(task: JoinHandle<()>) {
    task.abort();
    // It ends as cancelled, which is what was asked for.
    let _ = task.await;
}

#[cfg(test)]
mod tests;
