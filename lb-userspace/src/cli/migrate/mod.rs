//! `veer migrate`.

mod settings;

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use crate::config::Config;
use crate::engine::Process;

/// Where the Engine reads its settings unless its command line says otherwise.
const SETTINGS: &str = "/etc/docker/daemon.json";

/// Let veer do what Docker's rules and proxies do, or give it back
///
/// Turns iptables, ip6tables and userland-proxy off in the Engine's settings, or on again. Only that file
/// is changed, all other keys in it stay, and what it was is kept beside it. The Engine takes it over at
/// its next restart.
#[derive(Args, Debug)]
pub(super) struct Migrate {
    #[command(subcommand)]
    verb: Verb,
    /// The Engine's settings; the default is the file that the running Engine has read
    #[arg(long, global = true, value_name = "FILE")]
    daemon_json: Option<PathBuf>,
    /// Say what would be done and do nothing
    #[arg(long, global = true)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
enum Verb {
    /// Say how the Engine is set up, and what `apply` would change
    Show,
    /// Turn the Engine's rules and proxies off
    Apply,
    /// Turn them on again as they were
    Revert,
}

impl Migrate {
    pub(super) fn run(self, out: &mut impl Write) -> anyhow::Result<()> {
        let engine = Process::find(&Config::default().engine.socket);
        let path = self.daemon_json.clone();
        let path = path.or_else(|| engine.as_ref().map(Process::settings_path));
        let file = SettingsFile::read(path.unwrap_or_else(|| PathBuf::from(SETTINGS)))?;
        if let Some(engine) = engine.as_ref().filter(|_| self.daemon_json.is_none()) {
            file.refuse_arguments(engine)?;
        }
        let change = match self.verb {
            Verb::Show | Verb::Apply => file.applied()?,
            Verb::Revert => file.reverted()?,
        };
        let dry = self.dry_run || self.verb == Verb::Show;
        self.tell(&file, change.as_deref(), out)?;
        match change.filter(|_| !dry) {
            Some(text) if self.verb == Verb::Apply => file.apply(&text)?,
            Some(text) => file.revert(&text)?,
            None => return Ok(()),
        }
        advise(self.verb, out)
    }

    fn tell(
        &self,
        file: &SettingsFile,
        change: Option<&str>,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let path = file.path.display();
        let Some(change) = change else {
            writeln!(out, "{path}: nothing to change")?;
            return Ok(());
        };
        writeln!(out, "{path}:")?;
        for line in settings::difference(&file.text, change) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

fn advise(verb: Verb, out: &mut impl Write) -> anyhow::Result<()> {
    let rules = match verb {
        Verb::Show | Verb::Apply => {
            "Rules that the Engine has made before stay until a reboot; they do no harm, and \
             `veer check` tells of them."
        }
        Verb::Revert => "The Engine makes its rules again when it starts.",
    };
    writeln!(
        out,
        "\nRestart the Engine now: systemctl restart docker\nWith \"live-restore\": true in its settings \
         containers keep running meanwhile. {rules}"
    )?;
    Ok(())
}

/// The Engine's settings, and what they were before veer.
struct SettingsFile {
    path: PathBuf,
    /// Empty if there is none.
    text: String,
}

impl SettingsFile {
    fn read(path: PathBuf) -> anyhow::Result<Self> {
        let text = read_or_empty(&path)?;
        Ok(Self { path, text })
    }

    /// Where its former content is kept.
    fn backup(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".before-veer");
        PathBuf::from(name)
    }

    /// The Engine does not start when both its command line and the file name a switch.
    fn refuse_arguments(&self, engine: &Process) -> anyhow::Result<()> {
        let named = settings::SWITCHES
            .iter()
            .find(|switch| engine.has_argument(switch));
        if let Some(switch) = named {
            bail!(
                "the Engine was started with --{switch}, and would refuse to start if {} named it too; \
                 change its command line instead (systemctl edit docker)",
                self.path.display()
            );
        }
        Ok(())
    }

    fn parse(&self, text: &str) -> anyhow::Result<serde_json::Map<String, serde_json::Value>> {
        settings::parse(text).map_err(|error| {
            let path = self.path.display();
            anyhow::anyhow!("read {path} as the Engine's settings: {error}; mend it first")
        })
    }

    /// The text with the switches off; `None` if they are.
    fn applied(&self) -> anyhow::Result<Option<String>> {
        let before = self.parse(&self.text)?;
        let after = settings::without_rules(before.clone());
        Ok((after != before).then(|| settings::text(&after)))
    }

    /// The text with the switches as they were; `None` if they are. Unchanged since, the file is as it
    /// was to the letter.
    fn reverted(&self) -> anyhow::Result<Option<String>> {
        let backup = self.backup();
        let original = match fs::read_to_string(&backup) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            result => result.with_context(|| format!("read {}", backup.display()))?,
        };
        let (now, before) = (self.parse(&self.text)?, self.parse(&original)?);
        if now == settings::without_rules(before.clone()) {
            return Ok(Some(original));
        }
        let after = settings::with_switches_of(now.clone(), &before);
        Ok((after != now).then(|| settings::text(&after)))
    }

