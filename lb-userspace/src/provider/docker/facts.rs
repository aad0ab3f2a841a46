//! What the Engine's answers say, in our words.
//!
//! Pure translation. The Engine leaves out, empties or moves fields from version to version; what is
//! missing here is what veer cannot do without.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, EndpointResource, EndpointSettings,
    NetworkInspect,
};
use ipnet::IpNet;

use super::options;
use super::ports::{PortFacts, linked};
use super::signal::Signal;
use crate::model::{ContainerId, Linked, Network, NetworkId};

/// An answer without something that every version of the Engine gives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Engine's answer has no {0}")]
pub(super) struct Missing(&'static str);

/// What one container's inspection says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContainerFacts {
    pub(super) id: ContainerId,
    pub(super) name: String,
    pub(super) hostname: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) dns_servers: Vec<IpAddr>,
    /// The file that says whom a container asks that is on the default bridge alone.
    pub(super) resolv_conf: Option<PathBuf>,
    pub(super) mode: Mode,
    /// What `docker stop` sends first.
    pub(super) stop_signal: Signal,
    pub(super) run: Run,
    /// When it was started last, as the Engine writes it: another start has another one.
    pub(super) started_at: String,
    /// Where its network namespace is, once it has one.
    pub(super) sandbox: Option<PathBuf>,
    /// By the network's name, or by what the user wrote in its place.
    pub(super) endpoints: BTreeMap<String, EndpointFacts>,
    pub(super) ports: PortFacts,
    /// Names or ids of the containers that it is linked to (`--link`).
    pub(super) links: Vec<String>,
}

/// What a container's network is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Docker networks, and a namespace of its own.
    Networks,
    /// The host's namespace.
    Host,
    /// Nothing but a loopback interface.
    Nothing,
    /// The namespace of another container: its id, or what the user wrote.
    Container(String),
}

/// What the Engine says about a container's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    Running,
    Paused,
    /// Not running: created, between two runs, exited, or on its way out.
    Idle,
}

/// What a container's inspection says about one of its networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EndpointFacts {
    /// `None` until it was connected for the first time.
    pub(super) network: Option<NetworkId>,
    /// `None` while it is not connected.
    pub(super) endpoint_id: Option<String>,
    /// `None` while it is not connected, and where it has no MAC address.
    pub(super) port: Option<Port>,
    /// Without the names that Docker adds by itself.
    pub(super) aliases: Vec<String>,
    pub(super) linked: Vec<Linked>,
    pub(super) gateway_priority: i64,
    /// Whether there is a gateway, per family.
    pub(super) gateway: (bool, bool),
}

/// What one network's inspection says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NetworkFacts {
    pub(super) network: Network,
    pub(super) service: Service,
    /// Whoever is connected and has been given to a container.
    pub(super) ports: BTreeMap<ContainerId, Port>,
}

/// Whether veer serves a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Served,
    /// Why not, in words for the operator; `None` where nobody would expect it.
    NotServed(Option<String>),
}

/// One container's place in a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) endpoint_id: String,
    pub(super) mac: [u8; 6],
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

