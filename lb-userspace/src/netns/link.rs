//! Creating and changing interfaces.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::netlink::Netlink;
use super::{Interface, Namespace, cookie_of, describe, id, interface};

/// The group that interfaces are put into just before they are removed together.
const DOOMED: u32 = 0x7665_6572;

/// The interfaces of one namespace, to be changed.
#[derive(Debug)]
pub struct Links {
    netlink: Netlink,
}

/// One end of a veth pair that is to be.
#[derive(Clone, Copy, Debug)]
pub struct PairEnd<'a> {
    pub name: &'a str,
    /// `None`: the kernel makes one up.
    pub mac: Option<[u8; 6]>,
    /// `None`: the namespace that the request is made in.
    pub namespace: Option<&'a Namespace>,
    /// Index of the bridge that it becomes a port of.
    pub master: Option<u32>,
}

impl Links {
    pub(super) fn new(netlink: Netlink) -> Self {
        Self { netlink }
    }

    /// Every interface here with its addresses, by index.
    pub fn interfaces(&mut self) -> io::Result<Vec<Interface>> {
        interface::interfaces(&mut self.netlink)
    }

    /// The kernel's number of this namespace, unique until reboot (Linux 5.14).
    pub fn cookie(&self) -> io::Result<u64> {
        cookie_of(&self.netlink)
    }

    /// The number by which this namespace knows `other`, as in [`Interface::peer_netns_id`]; `None`
    /// if it has none, so that no interface here can have its other end there.
    pub fn number_of(&mut self, other: &Namespace) -> io::Result<Option<i32>> {
        id::of(&mut self.netlink, other)
    }

    /// The same of the namespace that this one knows by `number`, which is not entered.
    pub fn interfaces_of(&mut self, number: i32) -> io::Result<Vec<Interface>> {
        interface::interfaces_of(&mut self.netlink, number)
    }

    /// The index of the interface called `name`; [`io::ErrorKind::NotFound`] if there is none.
    pub fn index_of(&mut self, name: &str) -> io::Result<u32> {
        let request = LinkMessageBuilder::<LinkUnspec>::new().name(name).build();
        let answer = self
            .netlink
            .ask(RouteNetlinkMessage::GetLink(request))
            .map_err(|error| describe(error, || format!("look up interface {name}")))?;
        match answer {
            RouteNetlinkMessage::NewLink(link) => Ok(link.header.index),
            _ => Err(io::Error::other(format!(
                "look up interface {name}: the kernel answered with something else"
            ))),
        }
    }

    /// A new bridge that is up; [`io::ErrorKind::AlreadyExists`] if the name is taken.
    pub fn add_bridge(&mut self, name: &str) -> io::Result<u32> {
        self.create(LinkBridge::new(name).build())
            .map_err(|error| describe(error, || format!("create bridge {name}")))?;
        self.index_of(name)
    }

    /// A new veth pair; [`io::ErrorKind::AlreadyExists`] if one of the names is taken. The near end
    /// is up; the far end cannot be before it has its partner, so [`Links::set_up`] follows there.
    ///
    /// A port of a bridge is set up when it is one: up before that, it looks like an interface of the
    /// host's own.
    pub fn add_pair(&mut self, near: PairEnd<'_>, far: PairEnd<'_>) -> io::Result<()> {
        let is_port = near.master.is_some();
        let mut pair =
            end::<LinkVeth>(LinkMessageBuilder::new_with_info_kind(InfoKind::Veth), near);
        if !is_port {
            pair = pair.up();
        }
        pair = pair.set_info_data(InfoData::Veth(InfoVeth::Peer(
            end::<LinkUnspec>(LinkMessageBuilder::<LinkUnspec>::new(), far).build(),
        )));
        self.create(pair.build()).map_err(|error| {
            describe(error, || {
                format!("create veth pair {} and {}", near.name, far.name)
            })
        })?;
        if is_port {
            let ifindex = self.index_of(near.name)?;
            self.set_up(ifindex)?;
        }
        Ok(())
    }

