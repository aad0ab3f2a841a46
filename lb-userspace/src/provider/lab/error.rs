//! What can go wrong with a lab.

use std::io;
use std::path::PathBuf;

use ipnet::IpNet;

/// Why a lab cannot be made, changed, shown or entered.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The topology file cannot be read as one.
    #[error("{}:{line}: {message}", path.display())]
    File {
        path: PathBuf,
        line: usize,
        message: String,
    },
    /// The topology contradicts itself.
    #[error("topology: {0}")]
    Topology(String),
    #[error(
        "network {network}: subnet {subnet} overlaps with {other}, which this host reaches elsewhere: choose another, or leave `subnets` out"
    )]
    SubnetTaken {
        network: String,
        subnet: IpNet,
        other: IpNet,
    },
    #[error(
        "no free subnet for a network without `subnets`: write one that this host does not use"
    )]
    NoSubnet,
    #[error("subnet {subnet} has too few addresses for its containers: choose a larger one")]
    Full { subnet: IpNet },
    #[error(
        "interface {name} exists and is not the lab's: remove it (`ip link del {name}`) or choose other names in the topology"
    )]
    InterfaceTaken { name: String },
    #[error("no lab is up here: `veer lab up` makes one")]
    NotUp,
    #[error("the lab has no container {name}: it has {known}")]
    NoContainer { name: String, known: String },
    #[error(
        "read {}: {message}: remove the file, and what `ip link` shows of the lab (vlb-*, vl*), and try again",
        path.display()
    )]
    Damaged { path: PathBuf, message: String },
    #[error("{attempted}: {cause}")]
    Io { attempted: String, cause: io::Error },
    /// Taking the lab down went on after each of these.
    #[error("the lab is not wholly down: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Leftovers(Vec<LabError>),
}

impl LabError {
    /// For `map_err`: an [`io::Error`] together with what was attempted.
    pub(super) fn io(attempted: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> Self {
        |cause| Self::Io {
            attempted: attempted(),
            cause,
        }
    }
}

impl From<io::Error> for LabError {
    /// For errors of `netns`, which say themselves what was attempted.
    fn from(cause: io::Error) -> Self {
        Self::Io {
            attempted: "lab".to_string(),
            cause,
        }
    }
}
