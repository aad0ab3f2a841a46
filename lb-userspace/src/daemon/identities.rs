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
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let identities = serde_json::from_slice(&bytes).map_err(|error| fail(error.into()))?;
    Ok(Some(identities))
}

/// Replaces the file in one step: whoever reads it finds the old or the new content.
pub(super) fn save(path: &Path, identities: &Identities) -> Result<(), FileError> {
    let new = path.with_extension("json.new");
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
    fs::rename(&new, path).map_err(fail("replace", path))
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
    fn a_damaged_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(&path, "{").unwrap();

        let error = load(&path).unwrap_err();

        assert!(error.to_string().contains("state.json"), "{error}");
    }
}
