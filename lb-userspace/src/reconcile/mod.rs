//! Decides: from what is observed to what is wanted, and from what is there to what is wanted.
//!
//! [`desire()`] turns an observation and the configuration into [`Desired`]; [`Identities`] gives the
//! things in it their numbers and remembers them. [`plan()`] turns the difference between the Actual
//! and the Desired [`State`] into [`Step`]s, in an order that may be stopped anywhere.
//!
//! # Why
//! Everything in here is a function of its arguments: no clock, no files, no sockets. Each decision
//! can be tested by giving it data, and repeating one does no harm.

mod aliases;
mod cells;
mod desire;
mod desired;
mod fact;
mod identities;
mod maglev;
mod plan;
#[cfg(test)]
mod samples;
mod state;
mod step;
mod tables;

pub use cells::{Cells, Run};
use desire::published_name;
pub use desire::{desire, guard};
pub use desired::{
    Desired, ServedEndpoint, ServedInterface, ServedNamespace, ServedPorts, ServedRule, VipRoute,
};
pub use fact::{Fact, Place};
pub use identities::{Full, Identities};
pub use plan::plan;
pub use state::{Dangling, State, dangling};
pub use step::{Role, Step};
