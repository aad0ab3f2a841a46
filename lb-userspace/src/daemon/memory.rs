//! The memory that the daemon takes.

use std::fs;

use crate::api::Problem;

/// Where the kernel says how much that is.
const STATUS: &str = "/proc/self/status";

/// Bytes of this process that are in memory.
pub(super) fn resident() -> Result<u64, Problem> {
    let told = fs::read_to_string(STATUS);
    let told = told.map_err(|error| Problem::failed(format!("read {STATUS}: {error}")))?;
    let line = told.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    let kibibytes: u64 = kibibytes
        .and_then(|number| number.parse().ok())
        .unwrap_or_default();
    Ok(kibibytes << 10)
}

/// Gives free memory back to the kernel. Takes a millisecond or two, so it comes after what was much
/// work, and not in it.
///
/// # Why
/// glibc keeps what was freed below the last piece that is in use. A start loads programs of several
/// megabytes and describes every container anew a few times, and twice what is needed stays for good.
#[cfg(target_env = "gnu")]
pub(super) fn give_back() {
    // SAFETY: any thread may ask for it at any time; it touches no memory that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators give back by themselves.
#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back() {}
