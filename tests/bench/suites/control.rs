//! The daemon on a lab: how soon it serves, and what it costs.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_userspace::netns::Namespace;
use serde::Deserialize;
use tempfile::TempDir;
use veer_tests::child::Guarded;

use super::target;
use crate::cpu::Clock;
use crate::measure::Effort;
use crate::progress::Progress;
use crate::report::{Bound, Series, Suite};

/// How long serving everything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the daemon is watched while nothing happens.
const REST: Duration = Duration::from_secs(5);

pub(super) fn suite(effort: Effort) -> Result<Suite> {
    let many = if effort.time < Duration::from_millis(500) {
        20
    } else {
        1_000
    };
    let variant = format!("veer, {many} containers");
    let site = Site::new()?;
    let mut figures = Figures::default();
    let mut progress = Progress::new(effort.rounds + 2);
    progress.step("making the lab");
    site.lab(many)?;
    for _ in 0..effort.rounds {
        progress.step("starting from nothing, and again");
        let daemon = site.daemon()?;
        figures.start.push(site.until_served(many, &daemon)?);
        drop(daemon);
        let daemon = site.daemon()?;
        figures.restart.push(site.until_served(many, &daemon)?);
        figures.memory.push(daemon.memory()?);
        figures.idle.push(daemon.idle()?);
        drop(daemon);
        site.veer(&["uninstall"])?;
    }
    progress.step("one container after the other");
    let one = site.one_by_one(effort.rounds * 10)?;
    let series = |variant: &str, measure: &str, unit: &str, values: Vec<f64>| Series {
        variant: variant.to_owned(),
        measure: measure.to_owned(),
        unit: unit.to_owned(),
        values,
    };
    let (p50, p99) = (
        "a container's start to serving, p50",
        "a container's start to serving, p99",
    );
    Ok(Suite {
        name: "control".to_owned(),
        about: "The daemon on a lab: from its start until every container is served, with nothing loaded \
                and with everything adopted; from a container's interface until it is served; memory, and \
                CPU while nothing happens."
            .to_owned(),
        left_out: Vec::new(),
        settings: Vec::new(),
        series: vec![
            series(&variant, START, "ms", figures.start),
            series(&variant, RESTART, "ms", figures.restart),
            series(&variant, MEMORY, "MB", figures.memory),
            series(&variant, IDLE, "%", figures.idle),
            series("veer", p50, "ms", vec![one.p50_microseconds / 1e3]),
            series("veer", p99, "ms", vec![one.p99_microseconds / 1e3]),
        ],
        targets: vec![
            target(START, &variant, None, Bound::AtMost(1_000.0)),
            target(RESTART, &variant, None, Bound::AtMost(1_000.0)),
            target(MEMORY, &variant, None, Bound::AtMost(40.0)),
            target(IDLE, &variant, None, Bound::AtMost(0.1)),
            target(p99, "veer", None, Bound::AtMost(10.0)),
        ],
    })
}

const START: &str = "start to serving";
const RESTART: &str = "restart to serving";
const MEMORY: &str = "memory";
const IDLE: &str = "idle CPU";

#[derive(Default)]
struct Figures {
    start: Vec<f64>,
    restart: Vec<f64>,
    memory: Vec<f64>,
    idle: Vec<f64>,
}

/// What `veer status --json` says, as far as it matters here.
#[derive(Deserialize)]
struct Status {
    counts: Counts,
    dns: Dns,
    latency: Latency,
}

#[derive(Deserialize)]
struct Counts {
    endpoints: usize,
}

#[derive(Deserialize)]
struct Dns {
    taken_over: usize,
}

#[derive(Deserialize)]
struct Latency {
    p50_microseconds: f64,
    p99_microseconds: f64,
}

/// A host of its own. When it goes, so does everything on it.
struct Site {
    host: Namespace,
    folder: TempDir,
    program: PathBuf,
}

struct Daemon(Guarded);

impl Site {
    fn new() -> Result<Self> {
        let host = Namespace::create()?;
        let mut links = host.links()?;
        let loopback = links.index_of("lo")?;
        links.set_up(loopback)?;
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

    fn veer(&self, words: &[&str]) -> Result<Vec<u8>> {
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

    /// A lab of one Group with this many Members.
    fn lab(&self, members: usize) -> Result<()> {
        let path = self.folder.path().join("lab.toml");
        let text = format!(
            "[[network]]\nname = \"bench\"\nsubnets = [\"10.60.0.0/16\"]\n[[container]]\nname = \"web\"\n\
             count = {members}\nnetworks = [\"bench\"]\naliases = [\"tg-net\"]\n"
        );
        fs::write(&path, text)?;
        let path = path.to_str().context("a path in UTF-8")?;
        self.veer(&["lab", "up", "--file", path]).map(drop)
    }

    fn daemon(&self) -> Result<Daemon> {
        let log = fs::File::create(self.folder.path().join("log"))?;
        let mut command = Command::new(&self.program);
        command
            .args(["run", "--provider", "lab"])
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = self.host.run(|| Guarded::start(&mut command))??;
        Ok(Daemon(child))
    }

    fn status(&self) -> Option<Status> {
        let output = self.output(&["status", "--json"]).ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Milliseconds until this many containers are served.
    fn until_served(&self, containers: usize, _: &Daemon) -> Result<f64> {
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

    /// What the daemon says of the time that single containers took.
    fn one_by_one(&self, containers: usize) -> Result<Latency> {
        self.veer(&["lab", "down"])?;
        self.lab(1)?;
        let daemon = self.daemon()?;
        self.until_served(1, &daemon)?;
        for members in 2..=containers.max(2) {
            self.lab(members)?;
            self.until_served(members, &daemon)?;
        }
        let status = self.status().context("ask the daemon")?;
        Ok(status.latency)
    }
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
    /// Resident, in MB.
    fn memory(&self) -> Result<f64> {
        let path = format!("/proc/{}/status", self.0.id());
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        let kilobytes: f64 = kilobytes.context("find VmRSS")?.parse()?;
        Ok(kilobytes / 1e3)
    }

    /// Per cent of one CPU.
    fn idle(&self) -> Result<f64> {
        let clock = Clock::new(&[self.0.id()], None);
        let own = Clock::new(&[], None);
        let (before, own_before) = (clock.read()?, own.read()?);
        sleep(REST);
        let used = (clock.read()? - before) - (own.read()? - own_before);
        Ok(100.0 * used as f64 / REST.as_nanos() as f64)
    }
}
