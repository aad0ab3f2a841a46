//! Debian's kernels, fetched and unpacked into the cache.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::tools::Tools;
use super::{cache, image, modules, packages, suites, suites::Suites};
use crate::{apt::Installed, process};

/// Grows when the layout of a prepared kernel changes: older folders are then left alone.
const LAYOUT: &str = "1";

const META_PACKAGE: &str = "linux-image-amd64";

/// The kernels that the datapath is tested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KernelId {
    /// Debian 12's
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's
    #[value(name = "6.12")]
    V6_12,
    /// The newest that Debian's stable release offers (its backports)
    Newest,
}

impl KernelId {
    /// The suites that hold this kernel; the newest version in any of them counts.
    fn suites(self) -> &'static [&'static str] {
        match self {
            Self::V6_1 => &["bookworm", "bookworm-security"],
            Self::V6_12 => &["trixie", "trixie-security"],
            Self::Newest => &["trixie-backports"],
        }
    }
}

impl fmt::Display for KernelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newest => "newest",
        })
    }
}

/// A kernel in the cache, ready to boot.
///
/// ```text
/// ~/.cache/veer/kernels/<layout>/<id>/
///     image          what QEMU boots
///     release        as `uname -r` says it
///     packages       name=version, one a line
///     modules/       becomes /lib/modules/<release> in the guest
/// ```
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(super) id: KernelId,
    pub(super) release: String,
    folder: PathBuf,
}

impl Kernel {
    /// Fetches and unpacks the kernel unless the cache has it.
    pub(super) fn prepared(id: KernelId, tools: &Tools) -> Result<Self> {
        let folder = tools
            .cache
            .join("kernels")
            .join(LAYOUT)
            .join(id.to_string());
        cache::ensure(&folder, |draft| build(id, tools, draft))
            .with_context(|| format!("prepare kernel {id}"))?;
        let release = folder.join("release");
        let release = fs::read_to_string(&release).with_context(|| {
            format!(
                "read {} (delete its folder to fetch it anew)",
                release.display()
            )
        })?;
        Ok(Self {
            id,
            release: release.trim().to_owned(),
            folder,
        })
    }

    /// The file that QEMU boots.
    pub(super) fn image(&self) -> PathBuf {
        self.folder.join("image")
    }

    /// The folder that is the guest's `/lib/modules/<release>`.
    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join("modules")
    }
}

fn build(id: KernelId, tools: &Tools, folder: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(folder)?;
    let suites = Suites::fetched(id.suites(), Installed::Nothing)?;
    let packages = packages::kernel_packages(META_PACKAGE, |name| suites.show(name))?;
    let debs = suites.download(&packages, work.path())?;
    process::say(&format!("unpacking kernel {id}"));
    let root = work.path().join("root");
    suites::unpack(&debs, &root)?;
    let (release, tree) = module_tree(&root)?;
    let kept = folder.join("modules");
    fs::create_dir(&kept)?;
    modules::install(&tree, &kept, tools)?;
    let packed = packed_image(&root, &release, &tree)?;
    fs::write(folder.join("image"), bootable(packed, tools)?)?;
    fs::write(folder.join("release"), format!("{release}\n"))?;
    let names: Vec<_> = packages.iter().map(packages::Package::exact).collect();
    fs::write(folder.join("packages"), names.join("\n") + "\n")?;
    Ok(())
}

/// Release and module folder of the one kernel that was unpacked into `root`.
fn module_tree(root: &Path) -> Result<(String, PathBuf)> {
    for parent in ["usr/lib/modules", "lib/modules"] {
        let Ok(entries) = fs::read_dir(root.join(parent)) else {
            continue;
        };
        for entry in entries {
            let entry = entry?;
            if entry.path().join("modules.builtin").exists() {
                return Ok((
                    entry.file_name().to_string_lossy().into_owned(),
                    entry.path(),
                ));
            }
        }
    }
    bail!("the packages hold no modules: Debian may have split them anew")
}

/// The bzImage, which Debian moved to the modules in 7.x.
fn packed_image(root: &Path, release: &str, tree: &Path) -> Result<Vec<u8>> {
    let places = [
        root.join(format!("boot/vmlinuz-{release}")),
        tree.join("vmlinuz"),
    ];
    let place = places.iter().find(|place| place.exists());
    let place = place.context("the packages hold no vmlinuz: Debian may have split them anew")?;
    fs::read(place).with_context(|| format!("read {}", place.display()))
}

/// The bare kernel when QEMU can boot it, else the image as it is.
fn bootable(packed: Vec<u8>, tools: &Tools) -> Result<Vec<u8>> {
    let Some((compression, payload)) = image::payload(&packed) else {
        return Ok(packed);
    };
    let bare = tools.decompress(compression, payload)?;
    Ok(if image::is_bootable(&bare) {
        bare
    } else {
        packed
    })
}
