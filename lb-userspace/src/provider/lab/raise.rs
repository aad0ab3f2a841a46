//! Making what a record says. Everything here may be there already, wholly or in part.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::process::Process;
use super::record::{LabAttachment, LabContainer, LabNetwork, Record};
use super::{Lab, LabError};
use crate::netns::{Interface, InterfaceKind, Links, Namespace, PairEnd, unpin};

/// Addresses work at once, and link-local ones follow from the MAC address.
const CONTAINER_SYSCTLS: [(&str, &str); 5] = [
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/addr_gen_mode", "0"),
];

/// A lab being made: the host's side of it.
pub(super) struct Raise<'a> {
    lab: &'a Lab,
    record: &'a Record,
    links: Links,
    /// The host's interfaces at the beginning, by name.
    interfaces: BTreeMap<String, Interface>,
    /// Indexes of the Networks' bridges, by the Networks' names.
    bridges: BTreeMap<&'a str, u32>,
}

impl<'a> Raise<'a> {
    pub(super) fn new(lab: &'a Lab, record: &'a Record) -> Result<Self, LabError> {
        let mut links = lab.host.links()?;
        let interfaces = links.interfaces()?.into_iter();
        Ok(Self {
            lab,
            record,
            interfaces: interfaces.map(|i| (i.name.clone(), i)).collect(),
            links,
            bridges: BTreeMap::new(),
        })
    }

    /// Makes everything that is missing.
    pub(super) fn run(mut self) -> Result<(), LabError> {
        let record = self.record;
        for network in &record.networks {
            let bridge = self.bridge(network)?;
            self.bridges.insert(&network.name, bridge);
        }
        record
            .containers
            .iter()
            .try_for_each(|container| self.container(container))
    }

    fn bridge(&mut self, network: &LabNetwork) -> Result<u32, LabError> {
        let found = self.interfaces.get(&network.bridge);
        let bridge = match found {
            Some(found) if found.kind == InterfaceKind::Bridge => found.ifindex,
            Some(found) => {
                return Err(LabError::InterfaceTaken {
                    name: found.name.clone(),
                });
            }
            None => self.links.add_bridge(&network.bridge)?,
        };
        let has = |gateway: &IpNet| found.is_some_and(|bridge| bridge.addresses.contains(gateway));
        // One that is there already would be news to everybody who listens.
        for gateway in network.gateways().filter(|gateway| !has(gateway)) {
            self.links.add_address(bridge, gateway)?;
        }
        Ok(bridge)
    }

    fn container(&mut self, container: &LabContainer) -> Result<(), LabError> {
        let namespace = self.namespace(container)?;
        let mut inside = namespace.links()?;
        let loopback = inside.index_of("lo")?;
        inside.set_up(loopback)?;
        let mut way_out = None;
        for attachment in &container.attachments {
            let network = self.record.network(&attachment.network);
            let network = network.expect("a record's attachments are to its own networks");
            self.attach(attachment, network, &namespace, &mut inside)?;
            if way_out.is_none() && !network.internal {
                way_out = Some(network);
            }
        }
        for gateway in way_out.into_iter().flat_map(LabNetwork::gateways) {
            inside.add_default_route(gateway.addr())?;
        }
        self.start(container, &namespace)
    }

    /// The container's namespace, a new one if the old one is gone.
    fn namespace(&self, container: &LabContainer) -> Result<Namespace, LabError> {
        let path = self.lab.netns_path(&container.name);
        if let Some(namespace) = live_namespace(&path) {
            return Ok(namespace);
        }
        unpin(&path)?;
        let namespace = Namespace::create()?;
        namespace.run(|| set_sysctls(&CONTAINER_SYSCTLS))??;
        namespace.pin(&path)?;
        Ok(namespace)
    }

    fn attach(
        &mut self,
        attachment: &LabAttachment,
        network: &LabNetwork,
        namespace: &Namespace,
        inside: &mut Links,
    ) -> Result<(), LabError> {
        let name = &attachment.host_name;
        if !self.interfaces.contains_key(name) {
            let near = PairEnd {
                name,
                mac: None,
                namespace: None,
                master: self.bridges.get(network.name.as_str()).copied(),
            };
            let far = PairEnd {
                name: &attachment.container_name,
                mac: Some(attachment.mac),
                namespace: Some(namespace),
                master: None,
            };
            self.links.add_pair(near, far)?;
        }
        let ifindex = inside.index_of(&attachment.container_name)?;
        for address in addresses(attachment, network) {
            inside.add_address(ifindex, address)?;
        }
        // Last, because this is what gives the host's end its carrier, and so makes news.
        Ok(inside.set_up(ifindex)?)
    }

    fn start(&self, container: &LabContainer, namespace: &Namespace) -> Result<(), LabError> {
        let file = self.lab.process_path(&container.name);
        let runs = Process::load(&file).is_some_and(|process| process.is_alive());
        if container.command.is_empty() || runs {
            return Ok(());
        }
        let mut command = self.lab.command(&container.command);
        let log = self.lab.log_path(&container.name);
        self.lab
            .inside(namespace, || {
                Process::start(&mut command, &log)?.save(&file)
            })
            .map_err(LabError::io(|| {
                let (name, program) = (&container.name, &container.command[0]);
                format!("start {program} in container {name}")
            }))
    }
}

/// The namespace kept under `path`, if there is one.
pub(super) fn live_namespace(path: &Path) -> Option<Namespace> {
    // Without its mount, the file is an ordinary one, which cannot be entered.
    Namespace::open(path)
        .ok()
        .filter(|ns| ns.run(|| ()).is_ok())
}

/// The attachment's addresses, each with the length of its subnet's prefix.
fn addresses(attachment: &LabAttachment, network: &LabNetwork) -> Vec<IpNet> {
    [attachment.v4.map(IpAddr::V4), attachment.v6.map(IpAddr::V6)]
        .into_iter()
        .flatten()
        .filter_map(|addr| {
            let subnet = network.subnets.iter().find(|net| net.contains(&addr))?;
            IpNet::new(addr, subnet.prefix_len()).ok()
        })
        .collect()
}

/// Writes settings of the calling thread's namespace. One that this kernel does not have (it may be
/// without IPv6) is left out.
fn set_sysctls(settings: &[(&str, &str)]) -> io::Result<()> {
    for (name, value) in settings {
        match fs::write(Path::new("/proc/sys").join(name), value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io::Error::new(
                    error.kind(),
                    format!("set {name} to {value}: {error}"),
                ));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
