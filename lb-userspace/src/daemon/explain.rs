//! `veer explain`: the kernel's own decision, over a copy of what the maps hold.
//!
//! # Why
//! The decision opens a Connection, so it cannot run on the maps themselves. What it may read is
//! copied: the client's veth, the Frontend with its table and turn, and the Endpoints. The rest of
//! the datapath cannot matter to it.

mod packet;
mod target;

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_common::{Addr, Algorithm, EndpointId, Frontend, FrontendKey, Reason, VethFlags};
use lb_ebpf::native::{Buffer, Memory};
use lb_ebpf::{Verdict, Work, endpoint_in};

use super::answers::Unanswered;
use super::report::View;
use crate::api::{ConnectionRow, ExplainRequest, Explanation, Finding, Outcome, Problem};
use crate::datapath::{self, Datapath, Filter, Maps};
use crate::model::{EndpointMode, Group};
use crate::reconcile::{Role, ServedEndpoint, ServedInterface};

use packet::{Protocol, opening};
use target::Target;

/// Connections that are listed at most.
const LISTED: usize = 20;

/// What would happen to a new Connection of the client.
pub(super) fn explain(
    view: &View,
    datapath: &Datapath,
    request: &ExplainRequest,
) -> Result<Explanation, Unanswered> {
    let protocol = Protocol::named(request.protocol.as_deref().unwrap_or("tcp"))?;
    let clients = view.endpoints_of(&request.client);
    if clients.is_empty() {
        return Err(Problem::not_found(format!(
            "no container {} is served here: `veer endpoints` lists those that are",
            request.client
        ))
        .into());
    }
    let target = Target::find(view, &clients, &request.frontend)?;
    let mut findings = vec![client(target.client), alias(&target)];
    let Some(address) = target.address else {
        let outcome = passed(Reason::Direct);
        return Ok(explanation(findings, outcome, Vec::new()));
    };
    let Some(interface) = &target.client.interface else {
        findings.push(stops(
            "veth",
            "its interface is not there (yet): nothing is programmed",
        ));
        return Ok(explanation(
            findings,
            passed(Reason::UnknownVeth),
            Vec::new(),
        ));
    };
    let mut copy = Copy::new(datapath.maps());
    copy.take_settings()?;
    findings.extend(copy.veth(view, target.client, interface, address)?);
    findings.extend(copy.frontend(view, target.client.zone, address)?);
    let outcome = copy.decide(view, &target, interface, address, protocol);
    let connections = connections(view, datapath, &target, address)?;
    Ok(explanation(findings, outcome, connections))
}

fn explanation(
    findings: Vec<Finding>,
    outcome: Outcome,
    connections: Vec<ConnectionRow>,
) -> Explanation {
    Explanation {
        findings,
        outcome,
        connections,
    }
}

fn passes(step: &str, text: impl Into<String>) -> Finding {
    Finding {
        step: step.to_owned(),
        text: text.into(),
        passes: true,
    }
}

fn stops(step: &str, text: impl Into<String>) -> Finding {
    Finding {
        passes: false,
        ..passes(step, text)
    }
}

fn passed(reason: Reason) -> Outcome {
    Outcome::Passed {
        reason: reason.name().to_owned(),
        meaning: reason.meaning().to_owned(),
    }
}

fn client(endpoint: &ServedEndpoint) -> Finding {
    let v4 = endpoint.v4.map(IpAddr::V4).into_iter();
    let addresses: Vec<_> = v4
        .chain(endpoint.v6.map(IpAddr::V6))
        .map(|address| address.to_string())
        .collect();
    let text = format!(
        "{} is Endpoint {} on Network {} (zone {}): {}",
        endpoint.container_name,
        endpoint.id,
        endpoint.network_name,
        endpoint.zone,
        addresses.join(", ")
    );
    passes("client", text)
}

fn alias(target: &Target<'_>) -> Finding {
    let Some(group) = target.group else {
        let address = target
            .address
            .map(|address| address.to_string())
            .unwrap_or_default();
        return passes(
            "address",
            format!("{address} belongs to no Group on that Network"),
        );
    };
    match (group.policy.endpoint_mode, target.address) {
        (EndpointMode::Dnsrr, None) => stops(
            "group",
            format!(
                "{} has endpoint mode dnsrr: DNS gives its Members' addresses, and the client chooses",
                group.name()
            ),
        ),
        (_, None) => stops(
            "group",
            format!(
                "{} has no VIP of a family that the client has",
                group.name()
            ),
        ),
        (_, Some(address)) => passes("group", vip(group, address)),
    }
}

/// Clients differ in which family they try first, and each family has a turn of its own.
fn vip(group: &Group, address: IpAddr) -> String {
    let mut text = format!("{} has VIP {address}", group.name());
    if let Some(other) = target::vips(group).find(|vip| *vip != address) {
        text.push_str(&format!(" (and {other}: ask for that one to explain it)"));
    }
    text
}

