//! News of interfaces, as the kernel tells it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::unix::AsyncFd;

use super::interface::Interface;
use super::readable::readable;
use super::{describe, netlink};

/// RTMGRP_LINK, the group that tells of interfaces.
const LINK_GROUP: u32 = 1;

/// Room for a burst of news, in bytes: some 2,000 interfaces at once.
const QUEUE: u32 = 4 << 20;

/// What happened to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// It is new, or something about it is; without its addresses.
    Changed(Interface),
    /// It is gone from this namespace: removed, or moved to another one.
    Gone {
        ifindex: u32,
        name: String,
        /// The number by which this namespace knows the one that it was moved to.
        moved_to: Option<i32>,
    },
    /// News was lost because it came faster than it was read: look at everything again.
    Missed,
}

/// News of the interfaces of one namespace.
#[derive(Debug)]
pub struct LinkWatch {
    socket: AsyncFd<Socket>,
    pending: std::collections::VecDeque<LinkChange>,
    buffer: Vec<u8>,
}

/// News of the interfaces of the calling thread's namespace, from now on. Must be called within a
/// tokio runtime.
pub fn watch_links() -> io::Result<LinkWatch> {
    open().map_err(|error| describe(error, || "watch interfaces".to_string()))
}

fn open() -> io::Result<LinkWatch> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_rx_buf_sz(QUEUE)?;
    socket.bind(&SocketAddr::new(0, LINK_GROUP))?;
    socket.set_non_blocking(true)?;
    Ok(LinkWatch {
        socket: readable(socket)?,
        pending: std::collections::VecDeque::new(),
        buffer: Vec::with_capacity(64 * 1024),
    })
}

impl LinkWatch {
    /// The next piece of news. Dropping the future before it is ready loses nothing.
    pub async fn next(&mut self) -> io::Result<LinkChange> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Ok(change);
            }
            let mut ready = self.socket.readable().await?;
            self.buffer.clear();
            match ready.get_inner().recv(&mut self.buffer, 0) {
                Ok(_) => self.pending.extend(changes(&self.buffer)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(LinkChange::Missed);
                }
                Err(error) => return Err(describe(error, || "read news of interfaces".into())),
            }
        }
    }
}

impl AsRawFd for LinkWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// What one datagram tells. One that cannot be read is news too.
fn changes(datagram: &[u8]) -> Vec<LinkChange> {
    let Ok(messages) = netlink::parse(datagram) else {
        return vec![LinkChange::Missed];
    };
    messages
        .into_iter()
        .filter_map(|message| match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link))
                if is_about_the_interface(&link) =>
            {
                Some(LinkChange::Changed(Interface::from_message(&link)))
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link))
                if is_about_the_interface(&link) =>
            {
                let gone = Interface::from_message(&link);
                Some(LinkChange::Gone {
                    ifindex: gone.ifindex,
                    name: gone.name,
                    moved_to: moved_to(&link),
                })
            }
            _ => None,
        })
        .collect()
}

fn moved_to(message: &LinkMessage) -> Option<i32> {
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        LinkAttribute::NewNetnsId(number) => (*number >= 0).then_some(*number),
        _ => None,
    })
}

/// A bridge tells of its ports in messages that look the same, under its own address family: they
/// leave out what the interface is, and the last of them only says that it is no port any more.
pub(super) fn is_about_the_interface(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}
