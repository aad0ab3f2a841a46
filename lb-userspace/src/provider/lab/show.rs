//! What `veer lab show` tells.

use serde::Serialize;

use super::process::Process;
use super::raise::live_namespace;
use super::record::LabNetwork;
use super::{Lab, LabContainer, LabError};

/// A lab as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    pub networks: Vec<LabNetwork>,
    pub containers: Vec<ShownContainer>,
}

/// One container as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownContainer {
    #[serde(flatten)]
    pub container: LabContainer,
    /// Number of its process, where it has one that runs.
    pub pid: Option<i32>,
    /// One word: `up` (nothing has to run in it), `running`, `ended` (its process has) or `gone` (its
    /// namespace is).
    pub state: &'static str,
}

impl Lab {
    /// What the lab consists of and how it is; [`LabError::NotUp`] if there is none.
    pub fn show(&self) -> Result<Shown, LabError> {
        let record = self.record()?.ok_or(LabError::NotUp)?;
        Ok(Shown {
            networks: record.networks,
            containers: record
                .containers
                .into_iter()
                .map(|container| self.show_container(container))
                .collect(),
        })
    }

    fn show_container(&self, container: LabContainer) -> ShownContainer {
        let process = Process::load(&self.process_path(&container.name));
        let running = process.filter(Process::is_alive);
        let state = if live_namespace(&self.netns_path(&container.name)).is_none() {
            "gone"
        } else if container.command.is_empty() {
            "up"
        } else if running.is_some() {
            "running"
        } else {
            "ended"
        };
        ShownContainer {
            container,
            pid: running.map(|process| process.pid),
            state,
        }
    }
}