impl ContainerFacts {
    pub(super) fn from_inspection(answer: ContainerInspectResponse) -> Result<Self, Missing> {
        let id = ContainerId(text(answer.id).ok_or(Missing("Id"))?);
        let name = text(answer.name).ok_or(Missing("Name"))?;
        let state = answer.state.ok_or(Missing("State"))?;
        let config = answer.config.unwrap_or_default();
        let host = answer.host_config.unwrap_or_default();
        let network = answer.network_settings.unwrap_or_default();

        let name = name.trim_start_matches('/').to_string();
        let hostname = config.hostname.unwrap_or_default();
        let own = [name.as_str(), id.short(), hostname.as_str()];
        let endpoints = network.networks.unwrap_or_default();
        let endpoints = endpoints
            .into_iter()
            .map(|(key, settings)| (key, EndpointFacts::from_settings(settings, &own)))
            .collect();
        let is_on_default_bridge = is_default_bridge_alone(&endpoints);
        let resolv_conf = text(answer.resolv_conf_path).filter(|_| is_on_default_bridge);
        let dns_servers = host.dns.unwrap_or_default();
        Ok(Self {
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            dns_servers: dns_servers.iter().flat_map(|addr| addr.parse()).collect(),
            resolv_conf: resolv_conf.map(PathBuf::from),
            mode: Mode::parse(&host.network_mode.unwrap_or_default()),
            stop_signal: text(config.stop_signal)
                .and_then(|signal| Signal::parse(&signal))
                .unwrap_or(Signal::TERM),
            run: Run::from_status(state.status.ok_or(Missing("State.Status"))?),
            started_at: state.started_at.unwrap_or_default(),
            sandbox: text(network.sandbox_key).map(PathBuf::from),
            ports: PortFacts::from_maps(
                network.ports.unwrap_or_default(),
                &host.port_bindings.unwrap_or_default(),
            ),
            links: host
                .links
                .unwrap_or_default()
                .iter()
                .map(|link| linked(link))
                .collect(),
            id,
            name,
            hostname,
            endpoints,
        })
    }

    /// What is said about `network`, under whichever of its names.
    pub(super) fn endpoint(&self, network: &Network) -> Option<&EndpointFacts> {
        let by_id = |facts: &&EndpointFacts| facts.network.as_ref() == Some(&network.id);
        self.endpoints
            .values()
            .find(by_id)
            .or_else(|| self.endpoints.get(&network.name))
            .or_else(|| self.endpoints.get(&network.id.0))
    }
}

fn is_default_bridge_alone(endpoints: &BTreeMap<String, EndpointFacts>) -> bool {
    let mut names = endpoints.keys();
    names.next().is_some_and(|name| name == "bridge") && names.next().is_none()
}

impl Mode {
    fn parse(text: &str) -> Self {
        match text {
            "host" => Self::Host,
            "none" => Self::Nothing,
            other => match other.strip_prefix("container:") {
                Some(container) => Self::Container(container.to_string()),
                None => Self::Networks,
            },
        }
    }
}

impl Run {
    pub(super) fn from_status(status: ContainerStateStatusEnum) -> Self {
        use ContainerStateStatusEnum as Status;
        match status {
            Status::RUNNING | Status::STOPPING => Self::Running,
            Status::PAUSED => Self::Paused,
            Status::EMPTY
            | Status::CREATED
            | Status::RESTARTING
            | Status::REMOVING
            | Status::EXITED
            | Status::DEAD => Self::Idle,
        }
    }
}

impl EndpointFacts {
    /// `own` are the names that are not aliases: versions before 25 list some of them there.
    fn from_settings(settings: EndpointSettings, own: &[&str]) -> Self {
        let mut aliases: Vec<String> = Vec::new();
        for alias in settings.aliases.unwrap_or_default() {
            let is = |other: &str| other.eq_ignore_ascii_case(&alias);
            if !alias.is_empty() && !own.iter().any(|own| is(own)) && !aliases.iter().any(|a| is(a))
            {
                aliases.push(alias);
            }
        }
        Self {
            network: text(settings.network_id).map(NetworkId),
            endpoint_id: text(settings.endpoint_id.clone()),
            port: Port::new(
                settings.endpoint_id,
                settings.mac_address,
                settings.ip_address,
                settings.global_ipv6_address,
            ),
            aliases,
            linked: settings
                .links
                .unwrap_or_default()
                .iter()
                .map(|link| named(link))
                .collect(),
            gateway_priority: settings.gw_priority.unwrap_or_default(),
            gateway: (
                text(settings.gateway).is_some(),
                text(settings.ipv6_gateway).is_some(),
            ),
        }
    }
}

