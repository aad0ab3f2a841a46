//! Groups: who is in them, how they are balanced, and what is published for them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::{Addr, Frontend, FrontendKey, Port, Slot, Zone};

use super::endpoints::Placed;
use super::{Served, policy};
use crate::config::Config;
use crate::model::{EndpointMode, Group, Member, Network, Notice, Policy};
use crate::reconcile::desired::Desired;
use crate::reconcile::identities::{Families, Full, Identities};
use crate::reconcile::tables::Candidate;

/// A Group before anything has a number.
pub(super) struct Draft<'a> {
    pub network: &'a Network,
    pub alias: String,
    pub policy: Policy,
    /// Indexes of the Members among all served attachments.
    pub members: Vec<usize>,
}

impl Draft<'_> {
    /// `network/alias`, as in the configuration.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.network.name, self.alias)
    }
}

/// The Groups, by name of the Network, then alias.
pub(super) fn drafts<'a>(
    served: &'a [Served<'a>],
    config: &Config,
    notices: &mut Vec<Notice>,
) -> Vec<Draft<'a>> {
    let mut drafts: BTreeMap<_, Draft<'a>> = BTreeMap::new();
    for (index, served) in served.iter().enumerate() {
        let network = served.network;
        for alias in &served.aliases {
            let draft = drafts.entry((&network.name, &network.id, alias));
            let draft = draft.or_insert_with(|| Draft {
                network,
                alias: alias.clone(),
                policy: Policy::default(),
                members: Vec::new(),
            });
            draft.members.push(index);
        }
    }
    let mut drafts: Vec<_> = drafts.into_values().collect();
    for draft in &mut drafts {
        draft.policy = policy::policy(draft, served, config, notices);
        policy::note_idle_weights(draft, served, notices);
    }
    drafts
}

/// Gives the Groups their VIPs, Frontends and tables. Returns the ids of the Frontends that have a
/// table.
pub(super) fn publish(
    drafts: &[Draft<'_>],
    placed: &[Placed<'_>],
    config: &Config,
    identities: &mut Identities,
    desired: &mut Desired,
) -> BTreeSet<u32> {
    let mut publisher = Publisher {
        config,
        identities,
        desired,
        tables: BTreeSet::new(),
    };
    for draft in drafts {
        let members = draft.members.iter().filter_map(|index| placed.get(*index));
        let members: Vec<&Placed<'_>> = members.collect();
        // Without a zone, the Network could not be given a number.
        if let Some(zone) = members
            .first()
            .map(|placed| placed.zone)
            .filter(|z| *z != 0)
        {
            publisher.publish(draft.group(zone, &members));
        }
    }
    publisher.tables
}

impl Draft<'_> {
    fn group(&self, zone: Zone, members: &[&Placed<'_>]) -> Group {
        let member = |placed: &&Placed<'_>| Member {
            container: placed.served.container.id.clone(),
            name: placed.served.container.name.clone(),
            endpoint: placed.id,
            v4: placed.served.attachment.v4,
            v6: placed.served.attachment.v6,
            weight: placed.served.weight(),
            state: placed.state,
        };
        Group {
            network: self.network.id.clone(),
            network_name: self.network.name.clone(),
            zone,
            alias: self.alias.clone(),
            policy: self.policy,
            vip_v4: None,
            vip_v6: None,
            frontend_v4: None,
            frontend_v6: None,
            members: members.iter().map(member).collect(),
        }
    }
}

struct Publisher<'a> {
    config: &'a Config,
    identities: &'a mut Identities,
    desired: &'a mut Desired,
    /// Ids of the Frontends that have a table.
    tables: BTreeSet<u32>,
}

impl Publisher<'_> {
    fn publish(&mut self, mut group: Group) {
        let published = match group.policy.endpoint_mode {
            EndpointMode::Vip => self.give_vips(&mut group),
            EndpointMode::Dnsrr => Ok(()),
        };
        if let Err(full) = published {
            self.tell(&group, full);
        }
        self.desired.groups.push(group);
    }

    fn give_vips(&mut self, group: &mut Group) -> Result<(), Full> {
        let families = Families {
            v4: group.members.iter().any(|member| member.v4.is_some()),
            v6: group.members.iter().any(|member| member.v6.is_some()),
        };
        let vips = self.config.vips;
        let (network, alias) = (&group.network, &group.alias);
        let numbers = self.identities.vip(network, alias, families, self.config)?;
        if let Some(id) = numbers.v4 {
            let address = vips.v4(numbers.index);
            self.put_frontend(group, id, address.into(), |m| m.v4.is_some());
            (group.vip_v4, group.frontend_v4) = (Some(address), Some(id));
        }
        if let Some(id) = numbers.v6 {
            let address = vips.v6(numbers.index);
            self.put_frontend(group, id, address.into(), |m| m.v6.is_some());
            (group.vip_v6, group.frontend_v6) = (Some(address), Some(id));
        }
        Ok(())
    }

    /// Publishes a VIP over the Members that have an address of its family. A Group without any
    /// that is active keeps its Frontend: clients are then refused at once.
    fn put_frontend(
        &mut self,
        group: &Group,
        id: u32,
        vip: IpAddr,
        in_family: impl Fn(&Member) -> bool,
    ) {
        let candidates = group.active().filter(|member| in_family(member));
        let candidates: Vec<Candidate<'_>> = candidates.map(Member::candidate).collect();
        let algorithm = group.policy.algorithm;
        let maps = &self.config.maps;
        let table = self.identities.table(id, algorithm, &candidates, maps);
        let (first_slot, slot_count) = match table {
            Ok((first, slots)) => (first, self.put_slots(id, first, slots)),
            Err(full) => {
                self.tell(group, full);
                (0, 0)
            }
        };
        let frontend = Frontend {
            id,
            first_slot,
            slot_count,
            affinity: group.policy.affinity,
            algorithm: algorithm as u8,
            ..Frontend::default()
        };
        let key = FrontendKey::vip(Addr::from(vip), group.zone);
        self.desired.state.frontends.insert(key, frontend);
    }

    /// Returns how many slots there are. An empty table has no place.
    fn put_slots(&mut self, frontend: u32, first: u32, slots: Vec<Slot>) -> u32 {
        let count = slots.len() as u32;
        if count > 0 {
            self.tables.insert(frontend);
            self.desired.state.slots.insert(first, slots);
        }
        count
    }

    fn tell(&mut self, group: &Group, full: Full) {
        self.desired.notices.push(Notice {
            subject: format!("group {}", group.name()),
            message: format!("not balanced: {full}"),
        });
    }
}

impl Member {
    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            key: &self.container.0,
            endpoint: self.endpoint,
            port: Port::NONE,
            weight: self.weight,
        }
    }
}
