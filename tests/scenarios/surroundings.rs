//! The kernel's surroundings: a network namespace with the interfaces and routes of the world.

use std::fs;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::world::{
    BRIDGE, BRIDGE_MAC, FAR, NARROW_MTU, OTHER_BRIDGE, OTHER_BRIDGE_MAC, ROUTER_MAC, UPLINK,
    UPLINK_MAC,
};

/// Moves this thread into a namespace of its own that has what [`crate::world::exits`] says.
pub fn enter() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: root");
    let far = FAR.mac();
    for (family, router, silent, narrow, wide, unresolved, neighbour) in [
        (
            "-4",
            "192.0.2.254",
            "192.0.2.253",
            "203.0.113.128/25",
            "203.0.113.0/24",
            "198.51.100.0/24",
            FAR.v4().to_string(),
        ),
        (
            "-6",
            "2001:db8::fe",
            "2001:db8::fd",
            "2001:db8:113:1::/64",
            "2001:db8:113::/64",
            "2001:db8:100::/64",
            FAR.v6().to_string(),
        ),
    ] {
        if family == "-4" {
            interfaces();
        }
        ip(&format!(
            "neigh replace {router} dev up0 lladdr {ROUTER_MAC} nud permanent"
        ));
        ip(&format!(
            "neigh replace {neighbour} dev br1 lladdr {far} nud permanent"
        ));
        ip(&format!(
            "{family} route add {narrow} via {router} dev up0 mtu lock {NARROW_MTU}"
        ));
        ip(&format!("{family} route add {wide} via {router} dev up0"));
        ip(&format!(
            "{family} route add {unresolved} via {silent} dev up0"
        ));
    }
}

fn interfaces() {
    ip("link set lo up");
    for (name, index, mac, peer) in [
        ("up0", UPLINK, UPLINK_MAC, "up1"),
        ("br0", BRIDGE, BRIDGE_MAC, "p0"),
        ("br1", OTHER_BRIDGE, OTHER_BRIDGE_MAC, "p1"),
    ] {
        ip(&format!(
            "link add {name} index {index} address {mac} type veth peer name {peer}"
        ));
    }
    for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/net/{name}"), "1").expect("allow forwarding");
    }
    for name in ["up1", "p0", "p1", "up0", "br0", "br1"] {
        ip(&format!("link set {name} up"));
    }
    for (address, name) in [
        ("192.0.2.1/24", "up0"),
        ("2001:db8::1/64", "up0"),
        ("10.9.0.1/24", "br0"),
        ("fd09::1/64", "br0"),
        ("10.10.0.1/24", "br1"),
        ("fd10::1/64", "br1"),
    ] {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        ip(&format!("addr add {address} dev {name} {nodad}"));
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("run ip");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
