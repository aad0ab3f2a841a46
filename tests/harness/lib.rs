//! What every test stands on: namespaces, packets, an Engine, deadlines.

#![allow(
    clippy::unwrap_used,
    reason = "what fails in here fails the test that asked for it"
)]

pub mod child;
pub mod daemon;
pub mod deadline;
pub mod dns;
pub mod engine;
pub mod host;
pub mod icmp;
pub mod installed;
pub mod object;
pub mod offload;
pub mod packets;
pub mod program;
pub mod server;
pub mod servers;
pub mod station;
pub mod veer;
pub mod vm;
