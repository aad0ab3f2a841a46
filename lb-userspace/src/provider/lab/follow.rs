//! The lab's provider: publishes what is there, whenever it may have changed.
//!
//! Three things make it look again: news of the host's interfaces, a word from `up` or `down` on a
//! socket, and a clock, because the end of a process that is not one's own child makes no news.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use tokio::net::UnixDatagram;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::model::{
    Attachment, Container, ContainerId, Elsewhere, Link, Netns, Network, NetworkId, NetworkPolicy,
    Notice, Observed, Publishing, RunState,
};
use crate::netns::{Interface, LinkChange, LinkWatch, Namespace, for_each, watch_links};
use crate::provider::{Feed, Publisher, feed};

use super::process::Process;
use super::{Lab, LabAttachment, LabContainer, LabNetwork, Record, record};

/// How often the lab's processes are looked at.
const TICK: Duration = Duration::from_millis(200);

/// How long to wait before trying again after an error.
const PAUSE: Duration = Duration::from_secs(1);

/// Publishes what is in `lab`, and what becomes of it. Must be called within a tokio runtime.
pub fn start(lab: Lab) -> Feed {
    let (publisher, feed) = feed();
    tokio::spawn(async move {
        loop {
            let error = match Follower::new(&lab).await {
                Ok(mut follower) => follower.follow(&publisher).await,
                Err(error) => error,
            };
            publisher.failing(&format!("lab: {error}"));
            sleep(PAUSE).await;
        }
    });
    feed
}

struct Follower<'a> {
    lab: &'a Lab,
    watch: LinkWatch,
    socket: UnixDatagram,
    record: Record,
    /// Which file the record was read from: every new one is another file.
    record_inode: Option<u64>,
    /// The host's interfaces by name.
    interfaces: BTreeMap<String, Interface>,
    /// The containers' namespaces, as far as they are there, by the containers' names.
    netns: BTreeMap<String, Netns>,
    /// Names of containers whose command has ended.
    ended: BTreeSet<String>,
}