    fn apply(&self, text: &str) -> anyhow::Result<()> {
        // A second apply must not take our own file for the former one.
        if !self.backup().exists() {
            write(&self.backup(), &self.text)?;
        }
        write(&self.path, text)
    }

    fn revert(&self, text: &str) -> anyhow::Result<()> {
        if text.is_empty() {
            fs::remove_file(&self.path)
                .with_context(|| format!("remove {}", self.path.display()))?;
        } else {
            write(&self.path, text)?;
        }
        match fs::remove_file(self.backup()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.backup().display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn read_or_empty(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        result => result.with_context(|| format!("read {}", path.display())),
    }
}

/// Replaces the file as a whole.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let replace = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = tempfile_in(folder, path)?;
        file.1.write_all(text.as_bytes())?;
        file.1.sync_all()?;
        fs::rename(&file.0, path)
    };
    replace().with_context(|| format!("write {}", path.display()))
}

fn tempfile_in(folder: &Path, path: &Path) -> io::Result<(PathBuf, fs::File)> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = folder.join(name);
    Ok((fresh.clone(), fs::File::create(fresh)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(verb: Verb, path: &Path, dry_run: bool) -> anyhow::Result<String> {
        let migrate = Migrate {
            verb,
            daemon_json: Some(path.to_owned()),
            dry_run,
        };
        let mut out = Vec::new();
        migrate.run(&mut out)?;
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn applied_and_reverted_the_file_is_as_it_was_to_the_letter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.json");
        let before = "{ \"live-restore\":true }";
        fs::write(&path, before).unwrap();

        let dry = run(Verb::Apply, &path, true).unwrap();
        assert!(dry.contains("+   \"iptables\": false"), "{dry}");
        assert_eq!(fs::read_to_string(&path).unwrap(), before);

        run(Verb::Apply, &path, false).unwrap();
        let during = settings::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(
            (&during["iptables"], &during["live-restore"]),
            (&false.into(), &true.into())
        );
        let again = run(Verb::Apply, &path, false).unwrap();
        assert!(again.contains("nothing to change"), "{again}");

        run(Verb::Revert, &path, false).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no backup is left"
        );
    }

    #[test]
    fn where_there_was_no_file_there_is_none_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker/daemon.json");

        run(Verb::Apply, &path, false).unwrap();
        assert!(path.exists());
        run(Verb::Revert, &path, false).unwrap();

        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_object_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.json");
        fs::write(&path, "{ not json").unwrap();

        let error = run(Verb::Apply, &path, false).unwrap_err();

        assert!(error.to_string().contains("mend it first"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{ not json");
    }
}
