//! Published ports: who is reached at which address and port of the host.

mod offers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::{Frontend, FrontendKey, Port};

use self::offers::{Offer, offers};
use super::endpoints::Placed;
use super::groups::Draft;
use super::sources::{Asked, Rules};
use crate::config::{Config, FirewallRule};
use crate::model::{Notice, Observed, Protocol};
use crate::reconcile::Fact;
use crate::reconcile::cells::Run;
use crate::reconcile::desired::{Desired, ServedPorts, ServedRule};
use crate::reconcile::identities::{Full, Identities};

/// What comes of publishing besides the state.
#[derive(Debug)]
pub(super) struct Published {
    /// Ids of the Frontends that have a table.
    pub tables: BTreeSet<u32>,
    /// Ports of the host that nobody holds: first and last.
    pub unheld: BTreeSet<(u16, u16)>,
}

/// Puts every published port into the state.
pub(super) fn publish(
    observed: &Observed,
    drafts: &[Draft<'_>],
    placed: &[Placed<'_>],
    config: &Config,
    identities: &mut Identities,
    desired: &mut Desired,
) -> Published {
    let offers = offers(observed, drafts, placed, config, &mut desired.notices);
    let offers = apart(offers, &mut desired.notices);
    let numbers = number(&config.firewall, identities, desired);
    let mut publisher = Publisher {
        config,
        identities,
        desired,
        rules: Rules::new(&config.firewall, numbers),
        tables: BTreeSet::new(),
        names: BTreeSet::new(),
    };
    let served: Vec<_> = offers
        .iter()
        .filter_map(|offer| publisher.serve(offer))
        .collect();
    for protocol in Protocol::ALL {
        let own: Vec<_> = served
            .iter()
            .filter(|(offer, _)| offer.protocol == protocol)
            .collect();
        match protocol {
            Protocol::Tcp | Protocol::Udp => publisher.put_cells(protocol, &own),
            Protocol::Sctp => publisher.put_single_ports(&own),
        }
    }
    let Publisher { tables, names, .. } = publisher;
    identities.end_published(&names);
    let unheld = offers.iter().filter(|offer| !offer.is_held);
    let unheld = unheld.map(|offer| (offer.first, offer.last)).collect();
    Published { tables, unheld }
}

/// Gives each rule its counter, which it keeps as long as it is there, wherever it stands.
fn number(
    firewall: &[FirewallRule],
    identities: &mut Identities,
    desired: &mut Desired,
) -> Vec<u16> {
    let numbered = identities.rules(firewall);
    for (rule, (number, identity)) in firewall.iter().zip(&numbered) {
        let (rule, number) = (rule.clone(), *number);
        desired.firewall.push(ServedRule { rule, number });
        if number != 0 {
            let fact = Fact::Rule(number, *identity);
            desired.state.facts.insert(fact.place(), fact);
        }
    }
    numbered.into_iter().map(|(number, _)| number).collect()
}

/// The offers of which no two have a port of the same address in common: the first one that has it
/// keeps it.
fn apart<'a>(offers: Vec<Offer<'a>>, notices: &mut Vec<Notice>) -> Vec<Offer<'a>> {
    let mut taken: BTreeMap<(Protocol, IpAddr, u16), (u16, String)> = BTreeMap::new();
    let mut apart = Vec::new();
    for offer in offers {
        let place = |port| (offer.protocol, offer.address, port);
        let mut before = taken.range(place(0)..=place(offer.last));
        let clash = before
            .next_back()
            .filter(|(_, (last, _))| *last >= offer.first);
        if let Some((_, (_, owner))) = clash {
            notices.push(Notice {
                subject: offer.target.clone(),
                message: format!(
                    "not published at {}: {owner} is; choose other ports",
                    offer.place()
                ),
            });
            continue;
        }
        taken.insert(place(offer.first), (offer.last, offer.target.clone()));
        apart.push(offer);
    }
    apart
}

struct Publisher<'a> {
    config: &'a Config,
    identities: &'a mut Identities,
    desired: &'a mut Desired,
    rules: Rules<'a>,
    tables: BTreeSet<u32>,
    /// What the Frontends are known by.
    names: BTreeSet<String>,
}

type Served<'a> = (&'a Offer<'a>, Frontend);

