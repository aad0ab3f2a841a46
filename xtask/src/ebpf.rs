//! `cargo xtask ebpf`: only the kernel programs.

use std::fs;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;

use crate::{install, object, workspace};

/// Build lb-ebpf's kernel programs and print the object's path and size
#[derive(Args, Debug)]
pub(crate) struct Ebpf {}

impl Ebpf {
    pub(crate) fn run(self) -> Result<()> {
        let toolchain = install::toolchain(&install::places()?)?;
        let object = object::build(&workspace(), &toolchain).map_err(|error| anyhow!("{error}"))?;
        let size = fs::metadata(&object).context("measure the object")?.len();
        println!("{} {size} bytes", object.display());
        Ok(())
    }
}
