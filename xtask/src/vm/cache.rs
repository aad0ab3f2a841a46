//! What is fetched once and kept.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::install;

/// Makes sure that `folder` exists, complete: `build` fills a draft that is renamed when it
/// succeeds. Processes that want the same folder wait for the first of them.
pub(super) fn ensure(folder: &Path, build: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let parent = folder.parent().context("a cache folder has a parent")?;
    let name = folder.file_name().context("a cache folder has a name")?;
    let _lock = install::lock(parent, &name.to_string_lossy())?;
    if folder.exists() {
        return Ok(());
    }
    install::atomically(folder, build)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use anyhow::bail;

    use super::*;

    #[test]
    fn a_folder_is_built_once_however_many_want_it() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("6.1");
        let builds = AtomicUsize::new(0);

        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    ensure(&folder, |draft| {
                        builds.fetch_add(1, Ordering::Relaxed);
                        Ok(fs::write(draft.join("release"), "6.1.0")?)
                    })
                    .unwrap();
                    assert_eq!(fs::read_to_string(folder.join("release")).unwrap(), "6.1.0");
                });
            }
        });

        assert_eq!(builds.into_inner(), 1);
    }

    #[test]
    fn a_failed_build_leaves_nothing_and_can_be_repeated() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("6.1");

        let error = ensure(&folder, |draft| {
            fs::write(draft.join("half"), "")?;
            bail!("no network")
        });

        assert_eq!(error.unwrap_err().to_string(), "no network");
        let left: Vec<_> = fs::read_dir(parent.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["6.1.lock"]);
        ensure(&folder, |_| Ok(())).unwrap();
        assert!(folder.exists());
    }
}
