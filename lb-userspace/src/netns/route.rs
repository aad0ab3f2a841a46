//! Routes: those that are there, and on-link ones.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::describe;
use super::netlink::Netlink;

/// One route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Of no length for a default route.
    pub to: IpNet,
    /// Index of the interface it leads through; `None` for several next hops or none.
    pub ifindex: Option<u32>,
}

pub(super) fn routes(netlink: &mut Netlink) -> io::Result<Vec<Route>> {
    messages(netlink, |message| read(&message))
}

/// What `keep` wants of every route of either family, of all tables, as the kernel tells it.
pub(super) fn messages<T>(
    netlink: &mut Netlink,
    keep: impl Fn(RouteMessage) -> Option<T>,
) -> io::Result<Vec<T>> {
    let keep = |message| match message {
        RouteNetlinkMessage::NewRoute(route) => keep(route),
        _ => None,
    };
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        let routes = netlink
            .dump(&RouteNetlinkMessage::GetRoute(request), keep)
            .map_err(|error| describe(error, || "list routes".to_string()))?;
        found.extend(routes);
    }
    Ok(found)
}

fn read(message: &RouteMessage) -> Option<Route> {
    if message.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let mut address = match message.header.address_family {
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let mut ifindex = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(addr)) => address = IpAddr::V4(*addr),
            RouteAttribute::Destination(RouteAddress::Inet6(addr)) => address = IpAddr::V6(*addr),
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            _ => {}
        }
    }
    let to = IpNet::new(address, message.header.destination_prefix_length).ok()?;
    Some(Route { to, ifindex })
}

pub(super) fn add(netlink: &mut Netlink, ifindex: u32, to: IpNet) -> io::Result<()> {
    let route = RouteNetlinkMessage::NewRoute(on_link(ifindex, to));
    netlink
        .change(route, NLM_F_CREATE | NLM_F_REPLACE)
        .map_err(|error| describe(error, || format!("add route {to} to interface {ifindex}")))
}

pub(super) fn remove(netlink: &mut Netlink, ifindex: u32, to: IpNet) -> io::Result<()> {
    let route = RouteNetlinkMessage::DelRoute(on_link(ifindex, to));
    match netlink.change(route, 0) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV)) => Ok(()),
        other => other.map_err(|error| {
            describe(error, || {
                format!("remove route {to} from interface {ifindex}")
            })
        }),
    }
}

fn on_link(ifindex: u32, to: IpNet) -> RouteMessage {
    match to {
        IpNet::V4(net) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .scope(RouteScope::Link)
            .output_interface(ifindex)
            .build(),
        IpNet::V6(net) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .output_interface(ifindex)
            .build(),
    }
}
