//! Everything that is known of the Engine, and what follows from each new piece of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::facts::{ContainerFacts, Mode, NetworkFacts, Port};
use super::inside::{HostLinks, Inside, Sandbox};
use super::phase::Phase;
use super::signal::Signal;
use crate::model::{ContainerId, Link, NetworkId};

/// Everything that is known. Level by level: what was read replaces what was known.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) networks: BTreeMap<NetworkId, NetworkFacts>,
    pub(super) containers: BTreeMap<ContainerId, Known>,
    /// The served networks that each container is connected to, by `networks`.
    attached: BTreeMap<ContainerId, BTreeSet<NetworkId>>,
    /// What could not be read, and why.
    pub(super) unreadable: BTreeMap<Subject, String>,
    /// The interfaces of the namespace that veer serves.
    pub(super) host: HostLinks,
    /// Namespaces that were found, and of which it is not known yet whose they are.
    sandboxes: Vec<Sandbox>,
}

/// Something that can be read from the Engine by its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Subject {
    Container(ContainerId),
    Network(NetworkId),
}

/// What is known of one container. There may be events about it before its first inspection.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) facts: Option<ContainerFacts>,
    pub(super) phase: Phase,
    pub(super) inside: Option<Inside>,
    /// Whether something has happened to an interface of its namespace since that was looked into.
    pub(super) is_stale: bool,
    /// Why its namespace could not be looked into.
    pub(super) outside: Option<String>,
}

impl Known {
    /// Whether that is another phase than before.
    fn enter(&mut self, phase: Phase) -> bool {
        std::mem::replace(&mut self.phase, phase) != self.phase
    }
}

impl View {
    /// Takes in an inspection. Returns the networks about which it disagrees with what was known.
    pub(super) fn read_container(&mut self, facts: ContainerFacts) -> Vec<NetworkId> {
        self.unreadable
            .remove(&Subject::Container(facts.id.clone()));
        let doubts = self.doubts(&facts);
        let known = self.containers.entry(facts.id.clone()).or_default();
        known.phase = known.phase.read(&facts);
        let moved = known.inside.as_ref().is_some_and(|inside| {
            facts
                .sandbox
                .as_ref()
                .is_some_and(|path| *path != inside.netns.path)
        });
        if known.phase == Phase::Idle || moved {
            known.inside = None;
            known.outside = None;
        }
        if known.phase != Phase::Idle {
            self.connect_as_told(&facts);
        }
        let known = self.containers.entry(facts.id.clone()).or_default();
        known.facts = Some(facts);
        doubts
    }

    /// Takes the places that a container's inspection gives it in networks that have not told of it
    /// yet. They are asked all the same, and what they say holds.
    fn connect_as_told(&mut self, facts: &ContainerFacts) {
        for endpoint in facts.endpoints.values() {
            let (Some(id), Some(port)) = (&endpoint.network, &endpoint.port) else {
                continue;
            };
            if let Some(network) = self.networks.get_mut(id)
                && network.is_served()
            {
                let place = network.ports.entry(facts.id.clone());
                place.or_insert_with(|| port.clone());
                let networks = self.attached.entry(facts.id.clone()).or_default();
                networks.insert(id.clone());
            }
        }
    }

    fn doubts(&self, facts: &ContainerFacts) -> Vec<NetworkId> {
        let said: BTreeSet<_> = facts
            .endpoints
            .values()
            .filter_map(|endpoint| {
                Some((endpoint.network.as_ref()?, endpoint.endpoint_id.as_ref()?))
            })
            .filter(|(network, _)| {
                self.networks
                    .get(network)
                    .is_none_or(NetworkFacts::is_served)
            })
            .collect();
        let known = self
            .ports_of(&facts.id)
            .map(|(network, port)| (&network.network.id, &port.endpoint_id))
            .collect();
        let differing = said.symmetric_difference(&known);
        differing.map(|(network, _)| (*network).clone()).collect()
    }

