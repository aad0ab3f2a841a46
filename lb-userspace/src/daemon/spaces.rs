//! Inside containers' namespaces: routes to VIPs, and DNS sockets.

use std::io;

use super::visits::Visit;
use crate::netns::Namespace;

/// Adds and removes the routes of one visit.
pub(super) fn route(visit: &Visit) -> io::Result<()> {
    if visit.add.is_empty() && visit.remove.is_empty() {
        return Ok(());
    }
    let namespace = Namespace::of(&visit.netns)?;
    for route in &visit.add {
        namespace.add_route(route.container_ifindex, route.to)?;
    }
    for route in &visit.remove {
        match namespace.remove_route(route.container_ifindex, route.to) {
            // It went with its interface.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}
