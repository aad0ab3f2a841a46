//! Kernel settings that forwarding for containers needs, and what they were before.
//!
//! What is set is written down first, so that `veer uninstall` puts it back, also after a crash. What
//! somebody else has changed since is left as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
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
    /// These ports, and none that were wanted before, are in the list of those that the kernel gives to
    /// nobody, besides what others have there.
    Reserved(Vec<RangeInclusive<u16>>),
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
            Sysctl::Reserved(ports) => {
                let others = without_own(&now, self.changes.get(key));
                let wanted = others.with(ports);
                (wanted != Ports::parse(&now)).then(|| wanted.to_string())
            }
        };
        let Some(value) = value else {
            return Ok(());
        };
        let before = match self.changes.get(key) {
            Some(change) if key == RESERVED => without_own(&now, Some(change)).to_string(),
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
                Ok(now) if key == RESERVED => {
                    let others = without_own(&now, Some(&change));
                    self.write(&key, &others.to_string())?;
                    restored += 1;
                }
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

/// Ports as the kernel lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ports(BTreeSet<u16>);

impl Ports {
    /// What cannot be read is left out: the kernel lists nothing else.
    fn parse(list: &str) -> Self {
        let ranges = list.split(',').filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
        });
        Self(ranges.flatten().collect())
    }

    fn with(mut self, ranges: &[RangeInclusive<u16>]) -> Self {
        self.0.extend(ranges.iter().cloned().flatten());
        self
    }

    fn without(mut self, others: &Self) -> Self {
        self.0.retain(|port| !others.0.contains(port));
        self
    }
}

impl fmt::Display for Ports {
    /// As the kernel writes it: ports that follow each other are one range.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for port in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
                _ => ranges.push((*port, *port)),
            }
        }
        let text = |(first, last): &(u16, u16)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        let texts: Vec<_> = ranges.iter().map(text).collect();
        f.write_str(&texts.join(","))
    }
}

/// The ports of a list that are others', given what veer last changed.
fn without_own(now: &str, change: Option<&Change>) -> Ports {
    let own = change.map(|change| Ports::parse(&change.set).without(&Ports::parse(&change.before)));
    Ports::parse(now).without(&own.unwrap_or_default())
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
        sysctls
            .set(&Sysctl::Reserved(vec![61_000..=65_535]))
            .unwrap();
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
    fn reserved_ports_follow_what_is_wanted_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut sysctls = settings(folder.path(), &[(RESERVED, "8080,60000-60999")]);
        let mut reserve = |ranges: &[RangeInclusive<u16>]| {
            let wanted = Sysctl::Reserved(ranges.to_vec());
            sysctls.set(&wanted).unwrap();
            sysctls.read(RESERVED).unwrap()
        };

        let both = reserve(&[61_000..=65_535, 8_080..=8_080, 40_000..=40_010]);
        assert_eq!(both, "8080,40000-40010,60000-65535");
        assert_eq!(reserve(&[61_000..=65_535]), "8080,60000-65535");
        sysctls.write(RESERVED, "8080,9999,60000-65535").unwrap();
        let mut later = again(folder.path());
        later.set(&Sysctl::Reserved(vec![40_000..=40_000])).unwrap();
        let with_others = later.read(RESERVED).unwrap();
        assert_eq!(with_others, "8080,9999,40000,60000-60999");
        assert_eq!(later.restore().unwrap(), 1);

        let after = again(folder.path()).read(RESERVED).unwrap();
        assert_eq!(after, "8080,9999,60000-60999");
    }

    #[test]
    fn a_list_that_has_the_ports_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut sysctls = settings(folder.path(), &[(RESERVED, "60000-65535")]);

        let wanted = Sysctl::Reserved(vec![61_000..=65_535]);
        sysctls.set(&wanted).unwrap();
        sysctls.set(&Sysctl::Reserved(Vec::new())).unwrap();

        assert_eq!(sysctls.restore().unwrap(), 0);
        let after = again(folder.path()).read(RESERVED).unwrap();
        assert_eq!(after, "60000-65535");
    }
}
