//! Endpoints and the interfaces that they send through.

use std::collections::BTreeMap;

use lb_common::{Addr, Endpoint, EndpointId, EndpointState, Mac, Veth, VethFlags, Zone};

use super::{Served, Zones};
use crate::config::Config;
use crate::model::{Link, MemberState, Notice, RunState};
use crate::reconcile::desired::{Desired, ServedEndpoint, ServedInterface};
use crate::reconcile::identities::{Face, Full, Identities, Numbered};
use crate::reconcile::{Role, State};

/// A served attachment and what it has in the datapath.
pub(super) struct Placed<'a> {
    pub served: &'a Served<'a>,
    /// 0: its Network could not be given a number.
    pub zone: Zone,
    /// 0 while it is not programmed.
    pub id: EndpointId,
    pub generation: u32,
    pub state: MemberState,
}

/// Puts every attachment that has an interface into the state, in the order of `served`.
pub(super) fn program<'a>(
    served: &'a [Served<'a>],
    zones: &Zones<'_>,
    config: &Config,
    identities: &mut Identities,
    desired: &mut Desired,
) -> Vec<Placed<'a>> {
    let place = |served: &'a Served<'a>| {
        let mut placed = Placed {
            served,
            zone: zones.get(&served.network.id).copied().unwrap_or(0),
            id: 0,
            generation: 0,
            state: MemberState::Down,
        };
        match placed.number(config, identities, &desired.state) {
            Ok((link, number)) => placed.put(link, number, config, &mut desired.state),
            Err(missing) => desired.notices.extend(placed.notice(missing)),
        }
        placed
    };
    let placed: Vec<_> = served.iter().map(place).collect();
    relate(&placed, &mut desired.state);
    placed
}

/// Tells each Endpoint of a container with several which is the next one, in a ring.
fn relate(placed: &[Placed<'_>], state: &mut State) {
    let mut containers: BTreeMap<_, Vec<EndpointId>> = BTreeMap::new();
    for placed in placed.iter().filter(|placed| placed.id != 0) {
        let container = &placed.served.container.id;
        containers.entry(container).or_default().push(placed.id);
    }
    for ids in containers.values().filter(|ids| ids.len() > 1) {
        for (id, next) in ids.iter().zip(ids.iter().cycle().skip(1)) {
            if let Some(endpoint) = state.endpoints.get_mut(id) {
                endpoint.sibling = *next;
            }
        }
    }
}

/// Why an attachment is not in the state.
enum Missing<'a> {
    Zone,
    Link,
    /// Another attachment has the same interface.
    Taken(&'a Link),
    Number(Full),
}

impl<'a> Placed<'a> {
    /// As the operator sees it.
    pub(super) fn listed(&self) -> ServedEndpoint {
        let Served {
            container,
            attachment,
            network,
            aliases,
            ..
        } = self.served;
        let interface = |link: &Link| ServedInterface {
            ifindex: link.host_ifindex,
            name: link.host_name.clone(),
            mac: link.mac,
        };
        ServedEndpoint {
            id: self.id,
            generation: self.generation,
            container: container.id.clone(),
            container_name: container.name.clone(),
            network: network.id.clone(),
            network_name: network.name.clone(),
            zone: self.zone,
            state: self.state,
            v4: attachment.v4,
            v6: attachment.v6,
            interface: attachment.link.as_ref().map(interface),
            groups: aliases.iter().cloned().collect(),
        }
    }

    fn number(
        &self,
        config: &Config,
        identities: &mut Identities,
        state: &State,
    ) -> Result<(&'a Link, Numbered), Missing<'a>> {
        let attachment = self.served.attachment;
        let link = attachment.link.as_ref().ok_or(Missing::Link)?;
        let face = Face::seen(attachment).ok_or(Missing::Link)?;
        if self.zone == 0 {
            return Err(Missing::Zone);
        }
        if state.veths.contains_key(&link.host_ifindex) {
            return Err(Missing::Taken(link));
        }
        let size = config.maps.veths;
        if state.veths.len() as u64 >= u64::from(size) {
            return Err(Missing::Number(Full::Veths { size }));
        }
        let number = identities.endpoint(&self.served.name, face, &config.maps);
        Ok((link, number.map_err(Missing::Number)?))
    }

    fn put(&mut self, link: &Link, number: Numbered, config: &Config, state: &mut State) {
        self.id = number.id;
        self.generation = number.generation;
        self.state = self.served.member_state();
        state.endpoints.insert(self.id, self.endpoint(link));
        state
            .veths
            .insert(link.host_ifindex, self.veth(link, config));
        state.attached.insert((Role::Endpoint, link.host_ifindex));
    }

    fn endpoint(&self, link: &Link) -> Endpoint {
        let state = match self.state {
            MemberState::Active => EndpointState::Active,
            MemberState::Draining => EndpointState::Draining,
            MemberState::Down => EndpointState::Down,
        };
        Endpoint {
            v4: addr(self.served.attachment.v4),
            v6: addr(self.served.attachment.v6),
            ifindex: link.host_ifindex,
            generation: self.generation,
            mac: Mac::new(link.mac),
            zone: self.zone,
            state: state as u8,
            ..Endpoint::default()
        }
    }

    fn veth(&self, link: &Link, config: &Config) -> Veth {
        let network = config.network(&self.served.network.name);
        let flags = match network
            .anti_spoofing
            .unwrap_or(config.anti_spoofing.enabled)
        {
            true => VethFlags::ANTI_SPOOFING,
            false => 0,
        };
        Veth {
            v4: addr(self.served.attachment.v4),
            v6: addr(self.served.attachment.v6),
            link_local: addr(link.link_local),
            endpoint: self.id,
            generation: self.generation,
            mac: Mac::new(link.mac),
            zone: self.zone,
            flags,
            _pad: 0,
        }
    }

    /// A container that is about to start, or has just stopped, has no interface: that is as it
    /// should be.
    fn notice(&self, missing: Missing<'_>) -> Option<Notice> {
        let running = self.served.container.state == RunState::Running;
        let network = &self.served.network.name;
        let message = match missing {
            // Told about the Network.
            Missing::Zone => return None,
            Missing::Link if !running => return None,
            Missing::Link => {
                format!("its interface on network {network} was not found: it gets no connections")
            }
            Missing::Taken(link) => format!(
                "its interface {} on network {network} also belongs to another container: it gets \
                 no connections until the next look shows whose it is",
                link.host_name
            ),
            Missing::Number(full) => format!("not served on network {network}: {full}"),
        };
        Some(Notice {
            subject: format!("container {}", self.served.container.name),
            message,
        })
    }
}

impl Served<'_> {
    /// From 0 to 1,000.
    pub(super) fn weight(&self) -> u16 {
        self.labels.weight.unwrap_or(1)
    }

    fn member_state(&self) -> MemberState {
        match self.container.state {
            RunState::Stopping => MemberState::Draining,
            _ if self.weight() == 0 => MemberState::Draining,
            RunState::Starting | RunState::Running | RunState::Paused => MemberState::Active,
        }
    }
}

fn addr<A: Into<Addr>>(address: Option<A>) -> Addr {
    address.map_or(Addr::NONE, Into::into)
}
