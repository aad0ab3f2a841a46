//! The interfaces, addresses and default routes of the host, and news of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::unix::AsyncFd;

use super::interface::{self, Header, Interface, InterfaceKind};
use super::netlink::{self, Netlink};
use super::readable::readable;
use super::route;
use super::watch::is_about_the_interface;
use super::{cookie_of, describe};
use crate::model::{Host, HostInterface, HostInterfaceKind};

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR and RTMGRP_IPV6_ROUTE.
const GROUPS: u32 = 1 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10;

/// Room for a burst of news, in bytes.
const QUEUE: u32 = 4 << 20;

/// The interfaces of the socket's namespace that are no ports of bridges.
pub(super) fn host(netlink: &mut Netlink) -> io::Result<Host> {
    let all = interface::interfaces(netlink)?;
    let leading = default_routes(netlink)?;
    let bridges: BTreeSet<u32> = all
        .iter()
        .filter(|one| one.kind == InterfaceKind::Bridge)
        .map(|one| one.ifindex)
        .collect();
    let is_port = |one: &Interface| one.master.is_some_and(|master| bridges.contains(&master));
    let interfaces = all
        .into_iter()
        .filter(|one| !is_port(one) && !is_loose(one));
    let interfaces = interfaces.map(|one| {
        let mut addresses = one.addresses;
        // Link-local addresses of IPv6 come last: a global one is what the host sends from.
        addresses.sort_by_key(|net| match net.addr() {
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
            IpAddr::V4(_) => false,
        });
        HostInterface {
            has_default_route: leading.contains(&one.ifindex),
            kind: match one.kind {
                InterfaceKind::Loopback => HostInterfaceKind::Loopback,
                InterfaceKind::Bridge => HostInterfaceKind::Bridge,
                InterfaceKind::Veth | InterfaceKind::Other(_) => match one.header {
                    Header::Ethernet => HostInterfaceKind::Ethernet,
                    Header::None => HostInterfaceKind::Bare,
                    Header::Other(link) => HostInterfaceKind::Unread(link),
                },
            },
            ifindex: one.ifindex,
            name: one.name,
            mac: one.mac,
            addresses,
        }
    });
    Ok(Host {
        cookie: cookie_of(netlink)?,
        has_docker_rules: false,
        allows_direct_routing: false,
        is_confined: false,
        interfaces: interfaces.collect(),
    })
}

/// Whether it is a container's pair before the Engine plugs it in: nothing can be said to the host by it.
fn is_loose(interface: &Interface) -> bool {
    interface.kind == InterfaceKind::Veth && !interface.is_up && interface.addresses.is_empty()
}

/// The interfaces that a default route of either family leads through, those of several next hops
/// as well.
fn default_routes(netlink: &mut Netlink) -> io::Result<BTreeSet<u32>> {
    let defaults = route::messages(netlink, |message| {
        is_default(&message).then(|| ways(&message))
    });
    Ok(defaults?.into_iter().flatten().collect())
}

fn is_default(route: &RouteMessage) -> bool {
    let header = &route.header;
    header.destination_prefix_length == 0
        && header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Unicast
}

fn ways(route: &RouteMessage) -> Vec<u32> {
    let ways = route
        .attributes
        .iter()
        .flat_map(|attribute| match attribute {
            RouteAttribute::Oif(ifindex) => vec![*ifindex],
            RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
            _ => Vec::new(),
        });
    ways.collect()
}

/// Tells when the host's interfaces, addresses or default routes may have changed.
#[derive(Debug)]
pub struct HostWatch {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
    known: Known,
}

/// The interfaces that the host was seen to have, by index: their names and MAC addresses.
type Known = BTreeMap<u32, (String, [u8; 6])>;

/// News of the calling thread's namespace, from now on. Must be called within a tokio runtime.
pub fn watch_host() -> io::Result<HostWatch> {
    open().map_err(|error| describe(error, || "watch addresses and routes".to_string()))
}

fn open() -> io::Result<HostWatch> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_rx_buf_sz(QUEUE)?;
    socket.bind(&SocketAddr::new(0, GROUPS))?;
    socket.set_non_blocking(true)?;
    Ok(HostWatch {
        socket: readable(socket)?,
        buffer: Vec::with_capacity(64 * 1024),
        known: Known::new(),
    })
}

impl HostWatch {
    /// Takes note of what a look has found, so that containers' interfaces are no news. A look must have
    /// begun after the news that led to it was taken, and none may be taken before this.
    pub fn has_seen(&mut self, host: &Host) {
        let interfaces = host.interfaces.iter();
        let known = interfaces.map(|one| (one.ifindex, (one.name.clone(), one.mac)));
        self.known = known.collect();
    }

    /// Waits until something may have changed. What comes meanwhile is one change. Dropping the future
    /// before it is ready loses nothing.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            // Not after reading: what comes meanwhile makes it ready again.
            self.socket.readable().await?.clear_ready();
            if self.has_news()? {
                return Ok(());
            }
        }
    }

    /// Whether what has come since the last time is news. Does not wait.
    pub(super) fn has_news(&mut self) -> io::Result<bool> {
        let mut has_news = false;
        loop {
            self.buffer.clear();
            match self.socket.get_ref().recv(&mut self.buffer, 0) {
                Ok(_) => has_news |= matters(&self.buffer, &self.known),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(has_news),
                // Some was lost.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => has_news = true,
                Err(error) => return Err(describe(error, || "read news of the host".into())),
            }
        }
    }
}

impl AsRawFd for HostWatch {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

/// Whether a datagram tells of something that [`host`] has, of which it has `known` so far. One that cannot
/// be read may.
fn matters(datagram: &[u8], known: &Known) -> bool {
    let Ok(messages) = netlink::parse(datagram) else {
        return true;
    };
    messages.into_iter().any(|message| match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
            is_about_the_interface(&link) && is_news(&Interface::from_message(&link), known)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
            is_about_the_interface(&link) && known.contains_key(&link.header.index)
        }
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address),
        ) => known.contains_key(&address.header.index) || !is_of_the_link(&address),
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        ) => route.header.destination_prefix_length == 0,
        _ => false,
    })
}

/// Whether what an interface is now differs from what is known of the host, as far as [`host`] tells of it.
/// Interfaces of containers come and go all the time: as pairs that are down, and then as ports of bridges,
/// and each has its bridge told of as well.
fn is_news(link: &Interface, known: &Known) -> bool {
    let is_container = link.master.is_some() || is_loose(link);
    match known.get(&link.ifindex) {
        Some((name, mac)) => is_container || *name != link.name || *mac != link.mac,
        None => !is_container,
    }
}

/// Whether the kernel has made the address up for the link: a port of a bridge has one as well.
fn is_of_the_link(message: &AddressMessage) -> bool {
    let address = interface::address_of(message).map(|net| net.addr());
    matches!(address, Some(IpAddr::V6(v6)) if v6.is_unicast_link_local())
}
