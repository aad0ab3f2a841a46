//! veer's tasks: `cargo xtask <task>`. One module per task; set-up happens by itself.

mod apt;
mod ebpf;
mod install;
mod object;
mod process;
mod toolchain;

use std::path::{Path, PathBuf};

use clap::Parser;

/// Build, run, test and check veer; whatever is missing for it is set up first
#[derive(Parser, Debug)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    arg_required_else_help = true
)]
enum Task {
    Ebpf(ebpf::Ebpf),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Ebpf(ebpf) => ebpf.run(),
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
