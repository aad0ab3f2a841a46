//! What is asked of both hosts: who asks for what, by which protocol and family.

use std::fmt::{self, Display, Formatter};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// Somebody beyond the uplink, whose routes lead to containers' addresses too.
    Outside,
    /// A process of the host.
    Host,
    /// A container of the server's Network.
    Neighbour,
    /// A container of another Network.
    Stranger,
    /// The server's container.
    Itself,
    /// A container of an internal Network.
    Enclosed,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Published,
    Unpublished,
    /// Published on 127.0.0.1 and ::1.
    Loopback,
    /// The last one of a range.
    Range,
    /// Published by a container that has IPv4 alone.
    Ipv4Only,
    /// Published by a container of the internal Network.
    Internal,
    /// No port: an echo request.
    Echo,
}

/// At which address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// The host's on its uplink.
    Uplink,
    /// 127.0.0.1 or ::1.
    Localhost,
    /// The gateway of the client's own Network.
    Gateway,
    /// The container's own.
    Container,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// One question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) client: Client,
    pub(super) port: Port,
    pub(super) at: At,
    pub(super) protocol: Protocol,
    pub(super) family: Family,
}

pub(super) const CLIENTS: &[Client] = &[
    Client::Outside,
    Client::Host,
    Client::Neighbour,
    Client::Stranger,
    Client::Itself,
    Client::Enclosed,
];
pub(super) const PORTS: &[Port] = &[
    Port::Published,
    Port::Unpublished,
    Port::Loopback,
    Port::Range,
    Port::Ipv4Only,
    Port::Internal,
    Port::Echo,
];
pub(super) const PLACES: &[At] = &[At::Uplink, At::Localhost, At::Gateway, At::Container];
pub(super) const PROTOCOLS: &[Protocol] = &[Protocol::Tcp, Protocol::Udp, Protocol::Icmp];
pub(super) const FAMILIES: &[Family] = &[Family::V4, Family::V6];

/// Every question that makes sense.
pub(super) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for &client in CLIENTS {
        for &port in PORTS {
            for &at in PLACES {
                for &protocol in PROTOCOLS {
                    let both = FAMILIES.iter().map(|&family| Cell {
                        client,
                        port,
                        at,
                        protocol,
                        family,
                    });
                    cells.extend(both.filter(|cell| cell.makes_sense()));
                }
            }
        }
    }
    cells
}

impl Cell {
    fn makes_sense(self) -> bool {
        let is_container = !matches!(self.client, Client::Outside | Client::Host);
        let at_is_there = match self.at {
            At::Uplink => true,
            // Everybody else is alone at these addresses.
            At::Localhost => self.client == Client::Host,
            At::Gateway => is_container,
            // One container has no address of that family.
            At::Container => self.port != Port::Ipv4Only || self.family == Family::V4,
        };
        at_is_there && (self.port == Port::Echo) == (self.protocol == Protocol::Icmp)
    }
}

impl Display for Cell {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            client,
            port,
            at,
            protocol,
            family,
        } = self;
        write!(
            f,
            "{client:?} -> {port:?} at {at:?}, {protocol:?} {family:?}"
        )
    }
}
