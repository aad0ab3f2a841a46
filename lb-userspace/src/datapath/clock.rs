//! The clock of the kernel programs.

use std::io;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since boot (`CLOCK_MONOTONIC`), as `bpf_ktime_get_ns` gives them.
pub fn now() -> io::Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let (seconds, nanoseconds) = (now.tv_sec().unsigned_abs(), now.tv_nsec().unsigned_abs());
    Ok(seconds * 1_000_000_000 + nanoseconds)
}
