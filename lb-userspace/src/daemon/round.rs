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
use crate::reconcile::{Desired, ServedEndpoint, State, Step};

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

/// `observed` without the networks that have no names.
pub(super) fn with_names(observed: &Observed) -> Cow<'_, Observed> {
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
        Step::PutEndpoint(id, _) | Step::RetireEndpoint(id, _) => attachment(*id, desired),
        Step::PutVeth(_, veth) => attachment(veth.endpoint, desired),
        Step::Attach(ifindex) | Step::Detach(ifindex) | Step::RemoveVeth(ifindex) => {
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
        Step::PutEndpoint(..) | Step::PutVeth(..) | Step::Attach(_) => true,
        Step::PutSettings(_)
        | Step::PutSlots { .. }
        | Step::PutFrontend(..)
        | Step::RemoveFrontend(_)
        | Step::ReleaseSlots { .. }
        | Step::Detach(_)
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
    /// Interfaces that the program is still attached to.
    attached: BTreeSet<u32>,
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
            }
            Step::Detach(ifindex) => {
                self.attached.insert(*ifindex);
            }
            Step::PutSettings(_)
            | Step::PutEndpoint(..)
            | Step::PutVeth(..)
            | Step::Attach(_)
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
                frontend.slot_count > 0 && self.unwritten.contains(&frontend.first_slot)
            }
            Step::ReleaseSlots { first } => self.published.contains(first),
            Step::RemoveVeth(ifindex) => self.attached.contains(ifindex),
            Step::PutSettings(_)
            | Step::PutEndpoint(..)
            | Step::PutVeth(..)
            | Step::Attach(_)
            | Step::PutSlots { .. }
            | Step::RemoveFrontend(_)
            | Step::Detach(_)
            | Step::RetireEndpoint(..) => false,
        }
    }
}

#[cfg(test)]
mod tests;
