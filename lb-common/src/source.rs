//! Which clients a Frontend serves.

use bytemuck::{Pod, Zeroable};

use crate::{Addr, map_types};

/// Key of the `sources` map, a longest-prefix match: one list's rule for a client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct SourceKey {
    /// Leading bits that count, of `list` (32, always all) and of `address`: for an IPv4 prefix of n
    /// bits 32 + 96 + n.
    pub prefix_length: u32,
    /// [`crate::Frontend::sources`].
    pub list: u32,
    pub address: Addr,
}

impl SourceKey {
    /// The key that finds the longest prefix of `address` in `list`.
    #[inline(always)]
    pub const fn of(list: u32, address: Addr) -> Self {
        Self {
            prefix_length: 160,
            list,
            address,
        }
    }
}

/// Value of the `sources` map: one rule. No match: allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Source {
    /// A [`SourceAction`], of the Frontend's own lists and of all rules.
    pub action: u8,
    /// A [`SourceAction`], of the Frontend's own lists alone: it holds for processes of the host.
    pub own_action: u8,
    /// Index of the rule's counter.
    pub rule: u16,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SourceAction {
    Allow = 0,
    Deny = 1,
}

impl Source {
    /// Whether clients that match are turned away.
    #[inline(always)]
    pub const fn denies(&self) -> bool {
        self.action == SourceAction::Deny as u8
    }

    /// Whether processes of the host that match are turned away.
    #[inline(always)]
    pub const fn denies_host(&self) -> bool {
        self.own_action == SourceAction::Deny as u8
    }
}

map_types!(SourceKey: 24, Source: 4);
