//! `veer explain`: the kernel's own decision, over a copy of what the maps hold.
//!
//! # Why
//! The decision opens a Connection, so it cannot run on the maps themselves. What it may read is
//! copied: the client's veth, the Frontend with its table and turn, the Endpoints, and the host's
//! surroundings. The rest of the datapath cannot matter to it.

mod copy;
mod guest;
mod packet;
mod target;

use std::net::{IpAddr, SocketAddr};

use lb_common::{Addr, Reason};
use lb_ebpf::native::{Buffer, Exit};
use lb_ebpf::{Outcome as Done, Verdict, Work, endpoint_in};

use super::answers::Unanswered;
use super::report::View;
use crate::api::{ConnectionRow, ExplainRequest, Explanation, Finding, Outcome};
use crate::datapath::{self, Datapath, Filter};
use crate::model::{EndpointMode, Group};
use crate::reconcile::{Role, ServedEndpoint, ServedInterface};

use copy::Copy;
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
        return guest::explain(view, datapath, request, protocol);
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
    copy.take_surroundings(view)?;
    findings.extend(copy.veth(view, target.client, interface, address)?);
    let port = target.port.unwrap_or(protocol.usual_port());
    findings.extend(if copy.memory.settings.is_vip(&Addr::from(address)) {
        copy.frontend(view, target.client.zone, address)?
    } else {
        let source = target.source(address).map_or(Addr::NONE, Addr::from);
        let asked = SocketAddr::new(address, port);
        copy.published(view, source, asked, protocol)?
    });
    let outcome = decide(&copy, view, &target, interface, (address, port), protocol);
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

/// Runs the first packet of a Connection through the datapath.
fn decide(
    copy: &Copy<'_>,
    view: &View,
    target: &Target<'_>,
    interface: &ServedInterface,
    (address, port): (IpAddr, u16),
    protocol: Protocol,
) -> Outcome {
    let bytes = opening(
        protocol,
        interface.mac,
        target.source(address),
        address,
        port,
    );
    let mut frame = Buffer {
        bytes,
        ifindex: interface.ifindex,
        now: datapath::now().unwrap_or_default(),
        exits: exits(view),
        ..Buffer::default()
    };
    let mut work = Work::default();
    let done = endpoint_in(&mut frame, &copy.memory, &mut work);
    outcome(copy, view, done, &work, protocol)
}

/// The first uplink, as the way to everywhere: which one it will be only the kernel's routes know.
fn exits(view: &View) -> Vec<Exit> {
    let uplink = uplinks(view).next().map(|ifindex| Exit {
        network: Addr::NONE,
        mask: Addr::NONE,
        ifindex,
        mtu: u16::MAX,
        macs: None,
    });
    uplink.into_iter().collect()
}

/// Indexes of the interfaces that lead outside.
fn uplinks(view: &View) -> impl Iterator<Item = u32> {
    let attached = view.desired.state.attached.iter();
    attached.filter_map(|(role, ifindex)| match role {
        Role::Uplink | Role::BareUplink => Some(*ifindex),
        Role::Bridge | Role::Endpoint | Role::Loopback => None,
    })
}

/// What came of a packet, in words.
fn outcome(copy: &Copy<'_>, view: &View, done: Done, work: &Work, protocol: Protocol) -> Outcome {
    let reason = done.reason();
    match done.verdict() {
        Verdict::Deliver { .. } if reason == Reason::Forwarded => Outcome::Forwarded {
            backend: view.container_of(work.this.backend),
            address: backend_address(work, protocol),
            by_chance: copy.is_by_chance(),
        },
        Verdict::Leave { .. } if reason == Reason::Outbound => Outcome::Leaves {
            source: work.this.source.to_string(),
        },
        Verdict::Pass => passed(reason),
        Verdict::Deliver { .. } | Verdict::Leave { .. } | Verdict::Drop => dropped(reason),
    }
}

fn dropped(reason: Reason) -> Outcome {
    Outcome::Dropped {
        reason: reason.name().to_owned(),
        meaning: reason.meaning().to_owned(),
    }
}

fn backend_address(work: &Work, protocol: Protocol) -> String {
    let address = work.this.destination.get();
    match protocol {
        Protocol::Icmp => address.to_string(),
        Protocol::Tcp | Protocol::Udp => {
            SocketAddr::new(address, work.this.destination_port.get()).to_string()
        }
    }
}

fn connections(
    view: &View,
    datapath: &Datapath,
    target: &Target<'_>,
    address: IpAddr,
) -> Result<Vec<ConnectionRow>, Unanswered> {
    let filter = Filter {
        client: target.source(address).map(Addr::from),
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
