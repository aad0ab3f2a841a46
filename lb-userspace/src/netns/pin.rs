//! Namespaces that outlive their makers: kept by a mount, as `ip netns` does.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Namespace, describe};

impl Namespace {
    /// Keeps this namespace under `path`, a file that must not exist, until [`unpin`].
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        let attempted = || format!("keep a network namespace as {}", path.display());
        File::create_new(path).map_err(|error| describe(error, attempted))?;
        let source = format!("/proc/thread-self/fd/{}", self.as_fd().as_raw_fd());
        let no_text: Option<&str> = None;
        mount(
            Some(source.as_str()),
            path,
            no_text,
            MsFlags::MS_BIND,
            no_text,
        )
        .map_err(|errno| describe(errno.into(), attempted))
    }
}

/// Undoes [`Namespace::pin`]; a file that is not there, or not a namespace any more, is no error.
pub fn unpin(path: &Path) -> io::Result<()> {
    let attempted = || format!("let go of the network namespace {}", path.display());
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
        Err(errno) => return Err(describe(errno.into(), attempted)),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(describe(error, attempted)),
        Ok(()) | Err(_) => Ok(()),
    }
}
