//! `cargo xtask vm`: a command on a Linux kernel of your choice.
//!
//! The guest boots a Debian kernel, sees the host's files at the same paths (what it writes stays
//! in its memory), runs the command as root and hands back its exit status.
//!
//! # Why
//! The verifier and the hooks differ between kernels, so "it loads here" says little about the
//! oldest kernel we promise. QEMU without KVM needs no privilege and works in containers and on
//! rented CI machines alike, and Debian's own packages are the kernels that users really run.

mod cache;
mod cpio;
mod elf;
mod guest;
mod image;
mod initramfs;
mod job;
mod kernel;
mod modules;
mod outcome;
mod packages;
mod program;
mod qemu;
mod report;
mod stream;
mod suites;
mod tools;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use self::guest::Guest;
use self::job::{EnvVar, Job};
use self::kernel::Kernel;
pub(crate) use self::kernel::KernelId;
use self::outcome::Outcome;
use self::qemu::Machine;
use self::tools::Tools;
use crate::{install, process, toolchain::Places};

/// Run a command on Linux kernels of your choice, each in a throw-away virtual machine
#[derive(Args, Debug)]
pub(crate) struct Vm {
    /// Kernels to boot, one after another; may repeat or be a comma list
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    kernel: Vec<KernelId>,

    /// Only fetch and unpack what the kernels need, so that later runs need no network
    #[arg(long, conflicts_with = "command")]
    prepare: bool,

    /// Memory of the guest, as QEMU spells it
    #[arg(long, default_value = "1G")]
    memory: String,

    /// Processors of the guest (1 with --icount)
    #[arg(long, default_value_t = 2)]
    cpus: u8,

    /// Seconds that the command may run; then the exit status is 124
    #[arg(long, default_value_t = 600)]
    timeout: u64,

    /// Count time in instructions, 2^N nanoseconds each: repeatable timings on a busy host
    #[arg(long, value_name = "N")]
    icount: Option<u8>,

    /// Environment variable for the command; may repeat
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<EnvVar>,

    /// Show the guest's console on stderr
    #[arg(long)]
    console: bool,

    /// The command and its arguments
    #[arg(last = true, required_unless_present = "prepare")]
    command: Vec<OsString>,
}

impl Vm {
    /// Exit status of the first kernel whose command failed, else 0; 125 when no command could be
    /// run.
    pub(crate) fn run(&self) -> ExitCode {
        let done = install::places().and_then(|places| {
            let (tools, kernels) = prepare(&places, &self.kernel)?;
            if self.prepare {
                Ok(Outcome::SUCCESS)
            } else {
                self.run_on(&kernels, &tools)
            }
        });
        let outcome = done.unwrap_or_else(|error| {
            process::say(&format!("error: {error:#}"));
            Outcome::Crashed
        });
        ExitCode::from(outcome.status())
    }

    fn run_on(&self, kernels: &[Kernel], tools: &Tools) -> Result<Outcome> {
        let mut outcomes = Vec::new();
        for kernel in kernels {
            let job = Job::new(kernel, &self.command, &self.env)?;
            let mut guest = Guest::boot(kernel, tools, &self.machine(), job)?;
            guest.show_console(self.console);
            let report = guest.wait(Duration::from_secs(self.timeout))?;
            report.explain(kernel.id);
            outcomes.push(report.outcome);
        }
        let failed = outcomes.into_iter().find(|outcome| !outcome.is_success());
        Ok(failed.unwrap_or(Outcome::SUCCESS))
    }

    fn machine(&self) -> Machine {
        Machine {
            memory: self.memory.clone(),
            cpus: if self.icount.is_some() { 1 } else { self.cpus },
            icount: self.icount,
        }
    }
}

/// Fetches what runs on these kernels need and the cache has not; says which kernels they are.
pub(crate) fn prepare(places: &Places, ids: &[KernelId]) -> Result<(Tools, Vec<Kernel>)> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "virtual machines run this machine's own binaries on amd64 kernels: \
         they need an x86-64 machine"
    );
    let tools = Tools::prepared(places)?;
    let mut kernels = Vec::new();
    for &id in ids {
        let kernel = Kernel::prepared(id, &tools)?;
        process::say(&format!("kernel {id} is {}", kernel.release));
        kernels.push(kernel);
    }
    Ok((tools, kernels))
}
