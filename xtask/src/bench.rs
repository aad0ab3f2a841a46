//! `cargo xtask bench`: veer against what users would run instead.

use anyhow::Result;
use clap::Args;

use crate::{apt::Apt, install, privilege, process};

/// Measure veer against what users would run instead, and against the limit
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub(crate) struct Bench {
    /// Passed to the benchmark; `--help` there lists what it understands
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    args: Vec<String>,
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        let places = install::places()?;
        install::toolchain(&places)?;
        let variables = if Apt::is_here() {
            install::variables(&install::peers(&places)?)?
        } else {
            process::say("without apt-get, veer is compared with what this machine has");
            Vec::new()
        };
        let mut veer = process::cargo();
        veer.args(["build", "--locked", "--release"]);
        process::run(veer.args(["--package", "lb-userspace", "--bin", "veer"]))?;

        let mut cargo = process::cargo();
        cargo.args(["run", "--locked", "--release"]);
        cargo.args(["--package", "veer-tests", "--bin", "veer-bench"]);
        if let Some(runner) = privilege::runner(&variables)? {
            process::say("the benchmark makes namespaces and loads programs, so it needs root");
            cargo.args(["--config", &runner]);
        }
        process::replace_by(cargo.envs(variables).arg("--").args(self.args))
    }
}
