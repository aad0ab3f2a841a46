//! Who is no container: a process of the host, or somebody outside.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use lb_common::{Addr, Reason};
use lb_ebpf::native::Buffer;
use lb_ebpf::sockets::{self, Caller, Led, Peer};
use lb_ebpf::{Tables, Verdict, Work, bridge_out, loopback_in, uplink_in};

use super::super::answers::Unanswered;
use super::super::report::View;
use super::copy::Copy;
use super::packet::{Protocol, opening};
use super::target::split;
use super::{dropped, explanation, outcome, passed, passes, stops, uplinks};
use crate::api::{ExplainRequest, Explanation, Finding, Outcome, Problem};
use crate::datapath::{self, Datapath};

/// Some MAC address, of a router.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Index of the loopback interface, in every namespace.
const LOOPBACK: u32 = 1;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guest {
    /// A process of the host, its socket bound to this address, or to none.
    Process(Option<IpAddr>),
    Outsider(IpAddr),
}

/// What would happen to a new Connection of who is no container.
pub(super) fn explain(
    view: &View,
    datapath: &Datapath,
    request: &ExplainRequest,
    protocol: Protocol,
) -> Result<Explanation, Unanswered> {
    let mut copy = Copy::new(datapath.maps());
    copy.take_surroundings(view)?;
    let is_own = |address: &IpAddr| {
        address.is_loopback() || copy.memory.locals.contains(&Addr::from(*address))
    };
    let guest = Guest::named(&request.client, is_own)?;
    let asked = asked(&request.frontend, protocol)?;
    let client = guest.source(asked.ip());
    if client.is_ipv4() != asked.is_ipv4() {
        let text = format!("{client} and {} are of different families", asked.ip());
        return Err(Problem::bad_request(text).into());
    }
    let mut findings = vec![guest.finding()];
    let published = copy.published(view, client.into(), asked, protocol)?;
    let outcome = match guest {
        Guest::Process(bound) => {
            findings.extend(published);
            process(&copy, view, bound, asked, protocol)
        }
        Guest::Outsider(source) => {
            findings.push(way_in(view));
            findings.extend(published);
            outsider(&copy, view, source, asked, protocol)
        }
    };
    Ok(explanation(findings, outcome, Vec::new()))
}

impl Guest {
    fn named(name: &str, is_own: impl Fn(&IpAddr) -> bool) -> Result<Self, Problem> {
        if name == "host" {
            return Ok(Self::Process(None));
        }
        match name.parse::<IpAddr>() {
            Ok(address) if is_own(&address) => Ok(Self::Process(Some(address))),
            Ok(address) => Ok(Self::Outsider(address)),
            Err(_) => Err(Problem::not_found(format!(
                "no container {name} is served here: `veer endpoints` lists those that are; write \
                 `host` for a process of the host, an address for somebody outside"
            ))),
        }
    }

    /// What it would send to `asked` from.
    fn source(self, asked: IpAddr) -> IpAddr {
        match self {
            Self::Process(Some(address)) | Self::Outsider(address) => address,
            Self::Process(None) => asked,
        }
    }

    fn finding(self) -> Finding {
        let text = match self {
            Self::Process(None) => "a process of the host".to_owned(),
            Self::Process(Some(address)) => format!("a process of the host, bound to {address}"),
            Self::Outsider(address) => format!("{address} is neither the host's nor a container's"),
        };
        passes("client", text)
    }
}

fn asked(text: &str, protocol: Protocol) -> Result<SocketAddr, Problem> {
    let (name, port) = split(text)?;
    let address = match name {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        name => name.parse::<IpAddr>(),
    };
    let address = address.map_err(|_| {
        Problem::bad_request(format!(
            "{name}: aliases are for containers; write the address and the port that is asked for"
        ))
    });
    Ok(SocketAddr::new(
        address?,
        port.unwrap_or(protocol.usual_port()),
    ))
}

fn way_in(view: &View) -> Finding {
    match uplinks(view).next() {
        Some(ifindex) => passes("uplink", format!("interface {ifindex} leads outside")),
        None => stops("uplink", "none: no interface leads outside"),
    }
}

/// A process, as the hooks on sockets see it.
struct Process {
    namespace: u64,
    bound: Addr,
}

impl Caller for Process {
    fn namespace(&self) -> u64 {
        self.namespace
    }

    fn cookie(&self) -> u64 {
        datapath::now().unwrap_or_default()
    }

