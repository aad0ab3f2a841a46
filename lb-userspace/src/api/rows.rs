//! The lists: one row per object.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// One Network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRow {
    pub name: String,
    pub id: String,
    /// Number of the Network in the datapath.
    pub zone: u16,
    pub bridge: String,
    pub subnets: Vec<IpNet>,
    pub internal: bool,
    /// Ranges that the Network's VIPs are taken from.
    pub vip_ranges: Vec<IpNet>,
    pub endpoints: usize,
    pub groups: usize,
}

/// One Endpoint. Counters are those of the Endpoint as a Backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRow {
    pub id: u32,
    pub container: String,
    pub container_id: String,
    pub network: String,
    pub v4: Option<IpAddr>,
    pub v6: Option<IpAddr>,
    pub mac: String,
    /// Name of the host-side veth.
    pub interface: String,
    pub ifindex: u32,
    pub generation: u32,
    /// `active`, `draining` or `down`.
    pub state: String,
    /// Connections opened.
    pub connections: u64,
    /// Established Connections.
    pub established: u64,
    /// Packets of both directions.
    pub packets: u64,
    /// Bytes of both directions.
    pub bytes: u64,
}

/// One Group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    pub alias: String,
    pub network: String,
    /// None with endpoint mode `dnsrr`.
    pub vips: Vec<IpAddr>,
    /// `vip` or `dnsrr`.
    pub mode: String,
    pub algorithm: String,
    /// 0: no affinity.
    pub affinity_seconds: u32,
    /// Connections opened.
    pub connections: u64,
    /// Packets that found no Backend.
    pub refused: u64,
    pub members: Vec<MemberRow>,
}

/// One Member. An Endpoint that is in several Groups counts for all of them together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    pub container: String,
    pub endpoint: u32,
    pub v4: Option<IpAddr>,
    pub v6: Option<IpAddr>,
    /// `active`, `draining` or `down`.
    pub state: String,
    pub weight: u16,
    /// Connections opened.
    pub connections: u64,
    /// Established Connections.
    pub established: u64,
}

/// One Frontend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontendRow {
    pub id: u32,
    pub address: IpAddr,
    /// None: every port.
    pub port: Option<u16>,
    /// The last one of a range.
    #[serde(default)]
    pub last_port: Option<u16>,
    /// None: TCP, UDP and ICMP echo.
    pub protocol: Option<String>,
    /// Of a VIP; of published ports `host`.
    pub network: String,
    /// Alias of a Group; of published ports, who is behind them.
    pub group: String,
    pub algorithm: String,
    pub affinity_seconds: u32,
    /// Names of the containers that new Connections may go to.
    pub backends: Vec<String>,
    /// Length of the balancing table.
    pub slots: u32,
    /// Connections opened.
    pub connections: u64,
    /// Packets that found no Backend.
    pub refused: u64,
}

/// What one name resolves to for the containers of one Network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow {
    pub name: String,
    pub network: String,
    pub addresses: Vec<IpAddr>,
}

/// Which Connections are asked for. Empty: all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionFilter {
    /// An alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Name, short id or address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Name, short id or address of the Backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// How many at most; the default is 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl ConnectionFilter {
    /// The number of rows if none is asked for.
    pub const LIMIT: usize = 100;
}

/// Some Connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionList {
    pub rows: Vec<ConnectionRow>,
    /// Whether there are more than were asked for.
    pub more: bool,
}

/// One rule of `[[firewall]]` and what it has judged, in the order in which rules are asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRow {
    /// Its place in the configuration; 0: the lists `allow` and `deny` of those who publish.
    pub rule: u16,
    /// `allow` or `deny`; 0's own lists say which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Addresses of clients, `None`: every one.
    pub source: Option<String>,
    /// The host's address, `None`: every one.
    pub address: Option<IpAddr>,
    /// Of the host, `None`: every one.
    pub ports: Option<String>,
    pub protocol: Option<String>,
    /// Connections that it has judged, since its place in the configuration was first taken.
    pub connections: u64,
    /// Since it judged the last one; `None`: none yet.
    pub idle_seconds: Option<u64>,
}

/// One Connection, from its client's side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRow {
    /// `tcp`, `udp`, `icmp` or a number.
    pub protocol: String,
    pub network: String,
    pub group: String,
    pub client: Side,
    /// What the client sent to.
    pub frontend: Side,
    pub backend: Side,
    pub phase: ConnectionPhase,
    pub age_seconds: u64,
    /// Since the client's last packet, to the second.
    pub idle_seconds: u64,
    pub timeout_seconds: u32,
}

/// One side of a Connection. With ICMP echo the port is the identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    pub address: IpAddr,
    pub port: u16,
    /// Name of the container, if the address is one's.
    pub container: Option<String>,
}

/// How far a Connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionPhase {
    /// The Backend has not answered yet.
    New,
    Established,
    /// One side is done.
    Closing,
    /// Both sides are done, or one has reset.
    Closed,
}

impl ConnectionPhase {
    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

/// The configuration in effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigReport {
    /// The file it was read from; none: defaults only.
    pub path: Option<String>,
    /// The whole configuration as TOML with defaults and units.
    pub text: String,
}
