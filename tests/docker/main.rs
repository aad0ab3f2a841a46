//! veer beside a real Engine, both inside a namespace that plays the host.

#![allow(
    clippy::unwrap_used,
    reason = "what fails in a helper fails the test that asked for it"
)]

mod boot;
mod conformance;
mod dns;
mod examples;
mod many;
mod matrix;
mod ports;
mod programs;
mod provider;
mod restart;
mod site;
mod stage;
mod street;
mod uninstall;
mod walk;
