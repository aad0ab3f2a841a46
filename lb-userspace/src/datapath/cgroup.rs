//! The socket programs on the cgroup2 root: pinned links.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::Options;
use super::bpf::{self, AttachType};
use super::error::{DatapathError, Warning};
use super::mounts;
use super::pins::{self, Pins};
use super::programs::{Programs, SOCKET};

/// Attaches every socket program to the cgroup that is chosen, or to the cgroup2 root; programs of an
/// older veer are replaced one by one, each in one step. Where that cannot be done nothing stays attached,
/// and a warning says why: everything else works without.
pub(super) fn attach(
    programs: &Programs,
    pins: &Pins,
    options: &Options,
) -> Result<Option<Warning>, DatapathError> {
    let target = match Target::open(options) {
        Ok(target) => target,
        Err(cause) => return give_up(pins, cause.to_string()),
    };
    let path = target.path;
    for (name, attach_type) in SOCKET {
        if let Err(error) = attach_one(programs, pins, &target.folder, name, attach_type) {
            return give_up(
                pins,
                format!("attach {name} to {}: {error}", path.display()),
            );
        }
    }
    Ok(target
        .is_nested
        .then_some(Warning::NestedCgroup { cgroup: path }))
}

/// Takes every socket program off, and gives how many there were.
pub(super) fn detach(pins: &Pins) -> Result<usize, DatapathError> {
    let mut detached = 0;
    for (name, _) in SOCKET {
        let path = pins.cgroup_link(name);
        if let Ok(link) = bpf::open_pin(&path) {
            bpf::detach(link.as_fd()).map_err(DatapathError::file("detach", &path))?;
        }
        detached += usize::from(pins::remove(&path)?);
    }
    Ok(detached)
}

fn give_up(pins: &Pins, cause: String) -> Result<Option<Warning>, DatapathError> {
    detach(pins)?;
    Ok(Some(Warning::NoTakeover { cause }))
}

/// The cgroup that programs are attached to.
struct Target {
    path: PathBuf,
    folder: File,
    /// Whether it is only a part's root.
    is_nested: bool,
}

impl Target {
    fn open(options: &Options) -> io::Result<Self> {
        let is_nested = options.cgroup.is_none() && mounts::is_in_cgroup_namespace()?;
        let chosen = match &options.cgroup {
            Some(chosen) => Some(chosen.clone()),
            None => mounts::cgroup2()?,
        };
        let (path, folder) = match chosen {
            Some(path) => {
                let opened = File::open(&path);
                let failed = |error| io::Error::other(format!("open {}: {error}", path.display()));
                (path.clone(), opened.map_err(failed)?)
            }
            // The links that will be made keep the tree, which needs to be mounted nowhere.
            None => (
                PathBuf::from("the cgroup2 tree"),
                mounts::open_cgroup2(&options.folder.join("cgroup2"))?,
            ),
        };
        Ok(Self {
            path,
            folder,
            is_nested,
        })
    }
}

fn attach_one(
    programs: &Programs,
    pins: &Pins,
    folder: &File,
    name: &'static str,
    attach_type: AttachType,
) -> Result<(), DatapathError> {
    let failed = |source| DatapathError::Program {
        attempt: "attach",
        program: name,
        source,
    };
    let program = programs.get(name)?;
    let inode = folder.metadata().map_err(failed)?.ino();
    let path = pins.cgroup_link(name);
    if let Ok(link) = bpf::open_pin(&path) {
        // A link of another cgroup, or of one that is gone, is of no use.
        if bpf::link_info(link.as_fd()).map_err(failed)?.cgroup() == Some(inode) {
            return bpf::replace_program(link.as_fd(), program).map_err(failed);
        }
    }
    pins::remove(&path)?;
    let link = bpf::attach_cgroup(program, folder.as_fd(), attach_type).map_err(failed)?;
    bpf::pin(link.as_fd(), &path).map_err(DatapathError::file("pin", path))
}
