//! Packages of any Debian release, from the mirror that the host's apt uses.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::packages::{Mirrors, Package};
use crate::{
    apt::{self, Apt, Installed, stdout_of},
    process,
};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt that looks at some suites only.
#[derive(Debug)]
pub(super) struct Suites {
    apt: Apt,
}

impl Suites {
    /// With the lists of these suites just fetched. Suites that this host has no mirror for are
    /// left out.
    pub(super) fn fetched(suites: &[&str], installed: Installed) -> Result<Self> {
        ensure!(
            Path::new(KEYRING).exists(),
            "{KEYRING} is missing: install the package debian-archive-keyring"
        );
        let mirrors = mirrors()?;
        let sources: String = suites
            .iter()
            .filter_map(|suite| Some((mirrors.of_suite(suite)?, suite)))
            .map(|(uri, suite)| {
                format!("deb [arch=amd64 signed-by={KEYRING}] {uri} {suite} main\n")
            })
            .collect();
        process::say(&format!(
            "fetching the package lists of {}",
            suites.join(", ")
        ));
        Ok(Self {
            apt: Apt::of_sources(&sources, installed)?,
        })
    }

    /// The newest version of a package, or exactly that of `name=version`.
    pub(super) fn show(&self, name: &str) -> Result<Package> {
        let text = self
            .apt
            .ask("apt-cache", &["--no-all-versions", "show", name])?;
        Package::parse(&text).with_context(|| format!("apt knows no package {name}"))
    }

    /// Downloads exactly these packages; gives the .deb files, in `folder`.
    pub(super) fn download(&self, packages: &[Package], folder: &Path) -> Result<Vec<PathBuf>> {
        for package in packages {
            process::say(&format!("fetching {} {}", package.name, package.version));
            self.apt.download_only(&package.exact(), folder)?;
        }
        apt::deb_files(folder)
    }

    /// Downloads a package with all it depends on that is not installed, from `suite` where that
    /// has them, and unpacks them into `folder`. The package itself comes even if it is installed.
    pub(super) fn unpack_missing(&self, package: &str, suite: &str, folder: &Path) -> Result<()> {
        process::say(&format!("fetching {package} of {suite}"));
        let other_version = [
            "--reinstall",
            "--allow-downgrades",
            "--target-release",
            suite,
        ];
        let debs = self
            .apt
            .download(&[&other_version, [package].as_slice()].concat())?;
        unpack(&debs, folder)
    }
}

/// Unpacks .deb files over one another into `folder`.
pub(super) fn unpack(debs: &[PathBuf], folder: &Path) -> Result<()> {
    debs.iter()
        .try_for_each(|deb| apt::unpack(deb, folder, &[]))
}

fn mirrors() -> Result<Mirrors> {
    let targets = stdout_of(Command::new("apt-get").args([
        "indextargets",
        "--format",
        Mirrors::FORMAT,
        "Created-By: Packages",
    ]))
    .context("ask apt for its package sources (kernels are fetched by apt, from Debian)")?;
    Mirrors::parse(&targets).context(
        "apt on this host has no Debian archive among its sources: \
         add one, or copy the `vm` folder of veer's cache from a Debian machine",
    )
}
