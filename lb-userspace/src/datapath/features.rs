//! What the machine offers: what cannot be done without, and what is reported.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported, is_program_supported};

use super::error::DatapathError;
use super::hooks::Hook;
use super::mounts;
use super::{LOOPBACK, bpf};
use crate::netns::tells_cookies;

/// The oldest kernel that the programs are made for.
const NEEDED: Kernel = Kernel { major: 6, minor: 1 };

/// The first kernel whose `bpf_redirect_peer` marks packets as being for their receiver.
const SCRUBS: Kernel = Kernel {
    major: 6,
    minor: 15,
};

/// One thing that veer needs or makes use of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    pub health: Health,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if nothing.
    pub remedy: String,
}

/// How a [`Feature`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Good,
    /// veer works, not as well or not in everything.
    Warning,
    /// veer does not work.
    Error,
}

impl Feature {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            health: Health::Good,
            found: found.into(),
            remedy: String::new(),
        }
    }

    fn warning(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            health: Health::Warning,
            remedy: remedy.into(),
            ..Self::good(name, found)
        }
    }

    fn error(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            health: Health::Error,
            ..Self::warning(name, found, remedy)
        }
    }
}

/// Everything that the datapath depends on, as it is on this machine. `bpffs` is where the BPF file
/// system is expected.
pub fn features(bpffs: &Path) -> Vec<Feature> {
    vec![
        kernel_feature(),
        capabilities_feature(),
        btf_feature(),
        bpffs_feature(bpffs),
        tcx_feature(),
        redirect_peer_feature(),
        cgroup2_feature(),
        lead_feature(),
        names_feature(),
    ]
}

/// Fails if eBPF cannot be used here.
pub(super) fn require() -> Result<(), DatapathError> {
    let (found, release) = kernel().map_err(DatapathError::file("read", RELEASE))?;
    if found < NEEDED {
        return Err(DatapathError::KernelTooOld {
            found: release,
            needed: NEEDED.to_string(),
        });
    }
    let missing = missing_capabilities().map_err(DatapathError::file("read", STATUS))?;
    if !missing.is_empty() {
        return Err(DatapathError::NotRoot { missing });
    }
    Ok(())
}

/// The best way of attaching to a veth.
pub(super) fn hook() -> Result<Hook, DatapathError> {
    let has_tcx = bpf::has_tcx(LOOPBACK).map_err(|source| DatapathError::Attach {
        program: "endpoint_in",
        ifindex: LOOPBACK,
        source,
    })?;
    Ok(if has_tcx { Hook::Tcx } else { Hook::Clsact })
}

const RELEASE: &str = "/proc/sys/kernel/osrelease";
const STATUS: &str = "/proc/thread-self/status";
const BTF: &str = "/sys/kernel/btf/vmlinux";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kernel {
    major: u32,
    minor: u32,
}

impl Kernel {
    /// From the text of uname(2), such as `6.1.0-37-amd64`.
    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next()?.parse().ok();
        Some(Self {
            major: number()?,
            minor: number()?,
        })
    }
}

impl std::fmt::Display for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

fn kernel() -> io::Result<(Kernel, String)> {
    let release = fs::read_to_string(RELEASE)?.trim().to_owned();
    let kernel = Kernel::parse(&release);
    let kernel = kernel.ok_or_else(|| io::Error::other(format!("{release:?} is no version")))?;
    Ok((kernel, release))
}

fn kernel_feature() -> Feature {
    let remedy = format!("boot Linux {NEEDED} or later");
    match kernel() {
        Ok((found, release)) if found >= NEEDED => Feature::good("kernel", release),
        Ok((_, release)) => Feature::error("kernel", release, remedy),
        Err(error) => Feature::error("kernel", error.to_string(), remedy),
    }
}