/// What the decision reads, taken from the maps.
struct Copy<'a> {
    maps: &'a Maps,
    memory: Memory,
}

impl<'a> Copy<'a> {
    fn new(maps: &'a Maps) -> Self {
        let memory = Memory::default();
        memory.seed.set(datapath::now().unwrap_or_default() as u32);
        Self { maps, memory }
    }

    fn take_settings(&mut self) -> Result<(), Unanswered> {
        self.memory.settings = self.maps.settings.get(0)?;
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
    fn veth(
        &mut self,
        view: &View,
        client: &ServedEndpoint,
        interface: &ServedInterface,
        address: IpAddr,
    ) -> Result<Vec<Finding>, Unanswered> {
        let mut findings: Vec<_> = route(view, client, address).into_iter().collect();
        let ifindex = interface.ifindex;
        let Some(veth) = self.maps.veths.get(&ifindex)? else {
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
    fn frontend(
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
        self.memory.frontends.insert(key, frontend);
        let turn = self.maps.turns.get(frontend.id).unwrap_or_default();
        self.memory.turns.borrow_mut().insert(frontend.id, turn);
        for index in frontend.first_slot..frontend.first_slot + frontend.slot_count {
            if let Some(slot) = self.maps.slots.get(index) {
                self.memory.slots.insert(index, slot);
                self.take_endpoint(slot.endpoint);
            }
        }
        Ok(vec![
            table(&frontend),
            self.backends(view, &frontend),
            algorithm(&frontend, turn),
        ])
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

    /// Runs the first packet of a Connection through the datapath.
    fn decide(
        &self,
        view: &View,
        target: &Target<'_>,
        interface: &ServedInterface,
        address: IpAddr,
        protocol: Protocol,
    ) -> Outcome {
        let port = target.port.unwrap_or(protocol.usual_port());
        let source = match address {
            IpAddr::V4(_) => target.client.v4.map(IpAddr::V4),
            IpAddr::V6(_) => target.client.v6.map(IpAddr::V6),
        };
        let bytes = opening(protocol, interface.mac, source, address, port);
        let mut frame = Buffer {
            bytes,
            ifindex: interface.ifindex,
            now: datapath::now().unwrap_or_default(),
            ..Buffer::default()
        };
        let mut work = Work::default();
        let outcome = endpoint_in(&mut frame, &self.memory, &mut work);
        let reason = outcome.reason();
        match outcome.verdict() {
            Verdict::Deliver { .. } if reason == Reason::Forwarded => Outcome::Forwarded {
                backend: view.container_of(work.this.backend),
                address: backend_address(&work, protocol),
                by_chance: self.is_by_chance(),
            },
            Verdict::Pass => passed(reason),
            Verdict::Deliver { .. } | Verdict::Leave { .. } | Verdict::Drop => Outcome::Dropped {
                reason: reason.name().to_owned(),
                meaning: reason.meaning().to_owned(),
            },
        }
    }

    fn is_by_chance(&self) -> bool {
        self.memory.frontends.values().any(|frontend| {
            match Algorithm::from_u8(frontend.algorithm) {
                Algorithm::RoundRobin | Algorithm::WeightedRoundRobin => frontend.affinity > 0,
                Algorithm::Random | Algorithm::LeastConnections | Algorithm::Maglev => true,
            }
        })
    }
}

fn backend_address(work: &Work, protocol: Protocol) -> String {
    let address = work.this.destination.get();
    match protocol {
        Protocol::Icmp => address.to_string(),
        Protocol::Tcp | Protocol::Udp => {
            std::net::SocketAddr::new(address, work.this.destination_port.get()).to_string()
        }
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

fn table(frontend: &Frontend) -> Finding {
    let algorithm = Algorithm::from_u8(frontend.algorithm);
    let (id, count) = (frontend.id, frontend.slot_count);
    let text = format!("Frontend {id}: {algorithm} over a table of {count} slots, all ports");
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

fn connections(
    view: &View,
    datapath: &Datapath,
    target: &Target<'_>,
    address: IpAddr,
) -> Result<Vec<ConnectionRow>, Unanswered> {
    let source = match address {
        IpAddr::V4(_) => target.client.v4.map(Addr::from),
        IpAddr::V6(_) => target.client.v6.map(Addr::from),
    };
    let filter = Filter {
        client: source,
        zone: Some(target.client.zone),
        frontend: target.frontend_id(address),
        ..Filter::default()
    };
    if filter.frontend.is_none() {
        return Ok(Vec::new());
    }
    let now = datapath::now().unwrap_or_default();
    let found = datapath.connections(&filter, LISTED)?;
    Ok(found
        .iter()
        .map(|(key, entry)| view.connection(key, entry, now))
        .collect())
}
