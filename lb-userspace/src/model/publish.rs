//! What a container's `veer.publish` label asks for.

use std::net::IpAddr;

use super::Protocol;

/// Ports of the host at which one of the container's Groups is to be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishLabel {
    /// `None`: every address of the host.
    pub address: Option<IpAddr>,
    pub first: u16,
    pub last: u16,
    /// Of the Members, for the first port; `None`: what each Member's `veer.port` says.
    pub target_port: Option<u16>,
    pub protocol: Protocol,
    /// `None`: each of the container's Groups would do, and it has one.
    pub alias: Option<String>,
}

impl PublishLabel {
    /// Each of `[address:]port[-last][:target][/protocol][@alias]`, separated by commas; an IPv6
    /// address is in brackets. `None` if one of them cannot be read.
    pub fn parse_all(value: &str) -> Option<Vec<Self>> {
        value
            .split(',')
            .map(|one| Self::parse(one.trim()))
            .collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let (text, alias) = match text.split_once('@') {
            Some((text, alias)) => (text, Some(alias.to_lowercase())),
            None => (text, None),
        };
        let (text, protocol) = match text.split_once('/') {
            Some((text, protocol)) => (text, Protocol::from_name(protocol)?),
            None => (text, Protocol::Tcp),
        };
        let (address, ports) = split_address(text)?;
        let (ports, target_port) = match ports.split_once(':') {
            Some((ports, target)) => (ports, Some(port(target)?)),
            None => (ports, None),
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last) = (port(first)?, port(last)?);
        (first <= last).then_some(Self {
            address,
            first,
            last,
            target_port,
            protocol,
            alias,
        })
    }
}

fn split_address(text: &str) -> Option<(Option<IpAddr>, &str)> {
    if let Some(text) = text.strip_prefix('[') {
        let (address, ports) = text.split_once("]:")?;
        return Some((Some(address.parse().ok()?), ports));
    }
    match text.split_once(':') {
        Some((address, ports)) if address.contains('.') => {
            Some((Some(address.parse().ok()?), ports))
        }
        _ => Some((None, text)),
    }
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_but_the_port_may_be_missing() {
        let parse = |text| PublishLabel::parse_all(text).map(|all| all[0].clone());
        let plain = PublishLabel {
            address: None,
            first: 80,
            last: 80,
            target_port: None,
            protocol: Protocol::Tcp,
            alias: None,
        };

        assert_eq!(parse("80"), Some(plain.clone()));
        let whole = PublishLabel {
            address: Some("192.0.2.1".parse().unwrap()),
            last: 89,
            target_port: Some(8_080),
            protocol: Protocol::Udp,
            alias: Some("web".to_string()),
            ..plain.clone()
        };
        assert_eq!(parse("192.0.2.1:80-89:8080/udp@Web"), Some(whole));
        let v6 = PublishLabel {
            address: Some("::1".parse().unwrap()),
            target_port: Some(81),
            ..plain
        };
        assert_eq!(parse("[::1]:80:81"), Some(v6));
        assert_eq!(
            PublishLabel::parse_all("80, 443").map(|all| all.len()),
            Some(2)
        );
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        for text in [
            "", "0", "web", "90-80", "80/icmp", "1.2.3:80", "::1:80", "80:", "[::1]80",
        ] {
            assert_eq!(PublishLabel::parse_all(text), None, "{text}");
        }
    }
}
