//! Which counter a rule about clients has.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::maps::RULES;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::FirewallRule;
use crate::reconcile::{Fact, State};

/// The numbers of the rules that there were last, by what is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rules(BTreeMap<u64, u16>);

impl Rules {
    /// The number of each rule, 0 where there is none left, and its identity. A rule keeps its number
    /// wherever it stands; a new one gets none of those that become free now, as lists of clients in the
    /// kernel still count with them.
    pub(super) fn number(&mut self, firewall: &[FirewallRule]) -> Vec<(u16, u64)> {
        let taken: BTreeSet<u16> = self.0.values().copied().collect();
        let mut free = (1..RULES as u16).filter(|number| !taken.contains(number));
        let mut numbered = Vec::with_capacity(firewall.len());
        let mut met: BTreeMap<String, usize> = BTreeMap::new();
        for rule in firewall {
            let before = met.entry(format!("{rule:?}")).or_default();
            let identity = identity(rule, *before);
            *before += 1;
            let known = self.0.get(&identity).copied();
            let number = known.or_else(|| free.next()).unwrap_or(0);
            numbered.push((number, identity));
        }
        let kept = numbered.iter().filter(|(number, _)| *number != 0);
        self.0 = kept
            .map(|(number, identity)| (*identity, *number))
            .collect();
        numbered
    }

    /// Takes over what the kernel's counters are of.
    pub(super) fn adopt(&mut self, actual: &State) {
        let counters = actual.facts.values().filter_map(|fact| match fact {
            Fact::Rule(number, identity) => Some((*identity, *number)),
            _ => None,
        });
        self.0 = counters.collect();
    }
}

/// What tells a rule from others; never 0. The second of two that are equal is another one.
fn identity(rule: &FirewallRule, before: usize) -> u64 {
    xxh3_64(format!("{rule:?} {before}").as_bytes()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allowed: &[&str]) -> Vec<FirewallRule> {
        let rule = |source: &&str| FirewallRule {
            allows: true,
            source: Some(source.parse().unwrap()),
            address: None,
            ports: None,
            protocol: None,
        };
        allowed.iter().map(rule).collect()
    }

    fn numbers(known: &mut Rules, allowed: &[&str]) -> Vec<u16> {
        let numbered = known.number(&rules(allowed));
        numbered.into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn a_rule_keeps_its_number_wherever_it_stands() {
        let mut known = Rules::default();

        assert_eq!(numbers(&mut known, &["10.0.0.0/8", "192.0.2.0/24"]), [1, 2]);
        let edited = ["198.51.100.0/24", "192.0.2.0/24", "10.0.0.0/8"];
        assert_eq!(numbers(&mut known, &edited), [3, 2, 1]);
        assert_eq!(numbers(&mut known, &edited), [3, 2, 1]);
    }

    #[test]
    fn a_number_is_not_given_on_in_the_round_in_which_it_becomes_free() {
        let mut known = Rules::default();
        numbers(&mut known, &["10.0.0.0/8"]);

        assert_eq!(numbers(&mut known, &["192.0.2.0/24"]), [2]);
        assert_eq!(numbers(&mut known, &["192.0.2.0/24", "10.0.0.0/8"]), [2, 1]);
    }

    #[test]
    fn rules_of_the_same_content_are_counted_apart() {
        assert_eq!(
            numbers(&mut Rules::default(), &["10.0.0.0/8", "10.0.0.0/8"]),
            [1, 2]
        );
    }

    #[test]
    fn the_kernels_counters_say_whose_they_are() {
        let firewall = rules(&["10.0.0.0/8"]);
        let fact = Fact::Rule(7, identity(&firewall[0], 0));
        let actual = State {
            facts: [(fact.place(), fact)].into(),
            ..State::default()
        };
        let mut known = Rules::default();

        known.adopt(&actual);

        assert_eq!(numbers(&mut known, &["192.0.2.0/24", "10.0.0.0/8"]), [1, 7]);
    }

    #[test]
    fn rules_beyond_the_last_counter_have_none() {
        let all: Vec<_> = (0..RULES)
            .map(|number| format!("10.{}.{}.0/24", number / 256, number % 256))
            .collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();

        let numbers = numbers(&mut Rules::default(), &all);

        assert_eq!(numbers[RULES as usize - 2..], [RULES as u16 - 1, 0]);
    }
}
