//! The datapath on the running kernel: each test in a network namespace, with a BPF file system and
//! a cgroup of its own. They need root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adopt;
mod collect;
mod host;
mod state;
mod surroundings;
mod uninstall;
