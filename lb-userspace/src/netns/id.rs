//! The kernel's numbers for other namespaces, as seen from one.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};

use super::netlink::Netlink;
use super::{Namespace, describe};

/// The number by which the socket's namespace knows `other`, as in
/// [`super::Interface::peer_netns_id`]; `None` while it has none, so that no interface here can have
/// its other end there.
pub(super) fn of(netlink: &mut Netlink, other: &Namespace) -> io::Result<Option<i32>> {
    let mut request = NsidMessage::default();
    let file = other.as_fd().as_raw_fd();
    request
        .attributes
        .push(NsidAttribute::Fd(file.unsigned_abs()));
    let answer = netlink
        .ask(RouteNetlinkMessage::GetNsId(request))
        .map_err(|error| describe(error, || "look up a network namespace's number".into()))?;
    let RouteNetlinkMessage::NewNsId(answer) = answer else {
        return Ok(None);
    };
    let id = answer
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NsidAttribute::Id(id) if *id >= 0 => Some(*id),
            _ => None,
        });
    Ok(id)
}
