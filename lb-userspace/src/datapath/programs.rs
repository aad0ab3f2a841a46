//! The programs of the object: which there are, and when they are loaded.
//!
//! Most are loaded at the start, or are there from the start before. Those of interfaces that few hosts
//! have are loaded when the first one is met.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::thread;

use aya::Ebpf;
use aya::programs::{Program, ProgramError};
use nix::sys::signal::SigSet;

use super::bpf::{self, AttachType};
use super::error::DatapathError;
use super::features::can_lead_inside;
use super::hooks;
use super::object::prepare;
use super::pins::{self, Pins};
use crate::config::Maps as Sizes;

/// The program that deletes Connections; runs only when it is called.
pub(super) const COLLECT: &str = "collect";
/// The program on containers' loopback interfaces, which answers DNS.
pub(super) const DNS_LO: &str = "dns_lo";
/// The programs on containers' loopback interfaces that lead DNS to the daemon: on what goes out, and on
/// what comes in.
pub(super) const DNS_LEAD: &str = "dns_lead";
pub(super) const DNS_HAND: &str = "dns_hand";
/// The program on Networks' bridges that answers DNS.
pub(super) const DNS_BRIDGE: &str = "dns_bridge";
/// The programs on the cgroup2 root, which take DNS over.
pub(super) const SOCKET: [(&str, AttachType); 8] = [
    ("socket_connect4", AttachType::Connect4),
    ("socket_connect6", AttachType::Connect6),
    ("socket_sendmsg4", AttachType::SendMsg4),
    ("socket_sendmsg6", AttachType::SendMsg6),
    ("socket_recvmsg4", AttachType::RecvMsg4),
    ("socket_recvmsg6", AttachType::RecvMsg6),
    ("socket_getpeername4", AttachType::GetPeerName4),
    ("socket_getpeername6", AttachType::GetPeerName6),
];

/// Programs that are loaded when they are needed first.
const LATE: [&str; 6] = [
    "uplink_in_bare",
    "uplink_out_bare",
    "loopback_in",
    DNS_LEAD,
    DNS_HAND,
    DNS_BRIDGE,
];

/// Lines of the verifier's log that are kept: its end says what was wrong.
const LOG_LINES: usize = 30;

/// How often a program is given to the kernel when something disturbs it.
const LOADS: u32 = 10;

/// The programs of one object.
#[derive(Debug)]
pub struct Programs {
    loaded: BTreeMap<&'static str, OnceLock<OwnedFd>>,
    /// Where those come from that are not loaded yet.
    late: Option<Late>,
}

impl Programs {
    /// The program of this name, which is loaded and pinned if it has not been needed before.
    pub fn get(&self, name: &'static str) -> Result<BorrowedFd<'_>, DatapathError> {
        let kind = "program";
        let missing = || DatapathError::Incomplete { kind, name };
        let program = self.loaded.get(name).ok_or_else(missing)?;
        if let Some(loaded) = program.get() {
            return Ok(loaded.as_fd());
        }
        let loaded = self.late.as_ref().ok_or_else(missing)?.load(name)?;
        Ok(program.get_or_init(|| loaded).as_fd())
    }

    /// Loads every program.
    pub(super) fn all(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let loaded = load_all(ebpf, wanted_programs())?.into_iter();
        let loaded = loaded.map(|(name, program)| (name, OnceLock::from(program)));
        Ok(Self {
            loaded: loaded.collect(),
            late: None,
        })
    }

    /// Loads all that can be needed at once; `late` has the others.
    pub(super) fn early(ebpf: &mut Ebpf, late: Late) -> Result<Self, DatapathError> {
        let is_late = |name: &&str| LATE.contains(name);
        let (others, wanted): (BTreeSet<_>, _) = wanted_programs().into_iter().partition(is_late);
        let loaded = load_all(ebpf, wanted)?.into_iter();
        let loaded = loaded.map(|(name, program)| (name, OnceLock::from(program)));
        let others = others.into_iter().map(|name| (name, OnceLock::new()));
        Ok(Self {
            loaded: loaded.chain(others).collect(),
            late: Some(late),
        })
    }

    /// Those that are pinned; `None` if one is missing that can be needed at once.
    pub(super) fn pinned(pins: &Pins, late: &Late) -> Result<Option<Self>, DatapathError> {
        let mut loaded = BTreeMap::new();
        for name in wanted_programs() {
            let path = pins.program(name);
            let program = match bpf::open_pin(&path) {
                Ok(program) => OnceLock::from(program),
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(DatapathError::file("open pinned program", path)(error));
                }
                Err(_) if LATE.contains(&name) => OnceLock::new(),
                Err(_) => return Ok(None),
            };
            loaded.insert(name, program);
        }
        let late = Some(late.clone());
        Ok(Some(Self { loaded, late }))
    }

    /// Pins every program that is loaded, in the place of those that were pinned, and takes away the pins
    /// of the others: those are of another object.
    pub(super) fn pin(&self, pins: &Pins) -> Result<(), DatapathError> {
        for (name, program) in &self.loaded {
            let path = pins.program(name);
            match program.get() {
                Some(program) => pins::replace(program.as_fd(), &path)?,
                None => drop(pins::remove(&path)?),
            }
        }
        Ok(())
    }
}