    /// Takes in a network's inspection. Returns the containers in it of which nothing is known.
    pub(super) fn read_network(&mut self, facts: NetworkFacts) -> Vec<ContainerId> {
        let id = facts.network.id.clone();
        self.unreadable.remove(&Subject::Network(id.clone()));
        let strangers = facts
            .ports
            .keys()
            .filter(|container| self.facts(container).is_none())
            .cloned()
            .collect();
        self.detach_all(&id);
        if facts.is_served() {
            for container in facts.ports.keys() {
                let networks = self.attached.entry(container.clone()).or_default();
                networks.insert(id.clone());
            }
        }
        self.networks.insert(id, facts);
        strangers
    }

    /// Forgets what the Engine no longer knows.
    pub(super) fn forget(&mut self, subject: &Subject) {
        self.unreadable.remove(subject);
        match subject {
            Subject::Container(id) => drop(self.containers.remove(id)),
            Subject::Network(id) => {
                self.detach_all(id);
                self.networks.remove(id);
            }
        }
    }

    /// Takes a network out of the index of attachments.
    fn detach_all(&mut self, network: &NetworkId) {
        let Some(facts) = self.networks.get(network) else {
            return;
        };
        for container in facts.ports.keys() {
            if let Some(networks) = self.attached.get_mut(container) {
                networks.remove(network);
                if networks.is_empty() {
                    self.attached.remove(container);
                }
            }
        }
    }

    /// Forgets what is not in a complete list of what there is.
    pub(super) fn retain(&mut self, there: &BTreeSet<Subject>) {
        let containers = self.containers.keys().cloned().map(Subject::Container);
        let networks = self.networks.keys().cloned().map(Subject::Network);
        let known = containers.chain(networks);
        let unread = self.unreadable.keys().cloned();
        let gone: Vec<_> = known
            .chain(unread)
            .filter(|subject| !there.contains(subject))
            .collect();
        gone.iter().for_each(|subject| self.forget(subject));
    }

    /// Keeps what was known of a subject that cannot be read, and tells.
    pub(super) fn could_not_read(&mut self, subject: Subject, error: String) {
        self.unreadable.insert(subject, error);
    }

    /// Takes note that a container is in one more network. Whether that changes its phase.
    pub(super) fn connected(&mut self, container: &ContainerId) -> bool {
        let known = self.containers.entry(container.clone()).or_default();
        known.enter(known.phase.connected())
    }

    /// Takes note that a container has ended. Whether it was known.
    pub(super) fn died(&mut self, container: &ContainerId) -> bool {
        let Some(known) = self.containers.get_mut(container) else {
            return false;
        };
        known.phase = Phase::Idle;
        known.inside = None;
        known.outside = None;
        true
    }

    /// Takes note that `signal` was sent. Only what `docker stop` would send means the end; a
    /// container of which nothing is known yet is read anyway. Whether it changes the phase.
    pub(super) fn signalled(&mut self, container: &ContainerId, signal: Signal) -> bool {
        let Some(known) = self.containers.get_mut(container) else {
            return false;
        };
        if let Some(facts) = &known.facts
            && (signal == facts.stop_signal || signal == Signal::KILL)
        {
            return known.enter(known.phase.told_to_stop(facts));
        }
        false
    }

    /// Takes note that an interface left the host's namespace. Returns whose it was.
    pub(super) fn link_gone(&mut self, host_ifindex: u32) -> Vec<ContainerId> {
        // Numbers are given again.
        if let Some(number) = self.host.number_behind(host_ifindex) {
            self.forget_sandbox(number);
        }
        self.host.gone(host_ifindex);
        let mut owners = Vec::new();
        for (id, known) in &self.containers {
            if let Some(inside) = &known.inside
                && inside.has_peer(host_ifindex)
            {
                owners.push(id.clone());
            }
        }
        owners
    }

