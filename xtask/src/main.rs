//! veer's tasks: `cargo xtask <task>`. One module per task; set-up happens by itself.

mod apt;
mod bench;
mod check;
mod ebpf;
mod fuzz;
mod imports;
mod install;
mod object;
mod paths;
mod privilege;
mod process;
mod run;
mod test;
mod toolchain;
mod vm;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;

/// Build, run, test and check veer; whatever is missing for it is set up first
#[derive(Parser, Debug)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    arg_required_else_help = true
)]
enum Task {
    Run(run::Run),
    Test(test::Test),
    Check(check::Check),
    Ebpf(ebpf::Ebpf),
    Fuzz(fuzz::Fuzz),
    Vm(vm::Vm),
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Run(run) => run.run(),
        Task::Test(test) => test.run(),
        Task::Check(check) => check.run(),
        Task::Ebpf(ebpf) => ebpf.run(),
        Task::Fuzz(fuzz) => fuzz.run(),
        Task::Bench(bench) => bench.run(),
        // Its exit status is the command's.
        Task::Vm(vm) => return vm.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(1)
        .map(Path::to_owned)
        .unwrap_or_default()
}
