//! `cargo xtask test`: every test, after installing what they need.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    apt::Apt,
    install, privilege, process,
    toolchain::Places,
    vm::{self, KernelId},
};

/// A program that tests start, and the Debian package that has it.
pub(crate) type Need = (&'static str, &'static str);

/// Programs that are installed into the system: none of them starts a service.
const NEEDS: [Need; 12] = [
    ("busybox", "busybox-static"),
    ("dig", "dnsutils"),
    ("getent", "libc-bin"),
    ("go", "golang-go"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("java", "default-jdk-headless"),
    ("musl-gcc", "musl-tools"),
    ("nft", "nftables"),
    ("node", "nodejs"),
    ("nsenter", "util-linux"),
    ("python3", "python3-minimal"),
];

/// Tests that not all kernels can run on which veer works, and the first version that can.
const NEWER: [(&str, (u32, u32)); 2] = [("dns::beside", (6, 13)), ("dns::confined", (6, 18))];

/// Run every test of the workspace, in namespaces, on a real Engine and on other kernels
#[derive(Args, Debug)]
pub(crate) struct Test {
    /// Passed to `cargo test`, for example `-p veer-tests --test netns` or `-- a_name`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    args: Vec<String>,
}

impl Test {
    pub(crate) fn run(self) -> Result<()> {
        let places = install::places()?;
        install::toolchain(&places)?;
        install_needs(&NEEDS)?;
        vm::prepare(&places, &[KernelId::V6_1, KernelId::V6_12])?;
        let mut variables = engine_variables(&places)?;
        variables.extend(server_variables(&places)?);

        let mut cargo = process::cargo();
        cargo.args(["test", "--locked"]);
        if !names_a_package(&self.args) {
            cargo.arg("--workspace");
        }
        if let Some(runner) = privilege::runner(&variables)? {
            process::say(
                "tests make namespaces and load programs, so they need root: sudo may ask",
            );
            cargo.args(["--config", &runner]);
        }
        let mut args = self.args;
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        for (tests, (major, minor)) in beyond(&release) {
            process::say(&format!("skipped: {tests} (needs Linux {major}.{minor})"));
            args = skipping(args, tests);
        }
        process::replace_by(cargo.envs(variables).args(args))
    }
}

/// Those of [`NEWER`] that a kernel of this release cannot run.
fn beyond(release: &str) -> impl Iterator<Item = (&'static str, (u32, u32))> {
    let mut numbers = release.split(['.', '-']).map(|part| part.trim().parse());
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0_u32);
    let here = (next(), next());
    NEWER.into_iter().filter(move |(_, needed)| here < *needed)
}

/// The arguments of `cargo test` with one more for the test programs; these count what they leave out.
fn skipping(mut args: Vec<String>, tests: &str) -> Vec<String> {
    if !args.iter().any(|arg| arg == "--") {
        args.push("--".to_owned());
    }
    args.extend(["--skip".to_owned(), tests.to_owned()]);
    args
}

fn names_a_package(args: &[String]) -> bool {
    let own = args.split(|arg| arg == "--").next().unwrap_or_default();
    own.iter()
        .any(|arg| arg.starts_with("-p") || arg.starts_with("--package"))
}

/// Installs the packages of the programs that this machine has not.
pub(crate) fn install_needs(needs: &[Need]) -> Result<()> {
    let missing = missing_packages(needs, process::is_installed);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !Apt::is_here() {
        bail!("this needs the programs of these Debian packages; install them first: {packages}");
    }
    if !privilege::is_root() {
        bail!("this needs more packages; install them first:\n  sudo apt-get install {packages}");
    }
    process::say(&format!(
        "installing into the system what is needed here: {packages}"
    ));
    process::run(Command::new("apt-get").args(["-q", "update"]))?;
    process::run(
        Command::new("apt-get")
            .args(["-q", "-y", "-o", "DPkg::Lock::Timeout=300"])
            .args(["--no-install-recommends", "install"])
            .args(missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

fn missing_packages(needs: &[Need], is_here: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let missing = needs.iter().filter(|(program, _)| !is_here(program));
    missing.map(|(_, package)| *package).collect()
}

/// The environment in which tests find an Engine: as it is, if the machine has one.
fn engine_variables(places: &Places) -> Result<Vec<(String, String)>> {
    if process::is_installed("dockerd") {
        return Ok(Vec::new());
    }
    if !Apt::is_here() {
        bail!("the tests start an Engine of their own; install Docker's dockerd and docker first");
    }
    install::variables(&[install::docker(places)?])
}

/// Where tests find the programs that they publish ports of: on the machine, without apt.
fn server_variables(places: &Places) -> Result<Option<(String, String)>> {
    if !Apt::is_here() {
        process::say("without apt-get, tests publish ports of the nginx, PostgreSQL, Redis here");
        return Ok(None);
    }
    let folder = install::servers(places)?.display().to_string();
    Ok(Some(("VEER_TEST_SERVERS".to_owned(), folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_of_absent_programs_are_installed() {
        let needs = [("here", "package-a"), ("absent", "package-b")];

        assert_eq!(
            missing_packages(&needs, |program| program == "here"),
            ["package-b"]
        );
    }

    #[test]
    fn tests_that_need_a_newer_kernel_are_skipped_on_older_ones() {
        let skipped = |release| beyond(release).map(|(tests, _)| tests).collect::<Vec<_>>();

        for old in ["6.1.0-56-amd64\n", "6.12.117+deb13-amd64", "5.15.0"] {
            assert_eq!(skipped(old), ["dns::beside", "dns::confined"], "{old}");
        }
        assert_eq!(skipped("6.13.0"), ["dns::confined"]);
        for new in ["6.18.44-fc-v445\n", "7.2"] {
            assert!(skipped(new).is_empty(), "{new}");
        }
    }

    #[test]
    fn what_is_skipped_is_told_to_the_test_programs() {
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };

        assert_eq!(skipping(words(""), "a"), words("-- --skip a"));
        assert_eq!(
            skipping(words("-p x -- b"), "a"),
            words("-p x -- b --skip a")
        );
    }

    #[test]
    fn a_package_named_by_the_user_replaces_the_workspace() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();

        assert!(names_a_package(&words("-p veer-tests")));
        assert!(names_a_package(&words("--package=lb-common")));
        assert!(!names_a_package(&words("--release")));
        assert!(
            !names_a_package(&words("-- -p")),
            "this -p is for the test binary"
        );
    }
}
