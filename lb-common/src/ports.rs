//! Published ports of the host: which cell a port belongs to.
//!
//! A *cell* is a maximal run of ports over which the set of published ranges is constant. So a range
//! of ten thousand ports is one cell, and one element of `frontends` for each address.

use bytemuck::{Pod, Zeroable};

use crate::{Addr, Port, Zone, map_types};

/// Four ports of the `ports` map, one aligned word.
///
/// Elements of an array map are eight bytes at least, and a word is replaced in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(transparent)]
pub struct Cells(u64);

impl Cells {
    /// Ports in one element.
    pub const WIDTH: u32 = 4;

    /// The element that `port` (in host order) is in, for TCP (protocol 6) and UDP (17); `None` for
    /// protocols that have no cells.
    #[inline(always)]
    pub const fn index(protocol: u8, port: u16) -> Option<u32> {
        match protocol {
            6 => Some(port as u32 / Self::WIDTH),
            17 => Some((0x1_0000 + port as u32) / Self::WIDTH),
            _ => None,
        }
    }

    /// First port (in host order) of the cell that `port` belongs to; 0: nobody's.
    #[inline(always)]
    pub const fn get(self, port: u16) -> u16 {
        (self.0 >> Self::shift(port)) as u16
    }

    /// The same with another cell for `port`.
    #[must_use]
    pub const fn with(self, port: u16, first: u16) -> Self {
        let shift = Self::shift(port);
        Self(self.0 & !(0xffff << shift) | (first as u64) << shift)
    }

    #[inline(always)]
    const fn shift(port: u16) -> u32 {
        port as u32 % Self::WIDTH * 16
    }
}

/// A container's port that may be reached at the container's own address from outside its Network:
/// published ports of routed Networks, and of others from the interfaces that they trust.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct OpenPort {
    /// The container's address.
    pub address: Addr,
    pub port: Port,
    pub zone: Zone,
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero.
    pub _pad: [u8; 3],
    /// Index of the interface that the Network trusts; 0: from everywhere, the Network is routed.
    pub interface: u32,
}

/// A port that one container may reach of another although the Network forbids it (`--link`).
/// Answers are allowed by the same element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct Link {
    /// Address of the container that asks.
    pub from: Addr,
    /// Address of the container that answers.
    pub to: Addr,
    pub port: Port,
    pub zone: Zone,
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero.
    pub _pad: [u8; 3],
}

map_types!(Cells: 8, OpenPort: 28, Link: 40);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_of_each_protocol_has_a_place_of_its_own() {
        assert_eq!(Cells::index(6, 0), Some(0));
        assert_eq!(Cells::index(6, u16::MAX), Some(16_383));
        assert_eq!(Cells::index(17, 0), Some(16_384));
        assert_eq!(Cells::index(17, u16::MAX), Some(crate::maps::PORTS - 1));
        assert_eq!(Cells::index(132, 80), None);
    }

    #[test]
    fn a_cell_is_given_to_one_port_alone() {
        let cells = Cells::default().with(81, 80).with(83, 8_000);

        assert_eq!(
            [80, 81, 82, 83].map(|port| cells.get(port)),
            [0, 80, 0, 8_000]
        );
        assert_eq!(cells.with(81, 0).get(81), 0);
        assert_eq!(cells.with(81, 0).get(83), 8_000);
    }
}
