//! Instructions of the kernel for one packet, from pktgen into a container, on an emulated processor
//! that counts time in instructions.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use lb_userspace::netns::Namespace;
use veer_tests::station::ANSWER;
use veer_tests::veer::Veer;

use super::forwarding::{OUTSIDE, counted, mac, sink};
use super::mesh::{self, Mesh};
use super::ports::{HOST, PORT, Site};
use super::target;
use crate::measure::Effort;
use crate::pktgen::{self, Flow};
use crate::report::{Bound, Suite};
use crate::rounds::Notes;
use crate::rules;

/// The port that packets come from.
const SOURCE: u16 = 10_000;
/// Packets for each figure.
const PACKETS: u64 = 10_000;

pub(crate) const MEASURE: &str = "instructions per packet";
pub(crate) const VEER: &str = "veer";
pub(crate) const ROUTED: &str = "routed";

/// A way of packets: from the site's outside to a container.
struct Way<'s> {
    name: &'static str,
    site: &'s Site,
    to: Ipv4Addr,
    /// Where they are counted and dropped as they come in by this interface.
    sink: (&'s Namespace, &'static str),
    /// Whether bridges call iptables, as under Docker.
    is_filtered: bool,
}

pub(super) fn suite(effort: Effort) -> Result<Suite> {
    ensure!(
        pktgen::is_here(),
        "this kernel has no pktgen: `cargo xtask bench --vm` runs this suite on one that has"
    );
    // What the baseline is about is all that a quick run looks at.
    let count = if effort.is_quick() { 2 } else { 7 };
    let sites: Vec<_> = (0..count).map(|_| Site::new()).collect();
    let [routed, veer, others @ ..] = sites.as_slice() else {
        bail!("there are {count} sites");
    };
    let mut suite = description();
    let mut ways = vec![Way::new(ROUTED, routed, routed.web.v4)];
    let mesh = match others {
        [dropped, dnat, ipvs, docker, swarm] => {
            ways.push(Way {
                sink: (&dropped.host.namespace, "up0"),
                ..Way::new("dropped on arrival", dropped, HOST)
            });
            for (name, site, done) in [
                ("iptables DNAT", dnat, one_rule(dnat)),
                ("IPVS", ipvs, mesh::ipvs(ipvs)),
            ] {
                if suite.is_set_up(name, done) {
                    ways.push(Way::new(name, site, HOST));
                }
            }
            if suite.is_set_up("docker run -p", docker.by_iptables(1)) {
                ways.push(Way {
                    is_filtered: true,
                    ..Way::new("docker run -p", docker, HOST)
                });
            }
            Some((swarm, Mesh::behind(swarm)))
        }
        _ => None,
    };
    match &mesh {
        Some((site, Ok(mesh))) => ways.push(Way {
            sink: (&mesh.container, "eth0"),
            is_filtered: true,
            ..Way::new("Swarm mesh", site, HOST)
        }),
        Some((_, Err(error))) => suite.left_out.push(format!("Swarm mesh: {error:#}")),
        None => {}
    }
    let mut datapath = Veer::on(&veer.host);
    datapath.serve(&[&veer.web]);
    datapath.faces(veer.uplink, veer.network());
    datapath.publish(PORT, &veer.web, PORT);
    ways.push(Way::new(VEER, veer, HOST));

    // The module is every namespace's, so these come last.
    ways.sort_by_key(|way| way.is_filtered);
    let mut notes = Notes::default();
    for way in &ways {
        if way.is_filtered {
            load("br_netfilter")?;
        }
        way.prepare()
            .with_context(|| format!("prepare {}", way.name))?;
        for _ in 0..effort.rounds {
            let figure = way.figure().with_context(|| way.name.to_owned())?;
            notes.note(way.name, MEASURE, "instructions", figure);
        }
    }
    suite.series = notes.0;
    Ok(suite)
}

fn description() -> Suite {
    let veer = |to, bound| target(MEASURE, VEER, Some(to), Bound::AtMost(bound));
    Suite {
        name: "instructions".to_owned(),
        about: "Instructions of the kernel for one datagram of an answered flow, from pktgen outside into a \
                container, where nftables counts and drops it; pktgen's own work and the sink's are part of \
                every figure. On an emulated processor: without caches, and without anything about speed."
            .to_owned(),
        settings: vec![
            "docker run -p: the rules of Docker 20.10 to 27, and br_netfilter, which it loads; Swarm mesh: \
             the same, and what its ingress network is made of"
                .to_owned(),
        ],
        targets: vec![veer("docker run -p", 0.45), veer("Swarm mesh", 0.27)],
        ..Suite::default()
    }
}

fn load(module: &str) -> Result<()> {
    let status = Command::new("modprobe").arg(module).status();
    let status = status.context("start modprobe")?;
    ensure!(status.success(), "modprobe {module} ended with {status}");
    Ok(())
}

fn one_rule(site: &Site) -> Result<()> {
    let text = format!(
        "*nat\n-A PREROUTING -d {HOST} -p udp -m udp --dport {PORT} -j DNAT --to-destination {}:{PORT}\nCOMMIT\n",
        site.web.v4
    );
    rules::load(&site.host.namespace, "iptables-restore", &[], &text)
}

impl<'s> Way<'s> {
    fn new(name: &'static str, site: &'s Site, to: Ipv4Addr) -> Self {
        Self {
            name,
            site,
            to,
            sink: (&site.web.namespace, "eth0"),
            is_filtered: false,
        }
    }

    /// Gets one datagram answered, so that neighbours are known and the flow is established; then all
    /// that follow are counted and dropped. A first flood warms what is left.
    fn prepare(&self) -> Result<()> {
        let (namespace, device) = self.sink;
        let server = namespace.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)))??;
        let client = || UdpSocket::bind((OUTSIDE, SOURCE));
        let client = self.site.outside.run(client)??;
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(ANSWER))?;
        }
        client.connect((self.to, PORT))?;
        client.send(&[0])?;
        let received = server.recv_from(&mut [0; 64]);
        let (_, from) = received.context("wait for a datagram")?;
        server.send_to(&[0], from)?;
        let answer = client.recv(&mut [0; 64]);
        answer.context("wait outside for the answer")?;
        rules::load(namespace, "nft", &["-f", "-"], &sink(device))?;
        self.figure().map(drop)
    }

    fn figure(&self) -> Result<f64> {
        let before = counted(self.sink.0)?;
        let flow = Flow {
            from: &self.site.outside,
            device: "eth0",
            source: (OUTSIDE, SOURCE..=SOURCE),
            destination: (self.to, PORT),
            next_hop: mac(&self.site.host.namespace, "up0")?,
        };
        let figure = flow.send(PACKETS)?;
        let arrived = counted(self.sink.0)? - before;
        ensure!(
            arrived * 100 >= PACKETS * 99,
            "{arrived} of {PACKETS} packets arrived"
        );
        Ok(figure)
    }
}
