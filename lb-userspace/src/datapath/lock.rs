//! Only one veer serves a network namespace.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::error::DatapathError;
use crate::instance::Instance;

/// How long a dead daemon may still have the lock. A program that it was just starting when it was killed has a
/// copy of the file until that program runs.
const LEFT_BEHIND: Duration = Duration::from_secs(2);
/// How often it is tried again meanwhile.
const TICK: Duration = Duration::from_millis(5);

/// The right to serve an instance, until this value or the process is gone.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock in the instance's `folder`, which is made if it is missing. Fails with
    /// [`DatapathError::AlreadyServed`] while somebody else has it. Waits for what a daemon that was killed
    /// has left behind.
    pub(super) fn take(folder: &Path, instance: &Instance) -> Result<Self, DatapathError> {
        let deadline = Instant::now() + LEFT_BEHIND;
        Self::take_while(folder, instance, || {
            sleep(TICK);
            Instant::now() < deadline
        })
    }

    /// Tries again as long as `wait` says so, while it is a dead daemon that has the lock.
    fn take_while(
        folder: &Path,
        instance: &Instance,
        mut wait: impl FnMut() -> bool,
    ) -> Result<Self, DatapathError> {
        loop {
            let result = Self::try_take(folder, instance);
            let is_left_behind = matches!(
                result,
                Err(DatapathError::AlreadyServed { pid: Some(pid), .. }) if is_gone(pid)
            );
            if !is_left_behind || !wait() {
                return result;
            }
        }
    }

    fn try_take(folder: &Path, instance: &Instance) -> Result<Self, DatapathError> {
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

/// Whether there is no such process.
fn is_gone(pid: u32) -> bool {
    kill(Pid::from_raw(pid.cast_signed()), None) == Err(Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_a_dead_daemon_has_left_behind_is_waited_for() {
        let state = tempfile::tempdir().unwrap();
        let instance = Instance::of(7);
        let mut dead = Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        fs::write(state.path().join("lock"), format!("{}\n", dead.id())).unwrap();
        // As a program does that is being started: it has the file and says nothing.
        let file = open(&state.path().join("lock")).unwrap();
        let mut held = Some(Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap());

        let refused = Lock::take_while(state.path(), &instance, || false);
        // The program runs while it is waited for.
        let taken = Lock::take_while(state.path(), &instance, || held.take().is_some());

        let by = |pid| matches!(refused, Err(DatapathError::AlreadyServed { pid: Some(it), .. }) if it == pid);
        assert!(by(dead.id()) && is_gone(dead.id()));
        assert!(taken.is_ok() && held.is_none() && !is_gone(process::id()));
    }

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
