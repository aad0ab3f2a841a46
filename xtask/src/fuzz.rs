//! `cargo xtask fuzz`: the fuzz targets, driven by libFuzzer.
//!
//! # Why
//! cargo-fuzz asks for nightly Rust. What libFuzzer needs of a program, counters and comparisons, stable
//! Rust puts in as well when its code generator is told to.

use std::{env::consts::ARCH, fs};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    install, process,
    test::{Need, install_needs},
};

const NEEDS: [Need; 1] = [("c++", "g++")];

const TARGETS: [&str; 2] = ["dns_query", "dns_records"];

/// What makes a program tell libFuzzer where it has been.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Run the fuzz targets with libFuzzer
#[derive(Args, Debug)]
pub(crate) struct Fuzz {
    /// How long each target runs
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    seconds: u32,
    /// The targets; all of them if none is named
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
}

impl Fuzz {
    pub(crate) fn run(self) -> Result<()> {
        let places = install::places()?;
        install::toolchain(&places)?;
        install_needs(&NEEDS)?;
        let all = TARGETS.map(str::to_owned).to_vec();
        let targets = if self.targets.is_empty() {
            all
        } else {
            self.targets
        };
        for target in targets {
            fuzz(&target, self.seconds)?;
        }
        Ok(())
    }
}

/// Runs one target from its seeds on, and from what former runs have found. An input that it fails on is
/// kept in `target/fuzz`.
fn fuzz(target: &str, seconds: u32) -> Result<()> {
    let root = crate::workspace();
    let folder = root.join("target/fuzz");
    let corpus = folder.join("corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("create {}", corpus.display()))?;
    let mut cargo = process::cargo();
    cargo.args(["run", "--locked", "--release", "--package", "veer-fuzz"]);
    cargo.args(["--features", "libfuzzer", "--bin", target]);
    // With a target of its own, so that the flags are not those of build scripts.
    cargo
        .arg("--target")
        .arg(format!("{ARCH}-unknown-linux-gnu"));
    cargo.arg("--").arg(format!("-max_total_time={seconds}"));
    cargo.args(["-timeout=10", "-print_final_stats=1"]);
    let failures = folder.join(format!("{target}-"));
    cargo.arg(format!("-artifact_prefix={}", failures.display()));
    cargo.arg(&corpus);
    cargo.arg(root.join("tests/fuzz/seeds").join(target));
    cargo.env("VEER_EBPF_SKIP", "1").env("RUSTFLAGS", FLAGS);
    process::run(cargo.env("CARGO_TARGET_DIR", &folder))
}