    fn bound(&self) -> Addr {
        self.bound
    }

    fn now(&self) -> u64 {
        datapath::now().unwrap_or_default()
    }
}

fn process(
    copy: &Copy<'_>,
    view: &View,
    bound: Option<IpAddr>,
    asked: SocketAddr,
    protocol: Protocol,
) -> Outcome {
    let process = Process {
        namespace: copy.memory.settings.host_netns,
        bound: bound.map_or(Addr::NONE, Addr::from),
    };
    let peer = Peer {
        address: asked.ip().into(),
        port: lb_common::Port::new(asked.port()),
    };
    let number = protocol.number(asked.is_ipv4());
    match sockets::lead(&copy.memory, &process, peer, number) {
        Led::Alone if process.bound.is_loopback() => {
            let source = bound.unwrap_or(asked.ip());
            let mut frame = frame(LOOPBACK, source, asked, protocol);
            let mut work = Work::default();
            let done = loopback_in(&mut frame, &copy.memory, &mut work);
            outcome(copy, view, done, &work, protocol)
        }
        Led::Alone => passed(Reason::Host),
        Led::Refused => dropped(Reason::NoBackend),
        Led::Denied => dropped(Reason::SourceDenied),
        Led::To(peer) => Outcome::Forwarded {
            backend: owner(copy, view, peer),
            address: SocketAddr::new(peer.address.get(), peer.port.get()).to_string(),
            by_chance: copy.is_by_chance(),
        },
    }
}

/// The container with this address.
fn owner(copy: &Copy<'_>, view: &View, peer: Peer) -> String {
    let mut endpoints = copy.memory.endpoints.iter();
    let is = |endpoint: &lb_common::Endpoint| [endpoint.v4, endpoint.v6].contains(&peer.address);
    let found = endpoints.find(|(_, endpoint)| is(endpoint));
    found.map_or_else(
        || peer.address.to_string(),
        |(id, _)| view.container_of(*id),
    )
}

fn outsider(
    copy: &Copy<'_>,
    view: &View,
    source: IpAddr,
    asked: SocketAddr,
    protocol: Protocol,
) -> Outcome {
    let Some(uplink) = uplinks(view).next() else {
        return passed(Reason::Host);
    };
    let mut work = Work::default();
    let mut first = frame(uplink, source, asked, protocol);
    let done = uplink_in(&mut first, &copy.memory, &mut work);
    let zone = copy.memory.subnet(&asked.ip().into());
    let network = zone.and_then(|zone| copy.memory.networks.get(&zone));
    match (done.verdict(), network) {
        // What the host routes into a bridge, its guard judges.
        (Verdict::Pass, Some(network)) if !network.is_gateway(&asked.ip().into()) => {
            let mut routed = Buffer {
                came_from: uplink,
                ..frame(network.bridge, source, asked, protocol)
            };
            let done = bridge_out(&mut routed, &copy.memory, &mut work);
            outcome(copy, view, done, &work, protocol)
        }
        _ => outcome(copy, view, done, &work, protocol),
    }
}

/// The first packet of a Connection at an interface.
fn frame(ifindex: u32, source: IpAddr, asked: SocketAddr, protocol: Protocol) -> Buffer {
    Buffer {
        bytes: opening(protocol, MAC, Some(source), asked.ip(), asked.port()),
        ifindex,
        now: datapath::now().unwrap_or_default(),
        ..Buffer::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_a_process_of_the_host_or_somebody_outside() {
        let own: IpAddr = "192.0.2.1".parse().unwrap();
        let named = |name| Guest::named(name, |address| *address == own);

        assert_eq!(named("host"), Ok(Guest::Process(None)));
        assert_eq!(named("192.0.2.1"), Ok(Guest::Process(Some(own))));
        let stranger = "192.0.2.2".parse().unwrap();
        assert_eq!(named("192.0.2.2"), Ok(Guest::Outsider(stranger)));
        assert!(named("web").unwrap_err().message.contains("veer endpoints"));
    }

    #[test]
    fn what_is_asked_for_is_an_address() {
        let asked = |text| asked(text, Protocol::Tcp).map(|asked| asked.to_string());

        assert_eq!(asked("localhost:8080").unwrap(), "127.0.0.1:8080");
        assert_eq!(asked("[::1]:8080").unwrap(), "[::1]:8080");
        assert_eq!(asked("192.0.2.1").unwrap(), "192.0.2.1:80");
        assert!(asked("web:80").is_err());
    }
}
