//! Only one veer serves a network namespace.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::DatapathError;
use crate::instance::Instance;

/// The right to serve an instance, until this value or the process is gone.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock in the instance's `folder`, which is made if it is missing. Fails with
    /// [`DatapathError::AlreadyServed`] while somebody else has it.
    pub(super) fn take(folder: &Path, instance: &Instance) -> Result<Self, DatapathError> {
        fs::create_dir_all(folder).map_err(DatapathError::file("create folder", folder))?;
        let path = folder.join("lock");
        let file = open(&path).map_err(DatapathError::file("open lock", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                write_pid(&mut file).map_err(DatapathError::file("write lock", &path))?;
                Ok(Self { _file: file })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => Err(DatapathError::AlreadyServed {
                instance: instance.to_string(),
                pid: read_pid(&mut file),
            }),
            Err((_, errno)) => Err(DatapathError::file("lock", path)(errno.into())),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path)
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", process::id())
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_serves_an_instance_and_the_other_learns_who() {
        let state = tempfile::tempdir().unwrap();
        let instance = Instance::of(7);
        let first = Lock::take(state.path(), &instance).unwrap();

        let second = Lock::take(state.path(), &instance).unwrap_err();

        let DatapathError::AlreadyServed { pid, .. } = second else {
            panic!("{second}");
        };
        assert_eq!(pid, Some(process::id()));
        drop(first);
        Lock::take(state.path(), &instance).unwrap();
    }
}
