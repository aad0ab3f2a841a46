//! What can go wrong, and what merely should be known: each with the way out.

use std::io;
use std::path::PathBuf;

use crate::model::Notice;

use super::spec::Shape;

/// Why the datapath could not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    #[error("use eBPF: {} missing; run veer as root", .missing.join(", "))]
    NotRoot { missing: Vec<&'static str> },

    #[error("use eBPF: the kernel is {found}, veer needs {needed} or later")]
    KernelTooOld { found: String, needed: String },

    #[error("mount the BPF file system at {path}: {source}; try `mount -t bpf bpf {path}`", path = .path.display())]
    NoBpffs { path: PathBuf, source: io::Error },

    #[error(
        "serve {instance}: another veer{} already serves this network namespace; stop it first",
        .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    AlreadyServed { instance: String, pid: Option<u32> },

    #[error(
        "write to map {map}: all {size} entries are used; raise {key} in veer.toml, then \
         `veer uninstall` and start again (Connections are lost)"
    )]
    MapFull {
        map: &'static str,
        size: u32,
        key: &'static str,
    },

    #[error(
        "use pinned map {map}: it has {found}, the programs expect {expected}; it belongs to another \
         build of veer: `veer uninstall` and start again (Connections are lost)"
    )]
    Layout {
        map: &'static str,
        found: Shape,
        expected: Shape,
    },

    #[error("{attempt} map {map}: {source}")]
    Map {
        attempt: &'static str,
        map: &'static str,
        source: io::Error,
    },

    #[error("load the kernel programs: {0}")]
    Object(#[from] aya::EbpfError),

    #[error("load the kernel programs: this veer was built without them (VEER_EBPF_SKIP=1)")]
    NoObject,

    #[error("load the kernel programs: the object has no {kind} {name}")]
    Incomplete {
        kind: &'static str,
        name: &'static str,
    },

    #[error("load program {program}: {source}; the verifier says:\n{log}")]
    Verifier {
        program: &'static str,
        source: io::Error,
        /// The end of the verifier's log.
        log: String,
    },

    #[error("{attempt} program {program}: {source}")]
    Program {
        attempt: &'static str,
        program: &'static str,
        source: io::Error,
    },

    #[error("attach {program} to interface {ifindex}: {source}")]
    Attach {
        program: &'static str,
        ifindex: u32,
        source: io::Error,
    },

    #[error("detach {program} from interface {ifindex}: {source}")]
    Detach {
        program: &'static str,
        ifindex: u32,
        source: io::Error,
    },

    #[error("{attempt} {path}: {source}", path = .path.display())]
    File {
        attempt: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl DatapathError {
    pub(super) fn file(
        attempt: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            attempt,
            path: path.into(),
            source,
        }
    }
}

/// Something that works otherwise than asked, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    #[error(
        "has {kept} entries, as when it was made; {key} = {wanted} takes effect after `veer uninstall` \
         and a new start (Connections are lost)"
    )]
    SizeKept {
        map: &'static str,
        kept: u32,
        wanted: u32,
        key: &'static str,
    },

    #[error("DNS queries of containers go to Docker's own resolver: {cause}")]
    NoTakeover { cause: String },

    #[error(
        "DNS queries of containers are led on their loopback interfaces, and answered by the daemon alone: \
         {cause}"
    )]
    LedInside { cause: String },

    #[error(
        "DNS queries of containers are led to the host, through their veths, because veer may not enter \
         namespaces; give it CAP_SYS_ADMIN"
    )]
    LedToHost,

    #[error(
        "lead = \"loopback\" needs Linux 6.13 and is left out: programs on sockets lead DNS queries"
    )]
    NotLedInside,

    #[error(
        "attached only to the cgroups below this one, because veer runs in a cgroup namespace: DNS of \
         containers elsewhere stays with Docker; run veer in the host's cgroup namespace"
    )]
    NestedCgroup { cgroup: PathBuf },

    #[error(
        "left by a veer of another layout; `veer uninstall` removes it, its Connections are lost"
    )]
    OtherLayout { path: PathBuf },
}

impl Warning {
    fn subject(&self) -> String {
        match self {
            Self::SizeKept { map, .. } => format!("map {map}"),
            Self::NoTakeover { .. }
            | Self::LedInside { .. }
            | Self::LedToHost
            | Self::NotLedInside => "dns takeover".to_owned(),
            Self::NestedCgroup { cgroup } => format!("cgroup {}", cgroup.display()),
            Self::OtherLayout { path } => format!("folder {}", path.display()),
        }
    }
}

impl From<&Warning> for Notice {
    fn from(warning: &Warning) -> Self {
        Self {
            subject: warning.subject(),
            message: warning.to_string(),
        }
    }
}
