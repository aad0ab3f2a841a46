//! Filters on containers' loopback interfaces (before Linux 6.6), written down.
//!
//! A filter outlives the daemon, and the namespace that it is in is not the host's: nobody who comes later
//! would know where it is. So each has a note, which is there before the filter and goes after it, and
//! which `veer uninstall` follows when the daemon was killed.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::bpf::AttachType;
use super::hooks::Hooked;
use super::pins::Pins;
use super::programs::DNS_LO;
use super::{LOOPBACK, clsact};
use crate::model::Netns;
use crate::netns::{Namespace, every_namespace};

/// The program that is put inside, and where.
pub(super) const HOOKED: Hooked = Hooked {
    program: DNS_LO,
    side: AttachType::TcxEgress,
};

/// One namespace whose loopback interface has our filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    netns: Netns,
    /// Whether the interface had no clsact qdisc before.
    made_qdisc: bool,
}

/// The notes of one instance.
#[derive(Clone, Debug)]
pub(super) struct Filters {
    folder: PathBuf,
}

/// `dns_lo` in one namespace, until this goes. When the daemon is killed it stays: it answers nothing then,
/// and the next daemon replaces it.
#[derive(Debug)]
pub(super) struct Filter {
    filters: Filters,
    note: Note,
}

/// What became of the filters that were written down.
#[derive(Debug, Default)]
pub(super) struct TakenOff {
    pub(super) count: usize,
    /// Where it failed.
    pub(super) errors: Vec<(PathBuf, io::Error)>,
}

impl Filters {
    /// Those that are written down in the instance's own folder, which need not be there.
    pub(super) fn of(instance: &Path) -> Self {
        let folder = instance.join("filters");
        Self { folder }
    }

    /// Puts the pinned program inside, in the place of an older one.
    pub(super) fn attach(&self, netns: &Netns, pins: &Pins) -> io::Result<Filter> {
        let namespace = Namespace::of(netns)?;
        let path = self.file(netns.cookie);
        let before = read(&path)?;
        let made_now = namespace.run(|| clsact::add_qdisc(LOOPBACK))??;
        let note = Note {
            netns: netns.clone(),
            made_qdisc: made_now || before.is_some_and(|before| before.made_qdisc),
        };
        self.write(&note)?;
        namespace.run(|| clsact::attach(HOOKED, LOOPBACK, pins))??;
        let filters = self.clone();
        Ok(Filter { filters, note })
    }

    /// Takes every filter off that is written down. Goes on after an error, and tells all of them.
    pub(super) fn take_all_off(&self) -> TakenOff {
        let mut done = TakenOff::default();
        let notes = self.all().unwrap_or_else(|error| {
            done.errors.push((self.folder.clone(), error));
            Vec::new()
        });
        let mut astray = Vec::new();
        for note in notes {
            match Namespace::of(&note.netns) {
                Ok(namespace) => done.add(&note, self.take_off(&note, &namespace)),
                Err(error) if error.kind() == ErrorKind::NotFound => astray.push(note),
                Err(error) => done.add(&note, Err(error)),
            }
        }
        self.seek(&astray, &mut done);
        if done.errors.is_empty() {
            // What nobody can read may be left in it, and does no harm.
            let _ = fs::remove_dir_all(&self.folder);
        }
        done
    }

    /// The same where the path has come to mean nothing, or another namespace. One that lives is any
    /// process's; one that nobody has is gone, and its filter with it.
    fn seek(&self, astray: &[Note], done: &mut TakenOff) {
        if astray.is_empty() {
            return;
        }
        let living = every_namespace();
        for note in astray {
            let is = |space: &&(u64, Namespace)| space.0 == note.netns.cookie;
            match living.iter().find(is) {
                Some((_, namespace)) => done.add(note, self.take_off(note, namespace)),
                None => done.add(note, self.forget(note).map(|()| false)),
            }
        }
    }

    /// Takes one filter off, and the qdisc if it is ours and nothing else is on it. Whether the filter was
    /// there.
    fn take_off(&self, note: &Note, namespace: &Namespace) -> io::Result<bool> {
        let was_there = namespace.run(|| clsact::detach(HOOKED, LOOPBACK))??;
        if note.made_qdisc {
            namespace.remove_unused_clsact(LOOPBACK)?;
        }
        self.forget(note)?;
        Ok(was_there)
    }

    /// What cannot be read is as nothing.
    fn all(&self) -> io::Result<Vec<Note>> {
        let files = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            files => files?,
        };
        let mut all = Vec::new();
        for file in files {
            all.extend(read(&file?.path())?);
        }
        Ok(all)
    }

    fn write(&self, note: &Note) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let file = self.file(note.netns.cookie);
        let new = file.with_extension("new");
        fs::write(&new, serde_json::to_vec(note)?)?;
        fs::rename(new, file)
    }

    fn forget(&self, note: &Note) -> io::Result<()> {
        match fs::remove_file(self.file(note.netns.cookie)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn file(&self, cookie: u64) -> PathBuf {
        self.folder.join(format!("{cookie}.json"))
    }
}

impl TakenOff {
    fn add(&mut self, note: &Note, result: io::Result<bool>) {
        match result {
            Ok(was_there) => self.count += usize::from(was_there),
            Err(error) => self.errors.push((note.netns.path.clone(), error)),
        }
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let Self { filters, note } = self;
        let taken_off = match Namespace::of(&note.netns) {
            // The filter went with its namespace.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                filters.forget(note).map(|()| false)
            }
            namespace => namespace.and_then(|it| filters.take_off(note, &it)),
        };
        if let Err(error) = taken_off {
            let netns = note.netns.path.display();
            tracing::warn!(%netns, %error, "a filter that does nothing stays in a container");
        }
    }
}

/// `None` if there is none, or it cannot be understood.
fn read(path: &Path) -> io::Result<Option<Note>> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