    /// Takes note that an interface of the host was moved to the namespace with this number. Returns the
    /// host side of the pair, if it is one.
    pub(super) fn link_moved(&mut self, ifindex: u32, number: i32) -> Option<u32> {
        self.host.moved(ifindex, number)
    }

    fn forget_sandbox(&mut self, number: i32) {
        self.sandboxes.retain(|sandbox| sandbox.number != number);
    }

    /// Takes in the namespaces that were found. Whether any of them is new.
    pub(super) fn glimpsed(&mut self, sandboxes: Vec<Sandbox>) -> bool {
        let is_new = sandboxes.iter().any(|it| !self.sandboxes.contains(it));
        self.sandboxes = sandboxes;
        is_new
    }

    /// The namespaces of [`View::glimpsed`] that nobody is known to have, and that lead to served
    /// networks: with these networks.
    pub(super) fn unclaimed(&self) -> impl Iterator<Item = (&Sandbox, Vec<NetworkId>)> {
        let mut known = self
            .containers
            .values()
            .filter_map(|known| known.inside.as_ref());
        let claimed: BTreeSet<u64> = known.by_ref().map(|inside| inside.netns.cookie).collect();
        let unclaimed = self
            .sandboxes
            .iter()
            .filter(move |sandbox| !claimed.contains(&sandbox.netns.cookie));
        let with_networks = unclaimed.map(|sandbox| {
            let served = self.networks.values().filter(|facts| facts.is_served());
            let joined =
                served.filter(|facts| self.host.joins(&facts.network.bridge, sandbox.number));
            (
                sandbox,
                joined.map(|facts| facts.network.id.clone()).collect(),
            )
        });
        with_networks.filter(|(_, networks): &(_, Vec<_>)| !networks.is_empty())
    }

    /// Takes note that something happened to the pair whose host side is `host_ifindex`. Returns
    /// whether the other end is in the namespace of a known container, which is then to be looked into
    /// again.
    pub(super) fn touched(&mut self, host_ifindex: u32) -> bool {
        let Some(number) = self.host.leads_to(host_ifindex) else {
            return false;
        };
        let mut is_known = false;
        for known in self.containers.values_mut() {
            if known
                .inside
                .as_ref()
                .is_some_and(|inside| inside.is_numbered(number))
            {
                known.is_stale = true;
                is_known = true;
            }
        }
        is_known
    }

    /// Takes note that a container's namespace is being looked into now.
    pub(super) fn visiting(&mut self, container: &ContainerId) {
        if let Some(known) = self.containers.get_mut(container) {
            known.is_stale = false;
        }
    }

    /// Takes in what was seen inside a container's namespace.
    pub(super) fn looked(&mut self, container: &ContainerId, seen: Result<Inside, String>) {
        let Some(known) = self.containers.get_mut(container) else {
            return;
        };
        match seen {
            Ok(inside) => {
                known.inside = Some(inside);
                known.outside = None;
            }
            Err(error) => known.outside = Some(error),
        }
    }

    /// Gives a namespace that was found to the container whose interface is in it.
    pub(super) fn claim(&mut self, inside: Inside) {
        let owner = self
            .containers
            .iter()
            .find(|(id, known)| {
                known.inside.is_none()
                    && known.phase != Phase::Idle
                    && self.ports_of(id).any(|(facts, port)| {
                        let link = self.link(facts, &inside);
                        link.is_some_and(|link| link.mac == port.mac)
                    })
            })
            .map(|(id, _)| id.clone());
        if let Some(owner) = owner {
            self.looked(&owner, Ok(inside));
        }
    }

    /// The containers that are there and connected to a served network.
    pub(super) fn attached(&self) -> impl Iterator<Item = (&ContainerId, &Known)> {
        let attached = self.attached.keys();
        attached
            .filter_map(|id| Some((id, self.containers.get(id)?)))
            .filter(|(_, known)| known.phase != Phase::Idle)
    }

