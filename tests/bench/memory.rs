//! `/run/veer` in memory, as `/run` is wherever systemd has made it.

use std::fs;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

/// Where the daemon writes down what it would need after a crash.
const FOLDER: &str = "/run/veer";

/// Keeps the daemon's files in memory, for this process and those that it starts from now on.
///
/// # Why
/// The daemon writes them before it serves, and a disk takes milliseconds for some: of 60 connections the slowest
/// had 17 to 29 ms with a disk, and 8 to 10 without, in turns.
///
/// Must be called while the process has one thread: another one would stay where it is.
pub(crate) fn keep_state() -> Result<()> {
    fs::create_dir_all(FOLDER).with_context(|| format!("make {FOLDER}"))?;
    if statfs(FOLDER)?.filesystem_type() == TMPFS_MAGIC {
        return Ok(());
    }
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).context("leave the machine's mounts: root is needed")?;
    // What others mount is seen here, and the other way round it is not.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mounted = mount(
        Some("veer"),
        FOLDER,
        Some("tmpfs"),
        flags,
        Some("mode=0755"),
    );
    mounted.with_context(|| format!("mount memory at {FOLDER}"))
}
