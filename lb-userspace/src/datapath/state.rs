//! The maps and links as a [`State`], and the writes that change it.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{Ordering, fence};

use lb_common::{Endpoint, EndpointId, EndpointState, Frontend, Slot};

use super::error::DatapathError;
use super::maps::Maps;
use super::veths::Veths;
use crate::reconcile::{State, Step};

/// What the maps hold and where `endpoint_in` is attached.
pub(super) fn actual(maps: &Maps, veths: &Veths<'_>) -> Result<State, DatapathError> {
    let frontends: BTreeMap<_, _> = maps.frontends.entries()?.into_iter().collect();
    Ok(State {
        settings: maps.settings.get(0)?,
        veths: maps.veths.entries()?.into_iter().collect(),
        endpoints: endpoints(maps),
        slots: tables(maps, frontends.values()),
        frontends,
        attached: veths.attached()?,
    })
}

/// Every Endpoint whose id was ever used, those that are down as well.
fn endpoints(maps: &Maps) -> BTreeMap<EndpointId, Endpoint> {
    (1..maps.endpoints.len())
        .filter_map(|id| Some((id, maps.endpoints.get(id)?)))
        .filter(|(_, endpoint)| endpoint.generation > 0)
        .collect()
}

/// The tables that Frontends point at, by their first index.
fn tables<'a>(
    maps: &Maps,
    frontends: impl Iterator<Item = &'a Frontend>,
) -> BTreeMap<u32, Vec<Slot>> {
    let table = |frontend: &Frontend| {
        let end = frontend.first_slot.saturating_add(frontend.slot_count);
        let slots = (frontend.first_slot..end).map_while(|index| maps.slots.get(index));
        (frontend.first_slot, slots.collect())
    };
    frontends.filter(|f| f.slot_count > 0).map(table).collect()
}

/// Carries out one Step. Carrying it out again changes nothing.
pub(super) fn apply(
    maps: &Maps,
    veths: &Veths<'_>,
    endpoint_in: BorrowedFd<'_>,
    step: &Step,
) -> Result<(), DatapathError> {
    match step {
        Step::PutSettings(settings) => maps.settings.put(0, settings),
        Step::PutEndpoint(id, endpoint) => put_endpoint(maps, *id, endpoint),
        Step::RetireEndpoint(id, endpoint) => maps.endpoints.put(*id, *endpoint),
        Step::PutVeth(ifindex, veth) => maps.veths.put(ifindex, veth),
        Step::RemoveVeth(ifindex) => maps.veths.remove(ifindex).map(drop),
        Step::Attach(ifindex) => veths.attach(*ifindex, endpoint_in),
        Step::Detach(ifindex) => veths.detach(*ifindex).map(drop),
        Step::PutSlots { first, slots } => put_slots(maps, *first, slots),
        // Who reads the map now may still follow the old range, so it is left as it is.
        Step::ReleaseSlots { first: _ } => Ok(()),
        Step::PutFrontend(key, frontend) => maps.frontends.put(key, frontend),
        Step::RemoveFrontend(key) => maps.frontends.remove(key).map(drop),
    }
}

fn put_slots(maps: &Maps, first: u32, slots: &[Slot]) -> Result<(), DatapathError> {
    for (index, slot) in (first..=u32::MAX).zip(slots) {
        maps.slots.put(index, *slot)?;
    }
    // Whatever publishes the range must not be seen before it.
    fence(Ordering::Release);
    Ok(())
}

/// Writes the whole line before the one byte that makes it count, unless it counts already.
fn put_endpoint(maps: &Maps, id: EndpointId, endpoint: &Endpoint) -> Result<(), DatapathError> {
    let counts = maps.endpoints.get(id).is_some_and(|now| now.is_up());
    if !counts {
        let down = EndpointState::Down as u8;
        maps.endpoints.put(
            id,
            Endpoint {
                state: down,
                ..*endpoint
            },
        )?;
        fence(Ordering::Release);
    }
    maps.endpoints.put(id, *endpoint)
}