/// Capabilities and their bits. CAP_SYS_ADMIN stands for those that were taken out of it, and is needed itself
/// where namespaces can only be known from inside.
const CAPABILITIES: [(&str, u32); 3] =
    [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
const SYS_ADMIN: u32 = 21;

fn missing_capabilities() -> io::Result<Vec<&'static str>> {
    let status = fs::read_to_string(STATUS)?;
    let effective = effective_capabilities(&status);
    let effective = effective.ok_or_else(|| io::Error::other("no line CapEff"))?;
    Ok(missing_from(effective, tells_cookies()))
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing_from(effective: u64, may_stay_outside: bool) -> Vec<&'static str> {
    let has = |bit: u32| effective >> bit & 1 == 1;
    let stands_for = |name: &str| name != "CAP_NET_ADMIN" && has(SYS_ADMIN);
    let missing = CAPABILITIES
        .iter()
        .filter(|(name, bit)| !has(*bit) && !stands_for(name));
    let needs_all = !may_stay_outside && !has(SYS_ADMIN);
    let all = needs_all.then_some("CAP_SYS_ADMIN");
    missing.map(|(name, _)| *name).chain(all).collect()
}

fn capabilities_feature() -> Feature {
    let remedy = "run veer as root";
    match missing_capabilities() {
        Ok(missing) if missing.is_empty() => Feature::good("capabilities", "all that are needed"),
        Ok(missing) => Feature::error(
            "capabilities",
            format!("{} missing", missing.join(", ")),
            remedy,
        ),
        Err(error) => Feature::error("capabilities", error.to_string(), remedy),
    }
}

fn btf_feature() -> Feature {
    if Path::new(BTF).exists() {
        return Feature::good("btf", BTF);
    }
    Feature::warning(
        "btf",
        format!("no {BTF}"),
        "maps and programs are listed without types; boot a kernel with CONFIG_DEBUG_INFO_BTF",
    )
}

fn bpffs_feature(path: &Path) -> Feature {
    let place = path.display();
    match mounts::is_bpffs(path) {
        Ok(true) => Feature::good("bpffs", format!("mounted at {place}")),
        Ok(false) => Feature::warning(
            "bpffs",
            format!("not mounted at {place}"),
            "veer mounts it when it starts; pins do not outlive an unmount",
        ),
        Err(error) => Feature::error(
            "bpffs",
            format!("{place}: {error}"),
            "boot a kernel with CONFIG_BPF_SYSCALL, and mount /sys",
        ),
    }
}

fn tcx_feature() -> Feature {
    match hook() {
        Ok(Hook::Tcx) => Feature::good("tcx", "links"),
        Ok(Hook::Clsact) => Feature::warning(
            "tcx",
            "missing; filters on clsact are used",
            "Linux 6.6 or later keeps programs of others from removing veer's",
        ),
        Err(error) => Feature::error("tcx", error.to_string(), "run veer as root"),
    }
}

fn redirect_peer_feature() -> Feature {
    let helper = BpfHelper::BPF_FUNC_redirect_peer;
    match is_helper_supported(ProgramType::SchedClassifier, helper) {
        Ok(true) => Feature::good("redirect_peer", "supported"),
        Ok(false) => Feature::error(
            "redirect_peer",
            "missing",
            format!("boot Linux {NEEDED} or later"),
        ),
        Err(error) => Feature::error("redirect_peer", error.to_string(), "run veer as root"),
    }
}

/// Whether programs on packets can be told in which namespace they are: Linux 6.13. Before it they look
/// for the daemon's socket to know whose question they see.
pub(super) fn knows_namespace() -> bool {
    // Asking loads a program, and the answer is needed several times at a start.
    static KNOWS: OnceLock<bool> = OnceLock::new();
    *KNOWS.get_or_init(|| {
        let helper = BpfHelper::BPF_FUNC_get_netns_cookie;
        // Who may not ask may not load either, and is told so where the rest is loaded.
        is_helper_supported(ProgramType::SchedClassifier, helper).unwrap_or(false)
    })
}

/// Whether other network namespaces may be entered, which takes CAP_SYS_ADMIN.
pub fn can_enter_namespaces() -> bool {
    // Needed at every look at the host, and nobody gives it to a process that runs.
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let status = fs::read_to_string(STATUS).unwrap_or_default();
        // Who cannot be asked is taken for root: what fails says so then.
        effective_capabilities(&status).is_none_or(|effective| effective >> SYS_ADMIN & 1 == 1)
    })
}

/// Whether DNS queries can be led on loopback interfaces, by programs that are told in which namespace they
/// are: Linux 6.13.
pub fn can_lead_inside() -> bool {
    knows_namespace()
}

/// Whether `bpf_redirect_peer` itself marks packets as being for their receiver.
pub(super) fn peers_are_receivers() -> bool {
    kernel().is_ok_and(|(kernel, _)| kernel >= SCRUBS)
}

