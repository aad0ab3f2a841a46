//! Who is outside asks a published port of a container.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result};
use ipnet::Ipv4Net;
use lb_userspace::config::Maps;
use lb_userspace::netns::Namespace;
use veer_tests::host::{Host, TestNetwork};
use veer_tests::station::{Family, Station};
use veer_tests::veer::Veer;

use super::{many_connections, target};
use crate::load::Mode;
use crate::measure::{Effort, Path, Place};
use crate::proxy::{DOCKER_PROXY, HAPROXY, NGINX, Order};
use crate::report::{Bound, Suite, Target};
use crate::rounds::rounds;
use crate::rules::{self, Published};

/// The port that is measured, which was published last.
pub(super) const PORT: u16 = 30_000;
/// A port in the middle of 10,000.
const MIDDLE: u16 = 25_000;
const IN_THE_MIDDLE: &str = "iptables, 10,000 ports, one in the middle";
/// How many ports are published, and what that is called.
const COUNTS: [(u16, Names); 3] = [
    (
        1,
        Names {
            iptables: "iptables",
            nftables: "nftables",
            veer: "veer",
        },
    ),
    (
        1_000,
        Names {
            iptables: "iptables, 1,000 ports",
            nftables: "nftables, 1,000 ports",
            veer: "veer, 1,000 ports",
        },
    ),
    (
        10_000,
        Names {
            iptables: "iptables, 10,000 ports",
            nftables: "nftables, 10,000 ports",
            veer: "veer, 10,000 ports",
        },
    ),
];
/// What many ports are measured with: only what is new walks through the rules.
const NEW: &[Mode] = &[Mode::Crr];
/// Proxies for UDP are other programs.
const TCP: &[Mode] = &[Mode::Rr, Mode::Crr, Mode::Stream];

struct Names {
    iptables: &'static str,
    nftables: &'static str,
    veer: &'static str,
}

pub(super) fn suite(effort: Effort) -> Result<Suite> {
    let plain = Site::new();
    let ruled = COUNTS.map(|_| [Site::new(), Site::new()]);
    let faced = COUNTS.map(|_| Site::new());
    let mut suite = description();
    let mut paths = vec![plain.loopback(), plain.routed()];
    let mut veers = Vec::new();
    for ((count, names), ([iptables, nftables], veer)) in
        COUNTS.iter().zip(ruled.iter().zip(&faced))
    {
        let modes = if *count == 1 { &Mode::ALL } else { NEW };
        if suite.is_set_up(names.iptables, iptables.by_iptables(*count)) {
            paths.push(iptables.path(names.iptables, PORT, modes));
            if *count > PORT - MIDDLE {
                paths.push(iptables.path(IN_THE_MIDDLE, MIDDLE, NEW));
            }
        }
        if suite.is_set_up(names.nftables, nftables.by_nftables(*count)) {
            paths.push(nftables.path(names.nftables, PORT, modes));
        }
        veers.push(veer.by_veer(*count));
        paths.push(veer.path(names.veer, PORT, modes));
    }

    let sites = [Site::new(), Site::new(), Site::new()];
    let proxies = [DOCKER_PROXY, NGINX, HAPROXY].into_iter().zip(&sites);
    let proxies = proxies.map(|(proxy, site)| {
        let started = proxy.start(&site.host.namespace, &site.outside, &site.order());
        (proxy, site, started)
    });
    let proxies: Vec<_> = proxies.collect();
    for (proxy, site, started) in &proxies {
        let Some(running) = suite.started(proxy, started) else {
            continue;
        };
        let mut path = site.path(proxy.name, PORT, TCP);
        path.proxies = vec![running.child.id()];
        paths.push(path);
    }
    rounds(&mut suite, &paths, effort)?;
    Ok(suite)
}

fn description() -> Suite {
    Suite {
        name: "ports".to_owned(),
        about: "Who is outside asks a published port of a container. `loopback` is the limit: client and \
                server in one namespace; `routed` asks the container's address, without rules. With many \
                ports, the one that is asked was published last, which is the last of Docker's rules, \
                unless said otherwise."
            .to_owned(),
        settings: vec![
            "iptables: the rules of Docker 20.10 to 27, loaded by `iptables-restore`, policy DROP"
                .to_owned(),
            "nftables: the rules of Docker 29 with its nftables backend".to_owned(),
        ],
        targets: targets(),
        ..Suite::default()
    }
}

