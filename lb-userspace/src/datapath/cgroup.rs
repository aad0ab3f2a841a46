//! The socket programs on the cgroup2 root: pinned links.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::bpf::{self, AttachType};
use super::error::{DatapathError, Warning};
use super::mounts;
use super::pins::{self, Pins};
use super::programs::{Programs, SOCKET};

/// Attaches every socket program to `cgroup`, or to the cgroup2 root; programs of an older veer are
/// replaced one by one, each in one step. Where that cannot be done nothing stays attached, and a
/// warning says why: everything else works without.
pub(super) fn attach(
    programs: &Programs,
    pins: &Pins,
    cgroup: Option<&Path>,
) -> Result<Option<Warning>, DatapathError> {
    let (path, nested) = match target(cgroup) {
        Ok(target) => target,
        Err(cause) => return give_up(pins, cause.to_string()),
    };
    for (name, attach_type) in SOCKET {
        if let Err(error) = attach_one(programs, pins, &path, name, attach_type) {
            return give_up(
                pins,
                format!("attach {name} to {}: {error}", path.display()),
            );
        }
    }
    Ok(nested.then_some(Warning::NestedCgroup { cgroup: path }))
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

/// The cgroup, and whether it is only a part's root.
fn target(cgroup: Option<&Path>) -> io::Result<(PathBuf, bool)> {
    if let Some(chosen) = cgroup {
        return Ok((chosen.to_owned(), false));
    }
    let missing = "cgroup2 is not mounted; try `mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`";
    let root = mounts::cgroup2()?.ok_or_else(|| io::Error::other(missing))?;
    Ok((root, mounts::is_in_cgroup_namespace()?))
}

fn attach_one(
    programs: &Programs,
    pins: &Pins,
    cgroup: &Path,
    name: &'static str,
    attach_type: AttachType,
) -> Result<(), DatapathError> {
    let failed = |source| DatapathError::Program {
        attempt: "attach",
        program: name,
        source,
    };
    let program = programs.get(name)?;
    let folder = File::open(cgroup).map_err(failed)?;
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
