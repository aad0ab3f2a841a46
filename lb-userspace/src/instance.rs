//! Which veer this is: one for each network namespace.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::netns;

/// Where every instance keeps what lives until reboot.
const STATE: &str = "/run/veer";

/// The veer of one network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    name: String,
}

impl Instance {
    /// The instance of the calling thread's namespace. Needs no privilege.
    pub fn here() -> io::Result<Self> {
        netns::current_cookie().map(Self::of)
    }

    /// The instance of the namespace with this cookie (`SO_NETNS_COOKIE`).
    pub fn of(cookie: u64) -> Self {
        Self {
            name: format!("netns-{cookie}"),
        }
    }

    /// The name, also that of the folders.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The state folder.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(STATE).join(&self.name)
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder().join("api.sock")
    }

    /// veer's table in nftables, if it has one.
    pub fn rules(&self) -> PathBuf {
        self.folder().join("rules.nft")
    }

    /// What kernel settings were before veer changed them.
    pub fn sysctls(&self) -> PathBuf {
        self.folder().join("sysctls.json")
    }

    /// What was taken out of containers' NAT tables, one file for each.
    pub fn nat(&self) -> PathBuf {
        self.folder().join("nat")
    }

    /// The numbers that were given to Networks, Endpoints, Groups and Frontends.
    pub fn identities(&self) -> PathBuf {
        self.folder().join("state.json")
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_here_is_that_of_the_threads_namespace() {
        let cookie = netns::Namespace::current().unwrap().cookie().unwrap();

        assert_eq!(Instance::here().unwrap(), Instance::of(cookie));
    }

    #[test]
    fn each_namespace_has_folders_of_its_own() {
        let one = Instance::of(1);

        assert_eq!(one.socket(), PathBuf::from("/run/veer/netns-1/api.sock"));
        assert_ne!(one.folder(), Instance::of(2).folder());
    }
}
