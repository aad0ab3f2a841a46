//! The daemon on a lab: how soon it serves, and what it costs.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::lab::{Daemon, Latency, Site};
use super::target;
use crate::cpu::Clock;
use crate::measure::Effort;
use crate::progress::Progress;
use crate::report::{Bound, Series, Suite};

/// How long the daemon is watched while nothing happens.
const REST: Duration = Duration::from_secs(5);

pub(super) fn suite(effort: Effort) -> Result<Suite> {
    let many = if effort.is_quick() { 20 } else { 1_000 };
    let variant = format!("veer, {many} containers");
    let site = Site::new()?;
    let mut figures = Figures::default();
    let mut progress = Progress::new(effort.rounds + 2);
    progress.step("making the lab");
    site.lab(&group_of(many))?;
    for _ in 0..effort.rounds {
        progress.step("starting from nothing, and again");
        let daemon = site.daemon("")?;
        figures.start.push(site.until_served(many, &daemon)?);
        drop(daemon);
        let daemon = site.daemon("")?;
        figures.restart.push(site.until_served(many, &daemon)?);
        figures.memory.push(memory(&daemon)?);
        figures.idle.push(idle(&daemon)?);
        drop(daemon);
        site.veer(&["uninstall"])?;
    }
    progress.step("one container after the other");
    let one = one_by_one(&site, effort.rounds * 10)?;
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

/// A lab of one Group with this many Members.
fn group_of(members: usize) -> String {
    format!(
        "[[network]]\nname = \"bench\"\nsubnets = [\"10.60.0.0/16\"]\n[[container]]\nname = \"web\"\n\
         count = {members}\nnetworks = [\"bench\"]\naliases = [\"tg-net\"]\n"
    )
}

/// What the daemon says of the time that single containers took.
fn one_by_one(site: &Site, containers: usize) -> Result<Latency> {
    site.veer(&["lab", "down"])?;
    site.lab(&group_of(1))?;
    let daemon = site.daemon("")?;
    site.until_served(1, &daemon)?;
    for members in 2..=containers.max(2) {
        site.lab(&group_of(members))?;
        site.until_served(members, &daemon)?;
    }
    let status = site.status().context("ask the daemon")?;
    Ok(status.latency)
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
    let clock = Clock::new(&[daemon.id()], None);
    let own = Clock::new(&[], None);
    let (before, own_before) = (clock.read()?, own.read()?);
    sleep(REST);
    let used = (clock.read()? - before) - (own.read()? - own_before);
    Ok(100.0 * used as f64 / REST.as_nanos() as f64)
}
