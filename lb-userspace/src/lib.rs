//! veer's control plane.
//!
//! `model` holds the nouns, `reconcile` decides, and the other rooms act: `provider` observes
//! membership, `datapath` writes maps and attaches programs, `dns` answers names, `api` and `cli`
//! tell the operator. `daemon` joins them.

pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod datapath;
pub mod dns;
pub mod engine;
pub mod instance;
pub mod model;
pub mod netns;
pub mod nft;
pub mod priority;
pub mod provider;
pub mod reconcile;
pub mod sysctl;
mod tool;
