//! Where containers' DNS queries are led to the daemon: on sockets, within their namespaces or to the host, or
//! inside on their loopback interfaces.

use std::io;

use super::bpf::{self, AttachType};
use super::error::{DatapathError, Warning};
use super::expedite::{ShortLink, expedited};
use super::programs::{DNS_HAND, DNS_LEAD};
use super::{Datapath, LOOPBACK};
use crate::config::Lead;
use crate::model::Netns;
use crate::netns::Namespace;

/// The programs on one namespace's loopback interface that lead its queries, until this goes. It keeps no
/// namespace alive.
#[derive(Debug)]
pub struct Led {
    _links: [ShortLink; 2],
}

impl Datapath {
    /// What leads DNS queries to the daemon; never [`Lead::Auto`].
    pub fn lead(&self) -> Lead {
        self.lead
    }

    /// Whether DNS queries are led inside containers' namespaces, and not by programs on sockets.
    pub fn leads_inside(&self) -> bool {
        self.lead == Lead::Loopback
    }

    /// Leads the queries inside `netns`, by what the maps say of it.
    pub fn lead_inside(&self, netns: &Netns) -> io::Result<Led> {
        let program = |name| self.programs.get(name).map_err(io::Error::other);
        let (lead, hand) = (program(DNS_LEAD)?, program(DNS_HAND)?);
        let attach = || -> io::Result<Led> {
            // Nothing is marked before somebody reads the marks.
            let handing = bpf::attach_tcx(hand, LOOPBACK, AttachType::TcxIngress)?;
            let leading = bpf::attach_tcx(lead, LOOPBACK, AttachType::TcxEgress)?;
            Ok(Led {
                _links: [leading.into(), handing.into()],
            })
        };
        Namespace::of(netns)?.run(|| expedited(attach))?
    }

    /// Forgets where queries are led inside namespaces: a former daemon's programs there are gone.
    pub fn forget_leads(&self) -> Result<(), DatapathError> {
        self.maps.dns_leads.clear()
    }
}

/// What leads queries, given what hinders programs on sockets, and what the operator should know.
pub(super) fn choose(
    wanted: Lead,
    hindrance: Option<Warning>,
    can_enter: bool,
    can_inside: &dyn Fn() -> bool,
) -> (Lead, Option<Warning>) {
    let can_inside = || can_enter && can_inside();
    match (wanted, hindrance) {
        (Lead::Veth, hindrance) => (Lead::Veth, hindrance),
        (Lead::Auto, None) if !can_enter => (Lead::Veth, Some(Warning::LedToHost)),
        (Lead::Loopback, _) if can_inside() => (Lead::Loopback, None),
        (Lead::Loopback, hindrance) => (Lead::Sockets, hindrance.or(Some(Warning::NotLedInside))),
        (Lead::Auto, Some(hindrance)) if can_inside() => {
            let cause = match hindrance {
                Warning::NoTakeover { cause } => cause,
                Warning::NestedCgroup { cgroup } => format!(
                    "veer runs in a cgroup namespace, and programs on sockets see no more than what is \
                     below {}",
                    cgroup.display()
                ),
                other => other.to_string(),
            };
            (Lead::Loopback, Some(Warning::LedInside { cause }))
        }
        (Lead::Auto | Lead::Sockets, hindrance) => (Lead::Sockets, hindrance),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_used_where_sockets_cannot_be() {
        let hindrance = || {
            Some(Warning::NoTakeover {
                cause: "why".to_owned(),
            })
        };
        let instead = Some(Warning::LedInside {
            cause: "why".to_owned(),
        });
        let choose = |wanted, hindrance, can: bool| choose(wanted, hindrance, true, &|| can);
        let (sockets, loopback) = (Lead::Sockets, Lead::Loopback);

        assert_eq!(choose(Lead::Auto, None, true), (sockets, None));
        assert_eq!(choose(Lead::Auto, hindrance(), true), (loopback, instead));
        assert_eq!(
            choose(Lead::Auto, hindrance(), false),
            (sockets, hindrance())
        );
        assert_eq!(
            choose(Lead::Sockets, hindrance(), true),
            (sockets, hindrance())
        );
        assert_eq!(choose(Lead::Loopback, None, true), (loopback, None));
        assert_eq!(choose(Lead::Loopback, hindrance(), true), (loopback, None));
        let left_out = (sockets, Some(Warning::NotLedInside));
        assert_eq!(choose(Lead::Loopback, None, false), left_out);
    }

    #[test]
    fn who_may_not_enter_namespaces_leads_to_the_host() {
        let hindrance = || {
            Some(Warning::NoTakeover {
                cause: "why".to_owned(),
            })
        };
        let choose = |wanted, hindrance, can_enter| choose(wanted, hindrance, can_enter, &|| true);

        let instead = (Lead::Veth, Some(Warning::LedToHost));
        assert_eq!(choose(Lead::Auto, None, false), instead);
        assert_eq!(choose(Lead::Veth, None, true), (Lead::Veth, None));
        let nothing = (Lead::Sockets, hindrance());
        assert_eq!(choose(Lead::Auto, hindrance(), false), nothing);
        let left_out = (Lead::Sockets, Some(Warning::NotLedInside));
        assert_eq!(choose(Lead::Loopback, None, false), left_out);
    }
}
