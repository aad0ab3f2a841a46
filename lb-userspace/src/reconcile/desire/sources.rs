//! Who may reach a published port: lists of clients, made of the rules that concern it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::{Source, SourceAction, SourceKey};
use xxhash_rust::xxh3::xxh3_64;

use super::surroundings::bits;
use crate::config::FirewallRule;
use crate::model::Protocol;
use crate::reconcile::{Fact, State};

/// Whom a Frontend serves by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clients<'a> {
    /// Empty: everybody.
    pub allow: &'a [IpNet],
    pub deny: &'a [IpNet],
}

/// What was asked for: where the rules are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub protocol: Protocol,
    pub port: u16,
    /// The host's address, or the wildcard of its family.
    pub address: IpAddr,
}

/// The rules about published ports.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    firewall: &'a [FirewallRule],
    /// Those of the rules' counters, in the same order.
    numbers: Vec<u16>,
    /// Lists that were made, by content.
    lists: BTreeMap<Vec<(IpNet, Source)>, u32>,
    taken: BTreeSet<u32>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(firewall: &'a [FirewallRule], numbers: Vec<u16>) -> Self {
        Self {
            firewall,
            numbers,
            lists: BTreeMap::new(),
            taken: BTreeSet::from([0]),
        }
    }

    /// Ports at which another list begins to hold for this protocol.
    pub(super) fn bounds(&self, protocol: Protocol) -> impl Iterator<Item = u32> {
        let rules = self.firewall.iter();
        let rules = rules.filter(move |rule| rule.protocol.is_none_or(|own| own == protocol));
        let ports = rules.filter_map(|rule| rule.ports.as_ref());
        ports.flat_map(|ports| [u32::from(*ports.start()), u32::from(*ports.end()) + 1])
    }

    /// Single addresses that rules name, in the family of `address`.
    pub(super) fn addresses(&self, address: IpAddr) -> impl Iterator<Item = IpAddr> {
        let named = self.firewall.iter().filter_map(|rule| rule.address);
        named.filter(move |own| own.is_ipv4() == address.is_ipv4() && !own.is_unspecified())
    }

    /// The list for what was asked for, put into the state if it is new; 0: everybody is served.
    pub(super) fn list(&mut self, asked: &Asked, clients: Clients<'_>, state: &mut State) -> u32 {
        let content = self.content(asked, clients);
        if content.is_empty() {
            return 0;
        }
        if let Some(known) = self.lists.get(&content) {
            return *known;
        }
        let mut list = xxh3_64(format!("{content:?}").as_bytes()) as u32;
        while !self.taken.insert(list) {
            list = list.wrapping_add(1);
        }
        for (net, source) in &content {
            let key = SourceKey {
                prefix_length: 32 + bits(net),
                list,
                address: net.network().into(),
            };
            let fact = Fact::Source(key, *source);
            state.facts.insert(fact.place(), fact);
        }
        self.lists.insert(content, list);
        list
    }

    /// What holds for each range of clients that something is said about. The longest range that has
    /// an address decides about it: everything said about that address is said about the range.
    fn content(&self, asked: &Asked, clients: Clients<'_>) -> Vec<(IpNet, Source)> {
        let rules = self.numbers.iter().copied().zip(self.firewall);
        let rules: Vec<_> = rules.filter(|(_, rule)| concerns(rule, asked)).collect();
        let everybody = everybody(asked.address);
        let sources = rules.iter().filter_map(|(_, rule)| rule.source);
        let own = clients.allow.iter().chain(clients.deny).copied();
        let same_family = |net: &IpNet| net.addr().is_ipv4() == asked.address.is_ipv4();
        let mut ranges: BTreeSet<IpNet> = sources.chain(own).filter(same_family).collect();
        ranges.insert(everybody);
        let judged = ranges
            .iter()
            .map(|range| (*range, judge(range, &rules, clients)));
        let judged: Vec<_> = judged.collect();
        let says_nothing = |(_, source): &(IpNet, Source)| *source == Source::default();
        match judged.iter().all(says_nothing) {
            true => Vec::new(),
            false => judged,
        }
    }
}

fn judge(range: &IpNet, rules: &[(u16, &FirewallRule)], clients: Clients<'_>) -> Source {
    let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(range));
    let unwanted = within(clients.deny) || (!clients.allow.is_empty() && !within(clients.allow));
    let mut rules = rules.iter();
    let deciding = rules.find(|(_, rule)| rule.source.is_none_or(|net| net.contains(range)));
    let denied = unwanted || deciding.is_some_and(|(_, rule)| !rule.allows);
    let action = |denied| match denied {
        true => SourceAction::Deny as u8,
        false => SourceAction::Allow as u8,
    };
    Source {
        action: action(denied),
        // As with DOCKER-USER, which is for what is forwarded.
        own_action: action(unwanted),
        // Counter 0 is that of Frontends' own lists.
        rule: deciding.map_or(0, |(number, _)| *number),
    }
}

