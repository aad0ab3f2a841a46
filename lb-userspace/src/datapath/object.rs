//! The kernel programs and their maps: from the object file into the kernel.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::thread;

use aya::maps::{Map as AyaMap, MapData};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use nix::sys::signal::SigSet;
use tokio::io::unix::AsyncFd;

use super::bpf::{self, AttachType};
use super::error::{DatapathError, Warning};
use super::features::{answers_names, peers_are_receivers};
use super::hooks;
use super::maps::Maps;
use super::pins::{self, Pins};
use super::spec::{self, Spec};
use crate::config::Maps as Sizes;

/// The program that deletes Connections; runs only when it is called.
pub(super) const COLLECT: &str = "collect";
/// The program on containers' loopback interfaces, which answers DNS.
pub(super) const DNS_LO: &str = "dns_lo";
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

/// Levels of `aya-log`: at 0 the verifier removes the log from the programs.
const LOG_NOTHING: u8 = 0;
const LOG_PACKETS: u8 = 4;

/// Lines of the verifier's log that are kept: its end says what was wrong.
const LOG_LINES: usize = 30;

/// How often a program is given to the kernel when something disturbs it.
const LOADS: u32 = 10;

/// The object that was built with this crate; empty if it was built without.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("VEER_EBPF_OBJECT"));

