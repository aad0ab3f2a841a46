//! `GET /explain`: what would happen to a new Connection.

use serde::{Deserialize, Serialize};

use super::ConnectionRow;

/// A client and what it wants to reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Name, short id or address of a container; `host` or an address of the host's own for a process of
    /// the host; any other address for somebody outside.
    pub client: String,
    /// An alias or an address, with a port if `:port` follows (IPv6: `[address]:port`). Aliases are for
    /// containers.
    pub frontend: String,
    /// `tcp` (default), `udp` or `icmp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// The answer, in the order in which the datapath decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub findings: Vec<Finding>,
    pub outcome: Outcome,
    /// Connections that this client has with this Frontend already; they keep their Backend.
    pub connections: Vec<ConnectionRow>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at, such as `veth` or `frontend`.
    pub step: String,
    pub text: String,
    /// Whether a packet gets past this.
    pub passes: bool,
}

/// Where the first packet would end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Outcome {
    /// A Backend gets it.
    Forwarded {
        backend: String,
        address: String,
        /// Whether the next one may get another Backend by chance (random, least connections).
        by_chance: bool,
    },
    /// It leaves the host, under this address.
    Leaves { source: String },
    /// It is not for veer: the bridge delivers it, or the host's stack.
    Passed { reason: String, meaning: String },
    /// It is dropped or refused.
    Dropped { reason: String, meaning: String },
}
