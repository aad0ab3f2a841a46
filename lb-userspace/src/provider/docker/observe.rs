//! What is known of the Engine, as one observation.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::facts::{ContainerFacts, EndpointFacts, Mode, NetworkFacts, Port, Service};
use super::phase::Phase;
use super::view::{Known, Subject, View};
use crate::model::{
    Arriving, Attachment, Container, ContainerId, Elsewhere, Notice, Observed, Publishing, RunState,
};

/// The observation that `view` amounts to.
pub(super) fn observe(view: &View) -> Observed {
    let mut sharers = sharers(view);
    let containers = view
        .containers
        .iter()
        .filter_map(|(id, known)| container(view, id, known, &mut sharers))
        .collect();
    let served = view.networks.values().filter(|facts| facts.is_served());
    Observed {
        networks: served.map(|facts| facts.network.clone()).collect(),
        containers,
        arriving: arriving(view),
        notices: notices(view),
    }
}

fn container(
    view: &View,
    id: &ContainerId,
    known: &Known,
    sharers: &mut BTreeMap<ContainerId, Vec<String>>,
) -> Option<Container> {
    let state = known.phase.run_state()?;
    let facts = known.facts.as_ref()?;
    let attachments = attachments(view, id, known, facts);
    if attachments.is_empty() {
        return None;
    }
    Some(Container {
        id: id.clone(),
        name: facts.name.clone(),
        hostname: facts.hostname.clone(),
        state,
        labels: facts.labels.clone(),
        netns: known.inside.as_ref().map(|inside| inside.netns.clone()),
        sharers: sharers.remove(id).unwrap_or_default(),
        dns_servers: facts.dns_servers.clone(),
        attachments,
        elsewhere: elsewhere(view, facts),
        publishing: publishing(view, facts),
    })
}

/// Containers of which too little is known, and which may ask for names already. Those that are on a
/// network of others too are left to Docker's resolver.
fn arriving(view: &View) -> Vec<Arriving> {
    let mut arriving = uninspected(view);
    arriving.extend(unseen(view));
    arriving
}

/// Containers that are being started and whose namespaces were found, but not looked into. Which of them
/// has which is not known, but that it is one of them.
fn unseen(view: &View) -> impl Iterator<Item = Arriving> {
    view.unclaimed().filter_map(|(sandbox, networks)| {
        let is_on_them = |id: &ContainerId| {
            let mut of = view.networks_of(id).into_iter();
            of.any(|network| networks.contains(&network))
        };
        let waiting = view.attached().filter(|(_, known)| known.inside.is_none());
        let mut waiting = waiting.filter(|(id, _)| is_on_them(id)).peekable();
        let (container, _) = waiting.peek()?;
        let container = (*container).clone();
        waiting
            .all(|(id, known)| !has_names_of_others(view, id, known))
            .then(|| Arriving {
                container,
                netns: sandbox.netns.clone(),
                networks,
            })
    })
}

fn has_names_of_others(view: &View, id: &ContainerId, known: &Known) -> bool {
    match &known.facts {
        Some(facts) => elsewhere(view, facts) == Elsewhere::Names,
        None => is_on_others(view, id),
    }
}

fn is_on_others(view: &View, id: &ContainerId) -> bool {
    let mut all = view.networks.values();
    all.any(|facts| !facts.is_served() && facts.ports.contains_key(id))
}

/// Containers that were started so soon after they were created that their inspection waits until
/// their process runs.
fn uninspected(view: &View) -> Vec<Arriving> {
    let is_awaited = |id: &ContainerId| {
        let subject = Subject::Container(id.clone());
        view.facts(id).is_none() && !view.unreadable.contains_key(&subject)
    };
    let unknown = view.attached().filter(|(id, _)| is_awaited(id));
    let arriving = unknown.filter_map(|(id, known)| {
        let is_elsewhere = is_on_others(view, id);
        Some(Arriving {
            container: id.clone(),
            netns: known
                .inside
                .as_ref()
                .filter(|_| !is_elsewhere)?
                .netns
                .clone(),
            networks: view.networks_of(id),
        })
    });
    arriving.collect()
}

