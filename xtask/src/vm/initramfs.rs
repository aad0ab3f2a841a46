//! The guest's initramfs: busybox, the modules that reach the host, and two scripts.
//!
//! # Why
//! Packed for each run (4 MB, a few milliseconds), so it is never older than these sources.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::kernel::Kernel;
use super::modules::BOOT_ORDER;

const INIT: &str = include_str!("guest/init.sh");
const MAIN: &str = include_str!("guest/main.sh");

/// Programs that init.sh calls by name.
const APPLETS: &[&str] = &[
    "chmod",
    "cp",
    "insmod",
    "ln",
    "mkdir",
    "mount",
    "poweroff",
    "sh",
    "switch_root",
    "uname",
];

/// The archive that `kernel` boots with.
pub(super) fn build(kernel: &Kernel, busybox: &Path) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "sys", "host", "memory", "root"] {
        archive.directory(folder);
    }
    archive.device("dev/console", (5, 1));
    archive.executable("bin/busybox", &read(busybox)?);
    for applet in APPLETS {
        archive.symlink(&format!("bin/{applet}"), "busybox");
    }
    archive.executable("init", INIT.as_bytes());
    archive.file("main.sh", MAIN.as_bytes());
    let order = read(&kernel.modules().join(BOOT_ORDER))?;
    archive.file("boot-order", &order);
    for path in String::from_utf8_lossy(&order).lines() {
        archive.file(
            &format!("modules/{path}"),
            &read(&kernel.modules().join(path))?,
        );
    }
    Ok(archive.finish())
}
