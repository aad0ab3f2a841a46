//! The maps and links as a [`State`], and the writes that change it.

use std::collections::BTreeMap;
use std::sync::atomic::{Ordering, fence};

use lb_common::{
    Cells as Four, Endpoint, EndpointId, EndpointState, Frontend, Local, Network, RuleCounters,
    Slot,
};

use super::error::DatapathError;
use super::hooks::Hooks;
use super::maps::Maps;
use super::programs::Programs;
use crate::reconcile::{Cells, Fact, Place, Run, State, Step};

/// What the maps hold and where programs are attached.
pub(super) fn actual(maps: &Maps, hooks: &Hooks<'_>) -> Result<State, DatapathError> {
    let frontends: BTreeMap<_, _> = maps.frontends.entries()?.into_iter().collect();
    Ok(State {
        settings: maps.settings.get(0)?,
        facts: facts(maps)?,
        veths: maps.veths.entries()?.into_iter().collect(),
        endpoints: endpoints(maps),
        slots: tables(maps, frontends.values()),
        frontends,
        cells: cells(maps),
        attached: hooks.attached()?,
    })
}

fn facts(maps: &Maps) -> Result<BTreeMap<Place, Fact>, DatapathError> {
    let mut facts = Vec::new();
    for number in 1..maps.rule_counters.len() {
        let identity = maps.count_rule(number)?.identity;
        if identity != 0 {
            facts.push(Fact::Rule(number as u16, identity));
        }
    }
    facts.extend(
        maps.sources
            .entries()?
            .into_iter()
            .map(|(k, v)| Fact::Source(k, v)),
    );
    for zone in 1..maps.networks.len() {
        let network = maps.networks.get(zone)?;
        if network != Network::default() {
            facts.push(Fact::Network(zone as u16, network));
        }
    }
    facts.extend(
        maps.subnets
            .entries()?
            .into_iter()
            .map(|(k, v)| Fact::Subnet(k, v)),
    );
    facts.extend(
        maps.interfaces
            .entries()?
            .into_iter()
            .map(|(k, v)| Fact::Interface(k, v)),
    );
    facts.extend(
        maps.locals
            .entries()?
            .into_iter()
            .map(|(k, _)| Fact::Local(k)),
    );
    facts.extend(
        maps.open_ports
            .entries()?
            .into_iter()
            .map(|(k, _)| Fact::OpenPort(k)),
    );
    facts.extend(
        maps.links
            .entries()?
            .into_iter()
            .map(|(k, _)| Fact::Link(k)),
    );
    Ok(facts.into_iter().map(|fact| (fact.place(), fact)).collect())
}

/// The ports of each protocol, those of one cell that follow each other together.
fn cells(maps: &Maps) -> Cells {
    let mut cells = Cells::default();
    for protocol in [6, 17] {
        let mut open: Option<Run> = None;
        for port in 0..=u16::MAX {
            let four = Four::index(protocol, port).and_then(|index| maps.ports.get(index));
            let cell = four.unwrap_or_default().get(port);
            match &mut open {
                Some(run) if run.cell == cell => run.last = port,
                _ => {
                    open.take().into_iter().for_each(|run| cells.put(run));
                    open = (cell != 0).then_some(Run {
                        protocol,
                        first: port,
                        last: port,
                        cell,
                    });
                }
            }
        }
        open.into_iter().for_each(|run| cells.put(run));
    }
    cells
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
    hooks: &Hooks<'_>,
    programs: &Programs,
    step: &Step,
) -> Result<(), DatapathError> {
    match step {
        Step::PutSettings(settings) => maps.settings.put(0, settings),
        Step::PutEndpoint(id, endpoint) => put_endpoint(maps, *id, endpoint),
        Step::RetireEndpoint(id, endpoint) => maps.endpoints.put(*id, *endpoint),
        Step::PutVeth(ifindex, veth) => maps.veths.put(*ifindex, veth),
        Step::RemoveVeth(ifindex) => maps.veths.remove(*ifindex),
        Step::PutFact(fact) => put_fact(maps, fact),
        Step::RemoveFact(place) => remove_fact(maps, place),
        Step::PutPorts(run) => put_ports(maps, run),
        Step::Attach(role, ifindex) => hooks.attach(*role, *ifindex, programs),
        Step::Detach(role, ifindex) => hooks.detach(*role, *ifindex).map(drop),
        Step::PutSlots { first, slots } => put_slots(maps, *first, slots),
        // Who reads the map now may still follow the old range, so it is left as it is.
        Step::ReleaseSlots { first: _ } => Ok(()),
        Step::PutFrontend(key, frontend) => maps.frontends.put(key, frontend),
        Step::RemoveFrontend(key) => maps.frontends.remove(key).map(drop),
    }
}

fn put_fact(maps: &Maps, fact: &Fact) -> Result<(), DatapathError> {
    match fact {
        Fact::Rule(number, identity) => put_rule(maps, *number, *identity),
        Fact::Source(key, source) => maps.sources.put(key, source),
        Fact::Network(zone, network) => maps.networks.put(u32::from(*zone), network),
        Fact::Subnet(key, subnet) => maps.subnets.put(key, subnet),
        Fact::Interface(ifindex, interface) => maps.interfaces.put(ifindex, interface),
        Fact::Local(address) => maps.locals.put(address, &Local::default()),
        Fact::OpenPort(port) => maps.open_ports.put(port, &0),
        Fact::Link(link) => maps.links.put(link, &0),
    }
}

fn remove_fact(maps: &Maps, place: &Place) -> Result<(), DatapathError> {
    match place {
        Place::Rule(number) => put_rule(maps, *number, 0),
        Place::Source(key) => maps.sources.remove(key).map(drop),
        Place::Network(zone) => maps.networks.put(u32::from(*zone), &Network::default()),
        Place::Subnet(key) => maps.subnets.remove(key).map(drop),
        Place::Interface(ifindex) => maps.interfaces.remove(ifindex).map(drop),
        Place::Local(address) => maps.locals.remove(address).map(drop),
        Place::OpenPort(port) => maps.open_ports.remove(port).map(drop),
        Place::Link(link) => maps.links.remove(link).map(drop),
    }
}

/// Has a counter begin anew.
fn put_rule(maps: &Maps, number: u16, identity: u64) -> Result<(), DatapathError> {
    let fresh = RuleCounters {
        identity,
        ..RuleCounters::default()
    };
    maps.rule_counters.put_all(u32::from(number), &fresh)
}

fn put_ports(maps: &Maps, run: &Run) -> Result<(), DatapathError> {
    // A Frontend must not be seen later than the ports that lead to it.
    fence(Ordering::Release);
    for port in run.first..=run.last {
        if let Some(index) = Four::index(run.protocol, port) {
            let four = maps.ports.get(index).unwrap_or_default();
            maps.ports.put(index, four.with(port, run.cell))?;
        }
    }
    Ok(())
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
