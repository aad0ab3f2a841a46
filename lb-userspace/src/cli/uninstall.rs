//! `veer uninstall`.

use std::io::Write;

use clap::Args;

use crate::config::Config;
use crate::datapath::{Datapath, Options};
use crate::dns::Nat;
use crate::nft::Table;
use crate::sysctl::Sysctls;

/// Remove everything that veer has put into the kernel for this network namespace
///
/// Detaches the programs, removes maps and pins, and puts kernel settings and Docker's rules in containers
/// back; tracked Connections are lost. Host and containers are as if veer had never been there, except for
/// routes to VIPs in containers, which go with them. Stop the daemon first.
#[derive(Args, Debug)]
pub(super) struct Uninstall {}

impl Uninstall {
    pub(super) fn run(self, out: &mut impl Write) -> anyhow::Result<()> {
        let options = Options::here(Config::default().maps)?;
        let done = Datapath::uninstall(&options)?;
        Table::open(options.instance.rules()).set(None)?;
        let settings = Sysctls::open(options.instance.sysctls()).restore()?;
        let rules = Nat::open(options.instance.nat()).put_all_back()?;
        // The numbers in it mean nothing without the maps.
        match std::fs::remove_file(options.instance.identities()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let (instance, pins) = (&options.instance, done.pins);
        writeln!(
            out,
            "{instance}: {pins} pins removed, {settings} kernel settings put back, Docker's rules back in {rules} containers"
        )?;
        if done.filters > 0 {
            writeln!(out, "{} filters taken out of containers", done.filters)?;
        }
        if done.errors.is_empty() {
            return Ok(());
        }
        let errors: Vec<_> = done.errors.iter().map(ToString::to_string).collect();
        anyhow::bail!("not everything is removed: {}", errors.join("; "))
    }
}
