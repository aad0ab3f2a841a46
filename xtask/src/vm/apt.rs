//! apt with lists, caches and sources of its own: fetches packages of any Debian release without
//! root and without touching what is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::packages::{Mirrors, Package};
use crate::process;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What counts as installed when apt follows dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Installed {
    /// Nothing: packages of another release than the host's.
    Nothing,
    /// The host's packages: only what is missing is fetched.
    Host,
}

/// An apt that looks at some suites only. Its lists vanish when it is dropped.
#[derive(Debug)]
pub(super) struct Apt {
    folder: TempDir,
    options: Vec<String>,
}

impl Apt {
    /// With the lists of these suites just fetched. Suites that this host has no mirror for are
    /// left out.
    pub(super) fn of_suites(suites: &[&str], installed: Installed) -> Result<Self> {
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
        let folder = tempfile::tempdir().context("create a folder for apt's lists")?;
        let apt = Self {
            options: options(folder.path(), installed),
            folder,
        };
        fs::create_dir_all(apt.folder.path().join("lists/partial"))?;
        fs::create_dir_all(apt.folder.path().join("cache/archives/partial"))?;
        fs::write(apt.folder.path().join("status"), "")?;
        fs::write(apt.folder.path().join("sources.list"), sources)?;
        process::say(&format!(
            "fetching the package lists of {}",
            suites.join(", ")
        ));
        apt.run("apt-get", &["--error-on=any", "update"], apt.folder.path())?;
        Ok(apt)
    }

    /// The newest version of a package, or exactly that of `name=version`.
    pub(super) fn show(&self, name: &str) -> Result<Package> {
        let text = self.run(
            "apt-cache",
            &["--no-all-versions", "show", name],
            self.folder.path(),
        )?;
        Package::parse(&text).with_context(|| format!("apt knows no package {name}"))
    }

    /// Downloads exactly these packages; gives the .deb files, in `folder`.
    pub(super) fn download(&self, packages: &[Package], folder: &Path) -> Result<Vec<PathBuf>> {
        for package in packages {
            process::say(&format!("fetching {} {}", package.name, package.version));
            self.run("apt-get", &["download", &package.exact()], folder)?;
        }
        deb_files(folder)
    }

    /// Downloads a package with all it depends on that is not installed, from `suite` where that
    /// has them; gives the .deb files. The package itself comes even if it is installed.
    pub(super) fn download_missing(&self, package: &str, suite: &str) -> Result<Vec<PathBuf>> {
        process::say(&format!("fetching {package} of {suite}"));
        self.run(
            "apt-get",
            &[
                "--yes",
                "--no-install-recommends",
                "--download-only",
                "--reinstall",
                "--allow-downgrades",
                "--target-release",
                suite,
                "install",
                package,
            ],
            self.folder.path(),
        )?;
        deb_files(&self.folder.path().join("cache/archives"))
    }

    fn run(&self, program: &str, arguments: &[&str], folder: &Path) -> Result<String> {
        let mut command = Command::new(program);
        command
            .args(&self.options)
            .args(arguments)
            .current_dir(folder)
            .env("LC_ALL", "C");
        stdout_of(&mut command)
    }
}

/// Unpacks .deb files over one another into `folder`.
pub(super) fn unpack(debs: &[PathBuf], folder: &Path) -> Result<()> {
    for deb in debs {
        stdout_of(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(deb)
                .arg(folder),
        )?;
    }
    Ok(())
}

/// What a command printed; its stderr is part of the error when it fails.
pub(super) fn stdout_of(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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

fn options(folder: &Path, installed: Installed) -> Vec<String> {
    let folder = folder.display();
    let mut options = vec![
        format!("Dir::Etc::sourcelist={folder}/sources.list"),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State::lists={folder}/lists"),
        format!("Dir::Cache={folder}/cache"),
        "Acquire::Languages=none".to_owned(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        "Acquire::Retries=3".to_owned(),
        "APT::Architecture=amd64".to_owned(),
        // The unprivileged user that apt switches to cannot write to our folders.
        "APT::Sandbox::User=".to_owned(),
        // Lists and caches are ours alone; the lock that remains is the host's, and needs root.
        "Debug::NoLocking=1".to_owned(),
    ];
    if installed == Installed::Nothing {
        options.push(format!("Dir::State::status={folder}/status"));
    }
    options
        .into_iter()
        .flat_map(|option| ["-o".to_owned(), option])
        .collect()
}

fn deb_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            files.push(path);
        }
    }
    Ok(files)
}
