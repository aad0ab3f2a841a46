//! Every type and constant that the kernel programs and the daemon agree on.
//!
//! One file per concept. Types that live in BPF maps are `repr(C)`, plain old data, without implicit
//! padding, and their sizes are asserted where they are defined. Addresses and ports are in network
//! byte order inside [`Addr`] and [`Port`] and nowhere else; every other number is in host order.
//!
//! # Why
//! Kernel and userspace are compiled by different compilers for different targets. What both read
//! must not depend on either, and must be written down once.
#![no_std]
#![forbid(unsafe_code)]

mod addr;
mod affinity;
mod connection;
mod counters;
pub mod dns;
mod endpoint;
mod event;
mod flow;
mod fragment;
mod frontend;
mod limits;
pub mod maps;
mod network;
mod ports;
mod reason;
mod resolver;
mod settings;
mod socket;
mod source;
mod veth;

pub use addr::{Addr, Mac, Port};
pub use affinity::{Affinity, AffinityKey};
pub use connection::{Connection, ConnectionFlags};
pub use counters::{BackendCounters, FrontendCounters, RuleCounters};
pub use endpoint::{Endpoint, EndpointId, EndpointState};
pub use event::{Event, EventKind};
pub use flow::{FlowKey, Zone};
pub use fragment::{FragmentKey, FragmentPorts};
pub use frontend::{Algorithm, Frontend, FrontendKey, Slot};
pub use limits::{Bucket, Limit};
pub use network::{Interface, InterfaceFlags, Local, Network, NetworkFlags, Subnet, SubnetKey};
pub use ports::{Cells, Link, OpenPort};
pub use reason::Reason;
pub use resolver::{Gate, Guest, Resolver};
pub use settings::{Mode, Settings, Timeouts};
pub use socket::{SocketBackend, SocketKey, SocketReverse};
pub use source::{Source, SourceAction, SourceKey};
pub use veth::{Veth, VethFlags};

/// The layout version of everything that is pinned: part of the pin folder's name, raised whenever a
/// map's key, value or meaning changes, so that programs never meet maps of another layout.
pub const LAYOUT: u32 = 7;

/// The MAC address that answers for every VIP: locally administered, "veer" in ASCII.
pub const VIP_MAC: Mac = Mac::new([0x02, 0x76, 0x65, 0x65, 0x72, 0x00]);

/// Declares that types may be map keys or values in userspace.
macro_rules! map_types {
    ($($name:ident: $size:literal),+ $(,)?) => {
        $(const _: () = assert!(core::mem::size_of::<$name>() == $size);)+
    };
}
pub(crate) use map_types;
