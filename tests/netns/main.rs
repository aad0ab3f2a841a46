//! Real traffic between network namespaces on one bridge, with the real programs, and no daemon.
//!
//! Every test has a host of its own, so they run in parallel. They need root.

#![allow(
    clippy::unwrap_used,
    reason = "what fails in a helper fails the test that asked for it"
)]

mod balancing;
mod bare;
mod direct;
mod dns;
mod errors;
mod fragments;
mod hops;
mod lifetime;
mod ports;
mod refusals;
mod sctp;
mod spoofing;
mod streams;
mod traffic;
mod unattended;
