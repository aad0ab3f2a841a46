//! `cargo xtask bench`: veer against what users would run instead, and against the limit, in one run.
//!
//! Speed is said in ratios of figures that were measured in turns on the same machine.

mod cpu;
mod load;
mod measure;
mod progress;
mod report;
mod rounds;
mod suites;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

use load::Load;
use measure::Effort;
use report::{Machine, Report, compare, table};
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
    /// Show how one run differs from another
    Compare {
        /// `report.json` of a run
        before: PathBuf,
        /// `report.json` of another
        after: PathBuf,
    },
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
        Some(Task::Compare { before, after }) => {
            let (before, after) = (Report::read(&before)?, Report::read(&after)?);
            print!("{}", compare(&before, &after));
            Ok(())
        }
    }
}

impl Bench {
    fn run(self) -> Result<()> {
        let effort = self.effort();
        let kinds = if self.suites.is_empty() {
            Kind::ALL.to_vec()
        } else {
            self.suites
        };
        let machine = machine()?;
        let suites = kinds.into_iter().map(|kind| {
            let attempt = || format!("measure {kind:?}").to_lowercase();
            kind.run(effort).with_context(attempt)
        });
        let report = Report {
            machine,
            rounds: effort.rounds,
            suites: suites.collect::<Result<_>>()?,
        };
        report.write(&self.output)?;
        print!("{}", table(&report));
        println!("\n{}", self.output.join("report.html").display());
        Ok(())
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
    })
}
