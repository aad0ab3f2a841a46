//! Where containers are answered on the host, and the program on bridges.

use std::io;

use lb_common::{Gate, Guest, Resolver};

use super::bpf::{self, AttachType};
use super::error::DatapathError;
use super::expedite::{ShortLink, expedited};
use super::programs::DNS_BRIDGE;
use super::{Datapath, Hook};

/// `dns_bridge` on one bridge, until this goes.
#[derive(Debug)]
pub struct Bridge {
    _link: ShortLink,
}

impl Datapath {
    /// Lets the kernel answer what comes in at a bridge for the host; `None` before Linux 6.6, where one
    /// place on a bridge is all that veer has. Must be called from a thread in the host's namespace.
    pub fn answer_at(&self, ifindex: u32) -> io::Result<Option<Bridge>> {
        if self.hook == Hook::Clsact {
            return Ok(None);
        }
        let program = self.programs.get(DNS_BRIDGE).map_err(io::Error::other)?;
        let attach = || bpf::attach_tcx(program, ifindex, AttachType::TcxIngress);
        let _link = expedited(attach)?.into();
        Ok(Some(Bridge { _link }))
    }

    /// Lets the kernel know who asks where `resolver` is, if that is on the host.
    pub(super) fn open_gate(&self, cookie: u64, resolver: &Resolver) -> Result<(), DatapathError> {
        let Some(gate) = gate(resolver) else {
            return Ok(());
        };
        let guest = Guest {
            cookie,
            source: resolver.source,
            _pad: 0,
        };
        self.maps.dns_gates.put(&gate, &guest)
    }

    /// The reverse, by what is known of the namespace.
    pub(super) fn close_gate(&self, cookie: u64) -> Result<(), DatapathError> {
        let resolver = self.maps.resolvers.get(&cookie)?;
        if let Some(gate) = resolver.as_ref().and_then(gate) {
            self.maps.dns_gates.remove(&gate)?;
        }
        Ok(())
    }

    /// Forgets who asks where on the host: a former daemon's sockets there are closed.
    pub fn forget_gates(&self) -> Result<(), DatapathError> {
        self.maps.dns_gates.clear()
    }
}

/// Where `resolver` is, if that is on the host.
pub(super) fn gate(resolver: &Resolver) -> Option<Gate> {
    (resolver.gateway != 0).then_some(Gate {
        gateway: resolver.gateway,
        port: resolver.udp,
        _pad: 0,
    })
}