/// The most that the container has on any network without names of ours, connected or yet to be.
fn elsewhere(view: &View, facts: &ContainerFacts) -> Elsewhere {
    let networks = connected(view, facts).map(|(network, _)| network);
    let elsewhere = networks.map(|network| {
        if network.network.policy.is_default_bridge {
            Elsewhere::WayOut
        } else if network.is_served() {
            Elsewhere::Nothing
        } else {
            Elsewhere::Names
        }
    });
    elsewhere.max().unwrap_or_default()
}

/// The container's networks, served or not, connected or yet to be.
fn connected<'a>(
    view: &'a View,
    facts: &'a ContainerFacts,
) -> impl Iterator<Item = (&'a NetworkFacts, &'a EndpointFacts)> {
    let networks = view.networks.values();
    networks.filter_map(|network| Some((network, facts.endpoint(&network.network)?)))
}

/// What the container publishes, and by which network it leaves.
fn publishing(view: &View, facts: &ContainerFacts) -> Publishing {
    let gateway = |has: fn(&EndpointFacts) -> bool| {
        let networks = connected(view, facts);
        let leading = networks.filter(|(network, endpoint)| {
            endpoint.endpoint_id.is_some() && has(endpoint) && !network.network.internal
        });
        let first = leading.min_by_key(|(network, endpoint)| {
            let (v4, v6) = endpoint.gateway;
            let families = Reverse(u8::from(v4) + u8::from(v6));
            (
                Reverse(endpoint.gateway_priority),
                families,
                &network.network.name,
            )
        });
        first.map(|(network, _)| network.network.id.clone())
    };
    Publishing {
        ports: facts.ports.published.clone(),
        exposed: facts.ports.exposed.clone(),
        gateway_v4: gateway(|endpoint| endpoint.gateway.0),
        gateway_v6: gateway(|endpoint| endpoint.gateway.1),
        links: facts.links.clone(),
    }
}

/// In the order in which Docker's DNS asks a container's networks.
fn attachments(
    view: &View,
    id: &ContainerId,
    known: &Known,
    facts: &ContainerFacts,
) -> Vec<Attachment> {
    let mut places: Vec<_> = view
        .ports_of(id)
        .map(|(network, port)| (network, port, facts.endpoint(&network.network)))
        .collect();
    places.sort_by_key(|(network, port, endpoint)| rank(network, port, *endpoint));
    let attachment =
        |(network, port, endpoint): (&NetworkFacts, &Port, Option<&EndpointFacts>)| Attachment {
            network: network.network.id.clone(),
            endpoint_id: port.endpoint_id.clone(),
            v4: port.v4,
            v6: port.v6,
            aliases: endpoint
                .map(|facts| facts.aliases.clone())
                .unwrap_or_default(),
            linked: endpoint
                .map(|facts| facts.linked.clone())
                .unwrap_or_default(),
            link: known
                .inside
                .as_ref()
                .and_then(|inside| view.link(network, inside)),
        };
    places.into_iter().map(attachment).collect()
}

/// Gateway priority first, then networks with a way out, then more gateways, then the name.
fn rank<'a>(
    network: &'a NetworkFacts,
    port: &Port,
    endpoint: Option<&EndpointFacts>,
) -> (Reverse<i64>, bool, Reverse<u8>, &'a str) {
    let connected = endpoint.filter(|facts| facts.endpoint_id.is_some());
    let priority = endpoint.map_or(0, |facts| facts.gateway_priority);
    // Until the container can be inspected: a network that has addresses of a family has a gateway.
    let families = (port.v4.is_some(), port.v6.is_some());
    let (v4, v6) = connected.map_or(families, |facts| facts.gateway);
    (
        Reverse(priority),
        network.network.internal,
        Reverse(u8::from(v4) + u8::from(v6)),
        &network.network.name,
    )
}

