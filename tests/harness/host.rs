//! A network namespace that plays a host: bridges, and containers on them.
//!
//! Everything is in namespaces of the test's own, so that fixed addresses and names clash with
//! nothing, and everything goes away when the values are dropped, on every path.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lb_userspace::netns::{Links, Namespace, PairEnd};

use crate::deadline::eventually;
use crate::station::Station;

/// What the host and who is outside call themselves on the link between them.
const UPLINK_ADDRESSES: [[&str; 2]; 2] = [
    ["192.0.2.1/24", "192.0.2.2/24"],
    ["2001:db8:1::1/64", "2001:db8:1::2/64"],
];

/// A host without anything but bridges and containers.
#[derive(Debug)]
pub struct Host {
    pub namespace: Namespace,
    networks: Cell<u8>,
}

/// A bridge network of a [`Host`]: 10.77.n.0/24 and fd77:n::/64, with the bridge as gateway.
#[derive(Debug)]
pub struct TestNetwork {
    /// From 1; also the zone.
    pub number: u8,
    pub bridge: u32,
    stations: Cell<u8>,
}

impl Host {
    pub fn new() -> Self {
        let namespace = isolated();
        Self {
            namespace,
            networks: Cell::new(0),
        }
    }

    /// Another network on this host.
    pub fn network(&self) -> TestNetwork {
        let number = self.networks.get() + 1;
        self.networks.set(number);
        let mut links = self.namespace.links().unwrap();
        let bridge = links.add_bridge(&format!("br{number}")).unwrap();
        let network = TestNetwork {
            number,
            bridge,
            stations: Cell::new(0),
        };
        for address in network.addresses(1) {
            links.add_address(bridge, address).unwrap();
        }
        network
    }

    /// A namespace outside with a link to this host, whose uplink has the index that is returned.
    pub fn outside(&self) -> (Namespace, u32) {
        let outside = isolated();
        let near = PairEnd {
            name: "up0",
            mac: None,
            namespace: None,
            master: None,
        };
        let far = PairEnd {
            name: "eth0",
            mac: None,
            namespace: Some(&outside),
            master: None,
        };
        let mut links = self.namespace.links().unwrap();
        links.add_pair(near, far).unwrap();
        let uplink = links.index_of("up0").unwrap();
        let mut inside = outside.links().unwrap();
        let eth0 = inside.index_of("eth0").unwrap();
        for [ours, theirs] in UPLINK_ADDRESSES.map(|net| net.map(|net| net.parse().unwrap())) {
            links.add_address(uplink, ours).unwrap();
            inside.add_address(eth0, theirs).unwrap();
        }
        links.set_up(uplink).unwrap();
        inside.set_up(eth0).unwrap();
        let forwarding = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
        let allow = || {
            for name in forwarding {
                std::fs::write(format!("/proc/sys/{name}"), "1").unwrap();
            }
        };
        self.namespace.run(allow).unwrap();
        (outside, uplink)
    }

    /// A container called `name` on `network`, up, with addresses that work.
    pub fn station(&self, network: &TestNetwork, name: &str) -> Station {
        let number = network.stations.get() + 1;
        network.stations.set(number);
        let namespace = isolated();
        let host_name = format!("n{}s{number}", network.number);
        let mac = [0x02, 0x77, 0, 0, network.number, number];
        let near = PairEnd {
            name: &host_name,
            mac: None,
            namespace: None,
            master: Some(network.bridge),
        };
        let far = PairEnd {
            name: "eth0",
            mac: Some(mac),
            namespace: Some(&namespace),
            master: None,
        };
        let mut outside = self.namespace.links().unwrap();
        outside.add_pair(near, far).unwrap();
        let host_ifindex = outside.index_of(&host_name).unwrap();
        let mut inside = namespace.links().unwrap();
        let ifindex = configure(&mut inside, network, number);
        let [v4, v6] = network.addresses(number + 10).map(|net| net.addr());
        let station = Station {
            name: name.to_string(),
            zone: u16::from(network.number),
            v4: expect_v4(v4),
            v6: expect_v6(v6),
            mac,
            ifindex,
            host_ifindex,
            namespace,
        };
        eventually("the station has a link-local address", || {
            station.link_local().is_some()
        });
        station
    }

    /// One container on `network` for each of `names`.
    pub fn stations<const N: usize>(
        &self,
        network: &TestNetwork,
        names: [&str; N],
    ) -> [Station; N] {
        names.map(|name| self.station(network, name))
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl TestNetwork {
    /// The bridge's own address.
    pub fn gateway(&self, is_v6: bool) -> IpAddr {
        self.addresses(1)[usize::from(is_v6)].addr()
    }

    /// The IPv4 and the IPv6 address with this number, with their prefix lengths.
    fn addresses(&self, number: u8) -> [IpNet; 2] {
        let v4 = Ipv4Addr::new(10, 77, self.number, number);
        let v6 = Ipv6Addr::new(0xfd77, self.number.into(), 0, 0, 0, 0, 0, number.into());
        [
            Ipv4Net::new_assert(v4, 24).into(),
            Ipv6Net::new_assert(v6, 64).into(),
        ]
    }
}

/// Addresses and routes inside a station. Returns the index of its interface.
fn configure(inside: &mut Links, network: &TestNetwork, number: u8) -> u32 {
    let ifindex = inside.index_of("eth0").unwrap();
    for address in network.addresses(number + 10) {
        inside.add_address(ifindex, address).unwrap();
    }
    inside.set_up(ifindex).unwrap();
    for gateway in network.addresses(1) {
        inside.add_default_route(gateway.addr()).unwrap();
    }
    ifindex
}

/// A new namespace whose loopback works and whose addresses are usable at once.
fn isolated() -> Namespace {
    let namespace = Namespace::create().unwrap();
    let settings = [
        ("net/ipv6/conf/all/accept_dad", "0"),
        ("net/ipv6/conf/default/accept_dad", "0"),
        ("net/ipv6/conf/default/addr_gen_mode", "0"),
        ("net/ipv4/ping_group_range", "0 2147483647"),
    ];
    namespace
        .run(|| {
            for (name, value) in settings {
                std::fs::write(format!("/proc/sys/{name}"), value).unwrap();
            }
        })
        .unwrap();
    let mut links = namespace.links().unwrap();
    let lo = links.index_of("lo").unwrap();
    links.set_up(lo).unwrap();
    namespace
}

fn expect_v4(addr: IpAddr) -> Ipv4Addr {
    match addr {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(v6) => panic!("{v6} is not IPv4"),
    }
}

fn expect_v6(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V6(v6) => v6,
        IpAddr::V4(v4) => panic!("{v4} is not IPv6"),
    }
}
