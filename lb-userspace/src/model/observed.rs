//! One complete observation.

use serde::{Deserialize, Serialize};

use super::{Container, ContainerId, Netns, Network, NetworkId};

/// Everything a provider knows at one moment. Always complete: what is not in it is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    pub networks: Vec<Network>,
    pub containers: Vec<Container>,
    /// Those that are being started and of which nothing else is known yet.
    #[serde(default)]
    pub arriving: Vec<Arriving>,
    /// What was seen and is not served, or served otherwise than asked, for `veer status`.
    pub notices: Vec<Notice>,
}

/// A container whose namespace is known, and which may ask for names before anything else is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arriving {
    pub container: ContainerId,
    pub netns: Netns,
    /// Those that it is connected to.
    pub networks: Vec<NetworkId>,
}

/// Something the operator should know about one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Notice {
    /// What it is about, such as `container web`.
    pub subject: String,
    /// What is so, and what to do about it.
    pub message: String,
}
