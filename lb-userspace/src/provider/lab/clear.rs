//! Removing what a record says, or the part of it that another one does not say.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use crate::netns::unpin;

use super::process::{Process, stop_all};
use super::record::Record;
use super::{Lab, LabError};

/// What is to go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Doomed<'a> {
    /// Names of containers.
    pub(super) containers: Vec<&'a str>,
    /// Names of the host's interfaces.
    pub(super) interfaces: Vec<&'a str>,
}

impl<'a> Doomed<'a> {
    /// What `before` has and `after` has not. The same name with another identity is another thing.
    pub(super) fn between(before: &'a Record, after: &Record) -> Self {
        let kept = identities(after);
        let networks = before.networks.iter();
        let containers = before.containers.iter();
        let bridges = networks
            .filter(|network| !kept.contains(network.id.as_str()))
            .map(|network| network.bridge.as_str());
        let veths = containers
            .clone()
            .flat_map(|container| &container.attachments)
            .filter(|attachment| !kept.contains(attachment.endpoint_id.as_str()))
            .map(|attachment| attachment.host_name.as_str());
        Self {
            interfaces: veths.chain(bridges).collect(),
            containers: containers
                .filter(|container| !kept.contains(container.id.as_str()))
                .map(|container| container.name.as_str())
                .collect(),
        }
    }
}

fn identities(record: &Record) -> BTreeSet<&str> {
    let networks = record.networks.iter().map(|network| network.id.as_str());
    let containers = record.containers.iter().flat_map(|container| {
        let attachments = container.attachments.iter();
        let endpoints = attachments.map(|attachment| attachment.endpoint_id.as_str());
        endpoints.chain([container.id.as_str()])
    });
    networks.chain(containers).collect()
}

impl Lab {
    /// Removes all of `doomed`, does not stop at an error, and tells all of them.
    pub(super) fn clear(&self, doomed: &Doomed<'_>) -> Result<(), LabError> {
        let mut errors = Vec::new();
        errors.extend(self.stop(&doomed.containers).err());
        // Before the interfaces, because those make news, and then the namespaces should be gone.
        for name in &doomed.containers {
            errors.extend(unpin(&self.netns_path(name)).err().map(LabError::from));
            errors.extend(remove_file(&self.process_path(name)).err());
            errors.extend(remove_file(&self.log_path(name)).err());
        }
        errors.extend(self.remove_interfaces(&doomed.interfaces).err());
        if errors.is_empty() {
            return Ok(());
        }
        Err(LabError::Leftovers(errors))
    }

    fn stop(&self, containers: &[&str]) -> Result<(), LabError> {
        let processes: Vec<_> = containers
            .iter()
            .filter_map(|name| Process::load(&self.process_path(name)))
            .collect();
        stop_all(&processes).map_err(LabError::io(|| "end the lab's processes".to_string()))
    }

    fn remove_interfaces(&self, names: &[&str]) -> Result<(), LabError> {
        let names: BTreeSet<&str> = names.iter().copied().collect();
        let mut links = self.host.links()?;
        let there = links.interfaces()?;
        let doomed = there.iter().filter(|i| names.contains(i.name.as_str()));
        let doomed: Vec<u32> = doomed.map(|interface| interface.ifindex).collect();
        Ok(links.remove_all(&doomed)?)
    }
}

/// A file that is not there is no error.
fn remove_file(path: &std::path::Path) -> Result<(), LabError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).map_err(LabError::io(|| format!("remove {}", path.display())))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
