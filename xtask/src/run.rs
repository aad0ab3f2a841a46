//! `cargo xtask run`: from a fresh checkout to a running daemon.

use anyhow::Result;
use clap::Args;

use crate::{install, privilege, process};

/// What to try next is printed wherever the output goes.
const HINTS: &str = "--hints";

/// Build veer and run it: on Docker where an Engine answers, otherwise on its own lab
#[derive(Args, Debug)]
pub(crate) struct Run {
    /// Build with optimisation (the kernel programs always are)
    #[arg(long)]
    release: bool,
    /// Passed to `veer run`; `--help` there lists what it understands
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    args: Vec<String>,
}

impl Run {
    pub(crate) fn run(self) -> Result<()> {
        install::toolchain(&install::places()?)?;
        let mut cargo = process::cargo();
        cargo.args([
            "run",
            "--locked",
            "--package",
            "lb-userspace",
            "--bin",
            "veer",
        ]);
        cargo.args(self.release.then_some("--release"));
        if let Some(runner) = privilege::runner(&[])? {
            process::say("veer loads programs into the kernel and so needs root: sudo may ask you");
            cargo.args(["--config", &runner]);
        }
        cargo.args(["--", "run"]);
        let is_said = self.args.iter().any(|argument| argument == HINTS);
        cargo.args((!is_said).then_some(HINTS));
        process::replace_by(cargo.args(self.args))
    }
}
