//! The two ends of containers' interfaces: what is in the host's namespace, and what is in theirs.
//!
//! # Why
//! The Engine does not say which veth pair belongs to which container, nor, while it starts one,
//! where the container's namespace is. The kernel does: a pair's host side knows the number of the
//! namespace that its other end is in. A MAC address alone would prove nothing, because every Engine
//! of a machine makes the same ones up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::{Link, Netns};
use crate::netns::{Interface, InterfaceKind, Links, Namespace};

/// The interfaces of the host's namespace, kept up to date by its news.
#[derive(Debug, Default)]
pub(super) struct HostLinks(BTreeMap<u32, Interface>);

impl HostLinks {
    pub(super) fn replace(&mut self, interfaces: Vec<Interface>) {
        self.0 = interfaces
            .into_iter()
            .map(|interface| (interface.ifindex, interface))
            .collect();
    }

    pub(super) fn changed(&mut self, interface: Interface) {
        self.0.insert(interface.ifindex, interface);
    }

    pub(super) fn gone(&mut self, ifindex: u32) {
        self.0.remove(&ifindex);
    }

    /// Takes note that one end of a pair was moved to the namespace with this number. Returns the index
    /// of the end that stays, of which there are no news before something else happens to it.
    pub(super) fn moved(&mut self, ifindex: u32, number: i32) -> Option<u32> {
        let near = self.0.values_mut().find(|interface| {
            interface.kind == InterfaceKind::Veth
                && interface.peer_ifindex == Some(ifindex)
                && interface.peer_netns_id.is_none()
        })?;
        near.peer_netns_id = Some(number);
        Some(near.ifindex)
    }

    /// Whether `ifindex` is a pair's host side, plugged into a bridge, whose other end has been moved
    /// into another namespace: some container has got an interface.
    pub(super) fn leads_elsewhere(&self, ifindex: u32) -> bool {
        self.0.get(&ifindex).is_some_and(|interface| {
            interface.kind == InterfaceKind::Veth
                && interface.peer_netns_id.is_some()
                && interface.master.is_some()
        })
    }

    /// The number of the namespace that the other end of a pair is in.
    pub(super) fn number_behind(&self, ifindex: u32) -> Option<i32> {
        self.0.get(&ifindex)?.peer_netns_id
    }

    /// The same, if the pair is plugged into a bridge.
    pub(super) fn leads_to(&self, ifindex: u32) -> Option<i32> {
        let interface = self
            .0
            .get(&ifindex)
            .filter(|_| self.leads_elsewhere(ifindex))?;
        interface.peer_netns_id
    }

    /// The interfaces on `bridge` whose other end is in another namespace, by index.
    pub(super) fn plugged_into(&self, bridge: &str) -> impl Iterator<Item = u32> {
        let plugged = self
            .0
            .values()
            .filter(move |interface| self.is_on(interface, bridge));
        plugged
            .map(|interface| interface.ifindex)
            .filter(|ifindex| self.leads_elsewhere(*ifindex))
    }

    /// Whether an interface on `bridge` leads to the namespace with this number.
    pub(super) fn joins(&self, bridge: &str, number: i32) -> bool {
        let mut plugged = self.plugged_into(bridge);
        plugged.any(|ifindex| self.leads_to(ifindex) == Some(number))
    }

    fn is_on(&self, interface: &Interface, bridge: &str) -> bool {
        let master = interface.master.and_then(|master| self.0.get(&master));
        master.is_some_and(|master| master.name == bridge)
    }
}

/// What is in a container's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inside {
    pub(super) netns: Netns,
    /// The host namespace's number for it; `None`: no interface of the host leads there.
    number: Option<i32>,
    interfaces: Vec<Interface>,
}

/// A namespace that was found, before anybody has looked into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sandbox {
    pub(super) netns: Netns,
    /// The host namespace's number for it.
    pub(super) number: i32,
}

/// A namespace that could not be looked into.
#[derive(Debug, thiserror::Error)]
#[error("look into {}: {source}", path.display())]
pub(super) struct LookError {
    path: PathBuf,
    source: io::Error,
}

impl Inside {
    /// Looks into the namespace at `path` from the host's, whose interfaces `host` are. Blocks for
    /// some 0.2 ms.
    pub(super) fn look(host: &mut Links, path: &Path) -> Result<Self, LookError> {
        let failed = |source| LookError {
            path: path.to_path_buf(),
            source,
        };
        let namespace = Namespace::open(path).map_err(failed)?;
        let number = host.number_of(&namespace).map_err(failed)?;
        Self::of(host, &namespace, number, path).map_err(failed)
    }

