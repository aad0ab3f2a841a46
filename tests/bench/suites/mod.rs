//! What is measured.

mod control;
mod groups;
mod programs;

use anyhow::Result;
use clap::ValueEnum;

use crate::measure::Effort;
use crate::report::{Bound, Suite, Target};

/// One question, and the variants that answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A container asks a Group's VIP
    Groups,
    /// What single packets cost in the kernel programs
    Programs,
    /// How long changes take to be served, and what the daemon costs
    Control,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Groups, Self::Programs, Self::Control];

    pub(crate) fn run(self, effort: Effort) -> Result<Suite> {
        match self {
            Self::Groups => groups::suite(effort),
            Self::Programs => programs::suite(effort),
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