impl<'a> Follower<'a> {
    async fn new(lab: &'a Lab) -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let watch = lab.host.run(|| {
            let _guard = runtime.enter();
            watch_links()
        })??;
        let path = lab.socket_path();
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        Ok(Self {
            lab,
            watch,
            socket: UnixDatagram::bind(&path)?,
            record: Record::default(),
            record_inode: None,
            interfaces: BTreeMap::new(),
            netns: BTreeMap::new(),
            ended: BTreeSet::new(),
        })
    }

    /// Publishes until something fails, and returns that.
    async fn follow(&mut self, publisher: &Publisher) -> io::Error {
        let mut clock = interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_news = match self.look_at_everything() {
            Ok(()) => true,
            Err(error) => return error,
        };
        let mut caused_at = SystemTime::now();
        loop {
            if is_news {
                publisher.publish(self.observe(), Some(caused_at));
                publisher.following(&self.detail());
            }
            let mut word = [0; 16];
            let outcome = tokio::select! {
                change = self.watch.next() => {
                    caused_at = SystemTime::now();
                    match change {
                        Ok(change) => self.take(change).await,
                        Err(error) => Err(error),
                    }
                }
                heard = self.socket.recv(&mut word) => {
                    caused_at = SystemTime::now();
                    heard.and_then(|_| self.look_at_everything()).map(|()| true)
                }
                _ = clock.tick(), if self.has_processes() => {
                    caused_at = SystemTime::now();
                    Ok(self.look_at_processes())
                }
            };
            is_news = match outcome {
                Ok(is_news) => is_news,
                Err(error) => return error,
            };
        }
    }

    fn detail(&self) -> String {
        if self.record == Record::default() {
            return "no lab is up: `veer lab up` makes one".to_string();
        }
        format!("lab in {}", self.lab.folder.display())
    }

    fn look_at_everything(&mut self) -> io::Result<()> {
        let interfaces = self.lab.host.interfaces()?.into_iter();
        let interfaces = interfaces.map(|i| (i.name.clone(), i)).collect();
        let before = std::mem::replace(&mut self.interfaces, interfaces);
        let is_there = |i: &Interface| {
            self.interfaces
                .get(&i.name)
                .is_some_and(|now| now.ifindex == i.ifindex)
        };
        let gone = before
            .into_values()
            .filter(|i| !is_there(i))
            .map(|i| i.name)
            .collect();
        self.doubt_netns(&gone);
        self.look_at_record()?;
        self.look_at_processes();
        Ok(())
    }

    /// Whether the record is another one.
    fn look_at_record(&mut self) -> io::Result<bool> {
        let inode = match fs::metadata(record::path(&self.lab.folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?.ino()),
        };
        if inode == self.record_inode {
            return Ok(false);
        }
        let record = self.lab.record().map_err(io::Error::other)?;
        let before = std::mem::replace(&mut self.record, record.unwrap_or_default());
        self.record_inode = inode;
        self.forget_others(&before);
        Ok(true)
    }

    /// Forgets the namespaces of those containers that are others now under the same name. One that is
    /// the same keeps its namespace, or its interface in the host's would have gone.
    fn forget_others(&mut self, before: &Record) {
        let ids: BTreeMap<_, _> = self
            .record
            .containers
            .iter()
            .map(|c| (&c.name, &c.id))
            .collect();
        let is_same: BTreeSet<_> = before
            .containers
            .iter()
            .filter(|container| ids.get(&container.name) == Some(&&container.id))
            .map(|container| container.name.as_str())
            .collect();
        self.netns.retain(|name, _| is_same.contains(name.as_str()));
    }

    /// Whether there is anything that can end by itself.
    fn has_processes(&self) -> bool {
        let mut containers = self.record.containers.iter();
        containers.any(|container| !container.command.is_empty())
    }

    /// Whether other processes than before have ended.
    fn look_at_processes(&mut self) -> bool {
        let containers = self.record.containers.iter();
        let ended = containers
            .filter(|container| !container.command.is_empty())
            .filter(|container| {
                let process = Process::load(&self.lab.process_path(&container.name));
                process.is_some_and(|process| !process.is_alive())
            })
            .map(|container| container.name.clone())
            .collect();
        let before = std::mem::replace(&mut self.ended, ended);
        self.ended != before
    }

    /// Takes in a piece of news and what came together with it, and says whether it is any.
    async fn take(&mut self, first: LinkChange) -> io::Result<bool> {
        let mut next = Some(first);
        let mut is_news = false;
        let mut gone = BTreeSet::new();
        while let Some(change) = next {
            is_news |= match change {
                LinkChange::Changed(interface) => {
                    let name = interface.name.clone();
                    let known = self.interfaces.insert(name, interface.clone());
                    known.is_none_or(|known| !is_same(&known, &interface))
                }
                LinkChange::Gone { name, .. } => {
                    let was_there = self.interfaces.remove(&name).is_some();
                    gone.insert(name);
                    was_there
                }
                LinkChange::Missed => return self.look_at_everything().map(|()| true),
            };
            next = match timeout(Duration::ZERO, self.watch.next()).await {
                Ok(change) => Some(change?),
                Err(_elapsed) => None,
            };
        }
        self.doubt_netns(&gone);
        Ok(self.look_at_record()? || is_news)
    }

    /// The namespaces of containers that lost one of these interfaces may be gone as well.
    fn doubt_netns(&mut self, interfaces: &BTreeSet<String>) {
        let containers = self.record.containers.iter();
        let doubtful = containers.filter(|container| {
            let mut attachments = container.attachments.iter();
            attachments.any(|attachment| interfaces.contains(&attachment.host_name))
        });
        for container in doubtful {
            self.netns.remove(&container.name);
        }
    }

    fn observe(&mut self) -> Observed {
        let record = std::mem::take(&mut self.record);
        self.find_netns(&record);
        let mut observed = Observed {
            networks: record.networks.iter().map(network).collect(),
            ..Observed::default()
        };
        for container in &record.containers {
            if self.ended.contains(&container.name) {
                observed.notices.push(ended(container));
            } else {
                let found = self.container(container, &record);
                observed.containers.push(found);
            }
        }
        self.record = record;
        observed
    }

    fn container(&self, container: &LabContainer, record: &Record) -> Container {
        Container {
            id: ContainerId(container.id.clone()),
            name: container.name.clone(),
            hostname: container.name.clone(),
            state: RunState::Running,
            labels: container.labels.clone(),
            netns: self.netns.get(&container.name).cloned(),
            sharers: Vec::new(),
            dns_servers: Vec::new(),
            elsewhere: Elsewhere::Nothing,
            publishing: publishing(container, record),
            attachments: container
                .attachments
                .iter()
                .filter_map(|found| {
                    let network = record.network(&found.network)?;
                    let host = self.interfaces.get(&found.host_name);
                    Some(attachment(found, network, host))
                })
                .collect(),
        }
    }

    /// Finds the namespaces that are not known yet, as far as they are there.
    fn find_netns(&mut self, record: &Record) {
        let containers = record.containers.iter();
        let unknown: Vec<_> = containers
            .filter(|container| !self.netns.contains_key(&container.name))
            .map(|container| (&container.name, self.lab.netns_path(&container.name)))
            .collect();
        let cookies = for_each(&unknown, |(_, path)| Namespace::open(path)?.cookie());
        for ((name, path), cookie) in unknown.into_iter().zip(cookies) {
            if let Ok(cookie) = cookie {
                self.netns.insert(name.clone(), Netns { path, cookie });
            }
        }
    }
}

