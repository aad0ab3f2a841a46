//! What there is to do inside containers' namespaces. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::model::{Gate, Netns};
use crate::reconcile::{ServedNamespace, VipRoute};

/// What was done inside each namespace, by its cookie.
#[derive(Clone, Debug, Default)]
pub(super) struct Visited {
    known: BTreeMap<u64, Done>,
}

#[derive(Clone, Debug, Default)]
struct Done {
    routes: BTreeSet<VipRoute>,
    taken_over: bool,
    servers: Vec<Ipv4Addr>,
    gate: Option<Gate>,
}

/// Where veer answers queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takeover {
    /// Nowhere.
    None,
    /// In the namespaces that ask.
    Inside,
    /// At the host's addresses on containers' Networks.
    OnHost,
}

/// One namespace that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Visit {
    pub(super) netns: Netns,
    pub(super) add: Vec<VipRoute>,
    pub(super) remove: Vec<VipRoute>,
    /// Whether its DNS is yet to be taken over.
    pub(super) take_over: bool,
    /// Servers whose place veer takes there.
    pub(super) servers: Vec<Ipv4Addr>,
    /// Where it is answered on the host; `None`: inside.
    pub(super) gate: Option<Gate>,
}

/// Everything that is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Visits {
    pub(super) enter: Vec<Visit>,
    /// Cookies of namespaces that are served, but whose DNS is no longer.
    pub(super) give_back: Vec<u64>,
    /// Cookies of namespaces that are no longer served.
    pub(super) leave: Vec<u64>,
}

impl Visited {
    /// What is missing for `wanted`. `dns` says whether queries are taken over at all, and where.
    pub(super) fn missing(&self, wanted: &[ServedNamespace], dns: Takeover) -> Visits {
        let mut visits = Visits::default();
        let unknown = Done::default();
        for namespace in wanted {
            let done = self.known.get(&namespace.netns.cookie).unwrap_or(&unknown);
            let gate = namespace.gate.as_ref();
            let gate = gate.filter(|_| dns == Takeover::OnHost).cloned();
            let has_place = match dns {
                Takeover::None => false,
                Takeover::Inside => true,
                Takeover::OnHost => gate.is_some(),
            };
            let is_answered = has_place && namespace.knows_names;
            let has_moved = done.gate != gate;
            if done.taken_over && (!is_answered || has_moved) {
                visits.give_back.push(namespace.netns.cookie);
            }
            let is_done = done.taken_over && !has_moved && done.servers == namespace.servers;
            let routes: BTreeSet<_> = namespace.routes.iter().copied().collect();
            let visit = Visit {
                netns: namespace.netns.clone(),
                add: routes.difference(&done.routes).copied().collect(),
                remove: done.routes.difference(&routes).copied().collect(),
                take_over: is_answered && !is_done,
                servers: namespace.servers.clone(),
                gate,
            };
            if !visit.add.is_empty() || !visit.remove.is_empty() || visit.take_over {
                visits.enter.push(visit);
            }
        }
        let wanted: BTreeSet<_> = wanted.iter().map(|space| space.netns.cookie).collect();
        let gone = self.known.keys().filter(|cookie| !wanted.contains(cookie));
        visits.leave = gone.copied().collect();
        visits
    }

    /// Notes that the routes of `visit` are as they should be.
    pub(super) fn routed(&mut self, visit: &Visit) {
        let done = self.known.entry(visit.netns.cookie).or_default();
        done.routes.extend(&visit.add);
        for route in &visit.remove {
            done.routes.remove(route);
        }
    }

    /// Notes that queries of this namespace are answered by veer; whether they were not before.
    pub(super) fn taken_over(&mut self, visit: &Visit) -> bool {
        let done = self.known.entry(visit.netns.cookie).or_default();
        done.servers.clone_from(&visit.servers);
        done.gate.clone_from(&visit.gate);
        !std::mem::replace(&mut done.taken_over, true)
    }

    /// Notes whose queries the DNS server still answers, by cookie: it gives a namespace up when its
    /// sockets fail.
    pub(super) fn confirm(&mut self, answered: &[u64]) {
        let answered: BTreeSet<_> = answered.iter().collect();
        for (cookie, done) in &mut self.known {
            done.taken_over &= answered.contains(cookie);
        }
    }

    /// Notes that queries of this namespace are answered by Docker again.
    pub(super) fn given_back(&mut self, cookie: u64) {
        self.known.entry(cookie).or_default().taken_over = false;
    }

    /// Notes that the namespace is no longer served.
    pub(super) fn left(&mut self, cookie: u64) {
        self.known.remove(&cookie);
    }

    /// Cookies of every namespace that was visited.
    pub(super) fn cookies(&self) -> Vec<u64> {
        self.known.keys().copied().collect()
    }

