//! What the decision reads, and what there is to say of it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use lb_common::{
    Addr, Algorithm, Cells, EndpointId, Frontend, FrontendKey, Port, SourceKey, VethFlags,
};
use lb_ebpf::Tables;
use lb_ebpf::native::Memory;

use super::super::answers::Unanswered;
use super::super::report::View;
use super::packet::Protocol;
use super::{passes, stops};
use crate::api::Finding;
use crate::datapath::{self, Maps};
use crate::reconcile::{Place, Role, ServedEndpoint, ServedInterface};

/// What the decision reads, taken from the maps.
pub(super) struct Copy<'a> {
    maps: &'a Maps,
    pub(super) memory: Memory,
}

impl<'a> Copy<'a> {
    pub(super) fn new(maps: &'a Maps) -> Self {
        let memory = Memory {
            // Whoever is asked is there.
            heartbeat: u64::MAX,
            ..Memory::default()
        };
        memory.seed.set(datapath::now().unwrap_or_default() as u32);
        Self { maps, memory }
    }

    /// What is the same for whoever asks: the settings and the host's surroundings.
    pub(super) fn take_surroundings(&mut self, view: &View) -> Result<(), Unanswered> {
        let (maps, memory) = (self.maps, &mut self.memory);
        memory.settings = maps.settings.get(0)?;
        for place in view.desired.state.facts.keys() {
            if let Place::Network(zone) = place {
                let network = maps.networks.get(u32::from(*zone))?;
                memory.networks.insert(*zone, network);
            }
        }
        memory.interfaces.extend(maps.interfaces.entries()?);
        memory.subnets.extend(maps.subnets.entries()?);
        memory.sources.extend(maps.sources.entries()?);
        let keys = |entries: Vec<(Addr, _)>| entries.into_iter().map(|(key, _)| key);
        memory.locals.extend(keys(maps.locals.entries()?));
        let open = maps.open_ports.entries()?.into_iter();
        memory.open_ports.extend(open.map(|(port, _)| port));
        let links = maps.links.entries()?.into_iter();
        memory.links.extend(links.map(|(link, _)| link));
        Ok(())
    }

    fn take_endpoint(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.maps.endpoints.get(id) {
            self.memory.endpoints.insert(id, endpoint);
            let load = self.maps.loads.get(id).unwrap_or_default();
            self.memory.loads.borrow_mut().insert(id, load);
        }
    }

    /// The way out of the container.
    pub(super) fn veth(
        &mut self,
        view: &View,
        client: &ServedEndpoint,
        interface: &ServedInterface,
        address: IpAddr,
    ) -> Result<Vec<Finding>, Unanswered> {
        let mut findings: Vec<_> = route(view, client, address).into_iter().collect();
        let ifindex = interface.ifindex;
        let Some(veth) = self.maps.veths.get(ifindex)? else {
            let text = format!(
                "{} ({ifindex}) is not programmed: its packets take the bridge",
                interface.name
            );
            findings.push(stops("veth", text));
            return Ok(findings);
        };
        self.memory.veths.insert(ifindex, veth);
        self.take_endpoint(veth.endpoint);
        if view
            .desired
            .state
            .attached
            .contains(&(Role::Endpoint, ifindex))
        {
            let text = format!(
                "{} ({ifindex}) runs endpoint_in on what it sends",
                interface.name
            );
            findings.push(passes("veth", text));
        } else {
            let text = format!("nothing is attached to {} ({ifindex})", interface.name);
            findings.push(stops("veth", text));
        }
        findings.push(spoofing(&veth, address));
        Ok(findings)
    }

    /// The Frontend with this address, and everything that it points at.
    pub(super) fn frontend(
        &mut self,
        view: &View,
        zone: u16,
        address: IpAddr,
    ) -> Result<Vec<Finding>, Unanswered> {
        let key = FrontendKey::vip(address.into(), zone);
        let Some(frontend) = self.maps.frontends.get(&key)? else {
            let is_vip = self.memory.settings.is_vip(&Addr::from(address));
            let text = if is_vip {
                format!("no Frontend {address} in zone {zone}, though it is in the VIP range")
            } else {
                format!("{address} is outside the VIP ranges: veer does not balance it")
            };
            return Ok(vec![stops("frontend", text)]);
        };
        Ok(self.take_frontend(view, key, frontend, "all ports"))
    }

    /// The Frontends that may have this port of the host, the one that has it first.
    pub(super) fn published(
        &mut self,
        view: &View,
        client: Addr,
        asked: SocketAddr,
        protocol: Protocol,
    ) -> Result<Vec<Finding>, Unanswered> {
        let (address, number) = (Addr::from(asked.ip()), protocol.number(asked.is_ipv4()));
        let cell = match Cells::index(number, asked.port()) {
            Some(index) => {
                let cells = self.maps.ports.get(index).unwrap_or_default();
                self.memory.ports.insert(index, cells);
                cells.get(asked.port())
            }
            None => 0,
        };
        let wildcard = FrontendKey::wildcard(asked.is_ipv4());
        for own in [address, wildcard] {
            let key = FrontendKey::published(own, Port::new(cell), number);
            let is_own = address.is_loopback() || self.memory.locals.contains(&address);
            if cell == 0 || (own == wildcard && !is_own && address != wildcard) {
                continue;
            }
            if let Some(frontend) = self.maps.frontends.get(&key)? {
                let mut served = view.desired.ports.iter();
                let served = served.find(|ports| ports.frontend == frontend.id);
                let whose = served.map_or(String::new(), |ports| {
                    format!("{} of {}", ports.place, ports.target)
                });
                let mut findings = self.take_frontend(view, key, frontend, &whose);
                findings.extend(self.judged(&frontend, client));
                return Ok(findings);
            }
        }
        let text = format!("nobody has published port {} there", asked.port());
        Ok(vec![stops("frontend", text)])
    }

