//! `cargo xtask bench`: veer against what users would run instead.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::{
    apt::Apt,
    install, privilege, process,
    test::{Need, install_needs},
    toolchain::Places,
};

/// Programs that are installed into the system: none of them starts a service.
const NEEDS: [Need; 6] = [
    ("busybox", "busybox-static"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("musl-gcc", "musl-tools"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
];

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
        install_needs(&NEEDS)?;
        let variables = install::variables(&peers(&places)?)?;
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

/// The folders of what veer is compared with, which is not installed.
fn peers(places: &Places) -> Result<Vec<PathBuf>> {
    if !Apt::is_here() {
        process::say("without apt-get, veer is compared with what this machine has");
        return Ok(Vec::new());
    }
    let mut folders = vec![install::peers(places)?];
    let of_docker = ["dockerd", "docker-proxy"];
    if !of_docker.into_iter().all(process::is_installed) {
        folders.push(install::docker(places)?);
    }
    Ok(folders)
}
