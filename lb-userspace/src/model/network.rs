//! A Network: one Docker network that veer serves.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The identity of a Network, as its provider gives it (Docker: 64 hexadecimal digits).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(pub String);

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One bridge network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: NetworkId,
    /// The name that operators and DNS use; case matters.
    pub name: String,
    /// Name of the bridge interface.
    pub bridge: String,
    pub subnets: Vec<IpNet>,
    /// Without a way out: DNS queries for strangers' names are not forwarded.
    pub internal: bool,
    pub labels: BTreeMap<String, String>,
}