fn names_feature() -> Feature {
    let found = if knows_namespace() {
        "supported; askers are known by their namespace"
    } else {
        "supported; askers are known by veer's socket"
    };
    Feature::good("DNS in kernel", found)
}

fn cgroup2_feature() -> Feature {
    let remedy = "boot a kernel with CONFIG_CGROUPS";
    let nested = mounts::is_in_cgroup_namespace().unwrap_or(false);
    match mounts::cgroup2() {
        Ok(Some(root)) if nested => Feature::warning(
            "cgroup2",
            format!("{} is the root of a cgroup namespace only", root.display()),
            "programs on sockets see containers below it alone; run veer in the host's cgroup namespace",
        ),
        Ok(Some(root)) => Feature::good("cgroup2", format!("mounted at {}", root.display())),
        Ok(None) => match mounts::knows_cgroup2() {
            Ok(true) => Feature::good(
                "cgroup2",
                "not mounted; veer needs no more than that it exists",
            ),
            Ok(false) => Feature::warning("cgroup2", "missing", remedy),
            Err(error) => Feature::warning("cgroup2", error.to_string(), remedy),
        },
        Err(error) => Feature::warning("cgroup2", error.to_string(), remedy),
    }
}

/// What leads containers' DNS queries to veer here, if the configuration leaves the choice.
fn lead_feature() -> Feature {
    let name = "DNS takeover";
    let can_enter = can_enter_namespaces();
    match (sockets_hindrance(), can_enter && can_lead_inside()) {
        (None, _) if !can_enter => Feature::warning(
            name,
            "by programs on sockets, to the host, because CAP_SYS_ADMIN is missing",
            "run veer as root",
        ),
        (None, _) => Feature::good(name, "by programs on sockets"),
        (Some(cause), true) => Feature::warning(
            name,
            format!("on containers' loopback interfaces, because {cause}"),
            "all works; with programs on sockets the kernel answers as well, and the default bridge is served",
        ),
        (Some(cause), false) => Feature::warning(
            name,
            format!("none: Docker's resolver answers, because {cause}"),
            "Linux 6.13 or later can do without programs on sockets",
        ),
    }
}

/// Why programs on sockets cannot lead the queries of all containers.
fn sockets_hindrance() -> Option<&'static str> {
    if !is_program_supported(ProgramType::CgroupSockAddr).unwrap_or(true) {
        return Some("the kernel lacks CONFIG_CGROUP_BPF");
    }
    if mounts::is_in_cgroup_namespace().unwrap_or(false) {
        return Some("veer runs in a cgroup namespace");
    }
    let has_tree =
        matches!(mounts::cgroup2(), Ok(Some(_))) || mounts::knows_cgroup2().unwrap_or(true);
    (!has_tree).then_some("the kernel has no cgroup2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        let parse = |release| Kernel::parse(release).unwrap();

        assert!(parse("6.1.0-37-amd64") >= NEEDED);
        assert!(parse("6.10.3") > parse("6.9.0-rc1"));
        assert!(parse("5.15.0-1084-aws") < NEEDED);
        assert!(parse("7.0-rc2+") > NEEDED);
        assert_eq!(Kernel::parse("unknown"), None);
    }

    #[test]
    fn missing_capabilities_are_named() {
        let status = "Name:\tveer\nCapInh:\t0000000000000000\nCapEff:\t0000000000001000\n";
        let effective = effective_capabilities(status).unwrap();

        assert_eq!(missing_from(effective, true), ["CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(missing_from(1 << SYS_ADMIN, false), ["CAP_NET_ADMIN"]);
        assert!(missing_from(u64::MAX >> 23, false).is_empty());
        let confined = !(1 << SYS_ADMIN);
        assert!(missing_from(confined, true).is_empty());
        assert_eq!(missing_from(confined, false), ["CAP_SYS_ADMIN"]);
    }

    #[test]
    fn every_feature_says_what_was_found_and_bad_ones_what_to_do() {
        for feature in features(Path::new("/sys/fs/bpf")) {
            assert!(!feature.found.is_empty(), "{feature:?}");
            let good = feature.health == Health::Good;
            assert_eq!(feature.remedy.is_empty(), good, "{feature:?}");
        }
    }
}
