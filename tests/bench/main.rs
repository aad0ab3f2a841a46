//! `cargo xtask bench`: veer against what users would run instead, and against the limit, in one run.
//!
//! Speed is said in ratios of figures that were measured in turns on the same machine.

mod baseline;
mod bpf;
mod cpu;
mod load;
mod measure;
mod memory;
mod pktgen;
mod progress;
mod proxy;
mod report;
mod rounds;
mod rules;
mod suites;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

use load::Load;
use measure::Effort;
use report::{Machine, Report, compare, recorded, table};
use suites::Kind;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", version)]
#[command(about = "Measure veer against what users would run instead, and against the limit")]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Task {
    #[command(hide = true)]
    Load(Load),
}

#[derive(Debug, Args)]
struct Bench {
    /// What to measure; everything, if nothing is named
    #[arg(value_enum)]
    suites: Vec<Kind>,
    /// Prove that the harness works: one short round of everything, whose figures say little
    #[arg(long)]
    quick: bool,
    /// How often everything is measured, in a new order each time
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where the report goes
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    output: PathBuf,
    /// Write the figures into docs/benchmarks.md, in the place of the last ones of the same suites
    #[arg(long)]
    record: bool,
    /// Take the figures of a run's report.json instead of measuring
    #[arg(long, value_name = "REPORT", conflicts_with_all = ["suites", "quick"])]
    from: Option<PathBuf>,
    /// Print nothing but the report, as JSON
    #[arg(long, hide = true)]
    json: bool,
    /// Fail if veer's way into a container takes more instructions than the baseline says
    #[arg(long, hide = true)]
    check: bool,
    /// Make the figures that --check looks at the baseline
    #[arg(long, hide = true)]
    baseline: bool,
    /// Show how one run differs from another, by their report.json
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], exclusive = true)]
    compare: Option<Vec<PathBuf>>,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.task {
        None => cli.bench.run(),
        Some(Task::Load(load)) => load.run(),
    }
}

impl Bench {
    fn run(self) -> Result<()> {
        if let Some([before, after]) = self.compare.as_deref() {
            let (before, after) = (Report::read(before)?, Report::read(after)?);
            print!("{}", compare(&before, &after));
            return Ok(());
        }
        let report = match &self.from {
            Some(path) => Report::read(path)?,
            None => self.measure()?,
        };
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
            return Ok(());
        }
        report.write(&self.output)?;
        print!("{}", table(&report));
        println!("\n{}", self.output.join("report.html").display());
        if self.record {
            write_page(&report)?;
        }
        if self.baseline {
            baseline::keep(&report)?;
        }
        if self.check {
            baseline::check(&report)?;
        }
        Ok(())
    }

    fn measure(&self) -> Result<Report> {
        let effort = self.effort();
        let kinds = if self.suites.is_empty() {
            &Kind::ALL
        } else {
            self.suites.as_slice()
        };
        memory::keep_state()?;
        let machine = machine()?;
        let suites = kinds.iter().map(|kind| {
            let attempt = || format!("measure {kind:?}").to_lowercase();
            kind.run(effort).with_context(attempt)
        });
        Ok(Report {
            machine,
            rounds: effort.rounds,
            suites: suites.collect::<Result<_>>()?,
        })
    }

    fn effort(&self) -> Effort {
        if self.quick {
            return Effort {
                rounds: 1,
                time: Duration::from_millis(100),
                warm_up: Duration::from_millis(20),
            };
        }
        Effort {
            rounds: self.rounds.into(),
            time: Duration::from_millis(1_000),
            warm_up: Duration::from_millis(200),
        }
    }
}

/// Puts the figures into the page of the documentation.
fn write_page(report: &Report) -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md");
    let page = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let page = recorded(&page, report).with_context(|| format!("find the figures in {path}"))?;
    std::fs::write(path, page).with_context(|| format!("write {path}"))
}

/// Instances of veer that are on this machine already.
fn instances() -> usize {
    let pins = std::fs::read_dir("/sys/fs/bpf/veer");
    // Without the folder there has never been one.
    pins.map_or(0, |pins| pins.flatten().count())
}

fn machine() -> Result<Machine> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let models = cpus.lines().filter(|line| line.starts_with("model name"));
    let model = models.clone().next().and_then(|line| line.split_once(": "));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("read the kernel's release")?;
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output();
    let commit = git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    Ok(Machine {
        cpu: model.map_or("unknown CPU", |(_, model)| model).to_owned(),
        cpus: models.count().max(1),
        kernel: kernel.trim().to_owned(),
        // Sources without their history have none.
        commit: commit
            .ok()
            .filter(|commit| !commit.is_empty())
            .unwrap_or_else(|| "unknown".to_owned()),
        at: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs(),
        emulated: std::env::var_os("VEER_VM_KERNEL").is_some(),
        others: instances(),
    })
}
