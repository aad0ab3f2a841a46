//! The load gate: every program loads and every scenario holds on the kernels that Debian's
//! releases run, the oldest that veer promises among them.
//!
//! # Why
//! The test programs are the ones of this machine, run again by `cargo xtask vm`: a scenario needs
//! no second form, and what fails there fails with its own message.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

/// The verifier's work under emulation, on a busy machine; usually it is a tenth.
const SECONDS: &str = "1200";

/// The executable of the `scenarios` tests.
static SCENARIOS: LazyLock<PathBuf> = LazyLock::new(|| executable("scenarios"));

#[test]
fn every_scenario_holds_on_linux_6_1() {
    holds_on("6.1");
}

#[test]
fn every_scenario_holds_on_linux_6_12() {
    holds_on("6.12");
}

#[test]
fn a_failure_on_another_kernel_is_a_failure_here() {
    let output = on_kernel("6.1", &["sh", "-c", "uname -r; exit 42"]);

    assert_eq!(output.status.code(), Some(42), "{}", told(&output));
    let release = String::from_utf8_lossy(&output.stdout);
    assert!(release.starts_with("6.1."), "not {release}");
}

fn holds_on(kernel: &str) {
    let scenarios = SCENARIOS.to_str().expect("a path in UTF-8");

    let output = on_kernel(kernel, &[scenarios]);

    assert!(output.status.success(), "{}", told(&output));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(!stdout.contains("running 0 tests"), "{stdout}");
}

fn on_kernel(kernel: &str, command: &[&str]) -> Output {
    let mut vm = cargo();
    vm.args([
        "xtask",
        "vm",
        "--kernel",
        kernel,
        "--timeout",
        SECONDS,
        "--",
    ]);
    vm.args(command).output().expect("start cargo xtask vm")
}

fn told(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "{}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// Where cargo has the executable of test target `name`; it builds it if this test alone was asked
/// for.
fn executable(name: &str) -> PathBuf {
    let mut build = cargo();
    build.args(["test", "--no-run", "--message-format=json"]);
    build.args(["--package", env!("CARGO_PKG_NAME"), "--test", name]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let output = build
        .stderr(Stdio::inherit())
        .output()
        .expect("start cargo test --no-run");
    assert!(output.status.success(), "build {name}: {}", output.status);
    let messages = String::from_utf8_lossy(&output.stdout);
    let path = messages.lines().find_map(|message| {
        let message: Value = serde_json::from_str(message).ok()?;
        let path = message["executable"].as_str()?;
        (message["target"]["name"] == name).then(|| PathBuf::from(path))
    });
    path.unwrap_or_else(|| panic!("cargo names no executable for {name}: {messages}"))
}

/// The cargo that runs this test, in the workspace.
fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").expect("run by cargo");
    let mut command = Command::new(cargo);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command
}
