//! Taking everything of an instance away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::DatapathError;
use super::filters::Filters;
use super::hooks::{self, Hooks};
use super::lock::Lock;
use super::pins::{self, Pins};
use super::{Hook, Options, cgroup};

/// What was taken away, and what could not be.
#[derive(Debug, Default)]
pub struct Uninstalled {
    /// Pins that are gone: maps, programs and links.
    pub pins: usize,
    /// Filters that were on containers' loopback interfaces (before Linux 6.6).
    pub filters: usize,
    pub errors: Vec<DatapathError>,
}

impl Uninstalled {
    fn note<T>(&mut self, result: Result<T, DatapathError>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    fn removed(&mut self, result: Result<bool, DatapathError>) {
        self.pins += usize::from(self.note(result).unwrap_or_default());
    }
}

/// Detaches the programs and removes every pin of the instance, of every layout. Goes on after an
/// error and tells all of them. Fails only with [`DatapathError::AlreadyServed`] or if the lock
/// cannot be had: nothing is taken from under a daemon that runs.
pub(super) fn uninstall(options: &Options) -> Result<Uninstalled, DatapathError> {
    let _lock = Lock::take(&options.folder, &options.instance)?;
    let pins = Pins::new(&options.bpffs, options.instance.name());
    let mut done = Uninstalled::default();
    let mut layouts = done.note(pins.other_layouts()).unwrap_or_default();
    layouts.push(pins.clone());
    for layout in &layouts {
        detach(layout, &mut done);
        // No pin, and not counted as one.
        done.note(layout.forget_loaded());
        for folder in pins::FOLDERS {
            empty(&layout.layout().join(folder), &mut done);
        }
        remove_folder(layout.layout().to_owned(), &mut done);
    }
    remove_folder(pins.instance().to_owned(), &mut done);
    take_filters_off(&Filters::of(&options.folder), &mut done);
    Ok(done)
}

/// Those inside containers, which a daemon that was killed has left.
fn take_filters_off(filters: &Filters, done: &mut Uninstalled) {
    let taken_off = filters.take_all_off();
    done.filters = taken_off.count;
    let failed = taken_off.errors.into_iter().map(|(path, error)| {
        DatapathError::file("take the filter off the loopback interface of", path)(error)
    });
    done.errors.extend(failed);
}

fn detach(pins: &Pins, done: &mut Uninstalled) {
    let interfaces = Hooks {
        pins,
        hook: Hook::Tcx,
        others: &[],
    };
    for hooked in hooks::every_program() {
        for ifindex in done.note(pins.links(hooked.program)).unwrap_or_default() {
            done.removed(interfaces.detach_one(hooked, ifindex));
        }
    }
    done.pins += done.note(cgroup::detach(pins)).unwrap_or_default();
}

fn empty(folder: &Path, done: &mut Uninstalled) {
    for name in done.note(pins::names(folder)).unwrap_or_default() {
        done.removed(pins::remove(&folder.join(name)));
    }
    remove_folder(folder.to_owned(), done);
}

fn remove_folder(folder: PathBuf, done: &mut Uninstalled) {
    match fs::remove_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            done.note::<()>(Err(DatapathError::file("remove folder", folder)(error)));
        }
        _ => {}
    }
}
