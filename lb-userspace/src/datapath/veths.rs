//! `endpoint_in` on host-side veths: tcx links, which outlive the daemon as pins; before Linux 6.6
//! filters, which outlive it by themselves.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::bpf;
use super::clsact;
use super::error::DatapathError;
use super::expedite::expedited;
use super::pins::{self, Pins};

/// How a program gets onto an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Linux 6.6 and later.
    Tcx,
    Clsact,
}

/// What became of the pins of a former veer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Interfaces that go on with the new program.
    pub(super) attached: BTreeSet<u32>,
    /// Interfaces that are gone.
    pub(super) removed: BTreeSet<u32>,
}

/// The veths of one instance.
#[derive(Debug)]
pub(super) struct Veths<'a> {
    pub(super) pins: &'a Pins,
    pub(super) hook: Hook,
    /// Those that a veer of another layout has left.
    pub(super) others: &'a [Pins],
}

impl Veths<'_> {
    /// Puts `program` onto the interface, in the place of what veer has there, of other layouts as well.
    pub(super) fn attach(
        &self,
        ifindex: u32,
        program: BorrowedFd<'_>,
    ) -> Result<(), DatapathError> {
        if !self.replace(ifindex, program)? {
            let attached = match self.hook {
                Hook::Tcx => self.attach_tcx(ifindex, program),
                Hook::Clsact => self.attach_clsact(ifindex),
            };
            attached.map_err(|source| DatapathError::Attach { ifindex, source })?;
        }
        self.retire_others(ifindex)
    }

    /// Takes programs of other layouts off an interface that has ours. Left there, they would balance
    /// what ours leaves to the bridge, by tables that nobody keeps.
    fn retire_others(&self, ifindex: u32) -> Result<(), DatapathError> {
        for other in self.others {
            let path = other.veth_link(ifindex);
            if !path.is_dir() {
                detach_link(&path).map_err(|source| DatapathError::Detach { ifindex, source })?;
            }
            // A mark goes alone: the filter it stood for is ours now.
            pins::remove(&path)?;
        }
        Ok(())
    }

    fn attach_tcx(&self, ifindex: u32, program: BorrowedFd<'_>) -> io::Result<()> {
        let link = expedited(|| bpf::attach_tcx(program, ifindex))?;
        bpf::pin(link.as_fd(), &self.pins.veth_link(ifindex))
    }

    fn attach_clsact(&self, ifindex: u32) -> io::Result<()> {
        // The mark first: a filter without one would never be found again.
        std::fs::create_dir(self.pins.veth_link(ifindex))?;
        clsact::attach(ifindex, self.pins)
    }

    /// Takes the program off the interface; `false` if it was not there, or the interface is gone.
    pub(super) fn detach(&self, ifindex: u32) -> Result<bool, DatapathError> {
        let path = self.pins.veth_link(ifindex);
        let detached = if path.is_dir() {
            clsact::detach(ifindex)
        } else {
            detach_link(&path)
        };
        detached.map_err(|source| DatapathError::Detach { ifindex, source })?;
        pins::remove(&path)
    }

    /// Gives every interface that has a pin the new program, and removes the pins of those that are
    /// gone. Maps and order of programs stay as they are.
    pub(super) fn adopt(&self, program: BorrowedFd<'_>) -> Result<Kept, DatapathError> {
        let mut kept = Kept::default();
        for ifindex in self.pins.veth_links()? {
            if self.replace(ifindex, program)? {
                kept.attached.insert(ifindex);
            } else {
                kept.removed.insert(ifindex);
            }
        }
        Ok(kept)
    }

    /// Interfaces that have the program. Removes the pins of interfaces that are gone.
    pub(super) fn attached(&self) -> Result<BTreeSet<u32>, DatapathError> {
        let mut attached = BTreeSet::new();
        for ifindex in self.pins.veth_links()? {
            let path = self.pins.veth_link(ifindex);
            let live = if path.is_dir() {
                // The only way of asking that aya has: put the same program there again.
                clsact::replace(ifindex, self.pins)
                    .map_err(|source| DatapathError::Attach { ifindex, source })?
            } else {
                let link = bpf::open_pin(&path).and_then(|link| bpf::link_info(link.as_fd()));
                let link = link.map_err(DatapathError::file("open pinned link", &path))?;
                link.ifindex() == Some(ifindex)
            };
            if live {
                attached.insert(ifindex);
            } else {
                pins::remove(&path)?;
            }
        }
        Ok(attached)
    }

    /// Replaces the program on the interface, in one step; `false` if there is nothing to replace: no
    /// pin, or one of an interface that is gone, which is removed.
    fn replace(&self, ifindex: u32, program: BorrowedFd<'_>) -> Result<bool, DatapathError> {
        let path = self.pins.veth_link(ifindex);
        let replaced = if path.is_dir() {
            clsact::replace(ifindex, self.pins)
        } else {
            replace_tcx(&path, ifindex, program)
        };
        let replaced = replaced.map_err(|source| DatapathError::Attach { ifindex, source })?;
        if !replaced {
            pins::remove(&path)?;
        }
        Ok(replaced)
    }
}

/// Takes a pinned link off its hook; no error if there is none.
fn detach_link(path: &Path) -> io::Result<()> {
    match bpf::open_pin(path) {
        Ok(link) => expedited(|| bpf::detach(link.as_fd())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn replace_tcx(path: &Path, ifindex: u32, program: BorrowedFd<'_>) -> io::Result<bool> {
    let link = match bpf::open_pin(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        link => link?,
    };
    // The link of a vanished interface has index 0, also when another interface has got its index.
    if bpf::link_info(link.as_fd())?.ifindex() != Some(ifindex) {
        return Ok(false);
    }
    match bpf::replace_program(link.as_fd(), program) {
        // The interface has gone in between.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(false),
        result => result.map(|()| true),
    }
}
