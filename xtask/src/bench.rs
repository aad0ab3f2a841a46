//! `cargo xtask bench`: veer against what users would run instead.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    apt::{self, Apt},
    install, privilege, process,
    test::{Need, install_needs},
    toolchain::Places,
    vm::{self, KernelId},
};

/// Says that instructions are to be counted in a virtual machine.
const IN_VM: &str = "--vm";
/// What of the benchmark's options concerns the files of this machine.
const HERE: [&str; 3] = ["--record", CHECK, "--baseline"];
/// The one that may fail by chance.
const CHECK: &str = "--check";
/// How often a way is counted until it is no longer than it was.
///
/// # Why
/// Two starts with one and the same build have counted 5,161 and 5,635: among others hash tables get another seed
/// whenever a machine starts. A way that has become longer is so each time.
const COUNTS: usize = 3;
/// The kernel that instructions are counted on.
const KERNEL: KernelId = KernelId::V6_12;

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
        if self.is_in_vm() {
            return self.run_in_vm(&places, &variables);
        }
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

    fn is_in_vm(&self) -> bool {
        self.args.iter().any(|arg| arg == IN_VM)
    }

    /// Counts instructions in a virtual machine; its report is then handled here, because the machine's
    /// files vanish with it.
    fn run_in_vm(&self, places: &Places, variables: &[(String, String)]) -> Result<()> {
        vm::prepare(places, &[KERNEL])?;
        let mut build = process::cargo();
        build.args(["build", "--locked", "--release"]);
        process::run(build.args(["--package", "veer-tests", "--bin", "veer-bench"]))?;
        let root = crate::workspace();
        let program = root.join("target/release/veer-bench");
        let (here, there): (Vec<_>, Vec<_>) = self
            .args
            .iter()
            .filter(|arg| *arg != IN_VM)
            .partition(|arg| HERE.contains(&arg.as_str()));

        let is_checked = here.iter().any(|arg| *arg == CHECK);
        let counts = if is_checked { COUNTS } else { 1 };
        for _ in 1..counts {
            if process::run(&mut count(&program, &there, variables, &here)?).is_ok() {
                return Ok(());
            }
            process::say("counting once more: one start of a machine may count more than another");
        }
        process::replace_by(&mut count(&program, &there, variables, &here)?)
    }
}

/// Counts instructions in a virtual machine. What is returned handles the report.
fn count(
    program: &Path,
    there: &[&String],
    variables: &[(String, String)],
    here: &[&String],
) -> Result<Command> {
    let root = crate::workspace();
    process::say(&format!(
        "counting instructions on kernel {KERNEL}: this takes minutes"
    ));
    let own = env::current_exe().context("find this task")?;
    let mut machine = Command::new(own);
    machine
        .args(["vm", "--kernel", &KERNEL.to_string(), "--icount", "0"])
        .args(["--timeout", "1500", "--"])
        .arg(program)
        .args(["instructions", "--json"])
        .args(there)
        .envs(variables.iter().map(|(name, value)| (name, value)));
    let json = apt::stdout_of(machine.current_dir(&root))?;
    let folder = root.join("target/bench/vm");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let report = folder.join("measured.json");
    fs::write(&report, json).with_context(|| format!("write {}", report.display()))?;

    let mut show = Command::new(program);
    show.arg("--from").arg(report).arg("--output").arg(folder);
    show.args(here);
    Ok(show)
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
