//! The kernel programs and their maps: from the object file into the kernel.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{Map as AyaMap, MapData};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;
use xxhash_rust::xxh3::xxh3_64;

use super::bpf;
use super::error::{DatapathError, Warning};
use super::features::{knows_namespace, peers_are_receivers};
use super::maps::Maps;
use super::pins::Pins;
use super::programs::{Late, Programs};
use super::spec::{self, Spec};
use crate::config::Maps as Sizes;

/// Levels of `aya-log`: at 0 the verifier removes the log from the programs.
const LOG_NOTHING: u8 = 0;
const LOG_PACKETS: u8 = 4;

/// The object that was built with this crate; empty if it was built without.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("VEER_EBPF_OBJECT"));

/// Maps and programs, in the kernel.
#[derive(Debug)]
pub struct Object {
    pub maps: Maps,
    pub programs: Programs,
    /// If it was loaded with its log.
    pub(super) log: Option<PacketLog>,
}

impl Object {
    /// Loads every program of `object` with new maps, attached to and pinned at nothing: for trying them
    /// out.
    pub fn load(object: &'static [u8], sizes: &Sizes) -> Result<Self, DatapathError> {
        let mut ebpf = prepare(object, sizes, None, false)?;
        Ok(Self {
            programs: Programs::all(&mut ebpf)?,
            maps: Maps::open(|spec| open_map(&ebpf, spec))?,
            log: None,
        })
    }

    /// What is pinned, if it is `object` on these maps; otherwise loads that with the pinned maps, making
    /// and pinning those that are missing, and pins its programs. A pinned map keeps its size; the warnings
    /// say where that is not the size asked for.
    pub(super) fn adopt(
        object: &'static [u8],
        sizes: &Sizes,
        pins: &Pins,
        log: bool,
    ) -> Result<(Self, Vec<Warning>), DatapathError> {
        let mut warnings = Vec::new();
        for spec in spec::ALL {
            warnings.extend(check_pinned(spec, sizes, pins)?);
        }
        let late = Late::new(object, *sizes, pins.clone());
        if log {
            return Ok((Self::with_log(object, sizes, pins)?, warnings));
        }
        if let Some(kept) = Self::kept(object, pins, &late)? {
            return Ok((kept, warnings));
        }
        pins.forget_loaded()?;
        let mut ebpf = prepare(object, sizes, Some(pins), false)?;
        let programs = Programs::early(&mut ebpf, late)?;
        programs.pin(pins)?;
        let maps = Maps::open(|spec| open_map(&ebpf, spec))?;
        if let Some(record) = record(object, pins)? {
            pins.note_loaded(record)?;
        }
        let log = None;
        let loaded = Self {
            maps,
            programs,
            log,
        };
        Ok((loaded, warnings))
    }

    /// Everything that is pinned, unless some of it is missing or was loaded otherwise.
    fn kept(object: &[u8], pins: &Pins, late: &Late) -> Result<Option<Self>, DatapathError> {
        let Some(record) = record(object, pins)? else {
            return Ok(None);
        };
        if !pins.is_loaded(record) {
            return Ok(None);
        }
        let Some(programs) = Programs::pinned(pins, late)? else {
            return Ok(None);
        };
        let (kind, log) = ("map", None);
        let maps = Maps::open(|spec| {
            let name = spec.name;
            pinned(spec, pins)?.ok_or(DatapathError::Incomplete { kind, name })
        })?;
        Ok(Some(Self {
            maps,
            programs,
            log,
        }))
    }

    /// Loads programs that tell of every packet; the next start replaces them.
    fn with_log(object: &[u8], sizes: &Sizes, pins: &Pins) -> Result<Self, DatapathError> {
        pins.forget_loaded()?;
        let mut ebpf = prepare(object, sizes, Some(pins), true)?;
        let programs = Programs::all(&mut ebpf)?;
        programs.pin(pins)?;
        Ok(Self {
            programs,
            maps: Maps::open(|spec| open_map(&ebpf, spec))?,
            log: Some(PacketLog::open(&mut ebpf)?),
        })
    }
}

/// The object with its maps, which are the pinned ones where there are pins. None of its programs is in
/// the kernel yet.
pub(super) fn prepare(
    object: &[u8],
    sizes: &Sizes,
    pins: Option<&Pins>,
    log: bool,
) -> Result<Ebpf, DatapathError> {
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
    Ok(loader.load(object)?)
}

/// What the programs are made of: the object, what it is told, and the maps that are pinned now; `None` if
/// one of those is missing.
fn record(object: &[u8], pins: &Pins) -> Result<Option<u64>, DatapathError> {
    let kernel = [peers_are_receivers(), knows_namespace()].map(u64::from);
    let mut parts = vec![xxh3_64(object), kernel[0], kernel[1]];
    for spec in spec::ALL {
        let Some(map) = pinned(spec, pins)? else {
            return Ok(None);
        };
        parts.push(u64::from(map.info().id));
    }
    Ok(Some(xxh3_64(bytemuck::cast_slice(&parts))))
}

/// Tells the programs what does not change while they run: the level of their log, 0 to 5, and what
/// this kernel does by itself.
pub fn set_constants<'a>(loader: &mut EbpfLoader<'a>, log_level: &'a u8) {
    let peer_is_host: &u8 = if peers_are_receivers() { &1 } else { &0 };
    let knows: &u8 = if knows_namespace() { &1 } else { &0 };
    loader
        .override_global("AYA_LOG_LEVEL", log_level, true)
        .override_global("PEER_IS_HOST", peer_is_host, true)
        .override_global("KNOWS_NAMESPACE", knows, true);
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
        | AyaMap::RingBuf(data)
        | AyaMap::SkStorage(data)
        | AyaMap::SockMap(data) => Some(data),
        _ => None,
    }
}
