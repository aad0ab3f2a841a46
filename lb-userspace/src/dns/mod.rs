//! DNS for containers: the names of their Networks, and everybody else's by way of the host.
//!
//! A container asks 127.0.0.11:53. Kernel programs on connect and sendmsg lead that to a private
//! port on 127.0.0.11 inside the container's own namespace, where [`Dns::take_over`] listens; the
//! answer's source is put back, so that the client sees 127.0.0.11:53. Where namespaces are not to be entered,
//! that port is one of the host's address on a Network of the container. If the daemon or its DNS
//! thread stops, the programs leave queries alone, and Docker's own resolver answers.
//!
//! [`Records`] are the answers, made anew from every observation and replaced at once. Everything
//! else is forwarded (`upstream`). One thread serves all containers.
//!
//! # Why
//! The sockets are in the containers' namespaces so that takeover works for every kind of network
//! and needs no address, route or firewall rule there.

mod cache;
mod container;
mod counters;
mod kernel;
mod message;
mod nat;
mod query;
mod records;
mod register;
mod reply;
mod resolv_conf;
mod rules;
mod samples;
mod server;
mod service;
mod stream;
mod tables;
mod takeover;
mod tally;
mod told;
mod upstream;

pub use counters::Counts;
pub use kernel::Kernel;
pub use nat::{Nat, Taken};
pub use records::{Known, Records, Upstreams, View};
pub use register::Register;
pub use resolv_conf::name_servers;
pub use rules::{Forwarding, Rules};
pub use samples::Sample;
pub(crate) use server::FILES;
pub use server::{Dns, Options};
pub use takeover::TakeoverError;
pub use tally::{Outcome, Path};
pub use told::Told;
