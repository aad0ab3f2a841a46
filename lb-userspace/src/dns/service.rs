//! Names of services: `_http._tcp.web` for port 80 of `web`, RFC 2782.

use hickory_proto::rr::rdata::SRV;
use hickory_proto::rr::{Name, RData};

use super::records::Known;
use crate::model::Protocol;

/// Services that are known by name; any other one is asked for by its number.
const NAMED: [(&str, u16); 14] = [
    ("amqp", 5672),
    ("domain", 53),
    ("grpc", 50051),
    ("http", 80),
    ("https", 443),
    ("ldap", 389),
    ("memcache", 11211),
    ("mongodb", 27017),
    ("mqtt", 1883),
    ("mysql", 3306),
    ("nats", 4222),
    ("postgresql", 5432),
    ("redis", 6379),
    ("smtp", 25),
];

/// A port of whoever has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Service<'a> {
    port: u16,
    protocol: Protocol,
    pub(super) name: &'a str,
}

/// The service that `text` is the name of; `None` if it is none's.
pub(super) fn read(text: &str) -> Option<Service<'_>> {
    let (port, rest) = text.split_once('.')?;
    let (protocol, name) = rest.split_once('.')?;
    let port = port.strip_prefix('_')?.to_ascii_lowercase();
    let named = NAMED.iter().find(|(name, _)| *name == port);
    let port = named.map_or_else(|| port.parse().ok(), |(_, port)| Some(*port))?;
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "_tcp" => Protocol::Tcp,
        "_udp" => Protocol::Udp,
        "_sctp" => Protocol::Sctp,
        _ => return None,
    };
    Some(Service {
        port,
        protocol,
        name,
    })
}

/// Everything that `known` is known to offer, without names.
pub(super) fn offered(known: &Known) -> impl Iterator<Item = Service<'static>> + '_ {
    known.ports.iter().flat_map(|range| {
        let ports = (0..range.count).filter_map(|index| range.first.checked_add(index));
        ports.map(|port| Service {
            port,
            protocol: range.protocol,
            name: "",
        })
    })
}

impl Service<'_> {
    pub(super) fn port(self) -> u16 {
        self.port
    }

    /// What it may be called, before the name of who offers it.
    pub(super) fn labels(self) -> impl Iterator<Item = String> {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        let named = NAMED.iter().filter(move |(_, port)| *port == self.port);
        let names = named.map(|(name, _)| (*name).to_owned());
        let all = names.chain(std::iter::once(self.port.to_string()));
        all.map(move |port| format!("_{port}._{protocol}"))
    }

    /// Whether `known` offers it.
    pub(super) fn is_of(self, known: &Known) -> bool {
        known.ports.iter().any(|range| {
            let last = range.first.saturating_add(range.count.saturating_sub(1));
            range.protocol == self.protocol && (range.first..=last).contains(&self.port)
        })
    }

    /// Its record; `None` if nobody is known to have the port. The target is the end of the name that
    /// was asked for, which the asker can resolve.
    pub(super) fn record(self, known: &Known, asked: &Name) -> Option<RData> {
        let target = asked.trim_to(usize::from(asked.num_labels()).saturating_sub(2));
        self.is_of(known)
            .then(|| RData::SRV(SRV::new(0, 0, self.port, target)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_by_number_or_by_name() {
        let web = |port, protocol| {
            Some(Service {
                port,
                protocol,
                name: "web.front",
            })
        };

        assert_eq!(read("_8080._tcp.web.front"), web(8080, Protocol::Tcp));
        assert_eq!(read("_HTTP._TCP.web.front"), web(80, Protocol::Tcp));
        assert_eq!(read("_domain._udp.web.front"), web(53, Protocol::Udp));
        for other in [
            "web",
            "_tcp.web",
            "_80.tcp.web",
            "80._tcp.web",
            "_x._tcp.web",
            "_70000._tcp.a",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