/// Who lives in whose namespace, by name, in the order of their names.
fn sharers(view: &View) -> BTreeMap<ContainerId, Vec<String>> {
    let mut sharers: BTreeMap<ContainerId, Vec<String>> = BTreeMap::new();
    for facts in alive(view) {
        if let Mode::Container(host) = &facts.mode
            && let Some(id) = find(view, host)
        {
            sharers.entry(id).or_default().push(facts.name.clone());
        }
    }
    sharers.values_mut().for_each(|names| names.sort());
    sharers
}

/// The container that a user may write as id, name or beginning of an id.
fn find(view: &View, written: &str) -> Option<ContainerId> {
    let id = ContainerId(written.to_string());
    if view.containers.contains_key(&id) {
        return Some(id);
    }
    let mut all = view.containers.iter();
    let is = |(id, known): &(&ContainerId, &Known)| {
        let named = known
            .facts
            .as_ref()
            .is_some_and(|facts| facts.name == written);
        named || (written.len() >= 12 && id.0.starts_with(written))
    };
    all.find(is).map(|(id, _)| id.clone())
}

fn alive(view: &View) -> impl Iterator<Item = &ContainerFacts> {
    let there = view
        .containers
        .values()
        .filter(|known| known.phase != Phase::Idle);
    there.filter_map(|known| known.facts.as_ref())
}

fn notices(view: &View) -> Vec<Notice> {
    let mut notices: Vec<Notice> = view.networks.values().filter_map(network_notice).collect();
    notices.extend(view.containers.iter().filter_map(|(id, known)| {
        let message = container_notice(view, id, known)?;
        let name = &known.facts.as_ref()?.name;
        Some(about("container", name, message))
    }));
    notices.extend(view.unreadable.iter().map(|(subject, error)| {
        let (kind, name) = match subject {
            Subject::Container(id) => {
                let name = view.facts(id).map(|facts| facts.name.as_str());
                ("container", name.unwrap_or(id.short()))
            }
            Subject::Network(id) => {
                let name = view
                    .networks
                    .get(id)
                    .map(|facts| facts.network.name.as_str());
                ("network", name.unwrap_or(&id.0))
            }
        };
        about(
            kind,
            name,
            format!("{error}; what was known of it before holds"),
        )
    }));
    notices.sort();
    notices
}

fn network_notice(facts: &NetworkFacts) -> Option<Notice> {
    match &facts.service {
        Service::Served | Service::NotServed(None) => None,
        Service::NotServed(Some(why)) => Some(about("network", &facts.network.name, why.clone())),
    }
}

fn container_notice(view: &View, id: &ContainerId, known: &Known) -> Option<String> {
    let state = known.phase.run_state()?;
    let facts = known.facts.as_ref()?;
    match &facts.mode {
        Mode::Host => {
            return Some(
                "not served: it lives in the host's network (--net host), where there are no \
                 aliases; attach it to a network of its own to have it served"
                    .to_string(),
            );
        }
        Mode::Nothing => {
            return Some("not served: it has no network (--net none)".to_string());
        }
        Mode::Container(_) => return None,
        Mode::Networks => {}
    }
    view.ports_of(id).next()?;
    if let Some(error) = &known.outside {
        return Some(format!(
            "not served: {error}; veer has to see the Engine's own mounts, so run it in the host's \
             mount namespace"
        ));
    }
    let elsewhere = known
        .inside
        .as_ref()
        .is_some_and(|inside| !inside.is_reachable());
    if elsewhere && state != RunState::Starting {
        return Some(
            "not served: none of its interfaces leads to the network namespace that veer runs in; \
             run veer in the Engine's"
                .to_string(),
        );
    }
    names_notice(view, facts)
}

fn names_notice(view: &View, facts: &ContainerFacts) -> Option<String> {
    let mut networks = connected(view, facts).map(|(network, _)| network);
    let network = networks.find(|network| !network.is_served())?;
    let network = &network.network.name;
    Some(format!(
        "its names are left to Docker's resolver, which alone knows those of its network {network}: \
         aliases resolve to Members, not to VIPs; give it served networks only to change that"
    ))
}

fn about(kind: &str, name: &str, message: String) -> Notice {
    Notice {
        subject: format!("{kind} {name}"),
        message,
    }
}
