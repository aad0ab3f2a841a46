//! On-link routes.

use std::io;

use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};

use super::describe;
use super::netlink::Netlink;

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
        IpNet::V4(net) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .scope(RouteScope::Link)
            .output_interface(ifindex)
            .build(),
        IpNet::V6(net) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .output_interface(ifindex)
            .build(),
    }
}
