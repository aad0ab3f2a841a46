//! What a failed Step means for the others. Pure.
//!
//! A Step about an attachment takes that attachment out of the observation, and the Plan is made
//! again without it ([`without`]). A Step about a Frontend leaves the Frontend as it was, and with it
//! what it points at ([`Blocked`]). Everything else goes on.

use std::borrow::Cow;
use std::collections::BTreeSet;

use lb_common::{EndpointId, FrontendKey};

use super::failures::Subject;
use crate::model::{Group, Observed};
use crate::reconcile::{Desired, Fact, Place, ServedEndpoint, State, Step};

/// `observed` as if the interfaces of the attachments among `subjects` were not there yet.
pub(super) fn without<'a>(
    observed: &Observed,
    subjects: impl Iterator<Item = &'a Subject>,
) -> Option<Observed> {
    let mut changed: Option<Observed> = None;
    for subject in subjects {
        let Subject::Attachment {
            container, network, ..
        } = subject
        else {
            continue;
        };
        let observed = changed.get_or_insert_with(|| observed.clone());
        let mut attachments = observed
            .containers
            .iter_mut()
            .filter(|candidate| candidate.id == *container)
            .flat_map(|container| &mut container.attachments);
        if let Some(found) = attachments.find(|attachment| attachment.network == *network) {
            found.link = None;
        }
    }
    changed
}

/// `observed` without the networks that have no names; `all`: the default bridge has some too.
pub(super) fn with_names(observed: &Observed, all: bool) -> Cow<'_, Observed> {
    if all {
        return Cow::Borrowed(observed);
    }
    let nameless = observed.networks.iter();
    let nameless = nameless.filter(|network| network.policy.is_default_bridge);
    let nameless: BTreeSet<_> = nameless.map(|network| network.id.clone()).collect();
    if nameless.is_empty() {
        return Cow::Borrowed(observed);
    }
    let mut named = observed.clone();
    named
        .networks
        .retain(|network| !nameless.contains(&network.id));
    for container in &mut named.containers {
        let attachments = &mut container.attachments;
        attachments.retain(|attachment| !nameless.contains(&attachment.network));
    }
    named
        .containers
        .retain(|container| !container.attachments.is_empty());
    Cow::Owned(named)
}

/// What `step` concerns.
pub(super) fn subject(step: &Step, actual: &State, desired: &Desired) -> Subject {
    match step {
        Step::PutSettings(_) => Subject::Settings,
        Step::PutFact(fact) => Subject::Host(fact.place().to_string()),
        Step::RemoveFact(place) => Subject::Host(place.to_string()),
        Step::PutPorts(run) => Subject::Frontend(format!("port {}", run.first)),
        Step::Attach(role, ifindex) | Step::Detach(role, ifindex) if role.is_of_host() => {
            Subject::Host(format!("{} {ifindex}", role.name()))
        }
        Step::PutEndpoint(id, _) | Step::RetireEndpoint(id, _) => attachment(*id, desired),
        Step::PutVeth(_, veth) => attachment(veth.endpoint, desired),
        Step::Attach(_, ifindex) | Step::Detach(_, ifindex) | Step::RemoveVeth(ifindex) => {
            let veths = [&desired.state.veths, &actual.veths];
            let veth = veths.into_iter().find_map(|veths| veths.get(ifindex));
            attachment(veth.map_or(0, |veth| veth.endpoint), desired)
        }
        Step::PutSlots { first, .. } | Step::ReleaseSlots { first } => {
            let states = [&desired.state, actual];
            let key = states.into_iter().find_map(|state| owner(state, *first));
            key.map_or(Subject::Settings, |key| frontend(key, desired))
        }
        Step::PutFrontend(key, _) | Step::RemoveFrontend(key) => frontend(key, desired),
    }
}

/// The Frontend whose table begins at `first`.
fn owner(state: &State, first: u32) -> Option<&FrontendKey> {
    let mut frontends = state.frontends.iter();
    let found = frontends.find(|(_, f)| f.slot_count > 0 && f.first_slot == first);
    found.map(|(key, _)| key)
}

fn attachment(id: EndpointId, desired: &Desired) -> Subject {
    match desired.endpoints.iter().find(|endpoint| endpoint.id == id) {
        Some(endpoint) => attachment_of(endpoint),
        // Nobody's any longer: it is on its way out.
        None => Subject::Attachment {
            container: crate::model::ContainerId(String::new()),
            network: crate::model::NetworkId(String::new()),
            name: format!("that had endpoint {id}"),
        },
    }
}

fn attachment_of(endpoint: &ServedEndpoint) -> Subject {
    Subject::Attachment {
        container: endpoint.container.clone(),
        network: endpoint.network.clone(),
        name: endpoint.container_name.clone(),
    }
}

fn frontend(key: &FrontendKey, desired: &Desired) -> Subject {
    let group = desired.groups.iter().find(|group| has_vip(group, key));
    let name = group.map_or_else(|| key.address.to_string(), Group::name);
    Subject::Frontend(name)
}