fn targets() -> Vec<Target> {
    let (rr, p50) = ("request/response per CPU-second", "request/response p50");
    let crr = "connect-request-close per CPU-second";
    let stream = "stream per CPU-second";
    let veer = |measure, to, bound| target(measure, "veer", Some(to), Bound::AtLeast(bound));
    vec![
        veer(rr, "iptables", 1.33),
        target(p50, "veer", Some("iptables"), Bound::AtMost(0.74)),
        veer(rr, "loopback", 0.97),
        veer(crr, "iptables", 1.45),
        target(
            crr,
            "veer, 1,000 ports",
            Some("iptables, 1,000 ports"),
            Bound::AtLeast(3.5),
        ),
        target(
            crr,
            "veer, 10,000 ports",
            Some("iptables, 10,000 ports"),
            Bound::AtLeast(20.0),
        ),
        veer(stream, "iptables", 1.18),
        veer("UDP per CPU-second", "iptables", 1.65),
        veer(rr, "docker-proxy", 2.7),
        veer(crr, "docker-proxy", 2.6),
        veer(stream, "docker-proxy", 2.6),
        veer(rr, "nginx", 2.3),
        veer(crr, "nginx", 2.2),
        veer(stream, "nginx", 2.9),
        veer(rr, "haproxy", 2.4),
        veer(crr, "haproxy", 2.2),
        veer(stream, "haproxy", 3.5),
    ]
}

/// A host with a container on a bridge, and somebody outside.
pub(super) struct Site {
    pub(super) host: Host,
    network: TestNetwork,
    pub(super) web: Station,
    pub(super) outside: Namespace,
    pub(super) uplink: u32,
}

impl Site {
    pub(super) fn new() -> Self {
        let host = Host::new();
        let network = host.network();
        let web = host.station(&network, "web");
        let (outside, uplink) = host.outside();
        let prepare = || many_connections();
        outside.run(prepare).expect("enter a namespace");
        web.run(prepare);
        let mut links = outside.links().expect("open a namespace's netlink");
        links
            .add_default_route(HOST.into())
            .expect("add a route to the containers");
        Self {
            host,
            network,
            web,
            outside,
            uplink,
        }
    }

    pub(super) fn by_iptables(&self, count: u16) -> Result<()> {
        let text = self.published(last(count)).iptables();
        rules::load(&self.host.namespace, "iptables-restore", &[], &text)
            .context("set up the variant iptables")
    }

    pub(super) fn by_nftables(&self, count: u16) -> Result<()> {
        let text = self.published(last(count)).nftables();
        rules::load(&self.host.namespace, "nft", &["-f", "-"], &text)
            .context("set up the variant nftables")
    }

    pub(super) fn by_veer(&self, count: u16) -> Veer<'_> {
        let mut veer = Veer::with_sizes(&self.host, Maps::default());
        veer.serve(&[&self.web]);
        veer.faces(self.uplink, &self.network);
        veer.publish_same(last(count), &self.web);
        veer
    }

    pub(super) fn network(&self) -> &TestNetwork {
        &self.network
    }

    fn published(&self, ports: RangeInclusive<u16>) -> Published<'_> {
        let subnet = Ipv4Net::new_assert(self.web.v4, 24).trunc();
        Published {
            bridge: "br1",
            subnet,
            container: self.web.v4,
            ports,
        }
    }

    /// From the host's address to the container.
    fn order(&self) -> Order {
        Order {
            listen: SocketAddr::new(HOST.into(), PORT),
            backends: vec![SocketAddr::new(self.web.v4.into(), PORT)],
        }
    }

    fn path(&self, name: &'static str, port: u16, modes: &'static [Mode]) -> Path<'_> {
        self.path_to(name, &self.outside, HOST.into(), port, modes)
    }

    fn routed(&self) -> Path<'_> {
        self.path_to(
            "routed",
            &self.outside,
            self.web.v4.into(),
            PORT,
            &Mode::ALL,
        )
    }

    fn loopback(&self) -> Path<'_> {
        let here = Ipv4Addr::LOCALHOST.into();
        self.path_to("loopback", &self.web.namespace, here, PORT, &Mode::ALL)
    }

    fn path_to<'a>(
        &'a self,
        name: &'static str,
        client: &'a Namespace,
        to: IpAddr,
        port: u16,
        modes: &'static [Mode],
    ) -> Path<'a> {
        Path {
            name,
            client,
            servers: vec![Place {
                namespace: &self.web.namespace,
                at: SocketAddr::new(Family::V4.any(), port),
            }],
            to: SocketAddr::new(to, port),
            proxies: Vec::new(),
            modes,
        }
    }
}

/// The host, as who is outside knows it.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// This many ports, of which the last is the one that is measured.
fn last(count: u16) -> RangeInclusive<u16> {
    PORT - count + 1..=PORT
}
