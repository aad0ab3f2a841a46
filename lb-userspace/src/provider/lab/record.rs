//! What a lab consists of, in a file: everything that was or is about to be made, by name.
//!
//! ```text
//! <state folder>/lab/
//!   lab.json            this record, replaced as a whole
//!   netns/<container>   the container's network namespace
//!   run/<container>     its process: pid and start time
//!   log/<container>     what its process writes
//!   resolv.conf         what containers have as /etc/resolv.conf
//! ```
//!
//! # Why
//! The record is written before anything is made, and its names are enough to find everything again.
//! So whatever moment a crash picks, the next `up` completes it and `down` removes it.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::LabError;

/// Everything that makes up a lab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub networks: Vec<LabNetwork>,
    pub containers: Vec<LabContainer>,
}

/// One Network of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabNetwork {
    pub id: String,
    pub name: String,
    pub bridge: String,
    pub subnets: Vec<IpNet>,
    pub internal: bool,
    pub labels: BTreeMap<String, String>,
}

/// One container of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabContainer {
    pub id: String,
    pub name: String,
    pub command: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// In the order of their interfaces `eth0`, `eth1` ….
    pub attachments: Vec<LabAttachment>,
}

/// One container's veth pair to one Network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabAttachment {
    pub endpoint_id: String,
    /// The Network's name.
    pub network: String,
    pub aliases: Vec<String>,
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
    pub mac: [u8; 6],
    pub host_name: String,
    pub container_name: String,
}

impl Record {
    /// The record of the lab in `folder`; `None` if there is no lab.
    pub(super) fn load(folder: &Path) -> Result<Option<Self>, LabError> {
        let path = path(folder);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(LabError::io(|| format!("read {}", path.display())))?,
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| LabError::Damaged {
                path,
                message: error.to_string(),
            })
    }

    /// Replaces the record in `folder` as a whole.
    pub(super) fn save(&self, folder: &Path) -> Result<(), LabError> {
        let path = path(folder);
        let new = path.with_extension("new");
        let write = || {
            fs::write(&new, serde_json::to_vec_pretty(self)?)?;
            fs::rename(&new, &path)
        };
        write().map_err(LabError::io(|| format!("write {}", path.display())))
    }

    pub(super) fn network(&self, name: &str) -> Option<&LabNetwork> {
        self.networks.iter().find(|network| network.name == name)
    }

    pub(super) fn container(&self, name: &str) -> Option<&LabContainer> {
        self.containers
            .iter()
            .find(|container| container.name == name)
    }
}

impl LabNetwork {
    /// The first address of each subnet, which the bridge has.
    pub(super) fn gateways(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.subnets.iter().filter_map(|net| {
            let first = net.hosts().find(|addr| *addr != net.network())?;
            IpNet::new(first, net.prefix_len()).ok()
        })
    }
}

pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("lab.json")
}

/// 64 hexadecimal digits that nothing else has, as Docker's identities are.
pub(super) fn new_id() -> String {
    let state = RandomState::new();
    (0..4u8)
        .map(|n| format!("{:016x}", state.hash_one(n)))
        .collect()
}
