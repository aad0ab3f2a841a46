//! Programs on interfaces: tcx links, which outlive the daemon as pins; before Linux 6.6 filters, which
//! outlive it by themselves.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::bpf::{self, AttachType};
use super::clsact;
use super::error::DatapathError;
use super::expedite::expedited;
use super::pins::{self, Pins};
use super::programs::Programs;
use crate::reconcile::Role;

/// How a program gets onto an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Linux 6.6 and later.
    Tcx,
    Clsact,
}

/// A program and the side of an interface that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hooked {
    pub(super) program: &'static str,
    pub(super) side: AttachType,
}

const fn ingress(program: &'static str) -> Hooked {
    let side = AttachType::TcxIngress;
    Hooked { program, side }
}

const fn egress(program: &'static str) -> Hooked {
    let side = AttachType::TcxEgress;
    Hooked { program, side }
}

/// The programs of a role.
pub(super) const fn programs(role: Role) -> &'static [Hooked] {
    match role {
        Role::Bridge => &const { [ingress("bridge_in"), egress("bridge_out")] },
        Role::Endpoint => &const { [ingress("endpoint_in")] },
        Role::Uplink => &const { [ingress("uplink_in"), egress("uplink_out")] },
        Role::Loopback => &const { [ingress("loopback_in")] },
        Role::BareUplink => &const { [ingress("uplink_in_bare"), egress("uplink_out_bare")] },
    }
}

/// Every program that is put on interfaces.
pub(super) fn every_program() -> impl Iterator<Item = Hooked> {
    Role::ALL
        .into_iter()
        .flat_map(|role| programs(role).iter().copied())
}

/// What became of the pins of a former veer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Interfaces that go on with the new programs.
    pub(super) attached: BTreeSet<(Role, u32)>,
    /// Interfaces that are gone.
    pub(super) removed: BTreeSet<u32>,
}

/// The interfaces of one instance.
#[derive(Debug)]
pub(super) struct Hooks<'a> {
    pub(super) pins: &'a Pins,
    pub(super) hook: Hook,
    /// Those that a veer of another layout has left.
    pub(super) others: &'a [Pins],
}