impl NetworkFacts {
    pub(super) fn from_inspection(answer: NetworkInspect) -> Result<Self, Missing> {
        let service = service(&answer);
        let id = text(answer.id).ok_or(Missing("Id"))?;
        let name = text(answer.name).ok_or(Missing("Name"))?;
        let options = answer.options.unwrap_or_default();
        let configured = options.get("com.docker.network.bridge.name").cloned();
        let pools = answer.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let gateways = pools.iter().filter_map(|pool| pool.gateway.clone());
        let policy = options::policy(&name, &options, gateways);
        let ports = answer.containers.unwrap_or_default();
        Ok(Self {
            network: Network {
                name,
                bridge: text(configured)
                    .unwrap_or_else(|| format!("br-{}", id.get(..12).unwrap_or(&id))),
                subnets: pools
                    .into_iter()
                    .filter_map(|pool| pool.subnet?.parse::<IpNet>().ok())
                    .collect(),
                internal: answer.internal.unwrap_or_default(),
                labels: answer.labels.unwrap_or_default().into_iter().collect(),
                policy,
                id: NetworkId(id),
            },
            service,
            ports: places(ports),
        })
    }

    pub(super) fn is_served(&self) -> bool {
        self.service == Service::Served
    }
}

/// Only what has been given to a container has a container's id for a key.
fn places(answer: HashMap<String, EndpointResource>) -> BTreeMap<ContainerId, Port> {
    answer
        .into_iter()
        .filter(|(key, _)| !key.starts_with("ep-") && !key.starts_with("lb-"))
        .filter_map(|(key, endpoint)| Some((ContainerId(key), Port::from_resource(endpoint)?)))
        .collect()
}

impl Port {
    fn new(
        endpoint_id: Option<String>,
        mac: Option<String>,
        v4: Option<String>,
        v6: Option<String>,
    ) -> Option<Self> {
        Some(Self {
            endpoint_id: text(endpoint_id)?,
            mac: parse_mac(&mac?)?,
            v4: address(v4),
            v6: address(v6),
        })
    }

    fn from_resource(answer: EndpointResource) -> Option<Self> {
        Self::new(
            answer.endpoint_id,
            answer.mac_address,
            answer.ipv4_address,
            answer.ipv6_address,
        )
    }
}

/// Decides whether a network is one of ours: a bridge of this host alone.
fn service(answer: &NetworkInspect) -> Service {
    let name = answer.name.as_deref().unwrap_or_default();
    let driver = answer.driver.as_deref().unwrap_or_default();
    let is = |flag: Option<bool>| flag == Some(true);
    match driver {
        "host" | "null" => Service::NotServed(None),
        _ if is(answer.config_only) => Service::NotServed(None),
        "bridge" if name == "docker_gwbridge" || answer.scope.as_deref() == Some("swarm") => {
            Service::NotServed(Some(
                "not served: it belongs to Swarm; veer serves plain hosts, and leaves this \
                 network to Docker"
                    .to_string(),
            ))
        }
        "bridge" => Service::Served,
        other => Service::NotServed(Some(format!(
            "not served: its driver is {other}, and veer serves bridge networks; Docker's own DNS \
             and addresses hold there"
        ))),
    }
}

/// The text, unless it is empty.
fn text(value: Option<String>) -> Option<String> {
    value.filter(|text| !text.is_empty())
}

/// The address in `10.5.1.2/16` or `10.5.1.2`.
fn address<T: std::str::FromStr>(value: Option<String>) -> Option<T> {
    value?.split('/').next()?.parse().ok()
}

/// The bytes of `02:42:0a:05:01:02`.
fn parse_mac(value: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = value
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    bytes?.try_into().ok()
}

/// What `--link target:alias` names; the target's own name without an alias.
fn named(link: &str) -> Linked {
    let (target, alias) = link.split_once(':').unwrap_or((link, link));
    // DNS knows the short id.
    let is_id = target.len() == 64 && target.bytes().all(|byte| byte.is_ascii_hexdigit());
    Linked {
        alias: alias.to_string(),
        target: if is_id { &target[..12] } else { target }.to_string(),
    }
}
