//! One write to the datapath.

use lb_common::{Endpoint, EndpointId, Frontend, FrontendKey, Settings, Slot, Veth};

/// One write. Every Step but [`Step::PutSlots`] is a single atomic change; that one writes a range
/// which nothing points at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    PutSettings(Settings),
    PutEndpoint(EndpointId, Endpoint),
    /// Key: index of the host-side veth.
    PutVeth(u32, Veth),
    /// Attaches `endpoint_in` to the interface with this index.
    Attach(u32),
    /// Writes a table from index `first` on.
    PutSlots {
        first: u32,
        slots: Vec<Slot>,
    },
    /// Publishes a Frontend and with it its table.
    PutFrontend(FrontendKey, Frontend),
    RemoveFrontend(FrontendKey),
    /// Nothing points at this range any longer. There is nothing to write.
    ReleaseSlots {
        first: u32,
    },
    Detach(u32),
    RemoveVeth(u32),
    /// Puts the Endpoint as it is given: down, of the next generation. Its id is not free yet.
    RetireEndpoint(EndpointId, Endpoint),
}
