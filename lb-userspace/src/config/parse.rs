//! From the text of the file to the configuration.

use std::path::Path;

use toml::de::DeTable;

use super::error::{ConfigError, Wrong};
use super::section::{Section, Source, Value};
use super::values::{self, DAY};
use super::{Config, FirewallRule, GroupConfig, GroupName, NetworkConfig, PublishConfig};
use crate::model::Protocol;

/// Most entries that a map may have.
const ENTRIES: u32 = 1 << 24;

impl Config {
    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            file: path.to_path_buf(),
            line: None,
            message: format!("read the configuration: {error}"),
            remedy: "name a readable file with --config".to_string(),
        })?;
        Self::parse(&text, path)
    }

    /// The configuration that `text` describes; `file` is for errors. What it does not mention is
    /// as in [`Config::default`].
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let source = Source { file, text };
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let message = format!("not TOML: {}", error.message().replace('\n', ", "));
            source.error(at, Wrong::new(message, "correct this line"))
        })?;
        let mut config = Self::default();
        let mut top = Section::top(source, table.get_ref());
        config.read(&mut top)?;
        top.finish()?;
        Ok(config)
    }

    fn read(&mut self, top: &mut Section<'_>) -> Result<(), ConfigError> {
        top.read("provider", &mut self.provider, values::provider)?;
        let mode = &mut self.endpoint_mode;
        top.read("endpoint_mode", mode, values::endpoint_mode)?;
        top.section("engine", |s| {
            s.read("socket", &mut self.engine.socket, values::path)
        })?;
        top.section("vips", |s| {
            s.read("ipv4", &mut self.vips.ipv4, values::pool_v4)?;
            s.read("ipv6", &mut self.vips.ipv6, values::pool_v6)
        })?;
        top.section("balancing", |s| {
            s.read(
                "algorithm",
                &mut self.balancing.algorithm,
                values::algorithm,
            )?;
            s.read("affinity", &mut self.balancing.affinity, affinity())
        })?;
        top.section("timeouts", |s| self.read_timeouts(s))?;
        top.section("limits", |s| self.read_limits(s))?;
        top.section("dns", |s| self.read_dns(s))?;
        top.section("anti_spoofing", |s| {
            s.read("enabled", &mut self.anti_spoofing.enabled, values::boolean)
        })?;
        top.section("uplinks", |s| {
            let interfaces = &mut self.uplinks.interfaces;
            s.read("interfaces", interfaces, values::interfaces)
        })?;
        top.section("ports", |s| {
            s.read("mode", &mut self.ports.mode, values::mode)?;
            s.read("masquerade", &mut self.ports.masquerade, values::masquerade)?;
            let ports = &mut self.ports.masquerade_ports;
            s.read("masquerade_ports", ports, values::masquerade_ports)
        })?;
        top.section("log", |s| {
            s.read("level", &mut self.log.level, values::log_level)?;
            s.read("format", &mut self.log.format, values::log_format)
        })?;
        top.section("maps", |s| self.read_maps(s))?;
        self.read_networks(top)?;
        self.read_groups(top)?;
        self.read_publish(top)?;
        self.read_firewall(top)
    }

    fn read_publish(&mut self, top: &mut Section<'_>) -> Result<(), ConfigError> {
        let publish = &mut self.publish;
        top.list("publish", |section| {
            let (mut network, mut alias, mut ports) = (None, None, None);
            let mut one = PublishConfig {
                address: None,
                ports: 0..=0,
                protocol: Protocol::Tcp,
                group: GroupName {
                    network: String::new(),
                    alias: String::new(),
                },
                target_port: None,
                algorithm: None,
                allow: Vec::new(),
                deny: Vec::new(),
            };
            section.read_some("address", &mut one.address, values::address)?;
            section.read_some("port", &mut ports, values::ports)?;
            section.read("protocol", &mut one.protocol, values::protocol)?;
            section.read_some("network", &mut network, values::name)?;
            section.read_some("alias", &mut alias, values::name)?;
            section.read_some("target_port", &mut one.target_port, values::port)?;
            section.read_some("algorithm", &mut one.algorithm, values::algorithm)?;
            section.read("allow", &mut one.allow, values::sources)?;
            section.read("deny", &mut one.deny, values::sources)?;
            let (Some(network), Some(alias), Some(ports)) = (network, alias, ports) else {
                let remedy = "write port, network and alias";
                return Ok(Some(Wrong::new("does not say what it publishes", remedy)));
            };
            let alias = alias.to_lowercase();
            (one.group, one.ports) = (GroupName { network, alias }, ports);
            publish.push(one);
            Ok(None)
        })
    }

    fn read_firewall(&mut self, top: &mut Section<'_>) -> Result<(), ConfigError> {
        let firewall = &mut self.firewall;
        top.list("firewall", |section| {
            let mut allows = None;
            let mut rule = FirewallRule {
                allows: false,
                source: None,
                address: None,
                ports: None,
                protocol: None,
            };
            section.read_some("action", &mut allows, values::action)?;
            section.read_some("source", &mut rule.source, values::source)?;
            section.read_some("address", &mut rule.address, values::address)?;
            section.read_some("port", &mut rule.ports, values::ports)?;
            section.read_some("protocol", &mut rule.protocol, values::protocol)?;
            let Some(allows) = allows else {
                let remedy = "write action = \"allow\" or action = \"deny\"";
                return Ok(Some(Wrong::new("does not say what to do", remedy)));
            };
            rule.allows = allows;
            firewall.push(rule);
            Ok(None)
        })
    }

    fn read_timeouts(&mut self, section: &mut Section<'_>) -> Result<(), ConfigError> {
        let timeouts = &mut self.timeouts;
        for (key, timeout) in [
            ("tcp_new", &mut timeouts.tcp_new),
            ("tcp_established", &mut timeouts.tcp_established),
            ("tcp_fin", &mut timeouts.tcp_fin),
            ("tcp_reset", &mut timeouts.tcp_reset),
            ("udp_new", &mut timeouts.udp_new),
            ("udp_replied", &mut timeouts.udp_replied),
            ("icmp", &mut timeouts.icmp),
        ] {
            section.read(key, timeout, values::seconds(1..=7 * DAY))?;
        }
        Ok(())
    }

    fn read_limits(&mut self, section: &mut Section<'_>) -> Result<(), ConfigError> {
        let limits = &mut self.limits;
        for (key, limit) in [
            ("refusals_per_second", &mut limits.refusals_per_second),
            ("events_per_second", &mut limits.events_per_second),
        ] {
            section.read(key, limit, values::number(0..=1_000_000))?;
        }
        Ok(())
    }

    fn read_dns(&mut self, section: &mut Section<'_>) -> Result<(), ConfigError> {
        let dns = &mut self.dns;
        for (key, choice) in [
            ("takeover", &mut dns.takeover),
            ("kernel", &mut dns.kernel),
            ("tasks", &mut dns.tasks),
            ("srv", &mut dns.srv),
            ("leak", &mut dns.leak),
            ("single_labels", &mut dns.single_labels),
            ("random_case", &mut dns.random_case),
            ("no_conntrack", &mut dns.no_conntrack),
            ("default_bridge", &mut dns.default_bridge),
        ] {
            section.read(key, choice, values::boolean)?;
        }
        section.read("ttl", &mut dns.ttl, values::seconds(0..=DAY))?;
        section.read("stale", &mut dns.stale, values::seconds(0..=7 * DAY))?;
        section.read("lead", &mut dns.lead, values::lead)?;
        section.read("order", &mut dns.order, values::server_order)?;
        section.read("in_flight", &mut dns.in_flight, values::number(1..=65_536))?;
        section.read("cache", &mut dns.cache, values::number(0..=1_000_000))?;
        section.read(
            "query_log",
            &mut dns.query_log,
            values::number(0..=1_000_000_000),
        )?;
        let vips = self.vips;
        section.read("upstreams", &mut dns.upstreams, |value| {
            let servers = values::servers(value)?;
            let vip = servers.iter().find(|server| vips.contains(**server));
            match vip {
                None => Ok(servers),
                Some(vip) => Err(Wrong::new(
                    format!("has {vip}, which is in the pool of VIPs"),
                    "write the address of a server, or choose another pool in [vips]",
                )),
            }
        })
    }

    fn read_maps(&mut self, section: &mut Section<'_>) -> Result<(), ConfigError> {
        let maps = &mut self.maps;
        for (key, size, range) in [
            ("connections", &mut maps.connections, 1_024..=ENTRIES),
            ("half_open", &mut maps.half_open, 1_024..=ENTRIES),
            ("affinity", &mut maps.affinity, 1_024..=ENTRIES),
            ("fragments", &mut maps.fragments, 1_024..=ENTRIES),
            ("veths", &mut maps.veths, 1..=1 << 20),
            ("endpoints", &mut maps.endpoints, 2..=1 << 20),
            ("frontends", &mut maps.frontends, 2..=1 << 20),
            ("slots", &mut maps.slots, 1..=ENTRIES),
            ("resolvers", &mut maps.resolvers, 1..=1 << 20),
            ("dns_answers", &mut maps.dns_answers, 64..=ENTRIES),
        ] {
            section.read(key, size, values::number(range))?;
        }
        section.read("events", &mut maps.events, values::ring)
    }

    fn read_networks(&mut self, top: &mut Section<'_>) -> Result<(), ConfigError> {
        let networks = &mut self.networks;
        let name = |name: &str| Ok(name.to_string());
        top.named("network", name, |name, section| {
            let mut network = NetworkConfig::default();
            section.read_some("serve", &mut network.serve, values::boolean)?;
            let mode = &mut network.endpoint_mode;
            section.read_some("endpoint_mode", mode, values::endpoint_mode)?;
            section.read_some("algorithm", &mut network.algorithm, values::algorithm)?;
            section.read_some("affinity", &mut network.affinity, affinity())?;
            section.read_some("anti_spoofing", &mut network.anti_spoofing, values::boolean)?;
            networks.insert(name, network);
            Ok(())
        })
    }

    fn read_groups(&mut self, top: &mut Section<'_>) -> Result<(), ConfigError> {
        let groups = &mut self.groups;
        top.named("group", values::group_name, |name, section| {
            let mut group = GroupConfig::default();
            let mode = &mut group.endpoint_mode;
            section.read_some("endpoint_mode", mode, values::endpoint_mode)?;
            section.read_some("algorithm", &mut group.algorithm, values::algorithm)?;
            section.read_some("affinity", &mut group.affinity, affinity())?;
            groups.insert(name, group);
            Ok(())
        })
    }
}

fn affinity() -> impl FnOnce(Value<'_>) -> Result<u32, Wrong> {
    values::seconds(0..=DAY)
}
