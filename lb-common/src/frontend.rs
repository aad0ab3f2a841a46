//! What clients send to, and the table it is balanced over.

use core::fmt;

use bytemuck::{Pod, Zeroable};

use crate::{Addr, EndpointId, Port, Zone, map_types};

/// Key of the `frontends` map. A VIP answers on every port and protocol: both are 0 there.
///
/// Published ports are in zone 0, under an address of the host's or a [`FrontendKey::wildcard`], and
/// under the first port of their cell ([`crate::Cells`]); SCTP has no cells and is under its very port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct FrontendKey {
    pub address: Addr,
    /// [`Port::NONE`]: every port.
    pub port: Port,
    pub zone: Zone,
    /// IP protocol number, 0: every one.
    pub protocol: u8,
    /// Always zero.
    pub _pad: [u8; 3],
}

impl FrontendKey {
    /// The key of a VIP.
    #[inline(always)]
    pub const fn vip(address: Addr, zone: Zone) -> Self {
        Self {
            address,
            port: Port::NONE,
            zone,
            protocol: 0,
            _pad: [0; 3],
        }
    }

    /// The key of published ports. `cell` is the first port of their cell.
    #[inline(always)]
    pub const fn published(address: Addr, cell: Port, protocol: u8) -> Self {
        Self {
            address,
            port: cell,
            zone: 0,
            protocol,
            _pad: [0; 3],
        }
    }

    /// The address that stands for every one of the host's own of a family: `0.0.0.0` or `::`.
    #[inline(always)]
    pub const fn wildcard(is_v4: bool) -> Addr {
        if is_v4 {
            Addr::from_v4_word(0)
        } else {
            Addr::NONE
        }
    }
}

/// Value of the `frontends` map. Replacing it is the one step that publishes a new table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Frontend {
    /// Index of this Frontend's turn and counters; never 0.
    pub id: u32,
    /// First index of this Frontend's range in `slots`.
    pub first_slot: u32,
    /// Length of the range; 0: no Backend.
    pub slot_count: u32,
    /// Seconds that a client keeps its Backend for new Connections; 0: no affinity.
    pub affinity: u32,
    /// An [`Algorithm`].
    pub algorithm: u8,
    /// Always zero.
    pub _pad: u8,
    /// The port that the slots' ports answer: a port n above it goes to the Backend's port n above the
    /// slot's. [`Port::NONE`]: all ports go to the slot's.
    pub origin: Port,
    /// The list of clients that are served or not ([`crate::SourceKey::list`]); 0: all are.
    pub sources: u32,
}

/// Value of the `slots` array: one Backend in a Frontend's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Slot {
    pub endpoint: EndpointId,
    /// Port that the Backend listens on, [`Port::NONE`] for the port that was asked for.
    pub port: Port,
    /// Always zero.
    pub _pad: u16,
}

/// How a new Connection chooses its slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// Each in turn, exactly.
    #[default]
    RoundRobin = 0,
    /// Any.
    Random = 1,
    /// Each in turn, as often as its weight says; the table holds the order.
    WeightedRoundRobin = 2,
    /// The less loaded of two at random.
    LeastConnections = 3,
    /// By the client's address and port over a Maglev table.
    Maglev = 4,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 5] = [
        Self::RoundRobin,
        Self::Random,
        Self::WeightedRoundRobin,
        Self::LeastConnections,
        Self::Maglev,
    ];

    /// The name in configuration, labels and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::WeightedRoundRobin => "weighted-round-robin",
            Self::LeastConnections => "least-connections",
            Self::Maglev => "maglev",
        }
    }

    /// The algorithm with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    /// The algorithm with this number; unknown numbers are round robin.
    #[inline(always)]
    pub const fn from_u8(number: u8) -> Self {
        match number {
            1 => Self::Random,
            2 => Self::WeightedRoundRobin,
            3 => Self::LeastConnections,
            4 => Self::Maglev,
            _ => Self::RoundRobin,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

map_types!(FrontendKey: 24, Frontend: 24, Slot: 8);
