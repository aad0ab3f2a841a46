//! The kernel's numbers for other namespaces: as seen from one, and until reboot.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};

use super::netlink::Netlink;
use super::{Namespace, current_cookie, describe};

/// `NS_GET_ID` of linux/nsfs.h.
const GET_ID: libc::Ioctl = 0x8008_b70d_u32 as libc::Ioctl;

/// The cookie of a namespace, asked of its file and not inside; `None` if that
/// cannot be done.
pub(super) fn cookie(namespace: BorrowedFd<'_>) -> Option<u64> {
    tells_cookies().then(|| ask(namespace)).flatten()
}

/// Whether the kernel tells a namespace's cookie to who does not enter it: Linux 6.18.
pub fn tells_cookies() -> bool {
    static IS_COOKIE: OnceLock<bool> = OnceLock::new();
    let is_cookie = || {
        let here = Namespace::current().ok().and_then(|here| ask(here.as_fd()));
        here.is_some_and(|id| current_cookie().is_ok_and(|cookie| cookie == id))
    };
    *IS_COOKIE.get_or_init(is_cookie)
}

fn ask(namespace: BorrowedFd<'_>) -> Option<u64> {
    let mut id = 0u64;
    // SAFETY: the kernel writes eight bytes to a live local, or fails.
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), GET_ID, &raw mut id) };
    (result == 0).then_some(id)
}

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
