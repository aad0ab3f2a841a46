//! `GET /dns`, `GET /dns/log`, `GET /dns/names` and `GET /dns/query`: what DNS has answered, and would
//! answer.

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

/// Which logged answers are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsLogRequest {
    /// Only those after the one with this number; 0: all that are kept.
    #[serde(default)]
    pub after: u64,
    /// Seconds, at most 60, to wait for one if there is none yet.
    #[serde(default)]
    pub wait: u64,
}

/// Logged answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsLog {
    /// The number of the latest: what comes later is after it.
    pub latest: u64,
    /// Oldest first.
    pub rows: Vec<DnsLogRow>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsLogRow {
    /// Milliseconds since 1970, UTC.
    pub at: u64,
    /// Who asked; none: it is gone.
    pub container: Option<String>,
    /// As in [`DnsRow::network`].
    pub network: Option<String>,
    /// As it was asked for; in lower case if the kernel answered.
    pub name: String,
    /// A type such as `A`.
    pub kind: String,
    /// As in [`DnsRow::path`].
    pub path: String,
    /// As in [`DnsRow::outcome`].
    pub outcome: String,
}
