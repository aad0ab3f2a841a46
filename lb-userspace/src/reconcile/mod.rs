//! Decides: from what is observed to what is wanted, and from what is there to what is wanted.
//!
//! [`Desired`] is what follows from an observation and the configuration. [`plan()`] turns the difference between the Actual
//! and the Desired [`State`] into [`Step`]s, in an order that may be stopped anywhere.
//!
//! # Why
//! Everything in here is a function of its arguments: no clock, no files, no sockets. Each decision
//! can be tested by giving it data, and repeating one does no harm.

mod desired;
mod plan;
mod state;
mod step;

pub use desired::{Desired, ServedEndpoint, ServedInterface, ServedNamespace, VipRoute};
pub use plan::plan;
pub use state::{Dangling, State, dangling};
pub use step::Step;
