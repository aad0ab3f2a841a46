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
    Attachment, Container, ContainerId, Link, Netns, Network, NetworkId, Notice, Observed, RunState,
};
use crate::netns::{Interface, LinkChange, LinkWatch, Namespace, watch_links};
use crate::provider::{Feed, Publisher, feed};

use super::process::Process;
use super::{Lab, LabAttachment, LabContainer, LabNetwork, Record};

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
    /// The host's interfaces by name.
    interfaces: BTreeMap<String, Interface>,
    /// Cookies of the containers' namespaces, with the inodes that they were read from.
    cookies: BTreeMap<String, (u64, u64)>,
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
            interfaces: BTreeMap::new(),
            cookies: BTreeMap::new(),
            ended: BTreeSet::new(),
        })
    }

    /// Publishes until something fails, and returns that.
    async fn follow(&mut self, publisher: &Publisher) -> io::Error {
        let mut clock = interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if let Err(error) = self.look_at_everything() {
            return error;
        }
        loop {
            publisher.publish(self.observe(), Some(SystemTime::now()));
            publisher.following(&self.detail());
            let mut word = [0; 16];
            let outcome = tokio::select! {
                change = self.watch.next() => match change {
                    Ok(change) => self.take(change).await,
                    Err(error) => Err(error),
                },
                heard = self.socket.recv(&mut word) => heard.and_then(|_| self.look_at_everything()),
                _ = clock.tick() => self.look_at_processes(),
            };
            if let Err(error) = outcome {
                return error;
            }
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
        self.interfaces = interfaces.map(|i| (i.name.clone(), i)).collect();
        self.look_at_record()?;
        self.look_at_processes()
    }

    fn look_at_record(&mut self) -> io::Result<()> {
        let record = self.lab.record().map_err(io::Error::other)?;
        self.record = record.unwrap_or_default();
        Ok(())
    }

    fn look_at_processes(&mut self) -> io::Result<()> {
        let containers = self.record.containers.iter();
        self.ended = containers
            .filter(|container| !container.command.is_empty())
            .filter(|container| {
                let process = Process::load(&self.lab.process_path(&container.name));
                process.is_some_and(|process| !process.is_alive())
            })
            .map(|container| container.name.clone())
            .collect();
        Ok(())
    }

    /// Takes in a piece of news, and what came together with it.
    async fn take(&mut self, first: LinkChange) -> io::Result<()> {
        let mut next = Some(first);
        while let Some(change) = next {
            match change {
                LinkChange::Changed(interface) => {
                    self.interfaces.insert(interface.name.clone(), interface);
                }
                LinkChange::Gone { name, .. } => {
                    self.interfaces.remove(&name);
                }
                LinkChange::Missed => return self.look_at_everything(),
            }
            next = match timeout(Duration::ZERO, self.watch.next()).await {
                Ok(change) => Some(change?),
                Err(_elapsed) => None,
            };
        }
        self.look_at_record()
    }

    fn observe(&mut self) -> Observed {
        let record = std::mem::take(&mut self.record);
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

    fn container(&mut self, container: &LabContainer, record: &Record) -> Container {
        Container {
            id: ContainerId(container.id.clone()),
            name: container.name.clone(),
            hostname: container.name.clone(),
            state: RunState::Running,
            labels: container.labels.clone(),
            netns: self.netns(&container.name),
            sharers: Vec::new(),
            dns_servers: Vec::new(),
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

    /// `None` while the namespace is not there.
    fn netns(&mut self, container: &str) -> Option<Netns> {
        let path = self.lab.netns_path(container);
        let inode = fs::metadata(&path).ok()?.ino();
        let known = self.cookies.get(container);
        let cookie = match known.filter(|(from, _)| *from == inode) {
            Some((_, cookie)) => *cookie,
            None => {
                let cookie = Namespace::open(&path)
                    .and_then(|found| found.cookie())
                    .ok()?;
                self.cookies.insert(container.to_string(), (inode, cookie));
                cookie
            }
        };
        Some(Netns { path, cookie })
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
