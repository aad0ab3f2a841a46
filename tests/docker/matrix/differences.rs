//! Where a host with veer is not like one with Docker alone, and why. `docs/ports.md` says the same.

use std::fmt::{self, Display, Formatter};

use super::cell::{At, Cell, Client, FAMILIES, Family, Port, Protocol};
use super::probe::{Outcome, Seen};

/// What Docker's host and veer's differ in, for one reason.
#[derive(Debug)]
pub(super) struct Difference {
    /// As in `docs/ports.md`.
    pub(super) reason: &'static str,
    pub(super) patterns: &'static [Pattern],
}

/// Questions that are answered alike.
#[derive(Debug)]
pub(super) struct Pattern {
    clients: &'static [Client],
    ports: &'static [Port],
    places: &'static [At],
    protocols: &'static [Protocol],
    families: &'static [Family],
    pub(super) docker: Outcome,
    pub(super) veer: Outcome,
}

impl Pattern {
    pub(super) fn has(&self, cell: &Cell) -> bool {
        self.clients.contains(&cell.client)
            && self.ports.contains(&cell.port)
            && self.places.contains(&cell.at)
            && self.protocols.contains(&cell.protocol)
            && self.families.contains(&cell.family)
    }
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

const ANY: &[Protocol] = &[Protocol::Tcp, Protocol::Udp];
const TCP: &[Protocol] = &[Protocol::Tcp];
const UDP: &[Protocol] = &[Protocol::Udp];
const V4: &[Family] = &[Family::V4];
const V6: &[Family] = &[Family::V6];
const REAL: &[Port] = &[Port::Published, Port::Range];
const OTHERS: &[Client] = &[Client::Neighbour, Client::Stranger];
const CONTAINERS: &[Client] = &[Client::Neighbour, Client::Stranger, Client::Itself];
const AS_ITSELF: Outcome = Outcome::Answer(Seen::Client);
const AS_GATEWAY: Outcome = Outcome::Answer(Seen::Gateway);

/// In replace mode.
pub(super) const REPLACE: &[Difference] = &[
    DIRECT,
    LED,
    AS_THEMSELVES,
    ITSELF,
    DATAGRAMS,
    ENCLOSED,
    DISCOVERY,
];

/// In beside mode: guards and what internal networks are kept from are Docker's.
pub(super) const BESIDE: &[Difference] = &[LED, AS_THEMSELVES, ITSELF, DATAGRAMS];

const DIRECT: Difference = Difference {
    reason: "nobody outside reaches a container's own address",
    patterns: &[Pattern {
        clients: &[Client::Outside],
        ports: &[Port::Published, Port::Range, Port::Loopback, Port::Ipv4Only],
        places: &[At::Container],
        protocols: ANY,
        families: FAMILIES,
        docker: AS_ITSELF,
        veer: Outcome::Silence,
    }],
};

const LED: Difference = Difference {
    reason: "a host process is led to the container and leaves from the address of its bridge",
    patterns: &[
        Pattern {
            clients: &[Client::Host],
            ports: REAL,
            places: &[At::Uplink],
            protocols: ANY,
            families: FAMILIES,
            docker: AS_ITSELF,
            veer: AS_GATEWAY,
        },
        Pattern {
            clients: &[Client::Host],
            ports: &[Port::Ipv4Only],
            places: &[At::Uplink],
            protocols: ANY,
            families: V4,
            docker: AS_ITSELF,
            veer: AS_GATEWAY,
        },
    ],
};

const AS_THEMSELVES: Difference = Difference {
    reason: "containers are seen as themselves, not as docker-proxy",
    patterns: &[
        Pattern {
            clients: OTHERS,
            ports: REAL,
            places: &[At::Uplink, At::Gateway],
            protocols: TCP,
            families: FAMILIES,
            docker: AS_GATEWAY,
            veer: AS_ITSELF,
        },
        Pattern {
            clients: OTHERS,
            ports: REAL,
            places: &[At::Gateway],
            protocols: UDP,
            families: FAMILIES,
            docker: AS_GATEWAY,
            veer: AS_ITSELF,
        },
        Pattern {
            clients: CONTAINERS,
            ports: &[Port::Ipv4Only],
            places: &[At::Uplink, At::Gateway],
            protocols: TCP,
            families: V4,
            docker: AS_GATEWAY,
            veer: AS_ITSELF,
        },
        Pattern {
            clients: CONTAINERS,
            ports: &[Port::Ipv4Only],
            places: &[At::Gateway],
            protocols: UDP,
            families: V4,
            docker: AS_GATEWAY,
            veer: AS_ITSELF,
        },
    ],
};

const ITSELF: Difference = Difference {
    reason: "a container that asks for itself sees the address that it asked for",
    patterns: &[Pattern {
        clients: &[Client::Itself],
        ports: REAL,
        places: &[At::Uplink],
        protocols: TCP,
        families: FAMILIES,
        docker: AS_GATEWAY,
        veer: Outcome::Answer(Seen::Asked),
    }],
};

const DATAGRAMS: Difference = Difference {
    reason: "docker-proxy answers datagrams from another address than the one asked for",
    patterns: &[
        Pattern {
            clients: OTHERS,
            ports: REAL,
            places: &[At::Uplink],
            protocols: UDP,
            families: FAMILIES,
            docker: Outcome::Silence,
            veer: AS_ITSELF,
        },
        Pattern {
            clients: &[Client::Itself],
            ports: REAL,
            places: &[At::Uplink],
            protocols: UDP,
            families: FAMILIES,
            docker: Outcome::Silence,
            veer: Outcome::Answer(Seen::Asked),
        },
        Pattern {
            clients: CONTAINERS,
            ports: &[Port::Ipv4Only],
            places: &[At::Uplink],
            protocols: UDP,
            families: V4,
            docker: Outcome::Silence,
            veer: AS_ITSELF,
        },
        Pattern {
            clients: CONTAINERS,
            ports: &[Port::Ipv4Only],
            places: &[At::Uplink],
            protocols: UDP,
            families: V6,
            docker: Outcome::Silence,
            veer: AS_GATEWAY,
        },
    ],
};

const ENCLOSED: Difference = Difference {
    reason: "docker-proxy lets an internal network out, to IPv4 containers by IPv6",
    patterns: &[
        Pattern {
            clients: &[Client::Enclosed],
            ports: &[Port::Ipv4Only],
            places: &[At::Uplink, At::Gateway],
            protocols: TCP,
            families: V6,
            docker: AS_GATEWAY,
            veer: Outcome::Silence,
        },
        Pattern {
            clients: &[Client::Enclosed],
            ports: &[Port::Ipv4Only],
            places: &[At::Gateway],
            protocols: UDP,
            families: V6,
            docker: AS_GATEWAY,
            veer: Outcome::Silence,
        },
    ],
};

const DISCOVERY: Difference = Difference {
    reason: "Docker 20.10 drops neighbour discovery within internal networks",
    patterns: &[Pattern {
        clients: &[Client::Enclosed],
        ports: &[Port::Internal],
        places: &[At::Container],
        protocols: ANY,
        families: V6,
        docker: Outcome::Silence,
        veer: AS_ITSELF,
    }],
};
