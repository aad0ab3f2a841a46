//! What is measured.

mod control;
mod dns;
mod forwarding;
mod groups;
pub(crate) mod instructions;
mod lab;
mod mesh;
mod ports;
mod programs;
mod sanity;

use std::fs;

use anyhow::Result;
use clap::ValueEnum;

use crate::measure::Effort;
use crate::proxy::{Proxy, Running};
use crate::report::{Bound, Suite, Target};

/// One question, and the variants that answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Who is outside asks a published port
    Ports,
    /// A container asks a Group's VIP
    Groups,
    /// A container asks for the address of another
    Dns,
    /// Packets to a published port, as fast as they go
    Forwarding,
    /// Real programs, to see whether the other figures are true
    Sanity,
    /// What single packets cost in the kernel programs
    Programs,
    /// Instructions of the kernel for one packet: only where time is counted in them
    Instructions,
    /// How long changes take to be served, and what the daemon costs
    Control,
}

impl Kind {
    /// All but those that need an emulated processor.
    pub(crate) const ALL: [Self; 7] = [
        Self::Ports,
        Self::Groups,
        Self::Dns,
        Self::Forwarding,
        Self::Sanity,
        Self::Programs,
        Self::Control,
    ];

    pub(crate) fn run(self, effort: Effort) -> Result<Suite> {
        match self {
            Self::Ports => ports::suite(effort),
            Self::Groups => groups::suite(effort),
            Self::Dns => dns::suite(effort),
            Self::Forwarding => forwarding::suite(effort),
            Self::Sanity => sanity::suite(effort),
            Self::Programs => programs::suite(effort),
            Self::Instructions => instructions::suite(effort),
            Self::Control => control::suite(effort),
        }
    }
}

fn target(measure: &str, of: &str, to: Option<&str>, bound: Bound) -> Target {
    Target {
        measure: measure.to_owned(),
        of: of.to_owned(),
        to: to.map(str::to_owned),
        bound,
    }
}

/// A client that opens thousands of connections a second runs out of ports otherwise.
fn many_connections() {
    for (name, value) in [
        ("net/ipv4/tcp_tw_reuse", "1"),
        ("net/ipv4/ip_local_port_range", "2048 65000"),
    ] {
        fs::write(format!("/proc/sys/{name}"), value).expect("set a sysctl of a namespace");
    }
}

impl Suite {
    /// Notes why a variant is left out, if it could not be set up.
    fn is_set_up(&mut self, variant: &str, done: Result<()>) -> bool {
        if let Err(error) = &done {
            self.left_out.push(format!("{variant}: {error:#}"));
        }
        done.is_ok()
    }

    /// Notes how a proxy is set, or why it is left out.
    fn started<'a>(
        &mut self,
        proxy: &Proxy,
        started: &'a Result<Option<Running>>,
    ) -> Option<&'a Running> {
        match started {
            Ok(Some(running)) => {
                self.settings
                    .push(format!("{}: {}", proxy.name, proxy.settings));
                return Some(running);
            }
            Ok(None) => self
                .left_out
                .push(format!("{} is not installed", proxy.name)),
            Err(error) => self.left_out.push(format!("{}: {error:#}", proxy.name)),
        }
        None
    }
}
