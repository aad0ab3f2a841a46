//! Other kernels: commands, and test programs once more, in a virtual machine.
//!
//! # Why
//! A test program that runs itself again needs no second form of its tests, and no look for an
//! executable that may be older than its sources.

use std::env;
use std::ffi::{OsStr, OsString};
use std::process::{Command, Output};

/// For a whole test program on an emulated processor of a busy machine, in seconds.
const TIMEOUT: &str = "1500";

/// Ends as `command` does on Debian's kernel `kernel`, as root over this machine's files; with
/// `cargo xtask vm`'s own exit status where it cannot.
pub fn on_kernel<S: AsRef<OsStr>>(kernel: &str, command: impl IntoIterator<Item = S>) -> Output {
    let cargo = env::var_os("CARGO").expect("run by cargo");
    let mut vm = Command::new(cargo);
    vm.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    vm.args(["xtask", "vm", "--kernel", kernel, "--timeout", TIMEOUT]);
    vm.arg("--").args(command);
    vm.output().expect("start cargo xtask vm")
}

/// Runs the current test program again on another kernel, but for the tests whose name has one of
/// `skipped` in it: those that came here. Panics with its output unless all others pass there.
pub fn pass_again_on(kernel: &str, skipped: &[&str]) {
    let program = env::current_exe().expect("find the running program");
    let mut command = vec![program.into_os_string()];
    let skips = skipped.iter().flat_map(|name| ["--skip", name]);
    command.extend(skips.map(OsString::from));

    let output = on_kernel(kernel, command);

    assert!(output.status.success(), "{}", told(&output));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(!stdout.contains("running 0 tests"), "{stdout}");
}

/// How a command ended and what it printed.
pub fn told(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("{}\n{stdout}\n{stderr}", output.status)
}
