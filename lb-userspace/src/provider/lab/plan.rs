//! From a topology to the record of a lab: names, subnets and addresses. Decides, makes nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpAddrRange, IpNet};
use xxhash_rust::xxh3::xxh3_64;

use super::LabError;
use super::record::{LabAttachment, LabContainer, LabNetwork, Record};
use super::subnet;
use super::topology::{ContainerPlan, NetworkPlan, Topology};

/// What the host has already, and where new identities come from.
pub(super) struct Surroundings<'a> {
    /// Destinations that the host routes elsewhere than into the lab.
    pub(super) taken: &'a [IpNet],
    pub(super) new_id: &'a mut dyn FnMut() -> String,
}

/// The record of the lab that `topology` asks for. What `before` has and the topology still wants
/// keeps its identity and its addresses.
pub(super) fn resolve(
    topology: &Topology,
    before: &Record,
    around: &mut Surroundings<'_>,
) -> Result<Record, LabError> {
    let containers = topology.containers();
    let mut record = Record::default();
    let mut taken = around.taken.to_vec();
    for plan in &topology.network {
        let inhabitants = containers
            .iter()
            .filter(|container| container.networks.contains(&plan.name))
            .count();
        let network = resolve_network(plan, inhabitants, before, &taken, around.new_id)?;
        taken.extend(&network.subnets);
        record.networks.push(network);
    }
    if let Some(bridge) = first_double(record.networks.iter().map(|network| &network.bridge)) {
        return Err(LabError::Topology(format!(
            "two networks would both have the bridge {bridge}: let their names differ in the first 11 letters"
        )));
    }
    let mut addresses = Addresses::of(&containers, before, &record.networks);
    for plan in containers {
        let container = resolve_container(plan, before, &mut addresses, around.new_id)?;
        record.containers.push(container);
    }
    Ok(record)
}

fn resolve_network(
    plan: &NetworkPlan,
    inhabitants: usize,
    before: &Record,
    taken: &[IpNet],
    new_id: &mut dyn FnMut() -> String,
) -> Result<LabNetwork, LabError> {
    let known = before.network(&plan.name);
    let subnets = if plan.subnets.is_empty() {
        match known {
            Some(known) if subnet::fits(&known.subnets, inhabitants) => known.subnets.clone(),
            Some(_) | None => subnet::choose(inhabitants, taken)?,
        }
    } else {
        subnet::check_free(&plan.name, &plan.subnets, taken)?;
        plan.subnets.clone()
    };
    let same = known.filter(|known| known.subnets == subnets && known.internal == plan.internal);
    Ok(LabNetwork {
        id: same.map_or_else(new_id, |known| known.id.clone()),
        name: plan.name.clone(),
        bridge: bridge_name(&plan.name),
        subnets,
        internal: plan.internal,
        labels: plan.labels.clone(),
    })
}

fn resolve_container(
    plan: ContainerPlan,
    before: &Record,
    addresses: &mut Addresses<'_>,
    new_id: &mut dyn FnMut() -> String,
) -> Result<LabContainer, LabError> {
    let known = before
        .container(&plan.name)
        .filter(|known| known.command == plan.command);
    let mut attachments = Vec::new();
    for (index, network) in plan.networks.iter().enumerate() {
        let container_name = format!("eth{index}");
        let same = known
            .and_then(|known| known.attachments.iter().find(|a| a.network == *network))
            .filter(|same| same.container_name == container_name && addresses.keeps(same));
        let [v4, v6] = match same {
            Some(same) => [same.v4.map(IpAddr::V4), same.v6.map(IpAddr::V6)],
            None => addresses.next(network)?,
        };
        let hash = xxh3_64(format!("{}/{network}", plan.name).as_bytes());
        attachments.push(LabAttachment {
            endpoint_id: same.map_or_else(&mut *new_id, |same| same.endpoint_id.clone()),
            network: network.clone(),
            aliases: plan.aliases.clone(),
            v4: v4.and_then(|addr| match addr {
                IpAddr::V4(v4) => Some(v4),
                IpAddr::V6(_) => None,
            }),
            v6: v6.and_then(|addr| match addr {
                IpAddr::V6(v6) => Some(v6),
                IpAddr::V4(_) => None,
            }),
            mac: mac(hash),
            host_name: format!("vl{:011x}", hash >> 20),
            container_name,
        });
    }
    Ok(LabContainer {
        id: known.map_or_else(&mut *new_id, |known| known.id.clone()),
        name: plan.name,
        command: plan.command,
        labels: plan.labels,
        attachments,
    })
}

/// Who has which address of each Network.
struct Addresses<'a> {
    before: &'a Record,
    networks: &'a [LabNetwork],
    /// Addresses that containers keep, gateways, and those given out since.
    used: BTreeSet<IpAddr>,
    /// For each Network and each of its subnets, the addresses not looked at so far.
    left: Vec<Vec<IpAddrRange>>,
}

impl<'a> Addresses<'a> {
    fn of(containers: &[ContainerPlan], before: &'a Record, networks: &'a [LabNetwork]) -> Self {
        let mut addresses = Self {
            before,
            networks,
            used: BTreeSet::new(),
            left: networks
                .iter()
                .map(|network| network.subnets.iter().map(IpNet::hosts).collect())
                .collect(),
        };
        for network in networks {
            // The first IPv6 address of a subnet is that of any router (RFC 4291 §2.6.1).
            addresses
                .used
                .extend(network.subnets.iter().map(IpNet::network));
            addresses
                .used
                .extend(network.gateways().map(|gateway| gateway.addr()));
        }
        let kept = containers
            .iter()
            .filter_map(|plan| before.container(&plan.name))
            .flat_map(|container| &container.attachments);
        for attachment in kept {
            if addresses.keeps(attachment) {
                addresses.used.extend(attachment.v4.map(IpAddr::V4));
                addresses.used.extend(attachment.v6.map(IpAddr::V6));
            }
        }
        addresses
    }

