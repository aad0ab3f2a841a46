//! Every name that containers may ask for, one table per Network, and who may ask which table.
//!
//! | name | addresses |
//! |---|---|
//! | a container's name, its short id, its hostname | the container's, on that Network |
//! | an alias, its Group in `vip` mode | the Group's VIP |
//! | an alias, its Group in `dnsrr` mode | those of the Members that take new Connections |
//! | `tasks.<alias>` | those of all Members |
//!
//! Any of them may be followed by `.` and the Network's name. The first part is compared without
//! regard to case, the Network's name exactly. Of a container's Networks the first that knows the
//! name answers, alone.
//!
//! A word that several containers bear as name, short id or hostname has all their addresses. If it
//! is the alias of a `vip` Group too, and one of those containers is no Member, the VIP would hide
//! that container: such a word has the addresses of everybody who bears it, as under Docker.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rules::Rules;
use crate::model::{
    Attachment, Container, ContainerId, Elsewhere, EndpointMode, Group, Member, MemberState,
    Network, NetworkId, Observed, PortRange,
};

/// All answers at one moment.
#[derive(Debug, Default)]
pub struct Records {
    rules: Rules,
    tables: Vec<Table>,
    /// By the cookie of the asker's network namespace.
    askers: HashMap<u64, Asker>,
}

/// The addresses of one name. In a family without any, the answer is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub v4: Vec<Ipv4Addr>,
    pub v6: Vec<Ipv6Addr>,
    /// Ports that those who bear it are known to have, for SRV.
    pub ports: Vec<PortRange>,
}

/// Who is asked about names that no table has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstreams {
    /// The host's name servers, from the host's namespace.
    Host,
    /// The container's own (`--dns`), from the container's namespace.
    Own(Vec<IpAddr>),
    /// Nobody: the container has internal Networks only.
    Nobody,
}

/// What one namespace may ask.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    records: &'a Records,
    asker: &'a Asker,
}

#[derive(Debug)]
struct Asker {
    /// In the order in which they are asked.
    tables: Vec<Asked>,
    upstreams: Upstreams,
}

/// A table of an asker, and the names in it that are its own.
#[derive(Debug)]
struct Asked {
    /// Index into `Records::tables`.
    table: usize,
    /// Names that this asker alone has for others (`--link`), as written, and theirs in lower case.
    linked: HashMap<String, String>,
}

/// One Network's names.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) id: NetworkId,
    pub(super) network: String,
    /// By lower-case name.
    pub(super) names: HashMap<String, Known>,
    /// The name that an address is given by PTR, without the Network's.
    pub(super) owners: HashMap<IpAddr, String>,
}

/// Everybody who bears one word as container name, short id or hostname.
#[derive(Default)]
struct Bearers<'a> {
    known: Known,
    containers: Vec<&'a ContainerId>,
}

impl Records {
    /// The answers that follow from what is observed and from the Groups made of it.
    pub fn build(observed: &Observed, groups: &[Group], rules: &Rules) -> Self {
        let mut attached: BTreeMap<&NetworkId, Vec<(&Container, &Attachment)>> = BTreeMap::new();
        for container in &observed.containers {
            for attachment in &container.attachments {
                let of_network = attached.entry(&attachment.network).or_default();
                of_network.push((container, attachment));
            }
        }
        let mut grouped: BTreeMap<&NetworkId, Vec<&Group>> = BTreeMap::new();
        for group in groups {
            grouped.entry(&group.network).or_default().push(group);
        }
        let tables = observed.networks.iter().map(|network| {
            let attached = attached.get(&network.id).map_or(&[][..], Vec::as_slice);
            let groups = grouped.get(&network.id).map_or(&[][..], Vec::as_slice);
            Table::build(network, attached, groups, rules)
        });
        Self {
            rules: *rules,
            tables: tables.collect(),
            askers: askers(observed),
        }
    }

    /// Every name: the Network's, the name in lower case, and its addresses.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str, &Known)> {
        self.tables.iter().flat_map(|table| {
            let names = table.names.iter();
            names.map(|(name, known)| (table.network.as_str(), name.as_str(), known))
        })
    }

    /// Every Network's names.
    pub(super) fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// What a Network is called.
    pub(super) fn network_name(&self, id: &NetworkId) -> Option<&str> {
        let table = self.tables.iter().find(|table| table.id == *id);
        table.map(|table| table.network.as_str())
    }

    /// How answers are given.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What the namespace with this cookie may ask; `None` if it is not known (yet).
    pub fn view(&self, cookie: u64) -> Option<View<'_>> {
        let asker = self.askers.get(&cookie)?;
        Some(View {
            records: self,
            asker,
        })
    }
}

