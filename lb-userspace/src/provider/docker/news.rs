//! What the Engine's events say: where to look again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::{EventMessage, EventMessageTypeEnum};

use super::phase::Phase;
use super::signal::Signal;
use super::view::{Subject, View};
use crate::model::{ContainerId, NetworkId};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// When it happened, by the Engine's clock.
    pub(super) at: SystemTime,
    pub(super) what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A container was created, started, renamed and so on.
    Container(ContainerId),
    Signalled(ContainerId, Signal),
    Died(ContainerId),
    Connected(NetworkId, ContainerId),
    Disconnected(NetworkId, ContainerId),
    /// A network was created or removed.
    Network(NetworkId),
}

impl News {
    /// `None`: not about anything that is followed.
    pub(super) fn from_event(event: &EventMessage) -> Option<Self> {
        let actor = event.actor.as_ref()?;
        let id = actor.id.as_ref().filter(|id| !id.is_empty())?;
        let attribute = |name: &str| actor.attributes.as_ref()?.get(name);
        let action = event.action.as_deref()?;
        let what = match event.typ? {
            EventMessageTypeEnum::CONTAINER => {
                let container = ContainerId(id.clone());
                match action {
                    "die" => What::Died(container),
                    "kill" => What::Signalled(container, Signal::parse(attribute("signal")?)?),
                    _ => What::Container(container),
                }
            }
            EventMessageTypeEnum::NETWORK => {
                let network = NetworkId(id.clone());
                let container = attribute("container").cloned().map(ContainerId);
                match (action, container) {
                    ("connect", Some(container)) => What::Connected(network, container),
                    ("disconnect", Some(container)) => What::Disconnected(network, container),
                    _ => What::Network(network),
                }
            }
            _ => return None,
        };
        let since = Duration::from_nanos(u64::try_from(event.time_nano?).ok()?);
        let at = UNIX_EPOCH + since;
        Some(Self { at, what })
    }

    /// What only events say, and is noted now: whether it may change what is observed.
    pub(super) fn tell(&self, view: &mut View) -> bool {
        match &self.what {
            What::Signalled(id, signal) => view.signalled(id, *signal),
            What::Died(id) => view.died(id),
            What::Connected(_, id) => view.connected(id),
            What::Container(_) | What::Disconnected(..) | What::Network(_) => false,
        }
    }

    /// What is to be read again, with what was told in `view`.
    pub(super) fn subjects(&self, view: &View) -> Vec<Subject> {
        match &self.what {
            What::Signalled(..) => Vec::new(),
            What::Container(id) | What::Died(id) => vec![Subject::Container(id.clone())],
            What::Connected(network, id) => {
                let of_container = Subject::Container(id.clone());
                let of_network = Subject::Network(network.clone());
                if is_running(view, id) {
                    // It says all of it, and a moment later the network is asked for what it says otherwise.
                    // At the same time they would keep each other, and the Engine, from answering.
                    vec![of_container]
                } else if is_told_at_its_start(view, network, id) {
                    vec![of_network]
                } else {
                    vec![of_network, of_container]
                }
            }
            What::Disconnected(network, id) => vec![
                Subject::Network(network.clone()),
                Subject::Container(id.clone()),
            ],
            What::Network(id) => vec![Subject::Network(id.clone())],
        }
    }
}

fn is_running(view: &View, container: &ContainerId) -> bool {
    let known = view.containers.get(container);
    known.is_some_and(|known| matches!(known.phase, Phase::Running | Phase::Paused))
}

/// While a container is being started its inspection waits until its process runs, and then there is
/// an event that leads to another one. It is not asked for when everything that it says about the
/// network, apart from addresses, was read when the container was created.
fn is_told_at_its_start(view: &View, network: &NetworkId, container: &ContainerId) -> bool {
    let Some(known) = view.containers.get(container) else {
        return false;
    };
    let (Some(facts), Some(network)) = (&known.facts, view.networks.get(network)) else {
        return false;
    };
    known.phase == Phase::Starting && facts.endpoint(&network.network).is_some()
}