fn has_vip(group: &Group, key: &FrontendKey) -> bool {
    let mut vips = group
        .vip_v4
        .map(Into::into)
        .into_iter()
        .chain(group.vip_v6.map(Into::into));
    group.zone == key.zone && vips.any(|vip: lb_common::Addr| vip == key.address)
}

/// Whether the failure of `step` is one of an attachment that is being put in: then the rest of the
/// Plan stands on something that is not there.
pub(super) fn needs_another_plan(step: &Step) -> bool {
    match step {
        Step::PutEndpoint(..) | Step::PutVeth(..) => true,
        Step::Attach(role, _) => !role.is_of_host(),
        Step::PutSettings(_)
        | Step::PutFact(_)
        | Step::RemoveFact(_)
        | Step::PutPorts(_)
        | Step::PutSlots { .. }
        | Step::PutFrontend(..)
        | Step::RemoveFrontend(_)
        | Step::ReleaseSlots { .. }
        | Step::Detach(..)
        | Step::RemoveVeth(_)
        | Step::RetireEndpoint(..) => false,
    }
}

/// What must not be done after a failure, for the rest of one Plan.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    /// Tables that were not written.
    unwritten: BTreeSet<u32>,
    /// Tables that are still pointed at.
    published: BTreeSet<u32>,
    /// Interfaces that a program is still attached to.
    attached: BTreeSet<u32>,
    /// Interfaces that nothing describes.
    unknown: BTreeSet<u32>,
    /// Lists of clients that are not wholly written.
    lists: BTreeSet<u32>,
    /// Cells, by protocol and first port, that a Frontend is missing for.
    unpublished: BTreeSet<(u8, u16)>,
    /// Cells that some port may still belong to, and so on for lists.
    kept_cells: BTreeSet<(u8, u16)>,
    kept_lists: BTreeSet<u32>,
}

impl Blocked {
    /// Notes that `step` was not carried out. `actual` is the state without it.
    pub(super) fn add(&mut self, step: &Step, actual: &State) {
        match step {
            Step::PutSlots { first, .. } => {
                self.unwritten.insert(*first);
            }
            Step::PutFrontend(key, _) | Step::RemoveFrontend(key) => {
                let kept = actual.frontends.get(key);
                self.published.extend(kept.map(|frontend| frontend.first_slot));
                self.kept_lists.extend(kept.map(|frontend| frontend.sources));
                if kept.is_none() {
                    self.unpublished.insert((key.protocol, key.port.get()));
                }
            }
            Step::Detach(_, ifindex) => {
                self.attached.insert(*ifindex);
            }
            Step::PutFact(Fact::Interface(ifindex, _)) => {
                self.unknown.insert(*ifindex);
            }
            Step::PutFact(Fact::Source(key, _)) => {
                self.lists.insert(key.list);
            }
            Step::PutPorts(run) => {
                let before = (run.first..=run.last).map(|port| actual.cells.cell(run.protocol, port));
                let before = before.map(|cell| (run.protocol, cell));
                self.kept_cells.extend(before);
            }
            Step::PutSettings(_)
            | Step::PutFact(_)
            | Step::RemoveFact(_)
            | Step::PutEndpoint(..)
            | Step::PutVeth(..)
            | Step::Attach(..)
            | Step::ReleaseSlots { .. }
            | Step::RemoveVeth(_)
            // A Backend that is gone is void even if a table still names it.
            | Step::RetireEndpoint(..) => {}
        }
    }

    /// Whether `step` would leave something dangling.
    pub(super) fn has(&self, step: &Step) -> bool {
        match step {
            Step::PutFrontend(_, frontend) => {
                (frontend.slot_count > 0 && self.unwritten.contains(&frontend.first_slot))
                    || self.lists.contains(&frontend.sources)
            }
            Step::PutPorts(run) => self.unpublished.contains(&(run.protocol, run.cell)),
            Step::RemoveFrontend(key) => {
                key.zone == 0 && self.kept_cells.contains(&(key.protocol, key.port.get()))
            }
            Step::Attach(role, ifindex) if role.is_of_host() => self.unknown.contains(ifindex),
            Step::RemoveFact(Place::Interface(ifindex)) => self.attached.contains(ifindex),
            Step::RemoveFact(Place::Source(key)) => self.kept_lists.contains(&key.list),
            Step::ReleaseSlots { first } => self.published.contains(first),
            Step::RemoveVeth(ifindex) => self.attached.contains(ifindex),
            Step::PutSettings(_)
            | Step::PutFact(_)
            | Step::RemoveFact(_)
            | Step::PutEndpoint(..)
            | Step::PutVeth(..)
            | Step::Attach(..)
            | Step::PutSlots { .. }
            | Step::Detach(..)
            | Step::RetireEndpoint(..) => false,
        }
    }
}

#[cfg(test)]
mod tests;