/// Whether two pieces of news tell the same of what matters here: news come without addresses.
fn is_same(one: &Interface, other: &Interface) -> bool {
    one.ifindex == other.ifindex
        && one.peer_ifindex == other.peer_ifindex
        && one.has_carrier == other.has_carrier
}

/// A lab's container publishes nothing, and leaves by its first Network that has a way out.
fn publishing(container: &LabContainer, record: &Record) -> Publishing {
    let networks = container.attachments.iter();
    let mut networks = networks.filter_map(|found| record.network(&found.network));
    let gateway = networks.find(|network| !network.internal);
    let gateway = gateway.map(|network| NetworkId(network.id.clone()));
    Publishing {
        gateway_v4: gateway.clone(),
        gateway_v6: gateway,
        ..Publishing::default()
    }
}

fn network(network: &LabNetwork) -> Network {
    Network {
        id: NetworkId(network.id.clone()),
        name: network.name.clone(),
        bridge: network.bridge.clone(),
        subnets: network.subnets.clone(),
        internal: network.internal,
        labels: network.labels.clone(),
        policy: NetworkPolicy::default(),
    }
}

fn attachment(found: &LabAttachment, network: &LabNetwork, host: Option<&Interface>) -> Attachment {
    let link = host.filter(|host| host.has_carrier).and_then(|host| {
        Some(Link {
            host_ifindex: host.ifindex,
            host_name: host.name.clone(),
            container_ifindex: host.peer_ifindex?,
            container_name: found.container_name.clone(),
            mac: found.mac,
            link_local: Some(link_local(found.mac)),
        })
    });
    Attachment {
        network: NetworkId(network.id.clone()),
        endpoint_id: found.endpoint_id.clone(),
        v4: found.v4,
        v6: found.v6,
        aliases: found.aliases.clone(),
        linked: Vec::new(),
        link,
    }
}

/// The address that the kernel makes from a MAC address (RFC 4291, appendix A).
fn link_local(mac: [u8; 6]) -> std::net::Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    octets.into()
}

fn ended(container: &LabContainer) -> Notice {
    Notice {
        subject: format!("container {}", container.name),
        message: "its command has ended; `veer lab up` starts it again".to_string(),
    }
}