/// The loaded programs.
#[derive(Debug)]
pub struct Programs(BTreeMap<&'static str, OwnedFd>);

impl Programs {
    /// The program of this name.
    pub fn get(&self, name: &'static str) -> Result<BorrowedFd<'_>, DatapathError> {
        let program = self.0.get(name).map(AsFd::as_fd);
        program.ok_or(DatapathError::Incomplete {
            kind: "program",
            name,
        })
    }

    /// Pins every program, in the place of those that were pinned.
    pub(super) fn pin(&self, pins: &Pins) -> Result<(), DatapathError> {
        for (name, program) in &self.0 {
            pins::replace(program.as_fd(), &pins.program(name))?;
        }
        Ok(())
    }
}

/// Maps and programs, in the kernel.
#[derive(Debug)]
pub struct Object {
    pub maps: Maps,
    pub programs: Programs,
    /// If it was loaded with its log.
    pub(super) log: Option<PacketLog>,
}

impl Object {
    /// Loads `object` with new maps, attached to and pinned at nothing: for trying out programs.
    pub fn load(object: &[u8], sizes: &Sizes) -> Result<Self, DatapathError> {
        Self::load_into(object, sizes, None, false)
    }

    /// Loads `object` with the pinned maps, making and pinning those that are missing. A pinned map
    /// keeps its size; the warnings say where that is not the size asked for.
    pub(super) fn adopt(
        object: &[u8],
        sizes: &Sizes,
        pins: &Pins,
        log: bool,
    ) -> Result<(Self, Vec<Warning>), DatapathError> {
        let mut warnings = Vec::new();
        for spec in spec::ALL {
            warnings.extend(check_pinned(spec, sizes, pins)?);
        }
        let loaded = Self::load_into(object, sizes, Some(pins), log)?;
        Ok((loaded, warnings))
    }

    fn load_into(
        object: &[u8],
        sizes: &Sizes,
        pins: Option<&Pins>,
        log: bool,
    ) -> Result<Self, DatapathError> {
        if object.is_empty() {
            return Err(DatapathError::NoObject);
        }
        let mut loader = EbpfLoader::new();
        set_constants(&mut loader, if log { &LOG_PACKETS } else { &LOG_NOTHING });
        for spec in spec::ALL {
            let mut entries = spec.entries(sizes);
            if let Some(pins) = pins {
                let path = pins.map(spec.name);
                if let Some(kept) = pinned(spec, pins)? {
                    entries = kept.info().max_entries;
                }
                loader.map_pin_path(spec.name, Cow::Owned(path));
            }
            loader.map_max_entries(spec.name, entries);
        }
        let mut ebpf = loader.load(object)?;
        Ok(Self {
            programs: load_programs(&mut ebpf)?,
            maps: Maps::open(|spec| open_map(&ebpf, spec))?,
            log: if log {
                Some(PacketLog::open(&mut ebpf)?)
            } else {
                None
            },
        })
    }
}

/// Tells the programs what does not change while they run: the level of their log, 0 to 5, and what
/// this kernel does by itself.
pub fn set_constants<'a>(loader: &mut EbpfLoader<'a>, log_level: &'a u8) {
    let peer_is_host: &u8 = if peers_are_receivers() { &1 } else { &0 };
    loader
        .override_global("AYA_LOG_LEVEL", log_level, true)
        .override_global("PEER_IS_HOST", peer_is_host, true);
}

/// What the programs say of every packet, for debugging alone.
pub struct PacketLog {
    logger: EbpfLogger<&'static dyn log::Log>,
    /// Registered where it is first waited for: that needs a tokio runtime.
    ready: Option<AsyncFd<OwnedFd>>,
}

impl PacketLog {
    fn open(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let name = "AYA_LOGS";
        let missing = |_| DatapathError::Incomplete { kind: "map", name };
        let logger = EbpfLogger::init(ebpf).map_err(missing)?;
        Ok(Self {
            logger,
            ready: None,
        })
    }

    /// Waits until something has been said, and hands it to the process's log at level debug. Needs a
    /// tokio runtime.
    pub async fn forward(&mut self) -> io::Result<()> {
        if self.ready.is_none() {
            self.ready = Some(bpf::watch(self.logger.as_fd().try_clone_to_owned()?)?);
        }
        let Some(ready) = &self.ready else {
            return Ok(());
        };
        let mut guard = ready.readable().await?;
        self.logger.flush();
        guard.clear_ready();
        Ok(())
    }
}

impl fmt::Debug for PacketLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketLog")
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

/// Sees to it that a pinned map is what the programs expect: nobody else does, and a value of another
/// size would be written over the end of ours.
fn check_pinned(spec: &Spec, sizes: &Sizes, pins: &Pins) -> Result<Option<Warning>, DatapathError> {
    let Some(map) = pinned(spec, pins)? else {
        return Ok(None);
    };
    let (found, expected) = (map.info().into(), spec.shape());
    if found != expected {
        return Err(DatapathError::Layout {
            map: spec.name,
            found,
            expected,
        });
    }
    let (kept, wanted) = (map.info().max_entries, spec.entries(sizes));
    let warning = spec.config_key().map(|key| Warning::SizeKept {
        map: spec.name,
        kept,
        wanted,
        key,
    });
    Ok(warning.filter(|_| kept != wanted))
}

fn pinned(spec: &Spec, pins: &Pins) -> Result<Option<bpf::Map>, DatapathError> {
    let path = pins.map(spec.name);
    match bpf::Map::from_pin(&path) {
        Ok(map) => Ok(Some(map)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DatapathError::file("open pinned map", path)(error)),
    }
}

fn open_map(ebpf: &Ebpf, spec: &Spec) -> Result<bpf::Map, DatapathError> {
    let name = spec.name;
    let data = ebpf.map(name).and_then(data);
    let data = data.ok_or(DatapathError::Incomplete { kind: "map", name })?;
    let map = data.fd().as_fd().try_clone_to_owned();
    map.and_then(bpf::Map::new)
        .map_err(|source| DatapathError::Map {
            attempt: "open",
            map: name,
            source,
        })
}

fn data(map: &AyaMap) -> Option<&MapData> {
    match map {
        AyaMap::Array(data)
        | AyaMap::HashMap(data)
        | AyaMap::LruHashMap(data)
        | AyaMap::LpmTrie(data)
        | AyaMap::PerCpuArray(data)
        | AyaMap::RingBuf(data) => Some(data),
        _ => None,
    }
}

fn load_programs(ebpf: &mut Ebpf) -> Result<Programs, DatapathError> {
    let mut wanted = wanted_programs();
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
    loaded.into_iter().collect::<Result<_, _>>().map(Programs)
}

/// The programs that this kernel can run.
fn wanted_programs() -> BTreeSet<&'static str> {
    let hooked = hooks::every_program().map(|hooked| hooked.program);
    let socket = SOCKET.iter().map(|(name, _)| *name);
    let names = answers_names().then_some(DNS_LO);
    hooked.chain([COLLECT]).chain(names).chain(socket).collect()
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
