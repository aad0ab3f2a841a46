//! The ports of a container, consecutive ones together.
//!
//! # Why
//! The Engine lists every port of a range by itself, and for each address again. A container that
//! publishes ten thousand is one entry here, and everywhere after.

use std::net::{IpAddr, Ipv4Addr};

use bollard::models::{PortBinding, PortMap};

use crate::model::{PortRange, Protocol, PublishedPorts};

/// What a container's inspection says about its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PortFacts {
    pub(super) published: Vec<PublishedPorts>,
    /// Published or not.
    pub(super) exposed: Vec<PortRange>,
}

impl PortFacts {
    /// From what the Engine has `bound`, and what it was `asked` for.
    pub(super) fn from_maps(bound: PortMap, asked: &PortMap) -> Self {
        let (mut exposed, mut published) = (Vec::new(), Vec::new());
        for (key, bindings) in bound {
            let Some((port, protocol)) = container_port(&key) else {
                continue;
            };
            exposed.push((protocol, port));
            let bindings = bindings.into_iter().flatten();
            let mut own: Vec<Binding> = bindings
                .map(|binding| {
                    let host = binding.host_ip.and_then(|host| host.parse().ok());
                    let host_port = binding.host_port.and_then(|port| port.parse().ok());
                    (protocol, host, host_port, port)
                })
                .collect();
            let asked = asked
                .get(&key)
                .and_then(Option::as_deref)
                .unwrap_or_default();
            if !own.iter().any(|(_, host, ..)| is_v6(host)) {
                widen(&mut own, asked, (protocol, port));
            }
            published.extend(own);
        }
        exposed.sort_unstable();
        published.sort_unstable();
        published.dedup();
        Self {
            published: folded(published),
            exposed: ranges(exposed),
        }
    }
}

type Binding = (Protocol, Option<IpAddr>, Option<u16>, u16);

fn is_v6(host: &Option<IpAddr>) -> bool {
    host.is_some_and(|host| host.is_ipv6())
}

/// Without its proxies the Engine binds no IPv6 address for a container that has IPv4 alone. That is
/// what they are needed for, and not here: what is bound at every IPv4 address and was `asked` for at
/// no address in particular is at all, and a port that was asked for at an IPv6 address is there.
fn widen(bound: &mut Vec<Binding>, asked: &[PortBinding], (protocol, port): (Protocol, u16)) {
    const ALL_V4: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let address = |binding: &PortBinding| binding.host_ip.as_ref()?.parse().ok();
    let of_v4 = asked.iter().any(|binding| address(binding) == ALL_V4);
    // `-P` asks for nothing.
    let of_none = asked.is_empty() || asked.iter().any(|binding| address(binding).is_none());
    if of_none && !of_v4 {
        for (_, host, host_port, _) in bound.iter_mut() {
            if *host == ALL_V4 && host_port.is_some() {
                *host = None;
            }
        }
    }
    bound.extend(asked.iter().filter_map(|binding| {
        let host = address(binding).filter(IpAddr::is_ipv6)?;
        let host_port = binding.host_port.as_ref()?.parse().ok()?;
        (host_port != 0).then_some((protocol, Some(host), Some(host_port), port))
    }));
}

/// `bindings` in order, those that go on in both port numbers as one.
fn folded(bindings: Vec<Binding>) -> Vec<PublishedPorts> {
    let mut folded: Vec<PublishedPorts> = Vec::new();
    for (protocol, host, host_port, port) in bindings {
        if let Some(last) = folded.last_mut()
            && (last.protocol, last.host) == (protocol, host)
            && last.port.checked_add(last.count) == Some(port)
            && last.host_port.map(|first| first.checked_add(last.count)) == host_port.map(Some)
        {
            last.count += 1;
            continue;
        }
        folded.push(PublishedPorts {
            protocol,
            host,
            host_port,
            port,
            count: 1,
        });
    }
    folded
}

fn ranges(ports: Vec<(Protocol, u16)>) -> Vec<PortRange> {
    let mut ranges: Vec<PortRange> = Vec::new();
    for (protocol, first) in ports {
        match ranges.last_mut() {
            Some(last)
                if last.protocol == protocol
                    && last.first.checked_add(last.count) == Some(first) =>
            {
                last.count += 1;
            }
            _ => ranges.push(PortRange {
                protocol,
                first,
                count: 1,
            }),
        }
    }
    ranges
}

/// The port in `80/tcp`.
fn container_port(key: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    Some((port.parse().ok()?, Protocol::from_name(protocol)?))
}

/// Who is linked to by `/target:/own/alias` or `target:alias`.
pub(super) fn linked(link: &str) -> String {
    let target = link.split(':').next().unwrap_or_default();
    target.trim_start_matches('/').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_go_on_on_both_sides_are_one_entry() {
        let binding = |host_port, port| (Protocol::Tcp, None, Some(host_port), port);
        let mut bindings = vec![binding(30_000, 80), binding(30_001, 82)];
        bindings.extend((0..10_000).map(|n| binding(20_000 + n, 30_000 + n)));
        bindings.push((Protocol::Tcp, None, Some(65_535), 65_535));

        let counts: Vec<_> = folded(bindings)
            .iter()
            .map(|ports| (ports.host_port, ports.port, ports.count))
            .collect();

        let expected = [
            (Some(30_000), 80, 1),
            (Some(30_001), 82, 1),
            (Some(20_000), 30_000, 10_000),
            (Some(65_535), 65_535, 1),
        ];
        assert_eq!(counts, expected);
    }

    /// The addresses at which port 80 is published, bound at `bound` and asked for at `asked`.
    fn addresses(bound: &[&str], asked: &[&str]) -> Vec<Option<IpAddr>> {
        let map = |hosts: &[&str]| {
            let bindings = hosts.iter().map(|host| PortBinding {
                host_ip: Some(host.to_string()),
                host_port: Some("8080".to_string()),
            });
            PortMap::from([("80/tcp".to_string(), Some(bindings.collect()))])
        };
        let facts = PortFacts::from_maps(map(bound), &map(asked));
        facts.published.iter().map(|ports| ports.host).collect()
    }

    #[test]
    fn a_port_asked_for_at_no_address_is_at_those_of_ipv6_too() {
        let [v4, v6] = ["0.0.0.0", "::"].map(|all| all.parse().ok());

        assert_eq!(addresses(&["0.0.0.0"], &[""]), [None]);
        assert_eq!(addresses(&["0.0.0.0"], &[]), [None], "by -P");
        assert_eq!(addresses(&["0.0.0.0"], &["0.0.0.0"]), [v4]);
        let own = "::1".parse().ok();
        assert_eq!(addresses(&["0.0.0.0"], &["0.0.0.0", "::1"]), [v4, own]);
        assert_eq!(addresses(&["0.0.0.0", "::"], &[""]), [v4, v6]);
        let one = "192.0.2.1";
        assert_eq!(addresses(&[one], &[""]), [one.parse().ok()]);
    }
}
