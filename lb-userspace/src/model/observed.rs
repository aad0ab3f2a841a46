//! One complete observation.

use serde::{Deserialize, Serialize};

use super::{Container, Network};

/// Everything a provider knows at one moment. Always complete: what is not in it is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    pub networks: Vec<Network>,
    pub containers: Vec<Container>,
    /// What was seen and is not served, or served otherwise than asked, for `veer status`.
    pub notices: Vec<Notice>,
}

/// Something the operator should know about one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Notice {
    /// What it is about, such as `container web`.
    pub subject: String,
    /// What is so, and what to do about it.
    pub message: String,
}