    fn of(
        host: &mut Links,
        namespace: &Namespace,
        number: Option<i32>,
        path: &Path,
    ) -> io::Result<Self> {
        let (cookie, interfaces) = match namespace.links() {
            Ok(mut links) => (links.cookie()?, links.interfaces()?),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let seen = number.map(|number| host.interfaces_of(number));
                (namespace.cookie()?, seen.transpose()?.unwrap_or_default())
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            netns: Netns {
                path: path.to_path_buf(),
                cookie,
            },
            number,
            interfaces,
        })
    }

    /// What a look would have found: `number` is the host's for the namespace.
    #[cfg(test)]
    pub(super) fn sample(number: i32, interfaces: Vec<Interface>) -> Self {
        Self {
            netns: Netns {
                path: PathBuf::from(format!("/run/docker/netns/{number}")),
                cookie: number.unsigned_abs().into(),
            },
            number: Some(number),
            interfaces,
        }
    }

    /// The pair that connects this namespace to a bridge of the host.
    pub(super) fn link(&self, host: &HostLinks, bridge: &str) -> Option<Link> {
        self.interfaces.iter().find_map(|interface| {
            let peer = host.0.get(&interface.peer_ifindex?)?;
            let joined = peer.peer_ifindex == Some(interface.ifindex)
                && peer.peer_netns_id.is_some()
                && peer.peer_netns_id == self.number;
            (joined && host.is_on(peer, bridge)).then(|| Link {
                host_ifindex: peer.ifindex,
                host_name: peer.name.clone(),
                container_ifindex: interface.ifindex,
                container_name: interface.name.clone(),
                mac: interface.mac,
                link_local: interface.link_local(),
            })
        })
    }

    /// Whether an interface here has its other end in the host's namespace, by its index there.
    pub(super) fn has_peer(&self, host_ifindex: u32) -> bool {
        self.interfaces
            .iter()
            .any(|interface| interface.peer_ifindex == Some(host_ifindex))
    }

    /// Whether the host's namespace calls this one by `number`.
    pub(super) fn is_numbered(&self, number: i32) -> bool {
        self.number == Some(number)
    }

    /// Whether the host has an end of any interface here.
    pub(super) fn is_reachable(&self) -> bool {
        self.number.is_some()
    }
}

/// The namespaces that some interface of the host leads to, except those in `known`. Looks in
/// `folder`, or where none is known, at everything that is mounted. One that vanishes meanwhile is
/// left out: whoever is missed has its own news.
pub(super) fn search(
    host: &mut Links,
    folder: Option<&Path>,
    known: &BTreeSet<PathBuf>,
) -> io::Result<Vec<Inside>> {
    let found = strangers(host, folder, known)?;
    let look = |(namespace, number, path): (Namespace, i32, PathBuf)| {
        Inside::of(host, &namespace, Some(number), &path).ok()
    };
    let inside = found.into_iter().filter_map(look);
    Ok(inside.collect())
}

/// The same namespaces, without looking into them. That is all that can be known without the kernel's
/// lock on interfaces, for which a look may have to wait longer than a container needs to start.
pub(super) fn glimpse(
    host: &mut Links,
    folder: Option<&Path>,
    known: &BTreeSet<PathBuf>,
) -> io::Result<Vec<Sandbox>> {
    let found = strangers(host, folder, known)?;
    let sandbox = |(namespace, number, path): (Namespace, i32, PathBuf)| {
        let cookie = namespace.cookie().ok()?;
        let netns = Netns { path, cookie };
        Some(Sandbox { netns, number })
    };
    Ok(found.into_iter().filter_map(sandbox).collect())
}

/// Namespaces that some interface of the host leads to, with the host's number and their place.
fn strangers(
    host: &mut Links,
    folder: Option<&Path>,
    known: &BTreeSet<PathBuf>,
) -> io::Result<Vec<(Namespace, i32, PathBuf)>> {
    let candidates = match folder {
        Some(folder) => files_of(folder)?,
        None => mounted(&fs::read_to_string("/proc/thread-self/mountinfo")?),
    };
    let found = candidates
        .into_iter()
        .filter(|path| !known.contains(path))
        .filter_map(|path| {
            let namespace = Namespace::open(&path).ok()?;
            let number = host.number_of(&namespace).ok()??;
            Some((namespace, number, path))
        });
    Ok(found.collect())
}

/// None, where there is no such folder: the Engine makes it with the first container.
fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let attempted = |error: io::Error| {
        let message = format!("list the namespaces in {}: {error}", folder.display());
        io::Error::new(error.kind(), message)
    };
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()).map_err(attempted))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(attempted(error)),
    }
}

/// Where network namespaces are mounted, by a `mountinfo` file: the fourth field of such a mount is
/// `net:[inode]`, the fifth the place.
fn mounted(mountinfo: &str) -> Vec<PathBuf> {
    let lines = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        root.starts_with("net:[").then(|| PathBuf::from(place))
    });
    lines.collect()
}
