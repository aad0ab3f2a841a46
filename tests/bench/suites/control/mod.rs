//! The daemon: how soon it serves, and what it costs.

mod computing;
mod connect;

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use computing::QUIET;
use connect::{Rounds, connect};

use super::lab::{Daemon, Latency, Site};
use super::target;
use crate::cpu::Clock;
use crate::measure::Effort;
use crate::progress::Progress;
use crate::report::{Bound, Series, Suite, Target};
use crate::rounds::Notes;

/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What comes after everything is served, such as the kernel's own DNS answers, is over after this.
const SETTLED: Duration = Duration::from_secs(8);

/// How long the daemon is watched while nothing happens.
const WATCH: Duration = Duration::from_secs(5);

/// Time after a change before anybody is asked about it: a question takes the CPU that it needs.
const REST: Duration = Duration::from_millis(150);

pub(super) fn suite(effort: Effort) -> Result<Suite> {
    let (many, most, single) = if effort.is_quick() {
        (20, 40, 10)
    } else {
        (1_000, 5_000, 100)
    };
    let mut single_changes = Notes::default();
    let mut progress = Progress::new(effort.rounds + 5);
    // Single containers before crowds: of a thousand namespaces that go, the kernel clears away what is left
    // in its own time, and holds everybody up who changes an interface.
    progress.step("connecting one container after the other to a network of an Engine");
    let connected = connect(effort.rounds, single)?;
    for connected in connected.iter().flat_map(|rounds| &rounds.all) {
        quantiles(
            &mut single_changes,
            "Engine alone",
            CONNECT,
            &connected.engine,
        );
        let alone = "computing alone";
        quantiles(&mut single_changes, alone, CONNECT, &connected.computing);
        quantiles(&mut single_changes, VEER, CONNECT, &connected.veer);
    }
    progress.step("one container after the other");
    for latency in one_by_one(effort.rounds, single / 2)? {
        quantiles(&mut single_changes, VEER, ONE, &latency);
    }
    progress.step("publishing ports");
    let publishing = publishing(effort.rounds)?;
    progress.step("making a lab");
    let mut crowd = Crowd::new(many)?;
    for _ in 0..effort.rounds {
        progress.step("starting from nothing, and again");
        crowd.round()?;
    }
    progress.step("starting with five times the containers");
    let mut largest = Crowd::new(most)?;
    largest.round()?;

    let targets = targets(&crowd.variant(), &largest.variant());
    let mut series = crowd.series();
    series.extend(largest.series());
    series.extend(publishing);
    series.extend(single_changes.0);
    Ok(Suite {
        name: "control".to_owned(),
        about: "The daemon on a lab: from its start until every container is served, with nothing loaded \
                and with everything adopted; from a container's interface until it is served; from a new \
                configuration until its ports are published; memory of the daemon, and of the kernel for its \
                maps; CPU while nothing happens. On an Engine, whose data is in memory: from its event that a \
                container was connected to a network until that is served; `Engine alone` is until it has \
                said what the container is, with its aliases, to a client that does nothing else, without \
                veer; `computing alone` is what a process takes that only computes, for 3 ms at best, after \
                each connection. `p50` and `p99` are of 50 containers and 100 connections in each round."
            .to_owned(),
        settings: connected.iter().map(counted).collect(),
        left_out: connected.err().into_iter().collect(),
        series,
        targets,
        ..Suite::default()
    })
}

const START: &str = "start to serving";
const RESTART: &str = "restart to serving";
const MEMORY: &str = "memory";
const MAPS: &str = "memory of the maps";
const IDLE: &str = "idle CPU";
const PUBLISH: &str = "publishing";
const ONE: &str = "a container's start to serving";
const CONNECT: &str = "network connect to serving";
const VEER: &str = "veer";

/// Members of one Group.
const MEMBERS: usize = 1_000;

fn targets(many: &str, most: &str) -> Vec<Target> {
    let at_most = |measure: &str, of: &str, bound| target(measure, of, None, Bound::AtMost(bound));
    vec![
        at_most(START, many, 1_000.0),
        at_most(RESTART, many, 1_000.0),
        at_most(RESTART, most, 1_000.0),
        at_most(MEMORY, many, 40.0),
        at_most(IDLE, many, 0.1),
        at_most(PUBLISH, "veer, 10,000 ports", 50.0),
        at_most(&format!("{ONE}, p99"), VEER, 10.0),
        at_most(&format!("{CONNECT}, p99"), VEER, 10.0),
    ]
}

fn series(variant: &str, measure: &str, unit: &str, values: Vec<f64>) -> Series {
    Series {
        variant: variant.to_owned(),
        measure: measure.to_owned(),
        unit: unit.to_owned(),
        values,
    }
}

/// Which rounds of connections count.
fn counted(rounds: &Rounds) -> String {
    let (all, noisy) = (rounds.all.len(), rounds.noisy);
    let which = match rounds.are_quiet {
        true => format!("{all} rounds count, {noisy} others are left out"),
        false => format!("all {all} rounds count, {noisy} of them"),
    };
    let quiet = QUIET.as_secs_f64() * 1e3;
    format!(
        "network connect: {which}, in which 3 ms of computing alone took more than {quiet} at p99"
    )
}

fn quantiles(notes: &mut Notes, variant: &str, measure: &str, latency: &Latency) {
    for (quantile, microseconds) in [
        ("p50", latency.p50_microseconds),
        ("p99", latency.p99_microseconds),
    ] {
        let measure = format!("{measure}, {quantile}");
        notes.note(variant, &measure, "ms", microseconds / 1e3);
    }
}