impl<'a> View<'a> {
    /// The addresses of `name`, given without a trailing dot; `None` if no Network of the asker
    /// knows it.
    ///
    /// Each time the names that the asker alone has for others (`--link`) come first; in them case
    /// counts. For `a.b.c` these are tried in turn: `a.b.c` on every Network of the asker, `a.b` on its
    /// Network `c`, `a` on its Network `b.c`. Names of containers and Networks may contain dots.
    pub fn addresses(&self, name: &str) -> Option<&'a Known> {
        self.find(name).map(|(_, known)| known)
    }

    /// The same, and the name of the Network that knows it.
    pub(super) fn find(&self, name: &str) -> Option<(&'a str, &'a Known)> {
        if let Some(found) = self.look(name, None) {
            return Some(found);
        }
        let dots = name.rmatch_indices('.');
        dots.map(|(dot, _)| self.look(&name[..dot], Some(&name[dot + 1..])))
            .find_map(|found| found)
    }

    /// The same of one name on one Network, or on all of the asker's: first the names that it alone
    /// has for others.
    fn look(&self, name: &str, network: Option<&str>) -> Option<(&'a str, &'a Known)> {
        let lower = name.to_ascii_lowercase();
        let asked = || {
            let asked = self.asked();
            asked.filter(move |(_, table)| network.is_none_or(|network| table.network == network))
        };
        let linked = asked().find_map(|(asked, table)| {
            let target = asked.linked.get(name)?;
            table.know(target)
        });
        linked.or_else(|| asked().find_map(|(_, table)| table.know(&lower)))
    }

    /// Whether the asker has names that nobody else has.
    pub(super) fn has_own_names(&self) -> bool {
        let tables = &self.asker.tables;
        tables.iter().any(|asked| !asked.linked.is_empty())
    }

    /// The full name of `address`, such as `web.front`; `None` if it belongs to nobody on the
    /// asker's Networks.
    pub fn owner(&self, address: IpAddr) -> Option<String> {
        let (network, owner) = self.find_owner(address)?;
        Some(format!("{owner}.{network}"))
    }

    /// The Network that an address is of, and its name there.
    pub(super) fn find_owner(&self, address: IpAddr) -> Option<(&'a str, &'a str)> {
        self.tables().find_map(|table| {
            let owner = table.owners.get(&address)?;
            Some((table.network.as_str(), owner.as_str()))
        })
    }

    /// Every name that the asker may ask for by itself, with the Network that answers.
    pub fn names(&self) -> Vec<(&'a str, &'a str, &'a Known)> {
        let linked = self.asked().flat_map(|(asked, _)| asked.linked.keys());
        let plain = self.tables().flat_map(|table| table.names.keys());
        let words: BTreeSet<&'a str> = linked.chain(plain).map(String::as_str).collect();
        let found = |word: &'a str| {
            let (network, known) = self.find(word)?;
            Some((network, word, known))
        };
        words.into_iter().filter_map(found).collect()
    }

    /// Who is asked about the rest.
    pub fn upstreams(&self) -> &'a Upstreams {
        &self.asker.upstreams
    }

    /// How answers are given.
    pub fn rules(&self) -> &'a Rules {
        &self.records.rules
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &'a Table> + use<'a> {
        self.asked().map(|(_, table)| table)
    }

    fn asked(&self) -> impl Iterator<Item = (&'a Asked, &'a Table)> + use<'a> {
        let records = self.records;
        let order = self.asker.tables.iter();
        order.filter_map(move |asked| Some((asked, records.tables.get(asked.table)?)))
    }
}

impl Known {
    /// Adds what is new in `other`.
    fn merge(&mut self, other: &Self) {
        for &address in &other.v4 {
            self.add(Some(address), None);
        }
        for &address in &other.v6 {
            self.add(None, Some(address));
        }
        self.add_ports(&other.ports);
    }

    fn add_ports(&mut self, ports: &[PortRange]) {
        for port in ports {
            if !self.ports.contains(port) {
                self.ports.push(*port);
            }
        }
    }

    fn add(&mut self, v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) {
        self.v4
            .extend(v4.filter(|address| !self.v4.contains(address)));
        self.v6
            .extend(v6.filter(|address| !self.v6.contains(address)));
    }
}

impl Table {
    /// The Network's name, and what is known of a name in lower case.
    fn know(&self, name: &str) -> Option<(&str, &Known)> {
        Some((&self.network, self.names.get(name)?))
    }

