//! Kernel settings that forwarding for containers needs, and what they were before.
//!
//! What is set is written down first, so that `veer uninstall` puts it back, also after a crash. What
//! somebody else has changed since is left as it is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where settings are files, those of the calling thread's namespace.
const ROOT: &str = "/proc/sys/net";

/// One setting as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sysctl {
    /// Key below `net`, and its value.
    Is(String, &'static str),
    /// Key, the value that is replaced, and the one in its place; other values stay, and where there is
    /// no such setting there is nothing to do.
    Becomes(String, &'static str, &'static str),
    /// These ports are in the list of those that the kernel gives to nobody.
    Reserved(RangeInclusive<u16>),
}

/// Ports that the kernel gives to no socket of its own accord.
const RESERVED: &str = "ipv4/ip_local_reserved_ports";

/// What one setting was and what it was set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    before: String,
    set: String,
}

/// The settings of one instance.
#[derive(Debug)]
pub struct Sysctls {
    file: PathBuf,
    root: PathBuf,
    changes: BTreeMap<String, Change>,
}

impl Sysctls {
    /// Those that are written down in `file`. A file that cannot be read is as none.
    pub fn open(file: PathBuf) -> Self {
        let text = fs::read(&file).unwrap_or_default();
        Self {
            changes: serde_json::from_slice(&text).unwrap_or_default(),
            root: PathBuf::from(ROOT),
            file,
        }
    }

    /// Sets what is not as wanted. Must be called from a thread in the namespace that is meant.
    pub fn set(&mut self, wanted: &Sysctl) -> io::Result<()> {
        let key = match wanted {
            Sysctl::Is(key, _) | Sysctl::Becomes(key, ..) => key.as_str(),
            Sysctl::Reserved(_) => RESERVED,
        };
        let now = match (self.read(key), wanted) {
            (Err(error), Sysctl::Becomes(..)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            (now, _) => now?,
        };
        let value = match wanted {
            Sysctl::Is(_, value) => (now != *value).then(|| (*value).to_owned()),
            Sysctl::Becomes(_, from, to) => (now == *from).then(|| (*to).to_owned()),
            Sysctl::Reserved(ports) => with_reserved(&now, ports),
        };
        let Some(value) = value else {
            return Ok(());
        };
        let before = match self.changes.get(key) {
            // Set by us before: what it was then counts.
            Some(change) if change.set == now => change.before.clone(),
            Some(_) | None => now,
        };
        let set = value.clone();
        self.changes.insert(key.to_owned(), Change { before, set });
        self.save()?;
        tracing::info!(key, value, "kernel setting changed");
        self.write(key, &value)
    }

    /// Puts everything back that is as it was set. Returns how many there were.
    pub fn restore(mut self) -> io::Result<usize> {
        let mut restored = 0;
        for (key, change) in std::mem::take(&mut self.changes) {
            match self.read(&key) {
                Ok(now) if now == change.set => {
                    self.write(&key, &change.before)?;
                    restored += 1;
                }
                // Somebody else has changed it, or it is gone with its interface.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(described(error, "remove", &self.file))
            }
            Ok(()) | Err(_) => Ok(restored),
        }
    }

    fn read(&self, key: &str) -> io::Result<String> {
        let path = self.root.join(key);
        let text = fs::read_to_string(&path);
        let text = text.map_err(|error| described(error, "read", &path))?;
        Ok(text.trim().to_owned())
    }

    fn write(&self, key: &str, value: &str) -> io::Result<()> {
        let path = self.root.join(key);
        // An empty list is a line.
        fs::write(&path, format!("{value}\n")).map_err(|error| described(error, "write", &path))
    }

    fn save(&self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.changes)?;
        let mut fresh = self.file.clone().into_os_string();
        fresh.push("-new");
        let fresh = PathBuf::from(fresh);
        fs::write(&fresh, text).map_err(|error| described(error, "write", &fresh))?;
        fs::rename(&fresh, &self.file).map_err(|error| described(error, "write", &self.file))
    }
}

fn described(error: io::Error, attempt: &str, path: &Path) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("{attempt} {}: {error}", path.display()),
    )
}

/// The list with the ports in it; `None` if they are.
fn with_reserved(list: &str, ports: &RangeInclusive<u16>) -> Option<String> {
    let ranges = list.split(',').filter(|range| !range.is_empty());
    let covers = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let parsed = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
        parsed.is_some_and(|(first, last)| first <= *ports.start() && *ports.end() <= last)
    };
    if ranges.clone().any(covers) {
        return None;
    }
    let own = format!("{}-{}", ports.start(), ports.end());
    let all: Vec<&str> = ranges.chain([own.as_str()]).collect();
    Some(all.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings in a folder of the test's own.
    fn settings(folder: &Path, values: &[(&str, &str)]) -> Sysctls {
        let root = folder.join("net");
        for (key, value) in values {
            let path = root.join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }
        Sysctls {
            root,
            ..Sysctls::open(folder.join("sysctls.json"))
        }
    }

    fn again(folder: &Path) -> Sysctls {
        settings(folder, &[])
    }

    #[test]
    fn what_is_set_is_put_back_also_by_another_process() {
        let folder = tempfile::tempdir().unwrap();
        let values = [("ipv4/ip_forward", "0"), (RESERVED, "")];
        let mut sysctls = settings(folder.path(), &values);
        let forward = Sysctl::Is("ipv4/ip_forward".to_owned(), "1");

        sysctls.set(&forward).unwrap();
        sysctls.set(&Sysctl::Reserved(61_000..=65_535)).unwrap();
        let mut later = again(folder.path());
        later.set(&forward).unwrap();

        assert_eq!(later.read("ipv4/ip_forward").unwrap(), "1");
        assert_eq!(later.read(RESERVED).unwrap(), "61000-65535");
        assert_eq!(later.restore().unwrap(), 2);
        let restored = again(folder.path());
        assert_eq!(restored.read("ipv4/ip_forward").unwrap(), "0");
        assert_eq!(restored.read(RESERVED).unwrap(), "");
        assert!(!restored.file.exists());
    }

    #[test]
    fn what_others_have_set_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut sysctls = settings(
            folder.path(),
            &[("ipv4/ip_forward", "1"), ("a", "1"), ("b", "0")],
        );

        sysctls
            .set(&Sysctl::Is("ipv4/ip_forward".to_owned(), "1"))
            .unwrap();
        sysctls
            .set(&Sysctl::Becomes("b".to_owned(), "1", "2"))
            .unwrap();
        sysctls
            .set(&Sysctl::Becomes("a".to_owned(), "1", "2"))
            .unwrap();
        sysctls
            .set(&Sysctl::Becomes("absent".to_owned(), "1", "2"))
            .unwrap();
        sysctls.write("a", "3").unwrap();

        assert_eq!(sysctls.restore().unwrap(), 0);
        let after = again(folder.path());
        assert_eq!(
            ["ipv4/ip_forward", "a", "b"].map(|key| after.read(key).unwrap()),
            ["1", "3", "0"]
        );
    }

    #[test]
    fn ports_are_added_to_a_list_once() {
        assert_eq!(
            with_reserved("8080,9000-9010", &(61_000..=65_535)).unwrap(),
            "8080,9000-9010,61000-65535"
        );
        assert_eq!(with_reserved("60000-65535", &(61_000..=65_535)), None);
    }
}
