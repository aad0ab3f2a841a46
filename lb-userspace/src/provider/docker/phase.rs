//! Where a container stands, from what was read and what was heard.
//!
//! # Why
//! Two things are said by events alone: that a container has been told to stop (for the Engine it
//! runs on as before), and that it is being started (its inspection is locked meanwhile, and would
//! say `created`). Everything else is read.

use super::facts::{ContainerFacts, Run};
use crate::model::RunState;

/// Where a container stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not running, and not about to.
    #[default]
    Idle,
    /// Its networks are connected, its process does not run yet.
    Starting,
    Running,
    Paused,
    /// The process that was started at this time has been told to stop.
    Stopping {
        started_at: String,
    },
}

impl Phase {
    /// After an inspection.
    pub(super) fn read(&self, facts: &ContainerFacts) -> Self {
        match (facts.run, self) {
            (Run::Idle, Self::Starting) => Self::Starting,
            (Run::Idle, _) => Self::Idle,
            (_, Self::Stopping { started_at }) if *started_at == facts.started_at => self.clone(),
            (Run::Running, _) => Self::Running,
            (Run::Paused, _) => Self::Paused,
        }
    }

    /// After it was connected to a network.
    pub(super) fn connected(&self) -> Self {
        match self {
            Self::Idle => Self::Starting,
            Self::Starting | Self::Running | Self::Paused | Self::Stopping { .. } => self.clone(),
        }
    }

    /// After it was told to stop. `facts` are those of the last inspection.
    pub(super) fn told_to_stop(&self, facts: &ContainerFacts) -> Self {
        match self {
            Self::Running | Self::Paused => Self::Stopping {
                started_at: facts.started_at.clone(),
            },
            Self::Idle | Self::Starting | Self::Stopping { .. } => self.clone(),
        }
    }

    /// What is published; `None`: it is not there.
    pub(super) fn run_state(&self) -> Option<RunState> {
        match self {
            Self::Idle => None,
            Self::Starting => Some(RunState::Starting),
            Self::Running => Some(RunState::Running),
            Self::Paused => Some(RunState::Paused),
            Self::Stopping { .. } => Some(RunState::Stopping),
        }
    }
}
