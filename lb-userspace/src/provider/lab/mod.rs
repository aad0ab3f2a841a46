//! Provider `lab`: containers that veer makes itself, of network namespaces on a bridge, where there
//! is no Engine.
//!
//! A [`Topology`] says what is wanted. `plan` turns it into a [`Record`] of everything by name,
//! `raise` makes what is missing, `clear` removes what is too much, and `follow` publishes what is
//! there.

mod clear;
mod enter;
mod error;
mod follow;
mod plan;
mod process;
mod raise;
mod record;
mod serve;
mod show;
mod subnet;
mod topology;

use std::fs::{self, File};
use std::io;
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::netns::Namespace;

pub use error::LabError;
pub use follow::start;
pub use record::{LabAttachment, LabContainer, LabNetwork, Record};
pub use serve::{listen_address, serve};
pub use show::{Shown, ShownContainer};
pub use topology::{ContainerPlan, NetworkPlan, Topology};

use clear::Doomed;
use plan::Surroundings;
use raise::Raise;

/// The lab of one host: of the network namespace that bridges are made in.
#[derive(Debug)]
pub struct Lab {
    /// `lab` in the state folder.
    folder: PathBuf,
    host: Namespace,
    /// What `veer` means in a container's command.
    program: PathBuf,
}

impl Lab {
    /// The lab of the calling thread's network namespace, up or not. `state` is veer's state folder
    /// for that namespace.
    pub fn open(state: &Path) -> Result<Self, LabError> {
        let program = std::env::current_exe()
            .map_err(LabError::io(|| "find this program's own file".to_string()))?;
        Ok(Self {
            folder: state.join("lab"),
            host: Namespace::current()?,
            program,
        })
    }

    /// Makes the lab what `topology` says, whatever it was before: nothing, a lab, or what a crash
    /// left of one. What stays is not touched, and Connections to it go on.
    pub fn up(&self, topology: &Topology) -> Result<Record, LabError> {
        fs::create_dir_all(&self.folder)
            .map_err(LabError::io(|| format!("create {}", self.folder.display())))?;
        let _lock = self.lock()?;
        let before = Record::load(&self.folder)?.unwrap_or_default();
        let after = self.resolve(topology, &before)?;
        self.make_folders()?;
        self.write_resolv_conf()?;

        self.clear(&Doomed::between(&before, &after))?;
        after.save(&self.folder)?;
        let outcome = Raise::new(self, &after)?.run();
        self.tell_follower();
        outcome.map(|()| after)
    }

    /// Removes exactly what [`Lab::up`] made. A lab that is not up is no error.
    pub fn down(&self) -> Result<(), LabError> {
        if !self.folder.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let before = Record::load(&self.folder)?.unwrap_or_default();
        self.clear(&Doomed::between(&before, &Record::default()))?;
        self.remove_folders()?;
        self.tell_follower();
        Ok(())
    }

    /// What the lab consists of; `None` if it is not up.
    pub fn record(&self) -> Result<Option<Record>, LabError> {
        Record::load(&self.folder)
    }

    fn resolve(&self, topology: &Topology, before: &Record) -> Result<Record, LabError> {
        let interfaces = self.host.interfaces()?;
        let is_ours = |name: &str| {
            let mut networks = before.networks.iter();
            networks.any(|network| network.bridge == name)
        };
        let our_bridges: Vec<_> = interfaces
            .iter()
            .filter(|interface| is_ours(&interface.name))
            .map(|interface| interface.ifindex)
            .collect();
        let taken = self.host.routes()?;
        let taken: Vec<IpNet> = taken
            .iter()
            .filter(|route| route.to.prefix_len() > 0)
            .filter(|route| !route.ifindex.is_some_and(|own| our_bridges.contains(&own)))
            .map(|route| route.to)
            .collect();
        let record = plan::resolve(
            topology,
            before,
            &mut Surroundings {
                taken: &taken,
                new_id: &mut record::new_id,
            },
        )?;
        let strangers = names(&record).find(|name| {
            let known = names(before).any(|known| known == *name);
            !known && interfaces.iter().any(|found| found.name == *name)
        });
        match strangers {
            Some(name) => Err(LabError::InterfaceTaken {
                name: name.to_string(),
            }),
            None => Ok(record),
        }
    }
}

/// Every name of an interface that the record gives the host.
fn names(record: &Record) -> impl Iterator<Item = &str> {
    let bridges = record
        .networks
        .iter()
        .map(|network| network.bridge.as_str());
    let attachments = record.containers.iter().flat_map(|c| &c.attachments);
    bridges.chain(attachments.map(|attachment| attachment.host_name.as_str()))
}

// === impl Lab: folders ===

impl Lab {
    fn netns_folder(&self) -> PathBuf {
        self.folder.join("netns")
    }

    /// The file that keeps a container's namespace.
    fn netns_path(&self, container: &str) -> PathBuf {
        self.netns_folder().join(container)
    }

    /// The file that tells a container's process.
    fn process_path(&self, container: &str) -> PathBuf {
        self.folder.join("run").join(container)
    }

    /// What a container's process has written.
    fn log_path(&self, container: &str) -> PathBuf {
        self.folder.join("log").join(container)
    }

    /// Where the daemon that follows the lab hears of changes.
    fn socket_path(&self) -> PathBuf {
        self.folder.with_extension("sock")
    }

    /// One `up` or `down` at a time. The file is beside the folder, because `down` removes that one.
    fn lock(&self) -> Result<Flock<File>, LabError> {
        let path = self.folder.with_extension("lock");
        let lock = || {
            let file = File::options().create(true).append(true).open(&path)?;
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))
        };
        lock().map_err(LabError::io(|| format!("lock {}", path.display())))
    }

    fn make_folders(&self) -> Result<(), LabError> {
        let make = || {
            for folder in ["netns", "run", "log"] {
                fs::create_dir_all(self.folder.join(folder))?;
            }
            if !self.is_netns_folder_mounted()? {
                // A mount of its own, so that one step hides every container's namespace from the
                // processes of all the others.
                let none: Option<&str> = None;
                let kind = Some("tmpfs");
                mount(kind, &self.netns_folder(), kind, MsFlags::empty(), none)?;
            }
            Ok(())
        };
        make().map_err(LabError::io(|| format!("make {}", self.folder.display())))
    }

    fn remove_folders(&self) -> Result<(), LabError> {
        let clear = || {
            if self.is_netns_folder_mounted()? {
                umount2(&self.netns_folder(), MntFlags::MNT_DETACH)?;
            }
            fs::remove_dir_all(&self.folder)
        };
        clear().map_err(LabError::io(|| format!("remove {}", self.folder.display())))
    }

    fn is_netns_folder_mounted(&self) -> io::Result<bool> {
        let device = |path: &Path| match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(|found| Some(found.st_dev())),
        };
        let inner = device(&self.netns_folder())?;
        Ok(inner.is_some() && inner != device(&self.folder)?)
    }

    /// Nobody has to be there to listen.
    fn tell_follower(&self) {
        if let Ok(socket) = UnixDatagram::unbound() {
            let _ = socket.send_to(b"look again", self.socket_path());
        }
    }
}

#[cfg(test)]
mod tests;