    /// Whether the Network of an attachment from before is the same one now.
    fn keeps(&self, attachment: &LabAttachment) -> bool {
        let mut networks = self.networks.iter();
        let now = networks.find(|network| network.name == attachment.network);
        let then = self.before.network(&attachment.network);
        now.map(|network| &network.id) == then.map(|network| &network.id)
    }

    /// A free IPv4 and a free IPv6 address of the Network called `name`, where it has the family.
    fn next(&mut self, name: &str) -> Result<[Option<IpAddr>; 2], LabError> {
        let mut found = [None, None];
        let number = self
            .networks
            .iter()
            .position(|network| network.name == name);
        let number = number.expect("a topology's containers are on its own networks: checked");
        for (index, net) in self.networks[number].subnets.iter().enumerate() {
            let free = self.left[number][index].find(|addr| !self.used.contains(addr));
            let free = free.ok_or(LabError::Full { subnet: *net })?;
            self.used.insert(free);
            found[usize::from(free.is_ipv6())] = Some(free);
        }
        Ok(found)
    }
}

/// Interface names have at most 15 characters.
fn bridge_name(network: &str) -> String {
    let start: String = network.chars().take(11).collect();
    format!("vlb-{start}")
}

/// A locally administered address that only this attachment has.
fn mac(hash: u64) -> [u8; 6] {
    let [a, b, c, d, ..] = hash.to_be_bytes();
    [0x02, 0x6c, a, b, c, d]
}

fn first_double<'a>(mut names: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let mut seen = BTreeSet::new();
    names.find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn topology(text: &str) -> Topology {
        Topology::parse(text, Path::new("lab.toml")).unwrap()
    }

    fn resolve_over(before: &Record, text: &str, taken: &[&str]) -> Result<Record, LabError> {
        let taken: Vec<IpNet> = taken.iter().map(|net| net.parse().unwrap()).collect();
        let mut ids = before.containers.len() * 10;
        let mut new_id = || {
            ids += 1;
            format!("{ids:064x}")
        };
        let mut around = Surroundings {
            taken: &taken,
            new_id: &mut new_id,
        };
        resolve(&topology(text), before, &mut around)
    }

    const PAIR: &str = r#"
        network = [{ name = "n", subnets = ["10.1.0.0/24", "fd00:1::/64"] }]
        container = [{ name = "a", networks = ["n"] }, { name = "b", networks = ["n"] }]
    "#;

    #[test]
    fn containers_get_the_addresses_after_the_gateway() {
        let record = resolve_over(&Record::default(), PAIR, &[]).unwrap();

        let gateways: Vec<_> = record.networks[0].gateways().collect();
        let own = |n: usize| &record.containers[n].attachments[0];
        assert_eq!(gateways[0].to_string(), "10.1.0.1/24");
        assert_eq!(own(0).v4, Some("10.1.0.2".parse().unwrap()));
        assert_eq!(own(1).v4, Some("10.1.0.3".parse().unwrap()));
        assert_eq!(own(1).v6, Some("fd00:1::3".parse().unwrap()));
        assert_ne!(own(0).mac, own(1).mac);
    }

    #[test]
    fn what_stays_keeps_its_identity_and_address() {
        let before = resolve_over(&Record::default(), PAIR, &[]).unwrap();
        let changed = PAIR.replace("{ name = \"a\"", "{ name = \"c\"");

        let after = resolve_over(&before, &changed, &[]).unwrap();

        assert_eq!(after.networks, before.networks);
        assert_eq!(after.container("b"), before.container("b"));
        let new = after.container("c").unwrap();
        let address = new.attachments[0].v4.unwrap();
        assert_eq!(address.to_string(), "10.1.0.2", "a's address is free again");
        assert!(!before.containers.iter().any(|known| known.id == new.id));
    }

    #[test]
    fn another_subnet_is_another_network_and_another_endpoint() {
        let before = resolve_over(&Record::default(), PAIR, &[]).unwrap();

        let moved = PAIR.replace("10.1.", "10.2.");
        let after = resolve_over(&before, &moved, &[]).unwrap();

        assert_ne!(after.networks[0].id, before.networks[0].id);
        let endpoint = |record: &Record| record.containers[0].attachments[0].endpoint_id.clone();
        assert_ne!(endpoint(&after), endpoint(&before));
        assert_eq!(after.containers[0].id, before.containers[0].id);
    }

    #[test]
    fn a_subnet_that_the_host_routes_is_refused() {
        let told = resolve_over(&Record::default(), PAIR, &["10.0.0.0/8"]).unwrap_err();

        let told = told.to_string();
        assert!(
            told.contains("10.1.0.0/24") && told.contains("10.0.0.0/8"),
            "{told}"
        );
    }

    #[test]
    fn a_thousand_containers_get_a_subnet_with_room_for_them() {
        let text = r#"
            network = [{ name = "n" }]
            container = [{ name = "m", networks = ["n"], count = 1000 }]
        "#;

        let record = resolve_over(&Record::default(), text, &["10.94.0.0/16"]).unwrap();

        let all: BTreeSet<_> = record
            .containers
            .iter()
            .map(|c| c.attachments[0].v4)
            .collect();
        assert_eq!(all.len(), 1_000);
        assert!(!all.contains(&None));
    }

    #[test]
    fn a_full_subnet_says_so() {
        let text = PAIR.replace("/24", "/30");

        let told = resolve_over(&Record::default(), &text, &[]).unwrap_err();

        assert!(told.to_string().contains("10.1.0.0/30"), "{told}");
    }
}
