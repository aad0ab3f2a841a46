//! Debian packages without installing them: fetched with private lists, unpacked into a folder.
//!
//! Needs no root and changes nothing outside its folders. Mirrors, proxies and keys are those of
//! the machine's own apt; signatures are checked as always.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::process;

/// What counts as installed when apt follows dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Installed {
    /// Nothing: packages of another release than the host's.
    Nothing,
    /// The host's packages: only what is missing is fetched.
    Host,
}

/// An apt of its own. Its lists and archives vanish when it is dropped.
#[derive(Debug)]
pub(crate) struct Apt {
    folder: TempDir,
}

impl Apt {
    /// True where apt-get and dpkg-deb exist.
    pub(crate) fn is_here() -> bool {
        process::is_installed("apt-get") && process::is_installed("dpkg-deb")
    }

    /// With the lists of the host's own sources just fetched.
    pub(crate) fn of_host() -> Result<Self> {
        let apt = Self::configured("")?;
        apt.run(&["-q", "update"])?;
        Ok(apt)
    }

    /// With the lists of exactly these `sources` just fetched, in the format of sources.list.
    pub(crate) fn of_sources(sources: &str, installed: Installed) -> Result<Self> {
        let status = match installed {
            Installed::Nothing => "Dir::State::status \"{folder}/status\";\n",
            Installed::Host => "",
        };
        let apt = Self::configured(&format!(
            "Dir::Etc::sourcelist \"{{folder}}/sources.list\";\nDir::Etc::sourceparts \"-\";\nAPT::Architecture \"amd64\";\n{status}"
        ))?;
        fs::write(apt.folder.path().join("sources.list"), sources)?;
        apt.ask("apt-get", &["--error-on=any", "update"])?;
        Ok(apt)
    }

    /// `{folder}` in `more` stands for the private folder.
    fn configured(more: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("create a folder for apt's lists")?;
        for inner in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.path().join(inner)).context("create apt's folders")?;
        }
        let shown = folder.path().display().to_string();
        let config = format!("{CONFIG}{more}").replace("{folder}", &shown);
        fs::write(folder.path().join("apt.conf"), config).context("configure apt")?;
        fs::write(folder.path().join("status"), "").context("configure apt")?;
        Ok(Self { folder })
    }

    /// True if the sources offer `package`.
    pub(crate) fn offers(&self, package: &str) -> bool {
        self.ask("apt-cache", &["show", package]).is_ok()
    }

    /// The packages that `package` depends on, directly or not, installed or not.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let only_depends = [
            "recommends",
            "suggests",
            "conflicts",
            "breaks",
            "replaces",
            "enhances",
        ];
        let mut arguments = vec!["depends".to_owned(), "--recurse".into(), package.into()];
        arguments.extend(only_depends.map(|other| format!("--no-{other}")));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Ok(names_at_margin(&self.ask("apt-cache", &arguments)?))
    }

    /// Downloads what `arguments` of `apt-get install` name and all it depends on that is not
    /// installed; gives the .deb files, which live as long as this value.
    pub(crate) fn download(&self, arguments: &[&str]) -> Result<Vec<PathBuf>> {
        let install = [
            "-q",
            "--yes",
            "--no-install-recommends",
            "--download-only",
            "install",
        ];
        self.run(&[&install, arguments].concat())?;
        let debs = deb_files(&self.folder.path().join("cache/archives"))?;
        ensure!(
            !debs.is_empty(),
            "apt-get downloaded nothing for {arguments:?}"
        );
        Ok(debs)
    }

    /// Downloads exactly this package into `folder`, whatever is installed.
    pub(crate) fn download_only(&self, package: &str, folder: &Path) -> Result<()> {
        stdout_of(
            self.command("apt-get")
                .args(["download", package])
                .current_dir(folder),
        )
        .map(drop)
    }

    /// What apt's `program` answers.
    pub(crate) fn ask(&self, program: &str, arguments: &[&str]) -> Result<String> {
        stdout_of(
            self.command(program)
                .args(arguments)
                .current_dir(self.folder.path()),
        )
    }

    /// Runs apt-get with its progress in view.
    fn run(&self, arguments: &[&str]) -> Result<()> {
        process::run(self.command("apt-get").args(arguments))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(self.folder.path().join("apt.conf"))
            .env("LC_ALL", "C");
        command
    }
}

/// Read after the host's own configuration, `{folder}` being the private folder.
const CONFIG: &str = "\
// What the host wants done after an update concerns its own lists, not ours.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State::lists \"{folder}/lists\";
Dir::Cache \"{folder}/cache\";
Dir::Cache::archives \"archives\";
Acquire::Languages \"none\";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";
Acquire::Retries \"3\";
// The unprivileged user that apt switches to cannot write to our folders.
APT::Sandbox::User \"\";
// Lists and archives are ours alone; the lock that remains is the host's, and needs root.
Debug::NoLocking \"1\";
";

/// The packages that `apt-cache depends` follows: each stands at the margin, with what it depends
/// on indented below it. Virtual ones are in angle brackets.
fn names_at_margin(answer: &str) -> Vec<String> {
    let names = answer
        .lines()
        .filter(|line| line.starts_with(char::is_alphanumeric));
    names.map(str::to_owned).collect()
}

/// Unpacks the files of `deb` over those in `folder`, except what the `excluded` patterns of tar
/// name.
pub(crate) fn unpack(deb: &Path, folder: &Path, excluded: &[&str]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
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

/// The .deb files in `folder`, by name.
pub(crate) fn deb_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("list {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    files.sort();
    Ok(files)
}

/// What a command printed; its stderr is part of the error when it fails.
pub(crate) fn stdout_of(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {}", output.status, error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_packages_are_followed() {
        let answer = "rustc-web\n  Depends: libc6\n |Depends: <libc-dev>\n    libc6-dev\nlibc6\n<libc-dev>\n";

        assert_eq!(names_at_margin(answer), ["rustc-web", "libc6"]);
    }

    #[test]
    fn an_apt_keeps_its_lists_to_itself() {
        let apt = Apt::configured("Dir::State::status \"{folder}/status\";\n").unwrap();

        let config = fs::read_to_string(apt.folder.path().join("apt.conf")).unwrap();

        assert!(!config.contains("{folder}"), "{config}");
        let lists = apt.folder.path().join("lists").display().to_string();
        assert!(
            config.contains(&format!("Dir::State::lists \"{lists}\";")),
            "{config}"
        );
    }
}
