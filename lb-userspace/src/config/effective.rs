//! The configuration as text: every key, with what it means.

use std::fmt::{Display, Write};
use std::ops::RangeInclusive;

use lb_common::Algorithm;

use super::values::{duration, grouped, mode_name};
use super::{Config, FirewallRule, GroupConfig, NetworkConfig, PublishConfig};
use crate::model::EndpointMode;

impl Config {
    /// The whole configuration as a file that says the same. Every key is there, with its value,
    /// its unit, its default and what it means.
    pub fn effective(&self) -> String {
        let mut text = String::new();
        let default = Self::default();
        let mut page = Page {
            text: &mut text,
            default: &default,
            config: self,
        };
        page.write();
        text
    }
}

/// A page that is being written.
struct Page<'a> {
    text: &'a mut String,
    config: &'a Config,
    default: &'a Config,
}

impl Page<'_> {
    fn write(&mut self) {
        self.top();
        self.balancing();
        self.timeouts();
        self.limits();
        self.ports();
        self.log();
        self.maps();
        self.special();
    }

    fn top(&mut self) {
        self.key(
            "provider",
            "Where membership comes from: auto (the Engine if its socket is there, the lab \
             otherwise), docker or lab.",
            |c| quoted(c.provider.name()),
        );
        self.key(
            "endpoint_mode",
            "What an alias resolves to: vip (the Group's virtual address) or dnsrr (all Members).",
            |c| quoted(mode_name(c.endpoint_mode)),
        );
        self.section("engine");
        self.key("socket", "Path of the Engine's API socket.", |c| {
            quoted(c.engine.socket.display())
        });
        self.section("vips");
        self.key(
            "ipv4",
            "Range of the IPv4 VIPs, /22 or larger, used by nothing else.",
            |c| quoted(c.vips.ipv4),
        );
        self.key(
            "ipv6",
            "Range of the IPv6 VIPs, /64 or larger, used by nothing else.",
            |c| quoted(c.vips.ipv6),
        );
    }

    fn balancing(&mut self) {
        self.section("balancing");
        self.key(
            "algorithm",
            "How Groups are balanced: round-robin, random, weighted-round-robin, \
             least-connections or maglev.",
            |c| quoted(c.balancing.algorithm),
        );
        self.key(
            "affinity",
            "Time that a client keeps its Backend for new Connections; 0s: none.",
            |c| time(c.balancing.affinity),
        );
        self.section("anti_spoofing");
        self.key(
            "enabled",
            "Whether packets whose source is not the container's own MAC or IP address are \
             dropped.",
            |c| c.anti_spoofing.enabled.to_string(),
        );
    }

    fn timeouts(&mut self) {
        self.section("timeouts");
        let key = "Time without a packet after which a Connection is forgotten: TCP, ";
        self.key("tcp_new", &format!("{key}until established."), |c| {
            time(c.timeouts.tcp_new)
        });
        self.key("tcp_established", "The same, established.", |c| {
            time(c.timeouts.tcp_established)
        });
        self.key("tcp_fin", "The same, after a FIN from both sides.", |c| {
            time(c.timeouts.tcp_fin)
        });
        self.key("tcp_reset", "The same, after a RST.", |c| {
            time(c.timeouts.tcp_reset)
        });
        self.key("udp_new", "UDP without a reply.", |c| {
            time(c.timeouts.udp_new)
        });
        self.key("udp_replied", "UDP with a reply.", |c| {
            time(c.timeouts.udp_replied)
        });
        self.key("icmp", "ICMP echo.", |c| time(c.timeouts.icmp));
    }

    fn limits(&mut self) {
        self.section("limits");
        self.key(
            "refusals_per_second",
            "TCP resets and ICMP errors that are sent, per second and CPU.",
            |c| grouped(c.limits.refusals_per_second),
        );
        self.key(
            "events_per_second",
            "Connection events that are told, per second and CPU.",
            |c| grouped(c.limits.events_per_second),
        );
        self.dns();
    }

    fn dns(&mut self) {
        self.section("dns");
        self.key(
            "takeover",
            "Whether the queries of containers to 127.0.0.11 are answered by veer.",
            |c| c.dns.takeover.to_string(),
        );
        self.key(
            "lead",
            "What leads them to veer: sockets (programs on sockets), loopback (programs on containers' \
             loopback interfaces), veth (programs on sockets, to the host) or auto.",
            |c| quoted(c.dns.lead.name()),
        );
        self.key(
            "kernel",
            "Whether the kernel answers what it surely knows, without waking anybody.",
            |c| c.dns.kernel.to_string(),
        );
        self.key("ttl", "Time that clients may keep an answer.", |c| {
            time(c.dns.ttl)
        });
        self.key(
            "tasks",
            "Whether tasks.<alias> gives the addresses of all Members.",
            |c| c.dns.tasks.to_string(),
        );
        self.key(
            "srv",
            "Whether SRV of _port._protocol.name gives a port that its containers expose.",
            |c| c.dns.srv.to_string(),
        );
        self.key(
            "leak",
            "Whether questions about containers' names that are not about addresses are asked \
             outside, as Docker does.",
            |c| c.dns.leak.to_string(),
        );
        self.key(
            "single_labels",
            "Whether unknown names without a dot are asked outside.",
            |c| c.dns.single_labels.to_string(),
        );
        self.other_names();
        self.key(
            "default_bridge",
            "Whether containers on the default bridge have names and are answered, which Docker does not do.",
            |c| c.dns.default_bridge.to_string(),
        );
        self.key(
            "no_conntrack",
            "Whether Docker's NAT rules for 127.0.0.11, which have the kernel track all packets of a \
             container, are taken out of containers while veer answers them.",
            |c| c.dns.no_conntrack.to_string(),
        );
        self.key(
            "query_log",
            "One in so many answers is shown by `veer dns log`; 0: none.",
            |c| grouped(c.dns.query_log),
        );
    }

    /// How other servers are asked, in the section `dns`.
    fn other_names(&mut self) {
        self.key(
            "upstreams",
            "Servers for all other names; none: those of the host's /etc/resolv.conf.",
            |c| list(&c.dns.upstreams),
        );
        self.key(
            "order",
            "Which server is asked first: listed (the first in the list that answers) or fastest.",
            |c| quoted(c.dns.order.name()),
        );
        self.key(
            "random_case",
            "Whether letters of questions to the host's servers are sent in random case, which \
             makes answers harder to forge.",
            |c| c.dns.random_case.to_string(),
        );
        self.key(
            "in_flight",
            "Questions of one container that servers are asked at a time.",
            |c| grouped(c.dns.in_flight),
        );
        self.key("cache", "Answers of servers that are kept; 0: none.", |c| {
            grouped(c.dns.cache)
        });
        self.key(
            "stale",
            "Time for which a kept answer that has run out is given while no server answers.",
            |c| time(c.dns.stale),
        );
    }

    fn ports(&mut self) {
        self.section("uplinks");
        self.key(
            "interfaces",
            "Interfaces that lead outside, a * for any ending; none: those with a default route.",
            |c| list(&c.uplinks.interfaces),
        );
        self.section("ports");
        self.key(
            "mode",
            "Who does what Docker's rules do: replace (veer), beside (Docker, veer before it) or auto \
             (as the Engine was started).",
            |c| quoted(c.ports.mode.name()),
        );
        self.key(
            "masquerade",
            "Who gives what leaves an address of the host: ebpf, kernel (an nftables table of \
             veer's) or off.",
            |c| quoted(c.ports.masquerade.name()),
        );
        self.key(
            "masquerade_ports",
            "Source ports of what leaves, used by nothing else on the host.",
            |c| range(&c.ports.masquerade_ports),
        );
    }

    fn log(&mut self) {
        self.section("log");
        self.key(
            "level",
            "off, error, warn, info, debug or trace, or levels by module.",
            |c| quoted(&c.log.level),
        );
        self.key("format", "text or json.", |c| quoted(c.log.format.name()));
    }

    fn maps(&mut self) {
        self.section("maps");
        self.line("# Sizes in entries. A change needs `veer uninstall` and a start.");
        self.key("connections", "Two for each established Connection.", |c| {
            grouped(c.maps.connections)
        });
        self.key("half_open", "Two for each half-open Connection.", |c| {
            grouped(c.maps.half_open)
        });
        self.key("affinity", "Clients with affinity.", |c| {
            grouped(c.maps.affinity)
        });
        self.key("fragments", "Fragmented packets under way.", |c| {
            grouped(c.maps.fragments)
        });
        self.key("veths", "Interfaces of containers.", |c| {
            grouped(c.maps.veths)
        });
        self.key(
            "endpoints",
            "Attachments of containers, and those that Connections still hold.",
            |c| grouped(c.maps.endpoints),
        );
        self.key("frontends", "VIPs, IPv4 and IPv6 counted apart.", |c| {
            grouped(c.maps.frontends)
        });
        self.key(
            "slots",
            "Places in the tables of all VIPs: one for each Member, hundreds with maglev.",
            |c| grouped(c.maps.slots),
        );
        self.key("resolvers", "Containers whose DNS is taken over.", |c| {
            grouped(c.maps.resolvers)
        });
        self.key(
            "dns_answers",
            "DNS answers in the kernel, three for each name of a Network.",
            |c| grouped(c.maps.dns_answers),
        );
        self.key("events", "Bytes; a power of two.", |c| {
            grouped(c.maps.events)
        });
    }

    /// Networks and Groups that are different.
    fn special(&mut self) {
        for (name, network) in &self.config.networks {
            self.section(&format!("network.{}", quoted(name)));
            let NetworkConfig {
                serve,
                endpoint_mode,
                algorithm,
                affinity,
                anti_spoofing,
            } = *network;
            self.set("serve", serve.map(|serve| serve.to_string()));
            self.policy(endpoint_mode, algorithm, affinity);
            self.set("anti_spoofing", anti_spoofing.map(|on| on.to_string()));
        }
        for (name, group) in &self.config.groups {
            let name = format!("{}/{}", name.network, name.alias);
            self.section(&format!("group.{}", quoted(name)));
            let GroupConfig {
                endpoint_mode,
                algorithm,
                affinity,
            } = *group;
            self.policy(endpoint_mode, algorithm, affinity);
        }
        let config = self.config;
        config.publish.iter().for_each(|one| self.publish(one));
        config.firewall.iter().for_each(|rule| self.firewall(rule));
    }

    fn publish(&mut self, one: &PublishConfig) {
        self.line("\n[[publish]]");
        self.set("address", one.address.map(quoted));
        self.set("port", Some(range(&one.ports)));
        self.set("protocol", Some(quoted(one.protocol)));
        self.set("network", Some(quoted(&one.group.network)));
        self.set("alias", Some(quoted(&one.group.alias)));
        self.set("target_port", one.target_port.map(|port| port.to_string()));
        self.set("algorithm", one.algorithm.map(quoted));
        self.set("allow", Some(list(&one.allow)));
        self.set("deny", Some(list(&one.deny)));
    }

    fn firewall(&mut self, rule: &FirewallRule) {
        self.line("\n[[firewall]]");
        let action = if rule.allows { "allow" } else { "deny" };
        self.set("action", Some(quoted(action)));
        self.set("source", rule.source.map(quoted));
        self.set("address", rule.address.map(quoted));
        self.set("port", rule.ports.as_ref().map(range));
        self.set("protocol", rule.protocol.map(quoted));
    }

    fn policy(
        &mut self,
        mode: Option<EndpointMode>,
        algorithm: Option<Algorithm>,
        affinity: Option<u32>,
    ) {
        self.set("endpoint_mode", mode.map(|mode| quoted(mode_name(mode))));
        self.set("algorithm", algorithm.map(quoted));
        self.set("affinity", affinity.map(time));
    }

    fn section(&mut self, name: &str) {
        self.line(&format!("\n[{name}]"));
    }

    fn set(&mut self, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.line(&format!("{key} = {value}"));
        }
    }

    fn key(&mut self, key: &str, meaning: &str, value: impl Fn(&Config) -> String) {
        let (default, value) = (value(self.default), value(self.config));
        self.line(&format!("# {meaning} Default: {default}"));
        self.line(&format!("{key} = {value}"));
    }

    fn line(&mut self, line: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// A TOML string.
fn quoted(text: impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn list(items: &[impl Display]) -> String {
    let items: Vec<String> = items.iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}

fn range(ports: &RangeInclusive<u16>) -> String {
    quoted(format!("{}-{}", ports.start(), ports.end()))
}

fn time(seconds: u32) -> String {
    quoted(duration(seconds))
}
