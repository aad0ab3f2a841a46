//! From Actual to Desired: the writes and their order.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{Endpoint, EndpointState, Frontend, FrontendKey, Slot};

use super::{Role, State, Step};

/// Returns the writes that turn `actual` into `desired`, in a safe order.
///
/// Guards come first and go last, and what is reachable from outside comes last and goes first.
/// Safe means: stopping after any Step leaves nothing that points at something missing (see
/// [`super::dangling`]) if both states are free of that. Things are therefore written before what
/// points at them, and removed after it. An Endpoint that is no longer wanted is not removed but
/// retired: down, of the next generation, so that what is pinned to it is void.
///
/// `desired` must not give a table a range that `actual` still publishes for another one; where it
/// does, the Frontend concerned refuses new Connections until its new table is written.
pub fn plan(actual: &State, desired: &State) -> Vec<Step> {
    let mut steps = Vec::new();
    if actual.settings != desired.settings {
        steps.push(Step::PutSettings(desired.settings));
    }
    let facts = changed(&actual.facts, &desired.facts);
    steps.extend(facts.map(|(_, fact)| Step::PutFact(*fact)));
    let attach = |role: Role, steps: &mut Vec<Step>| {
        let missing = desired.attached.difference(&actual.attached);
        let missing = missing.filter(|(other, _)| *other == role);
        steps.extend(missing.map(|(role, ifindex)| Step::Attach(*role, *ifindex)));
    };
    attach(Role::Bridge, &mut steps);
    let endpoints = changed(&actual.endpoints, &desired.endpoints);
    steps.extend(endpoints.map(|(id, endpoint)| Step::PutEndpoint(*id, *endpoint)));
    let veths = changed(&actual.veths, &desired.veths);
    steps.extend(veths.map(|(ifindex, veth)| Step::PutVeth(*ifindex, *veth)));
    attach(Role::Endpoint, &mut steps);

    publish(actual, desired, &mut steps);
    attach(Role::Uplink, &mut steps);
    attach(Role::BareUplink, &mut steps);
    attach(Role::Loopback, &mut steps);

    let detach = |role: Role, steps: &mut Vec<Step>| {
        let needless = actual.attached.difference(&desired.attached);
        let needless = needless.filter(|(other, _)| *other == role);
        steps.extend(needless.map(|(role, ifindex)| Step::Detach(*role, *ifindex)));
    };
    detach(Role::Loopback, &mut steps);
    detach(Role::Uplink, &mut steps);
    detach(Role::BareUplink, &mut steps);
    detach(Role::Endpoint, &mut steps);
    let veths = gone(&actual.veths, &desired.veths);
    steps.extend(veths.map(|(ifindex, _)| Step::RemoveVeth(*ifindex)));
    let endpoints = gone(&actual.endpoints, &desired.endpoints).filter(|(_, e)| e.is_up());
    steps.extend(endpoints.map(|(id, endpoint)| Step::RetireEndpoint(*id, retired(endpoint))));
    detach(Role::Bridge, &mut steps);
    let facts: Vec<_> = gone(&actual.facts, &desired.facts).collect();
    steps.extend(
        facts
            .iter()
            .rev()
            .map(|(place, _)| Step::RemoveFact(**place)),
    );
    steps
}

/// New tables, then the Frontends that point at them, then what is left over.
fn publish(actual: &State, desired: &State, steps: &mut Vec<Step>) {
    let written: Vec<_> = changed(&actual.slots, &desired.slots).collect();
    let overwritten = overwritten(actual, &written);
    let withdrawn: BTreeMap<FrontendKey, Frontend> = actual
        .frontends
        .iter()
        .filter(|(_, f)| f.slot_count > 0 && overwritten.contains(&f.first_slot))
        .map(|(key, frontend)| (*key, without_slots(frontend)))
        .collect();
    for (key, frontend) in &withdrawn {
        steps.push(Step::PutFrontend(*key, *frontend));
    }
    steps.extend(written.iter().map(|(first, slots)| Step::PutSlots {
        first: **first,
        slots: slots.to_vec(),
    }));
    for (key, frontend) in &desired.frontends {
        let present = withdrawn.get(key).or_else(|| actual.frontends.get(key));
        if present != Some(frontend) {
            steps.push(Step::PutFrontend(*key, *frontend));
        }
    }
    let runs = actual.cells.difference(&desired.cells);
    steps.extend(runs.into_iter().map(Step::PutPorts));
    let frontends = gone(&actual.frontends, &desired.frontends);
    steps.extend(frontends.map(|(key, _)| Step::RemoveFrontend(*key)));
    let slots = gone(&actual.slots, &desired.slots);
    let slots = slots.filter(|(first, _)| !overwritten.contains(first));
    steps.extend(slots.map(|(first, _)| Step::ReleaseSlots { first: *first }));
}

/// First indexes of the tables in `actual` that writing `written` destroys.
fn overwritten(actual: &State, written: &[(&u32, &Vec<Slot>)]) -> BTreeSet<u32> {
    let tables = written
        .iter()
        .flat_map(|(first, slots)| actual.tables_within(**first, slots.len()));
    tables.collect()
}

fn without_slots(frontend: &Frontend) -> Frontend {
    Frontend {
        first_slot: 0,
        slot_count: 0,
        ..*frontend
    }
}

fn retired(endpoint: &Endpoint) -> Endpoint {
    Endpoint {
        state: EndpointState::Down as u8,
        generation: endpoint.generation.wrapping_add(1),
        ..*endpoint
    }
}

/// What is in `desired` and not, or otherwise, in `actual`.
fn changed<'a, K: Ord, V: PartialEq>(
    actual: &'a BTreeMap<K, V>,
    desired: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    desired
        .iter()
        .filter(|(key, value)| actual.get(key) != Some(value))
}

/// What is in `actual` and not in `desired`.
fn gone<'a, K: Ord, V>(
    actual: &'a BTreeMap<K, V>,
    desired: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    actual.iter().filter(|(key, _)| !desired.contains_key(key))
}

#[cfg(test)]
mod tests;