/// A lab of so many containers, and what was measured on it.
struct Crowd {
    site: Site,
    containers: usize,
    start: Vec<f64>,
    restart: Vec<f64>,
    memory: Vec<f64>,
    maps: Vec<f64>,
    idle: Vec<f64>,
}

impl Crowd {
    fn new(containers: usize) -> Result<Self> {
        let site = Site::new()?;
        site.lab(&groups_of(containers))?;
        Ok(Self {
            site,
            containers,
            start: Vec::new(),
            restart: Vec::new(),
            memory: Vec::new(),
            maps: Vec::new(),
            idle: Vec::new(),
        })
    }

    fn variant(&self) -> String {
        format!("veer, {} containers", self.containers)
    }

    /// From nothing, and again with everything that is there.
    fn round(&mut self) -> Result<()> {
        let daemon = self.site.daemon("")?;
        self.start
            .push(self.site.until_served(self.containers, &daemon)?);
        drop(daemon);
        let daemon = self.site.daemon("")?;
        self.restart
            .push(self.site.until_served(self.containers, &daemon)?);
        self.memory.push(memory(&daemon)?);
        self.idle.push(idle(&daemon)?);
        let status = self.site.status().context("ask the daemon")?;
        self.maps.push(status.memory.maps_bytes as f64 / 1e6);
        drop(daemon);
        self.site.veer(&["uninstall"]).map(drop)
    }

    fn series(self) -> Vec<Series> {
        let variant = self.variant();
        vec![
            series(&variant, START, "ms", self.start),
            series(&variant, RESTART, "ms", self.restart),
            series(&variant, MEMORY, "MB", self.memory),
            series(&variant, MAPS, "MB", self.maps),
            series(&variant, IDLE, "%", self.idle),
        ]
    }
}

/// Milliseconds from the signal to read the configuration again until all ports that it publishes
/// are: one, and a range of ten thousand, which are published as one.
fn publishing(rounds: usize) -> Result<Vec<Series>> {
    let site = Site::new()?;
    site.lab(&groups_of(2))?;
    let daemon = site.daemon("")?;
    site.until_served(2, &daemon)?;
    let without = frontends(&site)?;
    let mut figures = [
        ("veer, 1 port", "20000", Vec::new()),
        ("veer, 10,000 ports", "20000-29999", Vec::new()),
    ];
    for _ in 0..rounds.max(1) {
        for (_, ports, values) in &mut figures {
            let publish = format!(
                "[[publish]]\nport = \"{ports}\"\nnetwork = \"bench0\"\nalias = \"tg-net\"\n"
            );
            let begun = Instant::now();
            site.configure(&publish, &daemon)?;
            until(|| Ok(frontends(&site)? > without))?;
            values.push(begun.elapsed().as_secs_f64() * 1e3);
            site.configure("", &daemon)?;
            until(|| Ok(frontends(&site)? == without))?;
        }
    }
    let figures = figures.into_iter();
    Ok(figures
        .map(|(variant, _, values)| series(variant, PUBLISH, "ms", values))
        .collect())
}

fn frontends(site: &Site) -> Result<usize> {
    Ok(site.status().context("ask the daemon")?.counts.frontends)
}

fn until(mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is()? {
        ensure!(begun.elapsed() < PATIENCE, "not after {PATIENCE:?}");
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A lab of a Group of so many Members, or of several: a bridge has room for a thousand.
fn groups_of(members: usize) -> String {
    let of_network = |number: usize| {
        let count = (members - number * MEMBERS).min(MEMBERS);
        format!(
            "[[network]]\nname = \"bench{number}\"\nsubnets = [\"10.{}.0.0/16\"]\n[[container]]\n\
             name = \"web{number}-\"\ncount = {count}\nnetworks = [\"bench{number}\"]\n\
             aliases = [\"tg-net\"]\n",
            60 + number
        )
    };
    (0..members.div_ceil(MEMBERS)).map(of_network).collect()
}

/// What the daemon says in each round of the time that so many single containers took.
fn one_by_one(rounds: usize, containers: usize) -> Result<Vec<Latency>> {
    // They are cleared away when all has been measured.
    let mut sites = Vec::new();
    let mut latencies = Vec::new();
    for _ in 0..rounds {
        let site = Site::new()?;
        site.lab(&groups_of(1))?;
        let daemon = site.daemon("")?;
        site.until_served(1, &daemon)?;
        for members in 2..=containers + 1 {
            site.lab(&groups_of(members))?;
            sleep(REST);
            site.until_served(members, &daemon)?;
        }
        latencies.push(site.status().context("ask the daemon")?.latency);
        drop(daemon);
        site.veer(&["uninstall"])?;
        sites.push(site);
    }
    Ok(latencies)
}

/// Resident, in MB.
fn memory(daemon: &Daemon) -> Result<f64> {
    let path = format!("/proc/{}/status", daemon.id());
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    let kilobytes: f64 = kilobytes.context("find VmRSS")?.parse()?;
    Ok(kilobytes / 1e3)
}

/// Per cent of one CPU.
fn idle(daemon: &Daemon) -> Result<f64> {
    sleep(SETTLED);
    let clock = Clock::new(&[daemon.id()], None);
    let own = Clock::new(&[], None);
    let (before, own_before) = (clock.read()?, own.read()?);
    sleep(WATCH);
    let used = (clock.read()? - before) - (own.read()? - own_before);
    Ok(100.0 * used as f64 / WATCH.as_nanos() as f64)
}