/// What programs are loaded from after the start.
#[derive(Clone, Debug)]
pub(super) struct Late {
    object: &'static [u8],
    sizes: Sizes,
    pins: Pins,
}

impl Late {
    pub(super) const fn new(object: &'static [u8], sizes: Sizes, pins: Pins) -> Self {
        Self {
            object,
            sizes,
            pins,
        }
    }

    /// Loads one program onto the pinned maps, and pins it.
    fn load(&self, name: &'static str) -> Result<OwnedFd, DatapathError> {
        let mut ebpf = prepare(self.object, &self.sizes, Some(&self.pins), false)?;
        let mut loaded = load_all(&mut ebpf, BTreeSet::from([name]))?;
        let kind = "program";
        let program = loaded.remove(name);
        let program = program.ok_or(DatapathError::Incomplete { kind, name })?;
        pins::replace(program.as_fd(), &self.pins.program(name))?;
        Ok(program)
    }
}

/// Loads these programs, all at the same time.
fn load_all(
    ebpf: &mut Ebpf,
    mut wanted: BTreeSet<&'static str>,
) -> Result<BTreeMap<&'static str, OwnedFd>, DatapathError> {
    let mut found = Vec::with_capacity(wanted.len());
    for (name, program) in ebpf.programs_mut() {
        if let Some(name) = wanted.take(name) {
            found.push((name, program));
        }
    }
    if let Some(name) = wanted.into_iter().next() {
        let kind = "program";
        return Err(DatapathError::Incomplete { kind, name });
    }
    let loaded = thread::scope(|scope| {
        let start = |(name, program)| {
            scope.spawn(move || {
                // The process's signals are for its other threads.
                if let Err(error) = SigSet::all().thread_block() {
                    tracing::debug!(%error, "signals may disturb the loading of programs");
                }
                Ok((name, load(name, program)?))
            })
        };
        let loading: Vec<_> = found.into_iter().map(start).collect();
        let loaded = loading.into_iter().map(|one| one.join());
        loaded.collect::<thread::Result<Vec<_>>>()
    });
    let loaded = loaded.unwrap_or_else(|panic| resume_unwind(panic));
    loaded.into_iter().collect()
}

/// The programs that this kernel can run.
fn wanted_programs() -> BTreeSet<&'static str> {
    let hooked = hooks::every_program().map(|hooked| hooked.program);
    let socket = SOCKET.iter().map(|(name, _)| *name);
    let leads = can_lead_inside().then_some([DNS_LEAD, DNS_HAND]);
    let dns = leads.into_iter().flatten().chain([DNS_LO, DNS_BRIDGE]);
    hooked.chain([COLLECT]).chain(dns).chain(socket).collect()
}

fn load(name: &'static str, program: &mut Program) -> Result<OwnedFd, DatapathError> {
    let loaded = undisturbed(|| match program {
        Program::SchedClassifier(classifier) => classifier.load(),
        Program::CgroupSockAddr(socket) => socket.load(),
        _ => Err(ProgramError::InvalidName {
            name: name.to_owned(),
        }),
    });
    let fd = loaded.and_then(|()| program.fd());
    let fd = fd.map_err(|error| program_error(name, error))?;
    let fd = fd.as_fd().try_clone_to_owned();
    fd.map_err(|source| DatapathError::Program {
        attempt: "open",
        program: name,
        source,
    })
}

/// Loads with `load`, and again where the kernel was disturbed: the verifier gives up with EAGAIN as soon as
/// a signal waits for the thread, and a process that is frozen and thawed has one for a moment.
pub fn undisturbed<T>(load: impl FnMut() -> Result<T, ProgramError>) -> Result<T, ProgramError> {
    let is_disturbed = |error: &ProgramError| match error {
        ProgramError::LoadError { io_error, .. } => io_error.kind() == io::ErrorKind::WouldBlock,
        _ => false,
    };
    again_while(is_disturbed, load)
}

fn again_while<T, E>(
    passes: impl Fn(&E) -> bool,
    mut load: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 1..LOADS {
        match load() {
            Err(error) if passes(&error) => {}
            result => return result,
        }
    }
    load()
}

fn program_error(program: &'static str, error: ProgramError) -> DatapathError {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => DatapathError::Verifier {
            program,
            source: io_error,
            log: end_of(&verifier_log.to_string()),
        },
        error => DatapathError::Object(error.into()),
    }
}

fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_disturbed_tries_again_and_who_is_refused_does_not() {
        let count = |error: i32, until: u32| {
            let mut tries = 0;
            let result = again_while(
                |error| *error == libc::EAGAIN,
                || {
                    tries += 1;
                    if tries < until { Err(error) } else { Ok(()) }
                },
            );
            (result.is_ok(), tries)
        };

        assert_eq!(count(libc::EAGAIN, 3), (true, 3));
        assert_eq!(count(libc::EAGAIN, u32::MAX), (false, LOADS));
        assert_eq!(count(libc::EACCES, 3), (false, 1));
    }

    #[test]
    fn the_end_of_a_long_log_is_kept() {
        let log: Vec<String> = (0..100).map(|line| line.to_string()).collect();

        let end = end_of(&log.join("\n"));

        assert_eq!(end.lines().count(), LOG_LINES);
        assert_eq!(end.lines().last(), Some("99"));
        assert_eq!(end_of("short"), "short");
    }
}
