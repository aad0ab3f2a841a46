//! What keeps the datapath alive without the daemon: files in the BPF file system.
//!
//! ```text
//! /sys/fs/bpf/veer/
//!   netns-4026531840/               one instance: the network namespace that it serves
//!     v1/                           one layout of the maps
//!       maps/CONNECTIONS …
//!       programs/endpoint_in …
//!       links/endpoint_in-12 …      tcx link on interface 12; before Linux 6.6 an empty folder,
//!                                   which says that the interface has our filter
//!       links/socket_connect4 …     cgroup links
//!       loaded/90aa12c4f3b17e05     empty: the programs are those of this object, on these maps
//! ```

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use lb_common::LAYOUT;

use super::bpf;
use super::error::DatapathError;

/// Where programs say how they were loaded.
const LOADED: &str = "loaded";
/// Everything that a layout has, what points at others first.
pub(super) const FOLDERS: [&str; 4] = [LOADED, "links", "programs", "maps"];

/// The pins of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pins {
    instance: PathBuf,
    layout: PathBuf,
}

impl Pins {
    pub(super) fn new(bpffs: &Path, instance: &str) -> Self {
        let instance = bpffs.join("veer").join(instance);
        Self {
            layout: instance.join(layout_name(LAYOUT)),
            instance,
        }
    }

    /// The folder of the instance, of every layout.
    pub(super) fn instance(&self) -> &Path {
        &self.instance
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.layout.join("maps").join(name)
    }

    /// Names of the maps that are pinned.
    pub(super) fn maps(&self) -> Result<Vec<String>, DatapathError> {
        names(&self.layout.join("maps"))
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.layout.join("programs").join(name)
    }

    /// The link of a program on an interface.
    pub(super) fn link(&self, program: &str, ifindex: u32) -> PathBuf {
        self.layout.join("links").join(link_name(program, ifindex))
    }

    pub(super) fn cgroup_link(&self, program: &str) -> PathBuf {
        self.layout.join("links").join(program)
    }

    /// Makes the folders, those that are missing.
    pub(super) fn create(&self) -> Result<(), DatapathError> {
        for folder in FOLDERS {
            let path = self.layout.join(folder);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(DatapathError::file("create folder", path))?;
        }
        Ok(())
    }

    /// Whether the pinned programs were loaded as `record` says, and all of them.
    pub(super) fn is_loaded(&self, record: u64) -> bool {
        self.layout.join(LOADED).join(record_name(record)).is_dir()
    }

    /// Forgets how the pinned programs were loaded: before the first of them changes.
    pub(super) fn forget_loaded(&self) -> Result<(), DatapathError> {
        let folder = self.layout.join(LOADED);
        for name in names(&folder)? {
            remove(&folder.join(name))?;
        }
        Ok(())
    }

    /// Notes how they were loaded: after the last of them has changed.
    pub(super) fn note_loaded(&self, record: u64) -> Result<(), DatapathError> {
        let path = self.layout.join(LOADED).join(record_name(record));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(DatapathError::file("create folder", path))
    }

    /// Interfaces that have a pin of this program, whether it is still good or not.
    pub(super) fn links(&self, program: &str) -> Result<BTreeSet<u32>, DatapathError> {
        let names = names(&self.layout.join("links"))?;
        let ifindexes = names.iter().filter_map(|name| ifindex(program, name));
        Ok(ifindexes.collect())
    }

    /// The folder of this layout.
    pub(super) fn layout(&self) -> &Path {
        &self.layout
    }

    /// The pins of other layouts of the same instance.
    pub(super) fn other_layouts(&self) -> Result<Vec<Self>, DatapathError> {
        let layouts = names(&self.instance)?.into_iter().map(|name| Self {
            layout: self.instance.join(name),
            instance: self.instance.clone(),
        });
        Ok(layouts.filter(|other| other != self).collect())
    }
}

/// Pins `fd` at `path`, in the place of what was there, in one step.
pub(super) fn replace(fd: BorrowedFd<'_>, path: &Path) -> Result<(), DatapathError> {
    let mut fresh = path.as_os_str().to_owned();
    // Not after a dot: the BPF file system keeps names with dots for itself.
    fresh.push("-new");
    let fresh = PathBuf::from(fresh);
    remove(&fresh)?;
    bpf::pin(fd, &fresh).map_err(DatapathError::file("pin", &fresh))?;
    fs::rename(&fresh, path).map_err(DatapathError::file("rename a pin to", path))
}

/// Removes a pin; `false` if it was not there.
pub(super) fn remove(path: &Path) -> Result<bool, DatapathError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DatapathError::file("remove pin", path)(error)),
    }
}

/// Names in a folder, in order; none if it is not there.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, DatapathError> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(DatapathError::file("read folder", folder)),
    }
}

fn layout_name(layout: u32) -> String {
    format!("v{layout}")
}

fn record_name(record: u64) -> String {
    format!("{record:016x}")
}

fn link_name(program: &str, ifindex: u32) -> String {
    format!("{program}-{ifindex}")
}

/// The interface of a link's pin; `None` for other pins.
fn ifindex(program: &str, name: &str) -> Option<u32> {
    name.strip_prefix(program)?.strip_prefix('-')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_under_the_instance_and_the_layout() {
        let pins = Pins::new(Path::new("/sys/fs/bpf"), "netns-7");

        let folder = format!("/sys/fs/bpf/veer/netns-7/v{LAYOUT}");
        assert_eq!(pins.map("SLOTS"), Path::new(&folder).join("maps/SLOTS"));
        assert_eq!(
            pins.link("endpoint_in", 12),
            Path::new(&folder).join("links/endpoint_in-12")
        );
        assert!(!pins.map("SLOTS").to_string_lossy().contains('.'));
    }

    #[test]
    fn the_interface_of_a_link_is_in_its_name() {
        let name = link_name("endpoint_in", u32::MAX);
        assert_eq!(ifindex("endpoint_in", &name), Some(u32::MAX));
        assert_eq!(ifindex("endpoint_in", "socket_connect4"), None);
        assert_eq!(ifindex("endpoint_in", "endpoint_in-new"), None);
        assert_eq!(ifindex("bridge_in", &name), None);
    }

    #[test]
    fn other_layouts_are_found_beside_ours() {
        let folder = tempfile::tempdir().unwrap();
        let pins = Pins::new(folder.path(), "netns-7");
        pins.create().unwrap();
        fs::create_dir(pins.instance().join("v0")).unwrap();

        let others = pins.other_layouts().unwrap();

        let folders: Vec<_> = others.iter().map(Pins::layout).collect();
        assert_eq!(folders, [pins.instance().join("v0")]);
    }
}
