//! A Group: the Endpoints of one Network that share an alias.

use std::net::{Ipv4Addr, Ipv6Addr};

use lb_common::{EndpointId, Zone};
use serde::{Deserialize, Serialize};

use super::{ContainerId, NetworkId, Policy};

/// The Endpoints of one Network that share an alias, balanced by one Policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub network: NetworkId,
    /// Name of the Network.
    pub network_name: String,
    pub zone: Zone,
    /// Lower-case.
    pub alias: String,
    pub policy: Policy,
    /// `None` without VIP (`dnsrr`), or where no Member has an IPv4 address.
    pub vip_v4: Option<Ipv4Addr>,
    /// `None` without VIP (`dnsrr`), or where no Member has an IPv6 address.
    pub vip_v6: Option<Ipv6Addr>,
    /// [`lb_common::Frontend::id`] of the IPv4 VIP.
    pub frontend_v4: Option<u32>,
    /// [`lb_common::Frontend::id`] of the IPv6 VIP.
    pub frontend_v6: Option<u32>,
    /// By container name, then container id.
    pub members: Vec<Member>,
}

/// An Endpoint in a Group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub container: ContainerId,
    /// Name of the container.
    pub name: String,
    /// 0 while the Endpoint is not programmed.
    pub endpoint: EndpointId,
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
    /// 0 to 1000; counts for weighted round robin and Maglev.
    pub weight: u16,
    pub state: MemberState,
}

/// What may be sent to a Member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// Everything.
    Active,
    /// What is established: its container is stopping, or its weight is 0.
    Draining,
    /// Nothing: its interface is not there (yet).
    Down,
}

impl Group {
    /// `network/alias`, as in the configuration.
    pub fn name(&self) -> String {
        format!("{}/{}", self.network_name, self.alias)
    }

    /// The Members that get new Connections.
    pub fn active(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(|member| member.state == MemberState::Active)
    }
}
