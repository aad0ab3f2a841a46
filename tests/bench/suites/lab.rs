//! The real daemon on a lab of namespaces, or beside an Engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_userspace::netns::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tempfile::TempDir;
use veer_tests::child::Guarded;

/// How long serving everything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `veer status --json` says, as far as it matters here.
#[derive(Deserialize)]
pub(super) struct Status {
    pub(super) counts: Counts,
    pub(super) dns: Dns,
    pub(super) latency: Latency,
    pub(super) memory: Memory,
}

#[derive(Deserialize)]
pub(super) struct Counts {
    pub(super) endpoints: usize,
    pub(super) frontends: usize,
}

#[derive(Deserialize)]
pub(super) struct Dns {
    taken_over: usize,
    /// Queries that the kernel has answered.
    pub(super) in_kernel: u64,
}

#[derive(Deserialize)]
pub(super) struct Memory {
    /// Of the kernel, for all maps.
    pub(super) maps_bytes: u64,
}

#[derive(Deserialize)]
pub(super) struct Latency {
    /// Changes that were measured.
    pub(super) count: usize,
    pub(super) p50_microseconds: f64,
    pub(super) p99_microseconds: f64,
}

/// A host of its own. When it goes, so does everything on it.
pub(super) struct Site {
    host: Namespace,
    folder: TempDir,
    program: PathBuf,
}

pub(super) struct Daemon(Guarded);

impl Site {
    pub(super) fn new() -> Result<Self> {
        Self::on(host()?)
    }

    pub(super) fn on(host: Namespace) -> Result<Self> {
        let own = std::env::current_exe()?;
        let program = own.with_file_name("veer");
        ensure!(
            program.exists(),
            "{} is not built: `cargo xtask bench` builds it",
            program.display()
        );
        Ok(Self {
            host,
            folder: tempfile::tempdir()?,
            program,
        })
    }

    fn output(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(words).stdin(Stdio::null());
        Ok(self.host.run(|| command.output())??)
    }

    pub(super) fn veer(&self, words: &[&str]) -> Result<Vec<u8>> {
        let output = self.output(words)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "veer {}: {}",
            words.join(" "),
            said.trim()
        );
        Ok(output.stdout)
    }

    /// A lab as the text says.
    pub(super) fn lab(&self, text: &str) -> Result<()> {
        let path = self.folder.path().join("lab.toml");
        fs::write(&path, text)?;
        let path = path.to_str().context("a path in UTF-8")?;
        self.veer(&["lab", "up", "--file", path]).map(drop)
    }

    /// A daemon with this configuration.
    pub(super) fn daemon(&self, config: &str) -> Result<Daemon> {
        self.start("lab", config)
    }

    /// A daemon that follows the Engine at `socket`, with this configuration besides.
    pub(super) fn following(&self, socket: &Path, config: &str) -> Result<Daemon> {
        let socket = socket.to_str().context("a path in UTF-8")?;
        self.start(
            "docker",
            &format!("[engine]\nsocket = {socket:?}\n{config}"),
        )
    }

    /// Has the daemon read another configuration.
    pub(super) fn configure(&self, config: &str, daemon: &Daemon) -> Result<()> {
        fs::write(self.config(), config)?;
        Ok(kill(
            Pid::from_raw(daemon.id().cast_signed()),
            Signal::SIGHUP,
        )?)
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("veer.toml")
    }

    fn start(&self, provider: &str, config: &str) -> Result<Daemon> {
        let file = self.config();
        fs::write(&file, config)?;
        let log = fs::File::create(self.folder.path().join("log"))?;
        let mut command = Command::new(&self.program);
        command
            .args(["run", "--provider", provider, "--config"])
            .arg(&file)
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = self.host.run(|| Guarded::start(&mut command))??;
        Ok(Daemon(child))
    }

    pub(super) fn status(&self) -> Option<Status> {
        let output = self.output(&["status", "--json"]).ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Milliseconds until this many containers are served.
    pub(super) fn until_served(&self, containers: usize, _: &Daemon) -> Result<f64> {
        let started = Instant::now();
        loop {
            let status = self.status();
            let served = status.map(|status| status.counts.endpoints.min(status.dns.taken_over));
            if served == Some(containers) {
                return Ok(started.elapsed().as_secs_f64() * 1e3);
            }
            if started.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.path().join("log"))?;
                anyhow::bail!("{served:?} of {containers} served after {PATIENCE:?}:\n{log}");
            }
            sleep(Duration::from_millis(5));
        }
    }
}

/// A namespace to play the host.
pub(super) fn host() -> Result<Namespace> {
    let host = Namespace::create()?;
    let mut links = host.links()?;
    let loopback = links.index_of("lo")?;
    links.set_up(loopback)?;
    Ok(host)
}

impl Drop for Site {
    fn drop(&mut self) {
        for words in [["lab", "down"].as_slice(), &["uninstall"]] {
            if let Err(error) = self.veer(words) {
                eprintln!("{error:#}");
            }
        }
    }
}

impl Daemon {
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }
}
