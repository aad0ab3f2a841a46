//! A container asks a Group of two Members on the same host.

use std::array;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lb_userspace::config::Maps;
use lb_userspace::netns::Namespace;
use veer_tests::host::Host;
use veer_tests::station::{Family, Station};
use veer_tests::veer::Veer;

use super::{many_connections, target};
use crate::load::Mode;
use crate::measure::{Effort, Path, Place};
use crate::proxy::{HAPROXY, NGINX, Order};
use crate::report::{Bound, Suite};
use crate::rounds::rounds;

const PORT: u16 = 7_000;
/// Of the Group with some, and of the one with many.
const SOME: usize = 10;
const MANY: usize = 1_000;
/// On the host with many.
const GROUPS: u16 = 10_000;

/// An address that only iptables knows.
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

pub(super) fn suite(effort: Effort) -> Result<Suite> {
    let plain = Site::new();
    let translated = Site::new();
    let [balanced, some_members, many_members, many_groups] = array::from_fn(|_| Site::new());
    let (_veer, vip) = balanced.balance(1);
    let (_ten, vip_of_some) = some_members.balance(SOME / 2);
    let (_thousand, vip_of_many) = many_members.balance(MANY / 2);
    let (mut crowd, vip_of_crowd) = many_groups.balance(1);
    crowd.more_groups(GROUPS - 1, &many_groups.members());

    let mut paths = vec![
        plain.path("loopback", &plain.one.namespace, Ipv4Addr::LOCALHOST.into()),
        plain.path("bridge", &plain.client.namespace, plain.one.v4.into()),
        balanced.path("veer", &balanced.client.namespace, vip),
    ];
    for (name, site, vip) in [
        ("veer, 10 Members", &some_members, vip_of_some),
        ("veer, 1,000 Members", &many_members, vip_of_many),
        ("veer, 10,000 Groups", &many_groups, vip_of_crowd),
    ] {
        let mut path = site.path(name, &site.client.namespace, vip);
        path.modes = &[Mode::Rr, Mode::Crr];
        paths.push(path);
    }
    let mut suite = Suite {
        name: "groups".to_owned(),
        about: "A container asks a Group of two Members on the same host. `loopback` is the limit: client \
                and server in one namespace; `bridge` asks a Member directly, without balancing. 10 \
                and 1,000 Members are as many places in a Group's table, which lead to the same two \
                containers; 10,000 Groups are on Networks of their own, but for the one that is asked."
            .to_owned(),
        settings: vec![
            "iptables: DNAT with `-m statistic --mode nth`, bridge-nf-call-iptables on, IPv4".to_owned(),
        ],
        targets: targets(),
        ..Suite::default()
    };
    if suite.is_set_up("iptables", translated.dnat()) {
        paths.push(translated.path("iptables", &translated.client.namespace, VIRTUAL.into()));
    }
    let sites = [Site::new(), Site::new()];
    let proxies = [NGINX, HAPROXY].into_iter().zip(&sites);
    let proxies = proxies.map(|(proxy, site)| {
        let started = proxy.start(&site.proxy.namespace, &site.client.namespace, &site.order());
        (proxy, site, started)
    });
    let proxies: Vec<_> = proxies.collect();
    for (proxy, site, started) in &proxies {
        let Some(running) = suite.started(proxy, started) else {
            continue;
        };
        let mut path = site.path(proxy.name, &site.client.namespace, site.proxy.v4.into());
        path.proxies = vec![running.child.id()];
        // A proxy for UDP is another program.
        path.modes = &[Mode::Rr, Mode::Crr, Mode::Stream];
        paths.push(path);
    }
    rounds(&mut suite, &paths, effort)?;
    Ok(suite)
}

fn targets() -> Vec<crate::report::Target> {
    let rr = "request/response per CPU-second";
    let crr = "connect-request-close per CPU-second";
    let stream = "stream per CPU-second";
    let at_least = Bound::AtLeast;
    vec![
        target(rr, "veer", Some("bridge"), at_least(1.07)),
        target("UDP per CPU-second", "veer", Some("bridge"), at_least(1.16)),
        target(rr, "veer", Some("nginx"), at_least(2.3)),
        target(crr, "veer", Some("nginx"), at_least(2.2)),
        target(stream, "veer", Some("nginx"), at_least(2.9)),
        target(rr, "veer", Some("haproxy"), at_least(2.4)),
        target(crr, "veer", Some("haproxy"), at_least(2.2)),
        target(stream, "veer", Some("haproxy"), at_least(3.5)),
    ]
}

/// A host with a bridge, and four containers on it.
struct Site {
    host: Host,
    client: Station,
    one: Station,
    two: Station,
    proxy: Station,
}

impl Site {
    fn new() -> Self {
        let host = Host::new();
        let network = host.network();
        let [client, one, two, proxy] = host.stations(&network, ["client", "one", "two", "proxy"]);
        for station in [&client, &one, &two, &proxy] {
            station.run(many_connections);
        }
        Self {
            host,
            client,
            one,
            two,
            proxy,
        }
    }

    fn stations(&self) -> [&Station; 3] {
        [&self.client, &self.one, &self.two]
    }

    fn members(&self) -> [&Station; 2] {
        [&self.one, &self.two]
    }

    /// veer with a Group of both Members, each of them so many times; and its VIP.
    fn balance(&self, times: usize) -> (Veer<'_>, IpAddr) {
        let mut veer = Veer::with_sizes(&self.host, Maps::default());
        veer.serve(&self.stations());
        let members = self.members().into_iter().cycle().take(2 * times);
        let vip = veer.group(&members.collect::<Vec<_>>());
        (veer, vip.address(Family::V4))
    }

    fn path<'a>(&'a self, name: &'static str, client: &'a Namespace, to: IpAddr) -> Path<'a> {
        let place = |station: &'a Station| Place {
            namespace: &station.namespace,
            at: SocketAddr::new(Family::V4.any(), PORT),
        };
        Path {
            name,
            client,
            servers: self.members().map(place).into(),
            to: SocketAddr::new(to, PORT),
            proxies: Vec::new(),
            modes: &Mode::ALL,
        }
    }

    /// From the proxy to the Members.
    fn order(&self) -> Order {
        let at = |station: &Station| SocketAddr::new(station.v4.into(), PORT);
        Order {
            listen: at(&self.proxy),
            backends: self.members().map(at).into(),
        }
    }

    /// Balances by the host's iptables.
    fn dnat(&self) -> Result<()> {
        let set = |name: &str| fs::write(format!("/proc/sys/net/{name}"), "1");
        self.host.namespace.run(|| -> Result<()> {
            set("ipv4/ip_forward")?;
            set("bridge/bridge-nf-call-iptables").context("br_netfilter")?;
            Ok(())
        })??;
        for protocol in ["tcp", "udp"] {
            for (member, every) in [(&self.one, Some("2")), (&self.two, None)] {
                let mut command = Command::new("iptables");
                command.args(["-t", "nat", "-A", "PREROUTING", "-p", protocol]);
                command.args(["-d", &VIRTUAL.to_string()]);
                if let Some(every) = every {
                    command.args([
                        "-m",
                        "statistic",
                        "--mode",
                        "nth",
                        "--every",
                        every,
                        "--packet",
                        "0",
                    ]);
                }
                command.args(["-j", "DNAT", "--to-destination", &member.v4.to_string()]);
                let output = self.host.namespace.run(|| command.output())??;
                let said = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success(), "iptables: {}", said.trim());
            }
        }
        Ok(())
    }
}