fn concerns(rule: &FirewallRule, asked: &Asked) -> bool {
    rule.protocol.is_none_or(|own| own == asked.protocol)
        && rule
            .ports
            .as_ref()
            .is_none_or(|own| own.contains(&asked.port))
        && rule
            .source
            .is_none_or(|net| net.addr().is_ipv4() == asked.address.is_ipv4())
        && match rule.address {
            None => true,
            Some(own) if own.is_unspecified() => own.is_ipv4() == asked.address.is_ipv4(),
            Some(own) => own == asked.address,
        }
}

/// Every address of the family.
fn everybody(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allows: bool, source: Option<&str>) -> FirewallRule {
        FirewallRule {
            allows,
            source: source.map(|net| net.parse().unwrap()),
            address: None,
            ports: Some(5_432..=5_432),
            protocol: None,
        }
    }

    /// Numbered by their places.
    fn rules(firewall: &[FirewallRule]) -> Rules<'_> {
        Rules::new(firewall, (1..).take(firewall.len()).collect())
    }

    const ASKED: Asked = Asked {
        protocol: Protocol::Tcp,
        port: 5_432,
        address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
    };

    /// Whether the kernel's lookup, the longest match, denies `client`.
    fn denies(content: &[(IpNet, Source)], client: &str) -> (bool, u16) {
        let client: IpAddr = client.parse().unwrap();
        let fitting = content.iter().filter(|(net, _)| net.contains(&client));
        let (_, source) = fitting.max_by_key(|(net, _)| net.prefix_len()).unwrap();
        (source.denies(), source.rule)
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let firewall = [
            rule(false, Some("10.1.2.0/24")),
            rule(true, Some("10.0.0.0/8")),
            rule(true, Some("10.1.2.3/32")),
            rule(false, None),
        ];
        let content = rules(&firewall).content(&ASKED, Clients::default());

        assert_eq!(denies(&content, "10.1.2.3"), (true, 1));
        assert_eq!(denies(&content, "10.9.9.9"), (false, 2));
        assert_eq!(denies(&content, "192.0.2.1"), (true, 4));
    }

    #[test]
    fn who_is_not_allowed_is_denied_and_denial_counts_more() {
        let nets =
            |nets: &[&str]| -> Vec<IpNet> { nets.iter().map(|n| n.parse().unwrap()).collect() };
        let (allow, deny) = (
            nets(&["10.0.0.0/8", "2001:db8::/32"]),
            nets(&["10.1.0.0/16"]),
        );
        let clients = Clients {
            allow: &allow,
            deny: &deny,
        };
        let content = rules(&[]).content(&ASKED, clients);

        let everything_is_own = |(_, source): &(IpNet, Source)| source.action == source.own_action;
        assert!(content.iter().all(everything_is_own));
        assert!(!denies(&content, "10.2.0.1").0);
        assert!(denies(&content, "10.1.0.1").0);
        assert!(denies(&content, "192.0.2.1").0);
    }

    #[test]
    fn rules_are_not_for_processes_of_the_host() {
        let firewall = [rule(false, None)];
        let content = rules(&firewall).content(&ASKED, Clients::default());

        assert!(denies(&content, "192.0.2.1").0);
        assert!(content.iter().all(|(_, source)| !source.denies_host()));
    }

    #[test]
    fn rules_about_other_ports_make_no_list() {
        let firewall = [rule(false, None)];
        let asked = Asked { port: 80, ..ASKED };
        let mut state = State::default();

        let list = rules(&firewall).list(&asked, Clients::default(), &mut state);

        assert_eq!((list, state.facts.len()), (0, 0));
    }

    #[test]
    fn equal_lists_are_one() {
        let firewall = [rule(false, None)];
        let mut rules = rules(&firewall);
        let mut state = State::default();
        let other = Asked {
            address: "192.0.2.1".parse().unwrap(),
            ..ASKED
        };

        let one = rules.list(&ASKED, Clients::default(), &mut state);
        let two = rules.list(&other, Clients::default(), &mut state);

        assert!(one != 0 && one == two);
        assert_eq!(state.facts.len(), 1);
    }
}