    /// How many namespaces' queries are answered by veer.
    pub(super) fn count_taken_over(&self) -> usize {
        self.known.values().filter(|done| done.taken_over).count()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::model::ContainerId;

    fn namespace(cookie: u64, routes: &[u32]) -> ServedNamespace {
        let route = |ifindex: &u32| VipRoute {
            container_ifindex: *ifindex,
            to: "198.18.0.0/22".parse().unwrap(),
        };
        ServedNamespace {
            netns: Netns {
                path: PathBuf::from(format!("/proc/{cookie}/ns/net")),
                cookie,
            },
            container: ContainerId(cookie.to_string()),
            routes: routes.iter().map(route).collect(),
            knows_names: true,
            servers: Vec::new(),
            gate: None,
        }
    }

    #[test]
    fn a_new_namespace_gets_its_routes_and_its_dns_and_then_nothing_is_missing() {
        let wanted = [namespace(1, &[2, 3])];
        let mut visited = Visited::default();

        let visits = visited.missing(&wanted, Takeover::Inside);
        for visit in &visits.enter {
            visited.routed(visit);
            visited.taken_over(visit);
        }

        assert_eq!(
            (visits.enter[0].add.len(), visits.enter[0].take_over),
            (2, true)
        );
        assert_eq!(
            visited.missing(&wanted, Takeover::Inside),
            Visits::default()
        );
        assert_eq!(visited.count_taken_over(), 1);
    }

    #[test]
    fn a_change_of_routes_does_not_touch_dns() {
        let mut visited = Visited::default();
        let first = visited.missing(&[namespace(1, &[2])], Takeover::Inside);
        visited.routed(&first.enter[0]);
        visited.taken_over(&first.enter[0]);

        let visits = visited.missing(&[namespace(1, &[3])], Takeover::Inside);

        let visit = &visits.enter[0];
        let indexes = |routes: &[VipRoute]| routes.iter().map(|r| r.container_ifindex).collect();
        let (added, removed): (Vec<_>, Vec<_>) = (indexes(&visit.add), indexes(&visit.remove));
        assert_eq!((added, removed, visit.take_over), (vec![3], vec![2], false));
    }

    #[test]
    fn without_takeover_only_routes_are_missing() {
        let mut visited = Visited::default();
        let wanted = [namespace(1, &[2]), namespace(2, &[])];

        let visits = visited.missing(&wanted, Takeover::None);
        visited.routed(&visits.enter[0]);

        assert_eq!(visits.enter.len(), 1);
        assert_eq!(visited.missing(&wanted, Takeover::None), Visits::default());
    }

    #[test]
    fn names_that_only_docker_knows_are_left_to_docker() {
        let mut visited = Visited::default();
        let mut wanted = [namespace(1, &[2])];
        let first = visited.missing(&wanted, Takeover::Inside);
        visited.routed(&first.enter[0]);
        visited.taken_over(&first.enter[0]);

        wanted[0].knows_names = false;
        let visits = visited.missing(&wanted, Takeover::Inside);
        visited.given_back(1);

        assert_eq!((visits.enter.len(), visits.give_back), (0, vec![1]));
        assert_eq!(
            visited.missing(&wanted, Takeover::Inside),
            Visits::default()
        );
        wanted[0].knows_names = true;
        assert!(visited.missing(&wanted, Takeover::Inside).enter[0].take_over);
    }

    #[test]
    fn a_namespace_whose_sockets_failed_is_taken_over_again() {
        let mut visited = Visited::default();
        let wanted = [namespace(1, &[]), namespace(2, &[])];
        for visit in visited.missing(&wanted, Takeover::Inside).enter {
            visited.taken_over(&visit);
        }

        visited.confirm(&[2]);
        let visits = visited.missing(&wanted, Takeover::Inside);

        assert_eq!((visits.enter.len(), visits.enter[0].netns.cookie), (1, 1));
        assert!(visits.enter[0].take_over);
    }

    #[test]
    fn a_namespace_that_is_gone_is_left() {
        let mut visited = Visited::default();
        let wanted = [namespace(1, &[])];
        for visit in visited.missing(&wanted, Takeover::Inside).enter {
            visited.taken_over(&visit);
        }

        let visits = visited.missing(&[], Takeover::Inside);
        visited.left(1);

        assert_eq!(visits.leave, [1]);
        assert_eq!(visited.missing(&[], Takeover::Inside), Visits::default());
    }

    #[test]
    fn other_servers_to_stand_for_are_one_more_visit() {
        let mut visited = Visited::default();
        let mut wanted = [namespace(1, &[])];
        let first = visited.missing(&wanted, Takeover::Inside);
        assert!(visited.taken_over(&first.enter[0]), "for the first time");

        wanted[0].servers = vec![Ipv4Addr::new(192, 0, 2, 53)];
        let visits = visited.missing(&wanted, Takeover::Inside);

        assert_eq!(visits.enter[0].servers, wanted[0].servers);
        assert!(!visited.taken_over(&visits.enter[0]));
        assert_eq!(
            visited.missing(&wanted, Takeover::Inside),
            Visits::default()
        );
    }

    #[test]
    fn on_the_host_whoever_has_a_place_there_is_answered_and_moves_with_it() {
        let gate = |last| Gate {
            bridge: "br".to_owned(),
            ifindex: 5,
            gateway: Ipv4Addr::new(172, 20, 0, 1),
            guest: Ipv4Addr::new(172, 20, 0, last),
        };
        let mut visited = Visited::default();
        let mut wanted = [namespace(1, &[])];
        let missing = |visited: &Visited, wanted: &[_]| visited.missing(wanted, Takeover::OnHost);

        assert_eq!(missing(&visited, &wanted), Visits::default());
        wanted[0].gate = Some(gate(2));
        let first = missing(&visited, &wanted);
        assert_eq!(
            (&first.enter[0].gate, first.give_back.len()),
            (&wanted[0].gate, 0)
        );
        visited.taken_over(&first.enter[0]);
        assert_eq!(missing(&visited, &wanted), Visits::default());

        wanted[0].gate = Some(gate(3));
        let moved = missing(&visited, &wanted);
        assert_eq!(
            (&moved.enter[0].gate, moved.give_back),
            (&wanted[0].gate, vec![1])
        );
        visited.given_back(1);
        visited.taken_over(&moved.enter[0]);
        wanted[0].gate = None;
        let lost = missing(&visited, &wanted);
        assert_eq!((lost.enter.len(), lost.give_back), (0, vec![1]));
    }
}