impl<'a> Publisher<'a> {
    /// Gives the offer its Frontend and its table.
    fn serve<'o>(&mut self, offer: &'o Offer<'a>) -> Option<(&'o Offer<'a>, Frontend)> {
        let name = offer.name();
        let id = match self.identities.published(&name, &self.config.maps) {
            Ok(id) => id,
            Err(full) => {
                self.tell(offer, full);
                return None;
            }
        };
        self.names.insert(name);
        let maps = &self.config.maps;
        let table = self
            .identities
            .table(id, offer.algorithm, &offer.candidates, maps);
        let (first_slot, slots) = table.unwrap_or_else(|full| {
            self.tell(offer, full);
            (0, Vec::new())
        });
        let slot_count = slots.len() as u32;
        if slot_count > 0 {
            self.tables.insert(id);
            self.desired.state.slots.insert(first_slot, slots);
        }
        self.desired.ports.push(offer.listed(id));
        let frontend = Frontend {
            id,
            first_slot,
            slot_count,
            affinity: offer.affinity,
            algorithm: offer.algorithm as u8,
            origin: Port::new(offer.first),
            ..Frontend::default()
        };
        Some((offer, frontend))
    }

    /// Cuts the ports into cells, and puts each offer's Frontend under each of its cells.
    fn put_cells(&mut self, protocol: Protocol, offers: &[&Served<'_>]) {
        let mut bounds: BTreeSet<u32> = BTreeSet::new();
        for (offer, _) in offers {
            bounds.extend([u32::from(offer.first), u32::from(offer.last) + 1]);
        }
        if bounds.is_empty() {
            return;
        }
        bounds.extend(self.rules.bounds(protocol));
        let mut waiting: Vec<_> = offers.to_vec();
        waiting.sort_by_key(|(offer, _)| std::cmp::Reverse(offer.first));
        let mut open: Vec<&Served<'_>> = Vec::new();
        let bounds: Vec<u32> = bounds.into_iter().collect();
        for pair in bounds.windows(2) {
            let (first, last) = (pair[0] as u16, (pair[1] - 1) as u16);
            open.retain(|(offer, _)| offer.last >= first);
            while let Some(next) = waiting.pop_if(|(offer, _)| offer.first == first) {
                open.push(next);
            }
            if !open.is_empty() {
                self.desired.state.cells.put(Run {
                    protocol: protocol.number(),
                    first,
                    last,
                    cell: first,
                });
                self.put_frontends(first, &open);
            }
        }
    }

    /// SCTP cannot be sent to another port without checksumming all of it: each port by itself.
    fn put_single_ports(&mut self, offers: &[&Served<'_>]) {
        for served in offers {
            for port in served.0.first..=served.0.last {
                self.put_frontends(port, &[*served]);
            }
        }
    }

    /// Puts the Frontends of a cell, and those of single addresses about which rules say otherwise
    /// than about all.
    fn put_frontends(&mut self, cell: u16, open: &[&Served<'_>]) {
        for (offer, frontend) in open {
            let general = self.put_frontend(offer, offer.address, cell, frontend, None);
            if !offer.address.is_unspecified() {
                continue;
            }
            let is_own = |address: &IpAddr| open.iter().any(|(other, _)| other.address == *address);
            let special: Vec<_> = self.rules.addresses(offer.address).collect();
            for address in special.into_iter().filter(|address| !is_own(address)) {
                self.put_frontend(offer, address, cell, frontend, Some(general));
            }
        }
    }

    /// Returns the list of clients that holds. Puts nothing if that is `known` already.
    fn put_frontend(
        &mut self,
        offer: &Offer<'_>,
        address: IpAddr,
        cell: u16,
        frontend: &Frontend,
        known: Option<u32>,
    ) -> u32 {
        let asked = Asked {
            protocol: offer.protocol,
            port: cell,
            address,
        };
        let state = &mut self.desired.state;
        let sources = self.rules.list(&asked, offer.clients, state);
        if known != Some(sources) {
            let number = offer.protocol.number();
            let key = FrontendKey::published(address.into(), Port::new(cell), number);
            let frontend = Frontend {
                sources,
                ..*frontend
            };
            state.frontends.insert(key, frontend);
        }
        sources
    }

    fn tell(&mut self, offer: &Offer<'_>, full: Full) {
        self.desired.notices.push(Notice {
            subject: offer.target.clone(),
            message: format!("not published at {}: {full}", offer.place()),
        });
    }
}

impl Offer<'_> {
    /// What its Frontend is known by, whoever is behind it.
    fn name(&self) -> String {
        published_name(self.protocol.number(), self.address, self.first)
    }

    /// As people write it.
    fn place(&self) -> String {
        let ports = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        let protocol = self.protocol;
        match self.address {
            IpAddr::V4(v4) => format!("{v4}:{ports}/{protocol}"),
            IpAddr::V6(v6) => format!("[{v6}]:{ports}/{protocol}"),
        }
    }

    fn listed(&self, frontend: u32) -> ServedPorts {
        let first = self.candidates.first();
        ServedPorts {
            frontend,
            place: self.place(),
            address: self.address,
            protocol: self.protocol,
            first: self.first,
            last: self.last,
            port: first.map_or(0, |candidate| candidate.port.get()),
            target: self.target.clone(),
            endpoints: self
                .candidates
                .iter()
                .map(|candidate| candidate.endpoint)
                .collect(),
            algorithm: self.algorithm,
        }
    }
}

/// What a Frontend of published ports is known by.
pub(in crate::reconcile) fn published_name(protocol: u8, address: IpAddr, first: u16) -> String {
    format!("{protocol}/{address}/{first}")
}

#[cfg(test)]
mod tests;
