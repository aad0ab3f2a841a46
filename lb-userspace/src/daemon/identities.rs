//! The file that keeps who has which number across restarts of the daemon.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::reconcile::Identities;

/// Why the file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{attempt} {}: {source}", .path.display())]
pub(super) struct FileError {
    attempt: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What the file says; `None` where there is none. A damaged file is an error: the caller goes on
/// with what the maps hold, and says so.
pub(super) fn load(path: &Path) -> Result<Option<Identities>, FileError> {
    let fail = |source| FileError {
        attempt: "read",
        path: path.to_owned(),
        source,
    };
    let read = |path: &Path| match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    // Somebody was interrupted between the two steps of `save`: what is new is whole.
    let found =
        read(path).and_then(|old| old.map_or_else(|| read(&new_of(path)), |old| Ok(Some(old))));
    let Some(bytes) = found.map_err(fail)? else {
        return Ok(None);
    };
    let identities = serde_json::from_slice(&bytes).map_err(|error| fail(error.into()))?;
    Ok(Some(identities))
}

/// Replaces the file: whoever loads it finds the old or the new content.
///
/// # Why
/// Not by renaming over the old file: where `/run` is not in memory, ext4 begins to write the new one to disk
/// then (`auto_da_alloc` in ext4(5)), and the caller waits for it, at times for a hundred milliseconds.
pub(super) fn save(path: &Path, identities: &Identities) -> Result<(), FileError> {
    let new = new_of(path);
    let fail = |attempt, path: &Path| {
        let path = path.to_owned();
        move |source| FileError {
            attempt,
            path,
            source,
        }
    };
    let bytes =
        serde_json::to_vec(identities).map_err(|error| fail("write", &new)(error.into()))?;
    // Not synced: /run is memory, and what the maps hold ends with it.
    let written = File::create(&new).and_then(|mut file| file.write_all(&bytes));
    written.map_err(fail("write", &new))?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::rename(&new, path),
    }
    .map_err(fail("replace", path))
}

/// Where what is new is written first.
fn new_of(path: &Path) -> PathBuf {
    path.with_extension("json.new")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_nothing_else_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");

        assert_eq!(load(&path).unwrap(), None);
        save(&path, &Identities::default()).unwrap();

        assert_eq!(load(&path).unwrap(), Some(Identities::default()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_being_saved_when_the_daemon_was_killed_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        save(&path, &Identities::default()).unwrap();
        fs::rename(&path, folder.path().join("state.json.new")).unwrap();

        assert_eq!(load(&path).unwrap(), Some(Identities::default()));
        save(&path, &Identities::default()).unwrap();

        assert_eq!(load(&path).unwrap(), Some(Identities::default()));
    }

    #[test]
    fn what_was_only_half_written_when_the_daemon_was_killed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        save(&path, &Identities::default()).unwrap();
        fs::write(folder.path().join("state.json.new"), "{").unwrap();

        assert_eq!(load(&path).unwrap(), Some(Identities::default()));
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(&path, "{").unwrap();

        let error = load(&path).unwrap_err();

        assert!(error.to_string().contains("state.json"), "{error}");
    }
}
