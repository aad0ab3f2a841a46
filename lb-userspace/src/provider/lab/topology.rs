//! What a lab is to be: Networks and containers, as the operator writes them in TOML.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ipnet::IpNet;
use serde::Deserialize;

use super::LabError;

/// The lab that comes with veer.
const DEFAULT: &str = include_str!("default.toml");

/// Networks and containers of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    #[serde(default)]
    pub network: Vec<NetworkPlan>,
    #[serde(default)]
    pub container: Vec<ContainerPlan>,
}

/// One Network of a topology.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPlan {
    pub name: String,
    /// At most one of each family. Empty: one of each is chosen that nothing on the host uses.
    #[serde(default)]
    pub subnets: Vec<IpNet>,
    /// Without a default route, so without a way out.
    #[serde(default)]
    pub internal: bool,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// One container of a topology, or several of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerPlan {
    /// With a `count`, the containers are called `<name>-1` and so on.
    pub name: String,
    pub networks: Vec<String>,
    /// On every one of its Networks.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What runs inside; the container is gone when it ends. Without one the container only is. The
    /// first word `veer` is this very program, `{name}` in any word is the container's name.
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub count: Option<u16>,
}

impl Default for Topology {
    fn default() -> Self {
        toml::from_str(DEFAULT).expect("default.toml is a topology: a test reads it")
    }
}

impl Topology {
    /// Reads and checks a topology file.
    pub fn load(path: &Path) -> Result<Self, LabError> {
        let text = fs::read_to_string(path)
            .map_err(LabError::io(|| format!("read {}", path.display())))?;
        Self::parse(&text, path)
    }

    /// The topology that `text` describes. `path` is where it came from, for errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, LabError> {
        let topology: Self = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or_default();
            LabError::File {
                path: path.to_path_buf(),
                line: before.matches('\n').count() + 1,
                message: error.message().to_string(),
            }
        })?;
        topology.check().map_err(LabError::Topology)?;
        Ok(topology)
    }

    /// Every container by itself: those with a `count` that often, with their names filled in.
    pub(super) fn containers(&self) -> Vec<ContainerPlan> {
        self.container
            .iter()
            .flat_map(|plan| {
                let names: Vec<_> = match plan.count {
                    None => vec![plan.name.clone()],
                    Some(count) => (1..=count).map(|n| format!("{}-{n}", plan.name)).collect(),
                };
                names.into_iter().map(|name| plan.named(name))
            })
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        let mut networks = BTreeSet::new();
        for network in &self.network {
            check_name("network", &network.name)?;
            check_subnets(network)?;
            if !networks.insert(network.name.as_str()) {
                return Err(format!("network {} is there twice", network.name));
            }
        }
        let mut names = BTreeSet::new();
        for container in self.containers() {
            check_name("container", &container.name)?;
            container.check(&networks)?;
            if !names.insert(container.name.clone()) {
                return Err(format!("container {} is there twice", container.name));
            }
        }
        Ok(())
    }
}

impl ContainerPlan {
    fn named(&self, name: String) -> Self {
        let fill_in = |word: &String| word.replace("{name}", &name);
        Self {
            command: self.command.iter().map(fill_in).collect(),
            count: None,
            name,
            ..self.clone()
        }
    }

    fn check(&self, networks: &BTreeSet<&str>) -> Result<(), String> {
        let name = &self.name;
        if self.networks.is_empty() {
            return Err(format!(
                "container {name} has no network: name at least one"
            ));
        }
        let mut own = BTreeSet::new();
        for network in &self.networks {
            if !networks.contains(network.as_str()) {
                return Err(format!(
                    "container {name} is on network {network}, which is not there: add a [[network]] of that name"
                ));
            }
            if !own.insert(network) {
                return Err(format!("container {name} is on network {network} twice"));
            }
        }
        self.aliases
            .iter()
            .try_for_each(|alias| check_name("alias", alias))
    }
}

/// Names become file names, DNS names and words of a table.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    let fits = (1..=63).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if fits {
        return Ok(());
    }
    Err(format!(
        "{what} {name:?} is no name: at most 63 of letters, digits, '-', '_' and '.', a letter or digit first"
    ))
}

fn check_subnets(network: &NetworkPlan) -> Result<(), String> {
    let name = &network.name;
    for family in ["IPv4", "IPv6"] {
        let is_family = |net: &&IpNet| matches!(net, IpNet::V4(_)) == (family == "IPv4");
        if network.subnets.iter().filter(is_family).count() > 1 {
            return Err(format!(
                "network {name} has two {family} subnets: leave one"
            ));
        }
    }
    for net in &network.subnets {
        if net.trunc() != *net {
            let right = net.trunc();
            return Err(format!("network {name}: {net} is no subnet: write {right}"));
        }
        if net.max_prefix_len() - net.prefix_len() < 2 {
            return Err(format!(
                "network {name}: {net} has no room for a gateway and a container"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Topology, String> {
        Topology::parse(text, Path::new("lab.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_topology_is_a_client_and_three_members() {
        let topology = parse(DEFAULT).unwrap();

        let containers = topology.containers();

        assert_eq!(topology, Topology::default());
        let names: Vec<_> = containers.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["client", "member-1", "member-2", "member-3"]);
        assert_eq!(containers[2].command.last().unwrap(), "member-2");
        assert_eq!(containers[3].aliases, ["tg-net"]);
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let told = parse("[[network]]\nname = \"a\"\nsubnet = \"10.0.0.0/24\"\n").unwrap_err();

        assert!(
            told.starts_with("lab.toml:3: unknown field `subnet`"),
            "{told}"
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_the_way_out() {
        let network = "[[network]]\nname = \"a\"\n";
        let cases = [
            (
                "[[container]]\nname = \"c\"\nnetworks = []",
                "name at least one",
            ),
            (
                "[[container]]\nname = \"c\"\nnetworks = [\"b\"]",
                "add a [[network]]",
            ),
            (
                "[[container]]\nname = \"c d\"\nnetworks = [\"a\"]",
                "is no name",
            ),
            ("[[network]]\nname = \"a\"", "is there twice"),
            (
                "[[network]]\nname = \"b\"\nsubnets = [\"10.0.0.1/24\"]",
                "write 10.0.0.0/24",
            ),
            (
                "[[network]]\nname = \"b\"\nsubnets = [\"10.0.0.0/31\"]",
                "no room",
            ),
            (
                "[[network]]\nname = \"b\"\nsubnets = [\"10.0.0.0/24\", \"10.1.0.0/24\"]",
                "two IPv4 subnets",
            ),
        ];

        for (text, expected) in cases {
            let told = parse(&format!("{network}{text}")).unwrap_err();

            assert!(told.contains(expected), "{text}: {told}");
        }
    }
}
