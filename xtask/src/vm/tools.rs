//! Everything that a run starts or copies.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::image::Compression;
use super::program::{Program, host_release};
use super::qemu::{Qemu, Version};
use crate::{apt::stdout_of, process, toolchain::Places};

const QEMU: &str = "qemu-system-x86_64";
const QEMU_PACKAGE: &str = "qemu-system-x86";

/// The programs of a run, found or fetched.
#[derive(Debug)]
pub(crate) struct Tools {
    /// veer's folder for what it fetches.
    pub(super) cache: PathBuf,
    /// A statically linked busybox.
    pub(super) busybox: PathBuf,
    pub(super) qemu: Qemu,
}

impl Tools {
    pub(super) fn prepared(places: &Places) -> Result<Self> {
        let cache = places.cache.clone();
        // Always Debian's: a busybox on PATH need not be static.
        let busybox = Program::cached(&cache, "busybox", "busybox-static", None)?.path;
        let qemu = find_qemu(&cache)?;
        Ok(Self {
            cache,
            busybox,
            qemu,
        })
    }

    /// The unpacked bytes.
    pub(super) fn decompress(&self, compression: Compression, bytes: &[u8]) -> Result<Vec<u8>> {
        let program = self.decompressor(compression)?;
        let folder = tempfile::tempdir().context("create a folder to unpack in")?;
        let packed = folder.path().join("packed");
        fs::write(&packed, bytes).with_context(|| format!("write {}", packed.display()))?;
        let mut command = program.command();
        let output = command.arg("-dc").stdin(File::open(&packed)?).output();
        let output = output.with_context(|| format!("start {command:?}"))?;
        ensure!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(output.stdout)
    }

    /// Unpacks `x.xz` and `y.zst` to `x` and `y`, in place of them.
    pub(super) fn decompress_files(&self, files: &[PathBuf]) -> Result<()> {
        let kinds: [(_, _, &[&str]); 2] = [
            (Compression::Xz, "xz", &["-d"]),
            (Compression::Zstd, "zst", &["-d", "-q", "--rm"]),
        ];
        for (compression, suffix, options) in kinds {
            let files: Vec<_> = files
                .iter()
                .filter(|file| {
                    file.extension()
                        .is_some_and(|extension| extension == suffix)
                })
                .collect();
            if files.is_empty() {
                continue;
            }
            let program = self.decompressor(compression)?;
            // One process for many files, but not for more than a command line holds.
            for files in files.chunks(200) {
                stdout_of(program.command().args(options).args(files))?;
            }
        }
        Ok(())
    }

    fn decompressor(&self, compression: Compression) -> Result<Program> {
        match compression {
            Compression::Xz => Program::any(&self.cache, "xz", "xz-utils"),
            Compression::Zstd => Program::any(&self.cache, "zstd", "zstd"),
        }
    }
}

/// The host's QEMU if it is safe with several processors, else a newer one of Debian's, else the
/// host's after all, slower.
fn find_qemu(cache: &Path) -> Result<Qemu> {
    let host = Program::on_path(QEMU).map(qemu_of).transpose()?;
    if let Some(qemu) = host.as_ref().filter(|qemu| qemu.version.is_thread_safe()) {
        return Ok(qemu.clone());
    }
    let suite = (host_release()?.as_deref() == Some("bookworm")).then_some("bookworm-backports");
    let newer = Program::cached(cache, QEMU, QEMU_PACKAGE, suite).and_then(qemu_of);
    match (newer, host) {
        (Ok(newer), _) => Ok(newer),
        (Err(error), Some(host)) => {
            process::say(&format!(
                "going on with one thread on the host's older QEMU: {error:#}"
            ));
            Ok(host)
        }
        (Err(error), None) => Err(error.context(
            "there is no QEMU: install qemu-system-x86, best 8.1 or newer \
             (Debian: `apt-get install --no-install-recommends qemu-system-x86`)",
        )),
    }
}

fn qemu_of(program: Program) -> Result<Qemu> {
    let text = stdout_of(program.command().arg("--version"))?;
    let version = Version::parse(&text)
        .with_context(|| format!("{} tells no version: {text}", program.path.display()))?;
    Ok(Qemu { program, version })
}
