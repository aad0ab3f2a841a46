//! The datapath as a library: what happens to a packet, decided over [`Tables`] and carried out on a
//! [`Frame`].
//!
//! The kernel programs in `kernel/` hand in the BPF maps and the socket buffer; tests and
//! `veer explain` hand in memory. Both run this code.
//!
//! [`endpoint_in()`], [`uplink_in()`] and [`loopback_in()`] are the tables of contents: what containers
//! send, what reaches the host from outside, and what it sends to itself.
//!
//! # Why
//! A packet path that only the verifier has ever read cannot be tested, and one that was written
//! twice is wrong once. Functions marked `inline(never)` become BPF functions of their own, which
//! keeps the hot path short and the 512 bytes of stack sufficient; they return one word
//! ([`Outcome`]), because BPF functions cannot return more.
#![cfg_attr(not(any(feature = "native", test)), no_std)]
#![forbid(unsafe_code)]

mod bare;
mod checksum;
mod collect;
mod deliver;
pub mod dns;
pub mod dns_lead;
mod endpoint_in;
mod family;
mod forward;
mod fragment;
mod frame;
mod guards;
mod headers;
mod icmp_error;
mod icmp_exchange;
mod loopback_in;
#[cfg(any(feature = "native", test))]
pub mod native;
mod neighbour;
mod open;
mod outcome;
mod outward;
mod packet;
mod place;
mod published;
mod refuse;
mod remember;
pub mod resolver;
mod select;
mod send;
mod settle;
pub mod sockets;
mod spoof;
mod tables;
mod track;
mod unattended;
mod uplink_in;
mod way;

pub use checksum::Delta;
pub use collect::{CollectRequest, collect};
pub use endpoint_in::endpoint_in;
pub use frame::{Checksum, Frame};
pub use guards::{bridge_in, bridge_out, uplink_out, uplink_out_bare};
pub use loopback_in::loopback_in;
pub use outcome::{Outcome, Verdict};
pub use packet::{Fragment, Kind, Packet};
pub use select::{choose, flow_hash};
pub use tables::{Amend, Full, Insert, Store, Tables, Work};
pub use uplink_in::{uplink_in, uplink_in_bare};
pub use way::{Route, Way};
