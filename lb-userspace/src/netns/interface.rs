//! What is known about one interface.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};

use super::describe;
use super::netlink::Netlink;

/// `IFLA_TARGET_NETNSID`.
const TARGET: u16 = 46;

/// One interface of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub ifindex: u32,
    pub name: String,
    /// All zero where the interface has no Ethernet address.
    pub mac: [u8; 6],
    /// Index of the other end of a veth pair, in the other end's namespace (IFLA_LINK).
    pub peer_ifindex: Option<u32>,
    /// The kernel's number, valid in this namespace only, of the namespace that the other end is in;
    /// `None` where it is this one.
    pub peer_netns_id: Option<i32>,
    /// Index of the bridge that this is a port of.
    pub master: Option<u32>,
    /// Address and prefix length, IPv4 and IPv6, link-local ones too.
    pub addresses: Vec<IpNet>,
    pub kind: InterfaceKind,
    pub header: Header,
    /// Asked to carry packets.
    pub is_up: bool,
    /// Able to: a veth when both ends are up.
    pub has_carrier: bool,
}

/// What sort of interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceKind {
    Bridge,
    Loopback,
    Veth,
    /// Something else, by the kernel's name of the kind; empty for hardware.
    Other(String),
}

/// What the packets of an interface begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    Ethernet,
    /// The IP header.
    None,
    /// Something else, by the number of the kernel's `ARPHRD_` constant.
    Other(u16),
}

impl Header {
    /// That of a kind of link. GRE's packets begin with the tunnel's own IP header, where programs see
    /// them come in.
    fn of(link: LinkLayerType) -> Self {
        match link {
            LinkLayerType::Ether | LinkLayerType::Loopback => Self::Ethernet,
            LinkLayerType::None
            | LinkLayerType::Ppp
            | LinkLayerType::Rawip
            | LinkLayerType::Tunnel
            | LinkLayerType::Tunnel6
            | LinkLayerType::Sit => Self::None,
            other => Self::Other(other.into()),
        }
    }
}

impl Interface {
    /// The link-local IPv6 address, if there is one.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|net| match net.addr() {
            IpAddr::V6(addr) if addr.is_unicast_link_local() => Some(addr),
            IpAddr::V6(_) | IpAddr::V4(_) => None,
        })
    }

    /// The interface that `message` tells of, without its addresses.
    pub(super) fn from_message(message: &LinkMessage) -> Self {
        let is_loopback = message.header.flags.contains(LinkFlags::Loopback);
        let mut interface = Self {
            ifindex: message.header.index,
            name: String::new(),
            mac: [0; 6],
            peer_ifindex: None,
            peer_netns_id: None,
            master: None,
            addresses: Vec::new(),
            kind: InterfaceKind::Other(String::new()),
            header: Header::of(message.header.link_layer_type),
            is_up: message.header.flags.contains(LinkFlags::Up),
            has_carrier: message.header.flags.contains(LinkFlags::LowerUp),
        };
        for attribute in &message.attributes {
            interface.read(attribute);
        }
        if is_loopback {
            interface.kind = InterfaceKind::Loopback;
        }
        interface
    }

    fn read(&mut self, attribute: &LinkAttribute) {
        match attribute {
            LinkAttribute::IfName(name) => self.name.clone_from(name),
            LinkAttribute::Address(bytes) => {
                self.mac = bytes.as_slice().try_into().unwrap_or_default();
            }
            LinkAttribute::Link(peer) => self.peer_ifindex = (*peer != 0).then_some(*peer),
            LinkAttribute::LinkNetNsId(id) => self.peer_netns_id = Some(*id),
            LinkAttribute::Controller(master) => self.master = (*master != 0).then_some(*master),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        self.kind = InterfaceKind::from(kind);
                    }
                }
            }
            _ => {}
        }
    }
}

impl From<&InfoKind> for InterfaceKind {
    fn from(kind: &InfoKind) -> Self {
        match kind {
            InfoKind::Bridge => Self::Bridge,
            InfoKind::Veth => Self::Veth,
            other => Self::Other(other.to_string()),
        }
    }
}

/// Every interface of the socket's namespace with its addresses, by index.
pub(super) fn interfaces(netlink: &mut Netlink) -> io::Result<Vec<Interface>> {
    list(netlink, LinkMessage::default(), AddressMessage::default())
}

/// The same of the namespace that the socket's knows by `number`.
pub(super) fn interfaces_of(netlink: &mut Netlink, number: i32) -> io::Result<Vec<Interface>> {
    let (mut link, mut address) = (LinkMessage::default(), AddressMessage::default());
    let target = DefaultNla::new(TARGET, number.to_ne_bytes().to_vec());
    link.attributes.push(LinkAttribute::Other(target));
    let target = AddressAttribute::TargetNetNsId(number);
    address.attributes.push(target);
    netlink.strictly(|netlink| list(netlink, link, address))
}

fn list(
    netlink: &mut Netlink,
    mut request: LinkMessage,
    of_addresses: AddressMessage,
) -> io::Result<Vec<Interface>> {
    let without_statistics = vec![LinkExtentMask::SkipStats];
    request
        .attributes
        .push(LinkAttribute::ExtMask(without_statistics));
    let link = |message| match message {
        RouteNetlinkMessage::NewLink(link) => Some(Interface::from_message(&link)),
        _ => None,
    };
    let address = |message| match message {
        RouteNetlinkMessage::NewAddress(address) => {
            Some((address.header.index, address_of(&address)?))
        }
        _ => None,
    };
    let links = netlink
        .dump(&RouteNetlinkMessage::GetLink(request), link)
        .map_err(|error| describe(error, || "list interfaces".to_string()))?;
    let request = RouteNetlinkMessage::GetAddress(of_addresses);
    let addresses = netlink
        .dump(&request, address)
        .map_err(|error| describe(error, || "list addresses of interfaces".to_string()))?;

    let links = links.into_iter().map(|link| (link.ifindex, link));
    let mut found: BTreeMap<_, _> = links.collect();
    for (ifindex, address) in addresses {
        if let Some(interface) = found.get_mut(&ifindex) {
            interface.addresses.push(address);
        }
    }
    Ok(found.into_values().collect())
}

/// The interface's own address: of a point-to-point pair, IFA_ADDRESS is the other end's.
pub(super) fn address_of(message: &AddressMessage) -> Option<IpNet> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    let local = find(|attribute| match attribute {
        AddressAttribute::Local(addr) => Some(*addr),
        _ => None,
    });
    let address = local.or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(addr) => Some(*addr),
            _ => None,
        })
    })?;
    IpNet::new(address, message.header.prefix_len).ok()
}