    /// Lets the interface carry packets.
    pub fn set_up(&mut self, ifindex: u32) -> io::Result<()> {
        let message = LinkUnspec::new_with_index(ifindex).up().build();
        self.set(message, "set up", ifindex)
    }

    /// Stops the interface.
    pub fn set_down(&mut self, ifindex: u32) -> io::Result<()> {
        let message = LinkUnspec::new_with_index(ifindex).down().build();
        self.set(message, "set down", ifindex)
    }

    /// Gives the interface an address that is usable at once (without duplicate address detection).
    pub fn add_address(&mut self, ifindex: u32, address: IpNet) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.index = ifindex;
        message.header.prefix_len = address.prefix_len();
        message.header.family = match address {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        };
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes = vec![
            AddressAttribute::Local(address.addr()),
            AddressAttribute::Address(address.addr()),
            AddressAttribute::Flags(AddressFlags::Nodad),
        ];
        self.netlink
            .change(
                RouteNetlinkMessage::NewAddress(message),
                NLM_F_CREATE | NLM_F_REPLACE,
            )
            .map_err(|error| {
                describe(error, || {
                    format!("add address {address} to interface {ifindex}")
                })
            })
    }

    /// Sends what has no better way through `gateway`.
    pub fn add_default_route(&mut self, gateway: IpAddr) -> io::Result<()> {
        let route = match gateway {
            IpAddr::V4(addr) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(addr).build(),
            IpAddr::V6(addr) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(addr).build(),
        };
        self.netlink
            .change(
                RouteNetlinkMessage::NewRoute(route),
                NLM_F_CREATE | NLM_F_REPLACE,
            )
            .map_err(|error| describe(error, || format!("add a default route via {gateway}")))
    }

    /// Removes the interface, and with a veth its other end. One that is gone is no error.
    pub fn remove(&mut self, ifindex: u32) -> io::Result<()> {
        let message = LinkUnspec::new_with_index(ifindex).build();
        match self
            .netlink
            .change(RouteNetlinkMessage::DelLink(message), 0)
        {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            other => {
                other.map_err(|error| describe(error, || format!("remove interface {ifindex}")))
            }
        }
    }

    /// Removes all these interfaces at once: the kernel waits for its readers once, and not (some
    /// 10 ms) for each. Those that are gone are no error.
    pub fn remove_all(&mut self, ifindexes: &[u32]) -> io::Result<()> {
        let mut found = false;
        for ifindex in ifindexes {
            let message = LinkUnspec::new_with_index(*ifindex)
                .link_group(DOOMED)
                .build();
            match self.set(message, "mark for removal", *ifindex) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => {
                    other?;
                    found = true;
                }
            }
        }
        if !found {
            return Ok(());
        }
        let group = LinkMessageBuilder::<LinkUnspec>::new()
            .link_group(DOOMED)
            .build();
        self.netlink
            .change(RouteNetlinkMessage::DelLink(group), 0)
            .map_err(|error| describe(error, || "remove interfaces".to_string()))
    }

    fn create(&mut self, link: LinkMessage) -> io::Result<()> {
        self.netlink.change(
            RouteNetlinkMessage::NewLink(link),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    fn set(&mut self, link: LinkMessage, what: &str, ifindex: u32) -> io::Result<()> {
        self.netlink
            .change(RouteNetlinkMessage::SetLink(link), 0)
            .map_err(|error| describe(error, || format!("{what} interface {ifindex}")))
    }
}

fn end<T>(builder: LinkMessageBuilder<T>, end: PairEnd<'_>) -> LinkMessageBuilder<T> {
    let mut builder = builder.name(end.name);
    if let Some(mac) = end.mac {
        builder = builder.address(mac.to_vec());
    }
    if let Some(namespace) = end.namespace {
        let fd = namespace.as_fd().as_raw_fd();
        builder = builder.append_extra_attribute(LinkAttribute::NetNsFd(fd));
    }
    if let Some(master) = end.master {
        builder = builder.controller(master);
    }
    builder
}
