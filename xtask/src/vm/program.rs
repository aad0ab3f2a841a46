//! Programs of the host, or of Debian packages that are unpacked into the cache.
//!
//! # Why
//! An unpacked package changes nothing on the host, needs no root, and can be newer than the one
//! that the host's release offers.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{cache, suites::Suites};
use crate::apt::Installed;

/// Grows when the layout of the unpacked programs changes.
const LAYOUT: &str = "1";

/// A program and, when it comes from the cache, the root that it was unpacked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    root: Option<PathBuf>,
}

impl Program {
    pub(super) fn of_host(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            root: None,
        }
    }

    /// The first of that name on PATH.
    pub(super) fn on_path(name: &str) -> Option<Self> {
        let folders = env::var_os("PATH")?;
        let mut paths = env::split_paths(&folders).map(|folder| folder.join(name));
        paths.find(|path| path.is_file()).map(Self::of_host)
    }

    /// From the Debian package of that name, fetched unless the cache has it. `suite` picks another
    /// suite than the host's own.
    pub(super) fn cached(
        cache: &Path,
        name: &str,
        package: &str,
        suite: Option<&str>,
    ) -> Result<Self> {
        let root = cache.join("programs").join(LAYOUT).join(package);
        cache::ensure(&root, |draft| unpack_package(package, suite, draft))
            .with_context(|| format!("fetch package {package}"))?;
        let path = ["usr/bin", "bin"]
            .iter()
            .map(|folder| root.join(folder).join(name))
            .find(|p| p.is_file());
        let path = path.with_context(|| format!("package {package} holds no program {name}"))?;
        Ok(Self {
            path,
            root: Some(root),
        })
    }

    /// The host's, else the cached one.
    pub(super) fn any(cache: &Path, name: &str, package: &str) -> Result<Self> {
        Self::on_path(name).map_or_else(|| Self::cached(cache, name, package, None), Ok)
    }

    /// Where the program's own files are: below `/`, or the root it was unpacked to.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.root.as_deref().unwrap_or(Path::new("/")).join(path)
    }

    /// Environment that lets the program find its libraries and plug-ins.
    pub(super) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let Some(root) = &self.root else {
            return Vec::new();
        };
        let library = |folder: &str| root.join(folder).join("x86_64-linux-gnu");
        let mut libraries = library("usr/lib").into_os_string();
        libraries.push(":");
        libraries.push(library("lib"));
        vec![
            ("LD_LIBRARY_PATH", libraries),
            (
                "QEMU_MODULE_DIR",
                library("usr/lib").join("qemu").into_os_string(),
            ),
        ]
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.envs(self.environment());
        command
    }
}

fn unpack_package(package: &str, suite: Option<&str>, folder: &Path) -> Result<()> {
    let Some(release) = host_release()? else {
        bail!("this host is no Debian, so its package {package} cannot be fetched");
    };
    let updates = format!("{release}-updates");
    let security = format!("{release}-security");
    let mut suites = vec![release.as_str(), &updates, &security];
    suites.extend(suite);
    let suites = Suites::fetched(&suites, Installed::Host)?;
    suites.unpack_missing(package, suite.unwrap_or(&release), folder)
}

/// Code name of the Debian release that this host runs; `None` on other distributions.
pub(super) fn host_release() -> Result<Option<String>> {
    let text = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    Ok(code_name(&text))
}

fn code_name(os_release: &str) -> Option<String> {
    let value = |name: &str| {
        let line = os_release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    (value("ID")? == "debian")
        .then(|| value("VERSION_CODENAME"))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_release_is_read_only_from_a_debian() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n";

        assert_eq!(code_name(debian).as_deref(), Some("bookworm"));
        assert_eq!(code_name("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(code_name("ID=arch\n"), None);
    }

    #[test]
    fn an_unpacked_program_gets_the_libraries_unpacked_with_it() {
        let host = Program::of_host("/usr/bin/x");
        let cached = Program {
            path: "/c/usr/bin/x".into(),
            root: Some("/c".into()),
        };

        assert!(host.environment().is_empty());
        assert_eq!(
            cached.environment()[0],
            (
                "LD_LIBRARY_PATH",
                "/c/usr/lib/x86_64-linux-gnu:/c/lib/x86_64-linux-gnu".into()
            )
        );
        assert_eq!(host.file("usr/share/qemu"), Path::new("/usr/share/qemu"));
        assert_eq!(
            cached.file("usr/share/qemu"),
            Path::new("/c/usr/share/qemu")
        );
    }
}
