//! What the datapath knows of the host around the Networks: small tables, one element at a time.

use std::fmt;

use lb_common::{
    Addr, Interface, Link, Network, OpenPort, Source, SourceKey, Subnet, SubnetKey, Zone,
};

/// Where a [`Fact`] is: a table and the key in it. Facts are written in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Number of a rule about clients.
    Rule(u16),
    Source(SourceKey),
    Network(Zone),
    Subnet(SubnetKey),
    /// Index of an interface that is no container's.
    Interface(u32),
    /// An address of the host's own.
    Local(Addr),
    OpenPort(OpenPort),
    Link(Link),
}

/// One element of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The counter of this number is for the rule of this content, and begins anew.
    Rule(u16, u64),
    Source(SourceKey, Source),
    Network(Zone, Network),
    Subnet(SubnetKey, Subnet),
    Interface(u32, Interface),
    Local(Addr),
    OpenPort(OpenPort),
    Link(Link),
}

impl Fact {
    /// Where it is.
    pub fn place(&self) -> Place {
        match self {
            Self::Rule(number, _) => Place::Rule(*number),
            Self::Source(key, _) => Place::Source(*key),
            Self::Network(zone, _) => Place::Network(*zone),
            Self::Subnet(key, _) => Place::Subnet(*key),
            Self::Interface(ifindex, _) => Place::Interface(*ifindex),
            Self::Local(address) => Place::Local(*address),
            Self::OpenPort(port) => Place::OpenPort(*port),
            Self::Link(link) => Place::Link(*link),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(number) => write!(f, "counter {number} of a rule"),
            Self::Source(key) => write!(f, "rule for {}", key.address),
            Self::Network(zone) => write!(f, "network in zone {zone}"),
            Self::Subnet(key) => write!(f, "subnet {}", key.address),
            Self::Interface(ifindex) => write!(f, "interface {ifindex}"),
            Self::Local(address) => write!(f, "host address {address}"),
            Self::OpenPort(port) => write!(f, "port {} of {}", port.port, port.address),
            Self::Link(link) => write!(f, "link from {} to {}", link.from, link.to),
        }
    }
}
