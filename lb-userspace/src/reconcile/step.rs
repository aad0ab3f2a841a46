//! One write to the datapath.

use lb_common::{Endpoint, EndpointId, Frontend, FrontendKey, Settings, Slot, Veth};

use super::{Fact, Place, Run};

/// One write. Every Step but [`Step::PutSlots`] and [`Step::PutPorts`] is a single atomic change: that
/// one writes a range which nothing points at yet, this one each port by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    PutSettings(Settings),
    PutFact(Fact),
    PutEndpoint(EndpointId, Endpoint),
    /// Key: index of the host-side veth.
    PutVeth(u32, Veth),
    /// Attaches the programs of this role to the interface with this index.
    Attach(Role, u32),
    /// Writes a table from index `first` on.
    PutSlots {
        first: u32,
        slots: Vec<Slot>,
    },
    /// Publishes a Frontend and with it its table.
    PutFrontend(FrontendKey, Frontend),
    /// Gives ports of the host to a cell, or to nobody.
    PutPorts(Run),
    RemoveFrontend(FrontendKey),
    /// Nothing points at this range any longer. There is nothing to write.
    ReleaseSlots {
        first: u32,
    },
    Detach(Role, u32),
    RemoveVeth(u32),
    /// Puts the Endpoint as it is given: down, of the next generation. Its id is not free yet.
    RetireEndpoint(EndpointId, Endpoint),
    RemoveFact(Place),
}

/// What programs do on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `bridge_in` and `bridge_out` on the bridge of a Network: the guards.
    Bridge,
    /// `endpoint_in` on the host-side veth of a container.
    Endpoint,
    /// `uplink_in` and `uplink_out` on a way to the outside.
    Uplink,
    /// `uplink_in_bare` and `uplink_out_bare` on one whose packets have no Ethernet header.
    BareUplink,
    /// `loopback_in` on the host's loopback interface.
    Loopback,
}

impl Role {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::Bridge,
        Self::Endpoint,
        Self::Uplink,
        Self::BareUplink,
        Self::Loopback,
    ];

    /// Whether it is on an interface of the host's own, not of a container.
    pub const fn is_of_host(self) -> bool {
        !matches!(self, Self::Endpoint)
    }

    /// The name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Endpoint => "endpoint",
            Self::Uplink | Self::BareUplink => "uplink",
            Self::Loopback => "loopback",
        }
    }
}
