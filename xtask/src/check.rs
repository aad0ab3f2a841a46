//! `cargo xtask check`: everything about the sources that a machine can judge.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    imports, install, object, process,
    toolchain::{Places, Toolchain},
    workspace,
};

const DENY_VERSION: &str = "0.20.2";

/// Check formatting, lints, import rules, dependencies and documentation
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Also compare dependencies with RustSec's advisories, whose database is on GitHub
    #[arg(long)]
    advisories: bool,
}

/// What a check that did not fail has to say.
enum Outcome {
    Passed,
    /// It was not made, for this reason.
    Skipped(String),
}

type Checked<'a> = (&'static str, &'a dyn Fn() -> Result<Outcome>);

impl Check {
    pub(crate) fn run(self) -> Result<()> {
        let places = install::places()?;
        let toolchain = install::toolchain(&places)?;
        let root = workspace();
        all(&[
            ("format", &|| cargo(&["fmt", "--all", "--check"])),
            ("import rules", &|| {
                imports::check(&root).map(|()| Outcome::Passed)
            }),
            ("lints", &|| cargo(&LINTS)),
            ("lints of the kernel programs", &|| {
                kernel_lints(&root, &toolchain)
            }),
            ("documentation", &documentation),
            ("dependencies", &|| {
                deny(&places, &["bans", "licenses", "sources"])
            }),
            ("advisories", &|| self.advisories(&places)),
        ])
    }

    fn advisories(&self, places: &Places) -> Result<Outcome> {
        if self.advisories {
            return deny(places, &["advisories"]);
        }
        Ok(Outcome::Skipped(
            "--advisories makes this check, and needs GitHub".into(),
        ))
    }
}

const LINTS: [&str; 7] = [
    "clippy",
    "--locked",
    "--workspace",
    "--all-targets",
    "--",
    "-D",
    "warnings",
];

/// Makes every check, also after one has failed, so that one run shows all there is to mend.
fn all(checks: &[Checked<'_>]) -> Result<()> {
    let (mut failed, mut skipped) = (Vec::new(), Vec::new());
    for (number, (name, check)) in checks.iter().enumerate() {
        process::say(&format!("check {} of {}: {name}", number + 1, checks.len()));
        match check() {
            Ok(Outcome::Passed) => {}
            Ok(Outcome::Skipped(why)) => skipped.push(format!("{name} ({why})")),
            Err(error) => {
                process::say(&format!("{name}: {error:#}"));
                failed.push(*name);
            }
        }
    }
    let passed = checks.len() - failed.len() - skipped.len();
    process::say(&format!(
        "{passed} passed, {} failed, {} skipped",
        failed.len(),
        skipped.len()
    ));
    for check in skipped {
        process::say(&format!("skipped: {check}"));
    }
    if !failed.is_empty() {
        bail!("these checks failed: {}", failed.join(", "));
    }
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<Outcome> {
    process::run(process::cargo().args(arguments)).map(|()| Outcome::Passed)
}

/// Lints the code that only exists for the BPF target, with the clippy of its own compiler.
fn kernel_lints(root: &Path, toolchain: &Toolchain) -> Result<Outcome> {
    let clippy = toolchain.compiler.rustc.with_file_name("cargo-clippy");
    if !clippy.is_file() {
        return Ok(Outcome::Skipped(format!(
            "there is no {}",
            clippy.display()
        )));
    }
    let mut command = object::command(&clippy, "clippy", root, toolchain);
    command
        .env("CARGO", object::cargo(toolchain))
        .args(["--", "-D", "warnings"]);
    process::run(&mut command).map(|()| Outcome::Passed)
}

fn documentation() -> Result<Outcome> {
    let mut doc = process::cargo();
    doc.args([
        "doc",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    process::run(doc.env("RUSTDOCFLAGS", "-D warnings")).map(|()| Outcome::Passed)
}

fn deny(places: &Places, what: &[&str]) -> Result<Outcome> {
    let mut deny = std::process::Command::new(install::tool(places, "cargo-deny", DENY_VERSION)?);
    deny.args(["--locked", "--workspace", "check"]).args(what);
    process::run(&mut deny).map(|()| Outcome::Passed)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn every_check_is_made_although_one_fails() {
        let made = std::cell::Cell::new(0);
        let fails = || {
            made.set(made.get() + 1);
            Err(anyhow!("no"))
        };
        let passes = || {
            made.set(made.get() + 1);
            Ok(Outcome::Passed)
        };

        let error = all(&[("one", &fails), ("two", &passes), ("three", &fails)]).unwrap_err();

        assert_eq!(made.get(), 3);
        assert_eq!(error.to_string(), "these checks failed: one, three");
    }

    #[test]
    fn a_skipped_check_is_no_failure() {
        all(&[("one", &|| Ok(Outcome::Skipped("no network".into())))]).unwrap();
    }
}
