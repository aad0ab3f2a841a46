//! `GET /status`: how the daemon and its datapath are.

use serde::{Deserialize, Serialize};

use crate::model::Notice;

/// Everything `veer status` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// The instance: `netns-<cookie>` of the network namespace that is served.
    pub instance: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub provider: ProviderReport,
    pub ports: PortsReport,
    pub counts: Counts,
    pub dns: DnsReport,
    pub latency: Latency,
    pub collection: Collection,
    /// Reasons that were counted at least once, in the order of the counters.
    pub reasons: Vec<ReasonCount>,
    pub maps: Vec<MapFill>,
    pub memory: MemoryReport,
    /// What is not served, or served otherwise than asked.
    pub notices: Vec<Notice>,
    /// What the daemon tries again.
    pub failing: Vec<Failure>,
}

/// Where membership comes from, and how that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderReport {
    /// `docker` or `lab`.
    pub name: String,
    pub state: ProviderState,
    /// Seconds in this state.
    pub for_seconds: u64,
    /// Version of the Engine, or why it does not answer.
    pub detail: String,
}

/// What a provider is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderState {
    Connecting,
    Following,
    /// Membership is the last one seen; it is tried again.
    Failing,
}

/// Published ports and the way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortsReport {
    /// `replace`: Docker has no rules, veer does everything; `beside`: Docker's rules stay.
    pub mode: String,
    /// Who gives what leaves an address of the host: `ebpf`, `kernel` or `off`.
    pub masquerade: String,
    /// Names of the interfaces that lead outside.
    pub uplinks: Vec<String>,
    /// Frontends at addresses of the host.
    pub published: usize,
}

/// How much is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub networks: usize,
    pub containers: usize,
    pub endpoints: usize,
    pub groups: usize,
    pub frontends: usize,
}

/// The state of the DNS takeover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsReport {
    /// Namespaces whose queries veer answers.
    pub taken_over: usize,
    /// Namespaces whose queries veer should answer.
    pub wanted: usize,
    /// What leads them to veer: `sockets` or `loopback`.
    #[serde(default)]
    pub lead: String,
    /// Queries answered from our records.
    pub answered: u64,
    /// Queries answered by the kernel, without the daemon.
    #[serde(default)]
    pub in_kernel: u64,
    /// Queries sent on to upstream servers.
    pub forwarded: u64,
    /// Queries answered with what an upstream server had answered before.
    #[serde(default)]
    pub cached: u64,
    /// The same although it had run out, because no server answered.
    #[serde(default)]
    pub stale: u64,
    /// Answers of upstream servers that are kept.
    #[serde(default)]
    pub kept: usize,
    /// Queries that got an error for an answer.
    pub failed: u64,
}

/// From the cause of a change (a provider's event) to a datapath and DNS that serve it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Changes measured.
    pub count: u64,
    pub p50_microseconds: u64,
    pub p99_microseconds: u64,
    pub max_microseconds: u64,
}

/// What forgetting idle Connections has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Entries looked at.
    pub examined: u64,
    /// Connections forgotten.
    pub expired: u64,
}

/// One Reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    pub name: String,
    pub count: u64,
    /// Whether these packets were dropped or refused.
    pub drop: bool,
    pub meaning: String,
}

/// One map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapFill {
    pub name: String,
    /// Entries in use, where they can be counted cheaply.
    pub used: Option<u64>,
    pub size: u64,
    /// The configured size, if the pinned map has another one.
    pub configured: Option<u64>,
}

/// What veer takes of the host's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryReport {
    /// Bytes of the daemon that are in memory.
    pub resident_bytes: u64,
    /// Bytes of the kernel's memory for all maps of the instance, which stay without the daemon.
    pub maps_bytes: u64,
}

/// One thing that fails and is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What it concerns, such as `container web`.
    pub subject: String,
    /// What was attempted and why it failed.
    pub error: String,
    pub attempts: u64,
    /// Seconds since it first failed.
    pub for_seconds: u64,
}
