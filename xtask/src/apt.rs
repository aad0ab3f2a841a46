//! Debian packages without installing them: downloaded with private lists, unpacked into a folder.
//!
//! Needs no root and changes nothing outside the folders it is given. The mirrors are the ones
//! that the machine's own apt uses; signatures are checked as always.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::process;

/// A private apt: its lists and archives live in one folder.
#[derive(Debug)]
pub(crate) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// True where apt-get and dpkg-deb exist.
    pub(crate) fn is_here() -> bool {
        process::is_installed("apt-get") && process::is_installed("dpkg-deb")
    }

    /// Prepares private lists in `folder` and fetches them.
    pub(crate) fn update(folder: &Path) -> Result<Self> {
        let apt = Self {
            folder: folder.to_owned(),
        };
        for inner in ["lists/partial", "archives/partial"] {
            let inner = folder.join(inner);
            fs::create_dir_all(&inner).with_context(|| format!("create {}", inner.display()))?;
        }
        process::run(apt.get().args(["-q", "update"]))?;
        Ok(apt)
    }

    /// True if the mirrors offer `package`.
    pub(crate) fn offers(&self, package: &str) -> bool {
        let mut show = self.configured("apt-cache");
        show.args(["show", "--quiet", package])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        show.status().is_ok_and(|status| status.success())
    }

    /// Downloads `packages` and what they need that this machine does not have.
    pub(crate) fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let archives = self.folder.join("archives");
        let mut install = self.get();
        process::run(
            install
                .args(["-q", "-y", "--download-only", "install"])
                .args(packages),
        )?;
        let mut debs: Vec<PathBuf> = fs::read_dir(&archives)
            .with_context(|| format!("read {}", archives.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect();
        debs.sort();
        ensure!(
            !debs.is_empty(),
            "apt-get downloaded nothing for {packages:?}"
        );
        Ok(debs)
    }

    fn get(&self) -> Command {
        self.configured("apt-get")
    }

    fn configured(&self, program: &str) -> Command {
        let set = |key: &str, folder: &str| format!("{key}={}", self.folder.join(folder).display());
        let mut command = Command::new(program);
        for option in [
            set("Dir::State::Lists", "lists"),
            set("Dir::Cache", ""),
            set("Dir::Cache::Archives", "archives"),
            // The lists are private, and who may write them is settled by veer's own lock.
            "Debug::NoLocking=1".into(),
            "APT::Install-Recommends=0".into(),
            // The default user for downloads may not enter a private cache folder.
            "APT::Sandbox::User=".into(),
            "Acquire::Languages=none".into(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// Unpacks the files of `deb` into `folder`, except those below the `excluded` patterns of tar.
pub(crate) fn unpack(deb: &Path, folder: &Path, excluded: &[&str]) -> Result<()> {
    let mut reader = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .context("start dpkg-deb")?;
    let files = reader.stdout.take().context("read from dpkg-deb")?;
    let mut tar = Command::new("tar");
    tar.args(["-x", "--no-same-owner", "-C"]).arg(folder);
    tar.args(
        excluded
            .iter()
            .map(|pattern| format!("--exclude={pattern}")),
    );
    let unpacked = process::run(tar.stdin(files));
    let read = reader.wait().context("wait for dpkg-deb")?;
    unpacked.with_context(|| format!("unpack {}", deb.display()))?;
    ensure!(
        read.success(),
        "read {}: dpkg-deb ended with {read}",
        deb.display()
    );
    Ok(())
}
