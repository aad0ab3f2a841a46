//! What the operator chose: `/etc/veer/veer.toml`, every key optional.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use lb_common::{Algorithm, Timeouts, maps};

use crate::model::EndpointMode;

mod effective;
mod error;
mod parse;
mod ports;
mod section;
mod values;
mod vips;

pub use error::ConfigError;
pub use ports::{FirewallRule, Masquerade, Mode, Ports, PublishConfig, Uplinks};
pub use vips::Vips;

/// The whole configuration. [`Config::default`] is what holds without a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub provider: ProviderChoice,
    pub endpoint_mode: EndpointMode,
    pub engine: Engine,
    pub vips: Vips,
    pub balancing: Balancing,
    /// Seconds.
    pub timeouts: Timeouts,
    pub maps: Maps,
    pub limits: Limits,
    pub dns: Dns,
    pub anti_spoofing: AntiSpoofing,
    pub uplinks: Uplinks,
    pub ports: Ports,
    /// In the order of the file.
    pub publish: Vec<PublishConfig>,
    /// In the order in which they are asked.
    pub firewall: Vec<FirewallRule>,
    pub log: Log,
    /// By name of the Network.
    pub networks: BTreeMap<String, NetworkConfig>,
    pub groups: BTreeMap<GroupName, GroupConfig>,
}

/// Where membership comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProviderChoice {
    /// The Engine if its socket is there, the lab otherwise.
    #[default]
    Auto,
    Docker,
    Lab,
}

impl ProviderChoice {
    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Docker => "docker",
            Self::Lab => "lab",
        }
    }
}

/// The Docker Engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    pub socket: PathBuf,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/var/run/docker.sock"),
        }
    }
}

/// How Groups are balanced unless a Network, a label or a Group says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balancing {
    pub algorithm: Algorithm,
    /// Seconds that a client keeps its Backend for new Connections; 0: no affinity.
    pub affinity: u32,
}

/// Sizes of the kernel's maps, in entries unless said otherwise. See [`lb_common::maps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maps {
    /// Two for each established Connection.
    pub connections: u32,
    /// Two for each half-open Connection.
    pub half_open: u32,
    pub affinity: u32,
    pub fragments: u32,
    pub veths: u32,
    pub endpoints: u32,
    pub frontends: u32,
    pub slots: u32,
    pub resolvers: u32,
    pub dns_answers: u32,
    /// Bytes.
    pub events: u32,
}

impl Default for Maps {
    fn default() -> Self {
        Self {
            connections: maps::CONNECTIONS,
            half_open: maps::HALF_OPEN,
            affinity: maps::AFFINITY,
            fragments: maps::FRAGMENTS,
            veths: maps::VETHS,
            endpoints: maps::ENDPOINTS,
            frontends: maps::FRONTENDS,
            slots: maps::SLOTS,
            resolvers: maps::RESOLVERS,
            dns_answers: maps::DNS_ANSWERS,
            events: maps::EVENTS,
        }
    }
}

/// What the datapath does on behalf of strangers, per second and CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP resets and ICMP errors.
    pub refusals_per_second: u32,
    pub events_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            refusals_per_second: 1_000,
            events_per_second: 1_000,
        }
    }
}

/// Names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Whether served containers' queries to 127.0.0.11 are answered by veer.
    pub takeover: bool,
    /// What leads them to veer.
    pub lead: Lead,
    /// Whether the kernel answers what it can.
    pub kernel: bool,
    /// Seconds that clients may keep an answer of ours.
    pub ttl: u32,
    /// Whether `tasks.<alias>` gives the addresses of all Members.
    pub tasks: bool,
    /// Whether `_port._protocol.name` gives a known port of a name.
    pub srv: bool,
    /// Whether other types than addresses are asked outside for names of ours, as Docker does.
    pub leak: bool,
    /// Whether unknown names without a dot are asked outside.
    pub single_labels: bool,
    /// Whether containers on the default bridge have names and are answered, which Docker does not do.
    pub default_bridge: bool,
    /// Servers for names that are not ours; empty: those of the host.
    pub upstreams: Vec<IpAddr>,
    /// Which of them is asked first.
    pub order: ServerOrder,
    /// Whether the case of letters in questions to them is chosen at random, which makes answers
    /// harder to forge.
    pub random_case: bool,
    /// Forwarded queries of one container at a time.
    pub in_flight: u32,
    /// Answers of others that are kept; 0: none.
    pub cache: u32,
    /// Seconds for which an answer that has run out is still given if no server answers.
    pub stale: u32,
    /// Whether Docker's NAT rules are taken out of containers, which have the kernel track all their
    /// packets.
    pub no_conntrack: bool,
    /// One in so many answers is logged; 0: none.
    pub query_log: u32,
}

/// What leads containers' queries to veer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lead {
    /// The first of the others that works here for all containers.
    #[default]
    Auto,
    /// Programs on sockets, attached to the root of the cgroup2 tree.
    Sockets,
    /// Programs on containers' loopback interfaces, beside Docker's NAT rules.
    Loopback,
    /// Programs on sockets, through containers' veths to the host: no namespace is entered for it.
    Veth,
}

impl Lead {
    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Sockets => "sockets",
            Self::Loopback => "loopback",
            Self::Veth => "veth",
        }
    }
}

/// Which of several name servers is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerOrder {
    /// The first that is listed, as by the C library.
    #[default]
    Listed,
    /// The one that has been fastest.
    Fastest,
}

impl ServerOrder {
    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Fastest => "fastest",
        }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            takeover: true,
            lead: Lead::Auto,
            kernel: true,
            ttl: 5,
            tasks: true,
            srv: true,
            leak: false,
            single_labels: true,
            upstreams: Vec::new(),
            order: ServerOrder::Listed,
            random_case: true,
            in_flight: 1_024,
            cache: 10_000,
            stale: 3_600,
            no_conntrack: false,
            default_bridge: false,
            query_log: 0,
        }
    }
}

/// Whether containers may send from addresses that are not theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AntiSpoofing {
    pub enabled: bool,
}

impl Default for AntiSpoofing {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// What veer says about itself, on stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or a filter such as `info,lb_userspace::dns=debug`.
    pub level: String,
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_string(),
            format: LogFormat::Text,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl LogFormat {
    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// What is different on one Network; `None`: as everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkConfig {
    /// `Some(false)`: the Network is left to Docker.
    pub serve: Option<bool>,
    pub endpoint_mode: Option<EndpointMode>,
    pub algorithm: Option<Algorithm>,
    /// Seconds.
    pub affinity: Option<u32>,
    pub anti_spoofing: Option<bool>,
}

/// A Group's name, as in `[group."network/alias"]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupName {
    /// Name of the Network; case matters.
    pub network: String,
    /// Lower-case.
    pub alias: String,
}

/// What is different for one Group; `None`: as its Members' labels and its Network say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupConfig {
    pub endpoint_mode: Option<EndpointMode>,
    pub algorithm: Option<Algorithm>,
    /// Seconds.
    pub affinity: Option<u32>,
}

impl Config {
    /// Where the configuration is looked for.
    pub const PATH: &'static str = "/etc/veer/veer.toml";

    /// What holds on the Network of this name.
    pub fn network(&self, name: &str) -> NetworkConfig {
        self.networks.get(name).copied().unwrap_or_default()
    }

    /// Whether Networks of this name are served.
    pub fn serves(&self, network: &str) -> bool {
        self.network(network).serve.unwrap_or(true)
    }
}

#[cfg(test)]
mod tests;
