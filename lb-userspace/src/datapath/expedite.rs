//! Attaching without waiting for whole grace periods.
//!
//! # Why
//! The kernel waits for an RCU grace period each time a tcx program comes or goes, holding the lock of
//! all network configuration: some 15 ms, so that a thousand containers would take as many seconds.
//! `/sys/kernel/rcu_expedited` makes it interrupt the other CPUs instead, which takes some 0.1 ms. It is
//! the whole machine's setting, so it is raised for one system call at a time and put back. An operator
//! who does not want that sets `/sys/kernel/rcu_normal`, which outranks it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// The machine's setting, and the file that orders those who change it.
#[derive(Clone, Debug)]
struct Setting {
    knob: PathBuf,
    /// Holds the former value while the setting is raised, so that it is not lost with the process.
    ledger: PathBuf,
}

/// Raised while it lives.
#[derive(Debug)]
struct Raised {
    knob: PathBuf,
    ledger: Flock<File>,
    former: String,
}

const NORMAL: &str = "0";
const EXPEDITED: &str = "1";

/// Does `act` with short grace periods where the machine lets us, and as it is where it does not.
pub(super) fn expedited<T>(act: impl FnOnce() -> T) -> T {
    let machine = Setting {
        knob: PathBuf::from("/sys/kernel/rcu_expedited"),
        ledger: PathBuf::from("/run/veer/rcu_expedited"),
    };
    // Without it everything works, only slower.
    let _raised = machine.raise().unwrap_or_else(|error| {
        tracing::debug!(%error, "grace periods are as long as usual");
        None
    });
    act()
}

/// A link that ends with this, after a short grace period.
#[derive(Debug)]
pub(super) struct ShortLink(Option<OwnedFd>);

impl From<OwnedFd> for ShortLink {
    fn from(link: OwnedFd) -> Self {
        Self(Some(link))
    }
}

impl Drop for ShortLink {
    fn drop(&mut self) {
        expedited(|| drop(self.0.take()));
    }
}

impl Setting {
    /// Raises the setting; `None` if it is raised anyway.
    fn raise(&self) -> io::Result<Option<Raised>> {
        let mut ledger = open_locked(&self.ledger)?;
        let mut former = String::new();
        ledger.read_to_string(&mut former)?;
        if former.is_empty() {
            former = fs::read_to_string(&self.knob)?.trim().to_owned();
        }
        if former != NORMAL {
            return Ok(None);
        }
        rewrite(&mut ledger, &former)?;
        let raised = Raised {
            knob: self.knob.clone(),
            ledger,
            former,
        };
        fs::write(&self.knob, EXPEDITED)?;
        Ok(Some(raised))
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        let restored = fs::write(&self.knob, &self.former);
        // What could not be put back stays in the ledger, for the next one to put back.
        let noted = restored.and_then(|()| rewrite(&mut self.ledger, ""));
        if let Err(error) = noted {
            tracing::warn!(path = %self.knob.display(), %error, "put a setting of the machine back");
        }
    }
}

fn open_locked(path: &Path) -> io::Result<Flock<File>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

fn rewrite(file: &mut File, text: &str) -> io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        _folder: tempfile::TempDir,
        setting: Setting,
    }

    impl Machine {
        fn set_to(value: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let setting = Setting {
                knob: folder.path().join("knob"),
                ledger: folder.path().join("veer/ledger"),
            };
            fs::write(&setting.knob, value).unwrap();
            Self {
                _folder: folder,
                setting,
            }
        }

        fn value(&self) -> String {
            fs::read_to_string(&self.setting.knob).unwrap()
        }
    }

    #[test]
    fn the_setting_is_raised_for_a_moment() {
        let machine = Machine::set_to("0\n");

        let raised = machine.setting.raise().unwrap();
        assert_eq!(machine.value(), "1");
        drop(raised);

        assert_eq!(machine.value(), "0");
    }

    #[test]
    fn what_an_operator_has_raised_stays_raised() {
        let machine = Machine::set_to("1\n");

        let raised = machine.setting.raise().unwrap();
        assert!(raised.is_none());
        drop(raised);

        assert_eq!(machine.value(), "1\n");
    }

    #[test]
    fn what_a_killed_process_left_raised_is_put_back_by_the_next_one() {
        let machine = Machine::set_to(EXPEDITED);
        let ledger = &machine.setting.ledger;
        fs::create_dir(ledger.parent().unwrap()).unwrap();
        fs::write(ledger, NORMAL).unwrap();

        drop(machine.setting.raise().unwrap());

        assert_eq!(machine.value(), "0");
        assert_eq!(fs::read_to_string(ledger).unwrap(), "");
    }

    #[test]
    fn where_there_is_no_such_setting_it_is_an_error_and_no_harm() {
        let machine = Machine::set_to("0\n");
        fs::remove_file(&machine.setting.knob).unwrap();

        assert!(machine.setting.raise().is_err());
        assert_eq!(expedited(|| 7), 7);
    }
}
