//! `GET /dns`, `GET /dns/names` and `GET /dns/query`: what DNS has answered, and would answer.

use serde::{Deserialize, Serialize};

/// How often something was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRow {
    /// The Network whose name was asked for; none: a name of others.
    pub network: Option<String>,
    /// `kernel`, `daemon`, `cache`, `stale`, `upstream` or `nobody`.
    pub path: String,
    /// `NOERROR`, `NODATA`, `NXDOMAIN`, `SERVFAIL`, `REFUSED` or `other`.
    pub outcome: String,
    pub count: u64,
}

/// Whose names are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsNamesRequest {
    /// Name or short id of a container.
    pub container: String,
}

/// A question that a container would ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsRequest {
    /// Name or short id of a container.
    pub container: String,
    pub name: String,
    /// A type such as `A`, which is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// What it would be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsAnswer {
    /// As in [`DnsRow::path`].
    pub path: String,
    /// As in [`DnsRow::outcome`]; none: a name server is yet to say.
    pub outcome: Option<String>,
    /// As in a zone file.
    pub records: Vec<String>,
    /// Why, in the order in which it is looked.
    pub reasons: Vec<String>,
}
