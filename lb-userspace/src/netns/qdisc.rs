//! What filters hang on.

use std::io;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcHandle, TcMessage};

use super::describe;
use super::netlink::Netlink;

/// Removes the interface's clsact qdisc unless somebody has a filter on it. No error if there is none.
pub(super) fn remove_unused_clsact(netlink: &mut Netlink, ifindex: u32) -> io::Result<()> {
    for side in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
        let has_filters = has_filters(netlink, ifindex, side);
        let attempted = || format!("list filters on interface {ifindex}");
        if has_filters.map_err(|error| describe(error, attempted))? {
            return Ok(());
        }
    }
    let mut qdisc = on(ifindex, TcHandle::INGRESS);
    qdisc.header.handle = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: 0,
    };
    match netlink.change(RouteNetlinkMessage::DelQueueDiscipline(qdisc), 0) {
        Err(error) if is_absent(&error) => Ok(()),
        other => other.map_err(|error| {
            describe(error, || {
                format!("remove the clsact qdisc of interface {ifindex}")
            })
        }),
    }
}

fn has_filters(netlink: &mut Netlink, ifindex: u32, side: u16) -> io::Result<bool> {
    let parent = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: side,
    };
    let request = RouteNetlinkMessage::GetTrafficFilter(on(ifindex, parent));
    let is_filter =
        |message| matches!(message, RouteNetlinkMessage::NewTrafficFilter(_)).then_some(());
    match netlink.dump(&request, is_filter) {
        Err(error) if is_absent(&error) => Ok(false),
        // There is one, of a kind that only others can read.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(true),
        found => found.map(|found| !found.is_empty()),
    }
}

fn on(ifindex: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.parent = parent;
    message
}

/// What the kernel says of a qdisc or an interface that is not there.
fn is_absent(error: &io::Error) -> bool {
    let absent = [libc::ENOENT, libc::EINVAL, libc::ENODEV];
    error
        .raw_os_error()
        .is_some_and(|code| absent.contains(&code))
}