impl Hooks<'_> {
    /// Puts the programs of `role` onto the interface, in the place of what veer has there, of other
    /// layouts as well.
    pub(super) fn attach(
        &self,
        role: Role,
        ifindex: u32,
        loaded: &Programs,
    ) -> Result<(), DatapathError> {
        for hooked in programs(role) {
            let program = loaded.get(hooked.program)?;
            if !self.replace(*hooked, ifindex, program)? {
                let attached = match self.hook {
                    Hook::Tcx => self.attach_tcx(*hooked, ifindex, program),
                    Hook::Clsact => self.attach_clsact(*hooked, ifindex),
                };
                attached.map_err(|source| failed_to_attach(*hooked, ifindex, source))?;
            }
            self.retire_others(*hooked, ifindex)?;
        }
        Ok(())
    }

    /// Takes programs of other layouts off an interface that has ours. Left there, they would balance
    /// what ours leaves to the bridge, by tables that nobody keeps.
    fn retire_others(&self, hooked: Hooked, ifindex: u32) -> Result<(), DatapathError> {
        for other in self.others {
            let path = other.link(hooked.program, ifindex);
            if !path.is_dir() {
                let detached = detach_link(&path);
                detached.map_err(|source| failed_to_detach(hooked, ifindex, source))?;
            }
            // A mark goes alone: the filter it stood for is ours now.
            pins::remove(&path)?;
        }
        Ok(())
    }

    fn attach_tcx(&self, hooked: Hooked, ifindex: u32, program: BorrowedFd<'_>) -> io::Result<()> {
        let link = expedited(|| bpf::attach_tcx(program, ifindex, hooked.side))?;
        bpf::pin(link.as_fd(), &self.pins.link(hooked.program, ifindex))
    }

    fn attach_clsact(&self, hooked: Hooked, ifindex: u32) -> io::Result<()> {
        // The mark first: a filter without one would never be found again.
        std::fs::create_dir(self.pins.link(hooked.program, ifindex))?;
        clsact::attach(hooked, ifindex, self.pins)
    }

    /// Takes the programs of `role` off the interface; `false` if none was there, or the interface is
    /// gone.
    pub(super) fn detach(&self, role: Role, ifindex: u32) -> Result<bool, DatapathError> {
        let mut was_there = false;
        for hooked in programs(role) {
            was_there |= self.detach_one(*hooked, ifindex)?;
        }
        Ok(was_there)
    }

    /// The same for one program.
    pub(super) fn detach_one(&self, hooked: Hooked, ifindex: u32) -> Result<bool, DatapathError> {
        let path = self.pins.link(hooked.program, ifindex);
        let detached = if path.is_dir() {
            clsact::detach(hooked, ifindex).map(drop)
        } else {
            detach_link(&path)
        };
        detached.map_err(|source| failed_to_detach(hooked, ifindex, source))?;
        pins::remove(&path)
    }

    /// Gives every interface that has a pin the new program, and removes the pins of those that are
    /// gone. Maps and order of programs stay as they are.
    pub(super) fn adopt(&self, loaded: &Programs) -> Result<Kept, DatapathError> {
        let mut kept = Kept::default();
        for role in Role::ALL {
            let mut whole: Option<BTreeSet<u32>> = None;
            for hooked in programs(role) {
                let mut replaced = BTreeSet::new();
                for ifindex in self.pins.links(hooked.program)? {
                    let program = loaded.get(hooked.program)?;
                    if self.replace(*hooked, ifindex, program)? {
                        replaced.insert(ifindex);
                    } else {
                        kept.removed.insert(ifindex);
                    }
                }
                whole = Some(whole.map_or(replaced.clone(), |whole| &whole & &replaced));
            }
            let whole = whole.unwrap_or_default();
            kept.attached
                .extend(whole.into_iter().map(|ifindex| (role, ifindex)));
        }
        Ok(kept)
    }

    /// Interfaces that have all programs of a role. Removes the pins of interfaces that are gone.
    pub(super) fn attached(&self) -> Result<BTreeSet<(Role, u32)>, DatapathError> {
        let mut attached = BTreeSet::new();
        for role in Role::ALL {
            let mut whole: Option<BTreeSet<u32>> = None;
            for hooked in programs(role) {
                let live = self.live(*hooked)?;
                whole = Some(whole.map_or(live.clone(), |whole| &whole & &live));
            }
            let whole = whole.unwrap_or_default();
            attached.extend(whole.into_iter().map(|ifindex| (role, ifindex)));
        }
        Ok(attached)
    }

    fn live(&self, hooked: Hooked) -> Result<BTreeSet<u32>, DatapathError> {
        let mut attached = BTreeSet::new();
        for ifindex in self.pins.links(hooked.program)? {
            let path = self.pins.link(hooked.program, ifindex);
            let live = if path.is_dir() {
                // The only way of asking that aya has: put the same program there again.
                clsact::replace(hooked, ifindex, self.pins)
                    .map_err(|source| failed_to_attach(hooked, ifindex, source))?
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
    fn replace(
        &self,
        hooked: Hooked,
        ifindex: u32,
        program: BorrowedFd<'_>,
    ) -> Result<bool, DatapathError> {
        let path = self.pins.link(hooked.program, ifindex);
        let replaced = if path.is_dir() {
            clsact::replace(hooked, ifindex, self.pins)
        } else {
            replace_tcx(&path, ifindex, program)
        };
        let replaced = replaced.map_err(|source| failed_to_attach(hooked, ifindex, source))?;
        if !replaced {
            pins::remove(&path)?;
        }
        Ok(replaced)
    }
}

fn failed_to_attach(hooked: Hooked, ifindex: u32, source: io::Error) -> DatapathError {
    let program = hooked.program;
    DatapathError::Attach {
        program,
        ifindex,
        source,
    }
}

fn failed_to_detach(hooked: Hooked, ifindex: u32, source: io::Error) -> DatapathError {
    let program = hooked.program;
    DatapathError::Detach {
        program,
        ifindex,
        source,
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