    fn build(
        network: &Network,
        attached: &[(&Container, &Attachment)],
        groups: &[&Group],
        rules: &Rules,
    ) -> Self {
        let mut table = Self {
            id: network.id.clone(),
            network: network.name.clone(),
            names: HashMap::new(),
            owners: owners(attached, groups),
        };
        let mut bearers = bearers(attached);
        let containers: HashMap<_, _> = attached.iter().map(|(c, _)| (&c.id, c)).collect();
        for group in groups {
            let alias = group.alias.to_ascii_lowercase();
            let mut known = known_of_group(group, bearers.remove(&alias));
            for member in &group.members {
                let container = containers.get(&member.container);
                known.add_ports(container.map_or(&[], |one| &one.publishing.exposed));
            }
            table.names.insert(alias, known);
        }
        let singles = bearers
            .into_iter()
            .map(|(word, bearers)| (word, bearers.known));
        table.names.extend(singles);
        // A container or an alias that is really called so comes first.
        for group in groups.iter().filter(|_| rules.tasks) {
            let word = format!("tasks.{}", group.alias.to_ascii_lowercase());
            let everybody = || known_of_members(group.members.iter());
            table.names.entry(word).or_insert_with(everybody);
        }
        table
    }
}

/// What an alias stands for, given who bears the same word otherwise.
fn known_of_group(group: &Group, bearers: Option<Bearers<'_>>) -> Known {
    let bearers = bearers.unwrap_or_default();
    let is_member = |id: &ContainerId| group.members.iter().any(|member| member.container == *id);
    let all_inside = bearers.containers.iter().all(|id| is_member(id));
    let has_vip = group.vip_v4.is_some() || group.vip_v6.is_some();
    if group.policy.endpoint_mode == EndpointMode::Vip && has_vip && all_inside {
        return Known {
            v4: group.vip_v4.into_iter().collect(),
            v6: group.vip_v6.into_iter().collect(),
            ports: Vec::new(),
        };
    }
    let mut known = known_of_members(open_members(group));
    known.merge(&bearers.known);
    known
}

fn known_of_members<'a>(members: impl Iterator<Item = &'a Member>) -> Known {
    let mut known = Known::default();
    members.for_each(|member| known.add(member.v4, member.v6));
    known
}

/// The Members that get new Connections; all of them if none does.
fn open_members(group: &Group) -> impl Iterator<Item = &Member> {
    let any = group.active().next().is_some();
    let all = group.members.iter();
    all.filter(move |member| !any || member.state == MemberState::Active)
}

fn bearers<'a>(attached: &[(&'a Container, &'a Attachment)]) -> HashMap<String, Bearers<'a>> {
    let mut all: HashMap<String, Bearers<'_>> = HashMap::new();
    for (container, attachment) in attached {
        let words = [&container.name, container.id.short(), &container.hostname];
        for word in words.into_iter().filter(|word| !word.is_empty()) {
            let bearers = all.entry(word.to_ascii_lowercase()).or_default();
            bearers.known.add(attachment.v4, attachment.v6);
            bearers.known.add_ports(&container.publishing.exposed);
            bearers.containers.push(&container.id);
        }
    }
    all
}

fn owners(attached: &[(&Container, &Attachment)], groups: &[&Group]) -> HashMap<IpAddr, String> {
    let vips = groups.iter().map(|g| (&g.alias, g.vip_v4, g.vip_v6));
    let containers = attached.iter().map(|(c, a)| (&c.name, a.v4, a.v6));
    let mut owners = HashMap::new();
    for (name, v4, v6) in vips.chain(containers) {
        let addresses = v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6));
        owners.extend(addresses.map(|address| (address, name.clone())));
    }
    owners
}

fn askers(observed: &Observed) -> HashMap<u64, Asker> {
    let networks: HashMap<&NetworkId, usize> = observed
        .networks
        .iter()
        .enumerate()
        .map(|(index, network)| (&network.id, index))
        .collect();
    let mut askers = HashMap::new();
    for container in &observed.containers {
        let Some(netns) = &container.netns else {
            continue;
        };
        let attached = container.attachments.iter();
        let asked = attached.filter_map(|attachment| {
            let linked = attachment.linked.iter();
            let linked = linked.map(|it| (it.alias.clone(), it.target.to_ascii_lowercase()));
            Some(Asked {
                table: *networks.get(&attachment.network)?,
                linked: linked.collect(),
            })
        });
        let tables: Vec<Asked> = asked.collect();
        let internal_only = container.elsewhere == Elsewhere::Nothing
            && tables
                .iter()
                .all(|asked| observed.networks[asked.table].internal);
        let upstreams = match &container.dns_servers[..] {
            [] if internal_only => Upstreams::Nobody,
            [] => Upstreams::Host,
            own => Upstreams::Own(own.to_vec()),
        };
        askers.insert(netns.cookie, Asker { tables, upstreams });
    }
    askers
}

#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;