    /// What the Frontend's list of clients says.
    fn judged(&self, frontend: &Frontend, client: Addr) -> Option<Finding> {
        if frontend.sources == 0 {
            return None;
        }
        let source = self
            .memory
            .source(&SourceKey::of(frontend.sources, client))?;
        let (denies, rule) = match client.is_loopback() {
            true => (source.denies_host(), 0),
            false => (source.denies(), source.rule),
        };
        let by = match rule {
            0 => "the lists of who published it".to_owned(),
            rule => format!("rule {rule} of [[firewall]]"),
        };
        Some(match denies {
            true => stops("clients", format!("{client} is denied by {by}")),
            false => passes("clients", format!("{client} is allowed by {by}")),
        })
    }

    /// A Frontend, its table and everything that it points at.
    fn take_frontend(
        &mut self,
        view: &View,
        key: FrontendKey,
        frontend: Frontend,
        whose: &str,
    ) -> Vec<Finding> {
        self.memory.frontends.insert(key, frontend);
        let turn = self.maps.turns.get(frontend.id).unwrap_or_default();
        self.memory.turns.borrow_mut().insert(frontend.id, turn);
        for index in frontend.first_slot..frontend.first_slot + frontend.slot_count {
            if let Some(slot) = self.maps.slots.get(index) {
                self.memory.slots.insert(index, slot);
                self.take_endpoint(slot.endpoint);
            }
        }
        vec![
            table(&frontend, whose),
            self.backends(view, &frontend),
            algorithm(&frontend, turn),
        ]
    }

    fn backends(&self, view: &View, frontend: &Frontend) -> Finding {
        let end = frontend.first_slot + frontend.slot_count;
        let slots = (frontend.first_slot..end).filter_map(|index| self.memory.slots.get(&index));
        let ids: BTreeSet<_> = slots.map(|slot| slot.endpoint).collect();
        if ids.is_empty() {
            return stops("backends", "none: no Member takes new Connections");
        }
        let describe = |id: &EndpointId| {
            let endpoint = self.memory.endpoints.get(id);
            let state = match endpoint {
                Some(endpoint) if endpoint.is_active() => "active",
                Some(endpoint) if endpoint.is_up() => "draining",
                Some(_) | None => "down",
            };
            format!("{} {state}", view.container_of(*id))
        };
        let any = ids.iter().any(|id| {
            self.memory
                .endpoints
                .get(id)
                .is_some_and(lb_common::Endpoint::is_active)
        });
        let list = ids.iter().map(describe).collect::<Vec<_>>().join(", ");
        if any {
            passes("backends", list)
        } else {
            stops("backends", list)
        }
    }

    pub(super) fn is_by_chance(&self) -> bool {
        self.memory.frontends.values().any(|frontend| {
            match Algorithm::from_u8(frontend.algorithm) {
                Algorithm::RoundRobin | Algorithm::WeightedRoundRobin => frontend.affinity > 0,
                Algorithm::Random | Algorithm::LeastConnections | Algorithm::Maglev => true,
            }
        })
    }
}

/// The route inside the container, if the address needs one.
fn route(view: &View, client: &ServedEndpoint, address: IpAddr) -> Option<Finding> {
    let spaces = view.desired.resolvers.iter();
    let mine = spaces.filter(|space| space.container == client.container);
    let mut routes = mine.flat_map(|space| &space.routes);
    let route = routes.find(|route| route.to.contains(&address))?;
    let text = format!(
        "{} is on its interface {}",
        route.to, route.container_ifindex
    );
    Some(passes("route", text))
}

fn spoofing(veth: &lb_common::Veth, address: IpAddr) -> Finding {
    if !veth.has(VethFlags::ANTI_SPOOFING) {
        return passes(
            "source",
            "anti-spoofing is off: any source address is accepted",
        );
    }
    let own = if address.is_ipv4() { veth.v4 } else { veth.v6 };
    if own.is_none() {
        return stops("source", "the client has no address of this family");
    }
    passes(
        "source",
        format!("anti-spoofing accepts {own} from MAC {} only", veth.mac),
    )
}

fn table(frontend: &Frontend, whose: &str) -> Finding {
    let algorithm = Algorithm::from_u8(frontend.algorithm);
    let (id, count) = (frontend.id, frontend.slot_count);
    let text = format!("Frontend {id}: {algorithm} over a table of {count} slots, {whose}");
    if count == 0 {
        stops("frontend", text)
    } else {
        passes("frontend", text)
    }
}

fn algorithm(frontend: &Frontend, turn: u64) -> Finding {
    let mut text = match Algorithm::from_u8(frontend.algorithm) {
        Algorithm::RoundRobin | Algorithm::WeightedRoundRobin => match frontend.slot_count {
            0 => "no slot to choose".to_owned(),
            count => format!(
                "turn {turn} is slot {} of {count}",
                turn % u64::from(count) + 1
            ),
        },
        Algorithm::Random => "any slot".to_owned(),
        Algorithm::LeastConnections => "the less loaded of two slots at random".to_owned(),
        Algorithm::Maglev => "by the client's address and port".to_owned(),
    };
    if frontend.affinity > 0 {
        let kept = frontend.affinity;
        text.push_str(&format!(
            "; a client that came back within {kept} s keeps its last Backend"
        ));
    }
    passes("choice", text)
}