    /// Whether something about a container's interfaces is not known that should be, or may be out of
    /// date.
    pub(super) fn is_incomplete(&self, id: &ContainerId, known: &Known) -> bool {
        known.is_stale || self.lacks_interface(id, known, |_, _| false)
    }

    /// Whether some container has an interface that is not known, or not as the Engine says it is.
    pub(super) fn lacks_interfaces(&self) -> bool {
        self.attached()
            .any(|(id, known)| self.lacks_interface(id, known, |link, port| link.mac != port.mac))
    }

    fn lacks_interface(
        &self,
        id: &ContainerId,
        known: &Known,
        is_wrong: impl Fn(&Link, &Port) -> bool,
    ) -> bool {
        let Some(inside) = &known.inside else {
            return true;
        };
        self.ports_of(id).any(|(facts, port)| {
            self.link(facts, inside).is_none_or(|link| {
                (port.v6.is_some() && link.link_local.is_none()) || is_wrong(&link, port)
            })
        })
    }

    /// Whether `host_ifindex` is the host side of a known container's interface.
    pub(super) fn is_owned(&self, host_ifindex: u32) -> bool {
        let mut insides = self
            .containers
            .values()
            .filter_map(|known| known.inside.as_ref());
        insides.any(|inside| inside.has_peer(host_ifindex))
    }

    /// The served networks that have an interface which is no known container's.
    pub(super) fn networks_with_strays(&self) -> Vec<NetworkId> {
        let served = self.networks.values().filter(|facts| facts.is_served());
        let strayed = served.filter(|facts| {
            let mut plugged = self.host.plugged_into(&facts.network.bridge);
            plugged.any(|ifindex| !self.is_owned(ifindex))
        });
        strayed.map(|facts| facts.network.id.clone()).collect()
    }

    /// The served networks that `container` is connected to.
    pub(super) fn networks_of(&self, container: &ContainerId) -> Vec<NetworkId> {
        let networks = self.attached.get(container);
        networks.into_iter().flatten().cloned().collect()
    }

    /// Where the namespaces are that are known to belong to some container.
    pub(super) fn sandboxes(&self) -> BTreeSet<PathBuf> {
        let known = self
            .containers
            .values()
            .filter(|known| known.phase != Phase::Idle);
        known
            .flat_map(|known| {
                // What the last inspection said is about the run before this one.
                let facts = known
                    .facts
                    .as_ref()
                    .filter(|_| known.phase != Phase::Starting);
                let told = facts.and_then(|facts| facts.sandbox.clone());
                let found = known
                    .inside
                    .as_ref()
                    .map(|inside| inside.netns.path.clone());
                told.into_iter().chain(found)
            })
            .collect()
    }

    /// The folder in which the Engine keeps its namespaces, if any container told.
    pub(super) fn sandbox_folder(&self) -> Option<PathBuf> {
        let mut told = self.containers.values().filter_map(|known| {
            let path = known.facts.as_ref()?.sandbox.as_ref()?;
            // A container in the host's namespace has a path like any other.
            let mode = &known.facts.as_ref()?.mode;
            (*mode != Mode::Host).then(|| path.parent().map(PathBuf::from))?
        });
        told.next()
    }

    /// The served networks that `container` is connected to.
    pub(super) fn ports_of<'a>(
        &'a self,
        container: &'a ContainerId,
    ) -> impl Iterator<Item = (&'a NetworkFacts, &'a Port)> {
        let networks = self.attached.get(container).into_iter().flatten();
        networks.filter_map(move |id| {
            let facts = self.networks.get(id)?;
            Some((facts, facts.ports.get(container)?))
        })
    }

    /// The veth pair by which what is seen in a namespace is connected to a network.
    pub(super) fn link(&self, facts: &NetworkFacts, inside: &Inside) -> Option<Link> {
        inside.link(&self.host, &facts.network.bridge)
    }

    pub(super) fn facts(&self, container: &ContainerId) -> Option<&ContainerFacts> {
        self.containers.get(container)?.facts.as_ref()
    }
}
