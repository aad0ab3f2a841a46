//! Packets to a published port, as fast as they go.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_common::Mac;
use lb_userspace::netns::Namespace;
use rand::seq::SliceRandom as _;
use veer_tests::packets::{End, udp};
use veer_tests::station::{ANSWER, Family};

use super::ports::{HOST, PORT, Site};
use super::target;
use crate::cpu;
use crate::load::{Done, FRAME};
use crate::measure::{Effort, load_on};
use crate::pktgen::{self, Flow};
use crate::progress::Progress;
use crate::report::{Bound, Series, Suite};
use crate::rounds::Notes;
use crate::rules;

/// Who is outside.
pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The port that it sends from.
const SOURCE: u16 = 10_000;

/// Bytes of payload, and of what UDP calls the length.
const PAYLOAD: usize = 18;
const LENGTH: usize = PAYLOAD + 8;

/// Source ports of many flows.
const FLOWS: u16 = 16_384;

/// Packets that tell the generator's pace.
const TRIAL: u64 = 10_000;

const RATE: &str = "packets per CPU-second";

/// A way that packets take to where they are counted.
struct Way<'s> {
    name: &'static str,
    site: &'s Site,
    to: Ipv4Addr,
    sink: &'s Namespace,
    many_flows: bool,
}

pub(super) fn suite(effort: Effort) -> Result<Suite> {
    let sites: [Site; 5] = std::array::from_fn(|_| Site::new());
    let [dropped, routed, iptables, nftables, veer] = &sites;
    let mut suite = description();
    let mut ways = vec![
        Way {
            sink: &dropped.host.namespace,
            ..Way::new("dropped on arrival", dropped, HOST)
        },
        Way::new("routed", routed, routed.web.v4),
    ];
    if suite.is_set_up("iptables", iptables.by_iptables(1)) {
        ways.push(Way::new("iptables", iptables, HOST));
        ways.push(Way::new("iptables, many flows", iptables, HOST).with_many_flows());
    }
    if suite.is_set_up("nftables", nftables.by_nftables(1)) {
        ways.push(Way::new("nftables", nftables, HOST));
    }
    let _veer = veer.by_veer(1);
    ways.push(Way::new("veer", veer, HOST));
    ways.push(Way::new("veer, many flows", veer, HOST).with_many_flows());
    for (index, site) in sites.iter().enumerate() {
        let (inside, device) = if index == 0 {
            (&site.host.namespace, "up0")
        } else {
            (&site.web.namespace, "eth0")
        };
        let rules = sink(device);
        rules::load(inside, "nft", &["-f", "-"], &rules).context("set up the sink of packets")?;
    }

    let mut notes = Notes::default();
    let mut order: Vec<_> = (0..ways.len()).collect();
    let mut progress = Progress::new(order.len() * effort.rounds);
    for _ in 0..effort.rounds {
        order.shuffle(&mut rand::rng());
        for number in &order {
            let way = &ways[*number];
            progress.step(way.name);
            let rate = way.rate(effort).with_context(|| way.name.to_owned())?;
            notes.note(way.name, RATE, "packets/s", rate);
        }
    }
    let place = |name: &str| ways.iter().position(|way| way.name == name);
    notes.0.sort_by_key(|series| place(&series.variant));
    let alone = alone(&notes.0);
    suite.series = notes.0;
    suite.series.extend(alone);
    Ok(suite)
}

/// What a packet costs between the generator and the sink, from the rates of each round.
fn alone(rates: &[Series]) -> Vec<Series> {
    let [dropped, others @ ..] = rates else {
        return Vec::new();
    };
    let others = others.iter().map(|rate| {
        let pairs = rate.values.iter().zip(&dropped.values);
        Series {
            variant: rate.variant.clone(),
            measure: "path alone".to_owned(),
            unit: "ns".to_owned(),
            values: pairs.map(|(rate, most)| 1e9 / rate - 1e9 / most).collect(),
        }
    });
    others.collect()
}

fn generator() -> &'static str {
    if pktgen::is_here() {
        "pktgen"
    } else {
        "XDP live frames"
    }
}

fn description() -> Suite {
    Suite {
        name: "forwarding".to_owned(),
        about: "Datagrams of the smallest size to a published port, from the moment that they arrive at the \
                host until they are counted and dropped in the container, by nftables in its ingress hook. \
                `dropped on arrival` is what the generator and the sink cost by themselves; `path alone` is \
                what is left without them. The one flow \
                has been answered; many flows, of 16,384 source ports at random, have not."
            .to_owned(),
        settings: vec![
            format!("{} as the generator, whose cost is part of every figure", generator()),
        ],
        targets: vec![target(RATE, "veer", Some("iptables"), Bound::AtLeast(5.0))],
        ..Suite::default()
    }
}

impl<'s> Way<'s> {
    /// To where a container's packets are counted.
    fn new(name: &'static str, site: &'s Site, to: Ipv4Addr) -> Self {
        Self {
            name,
            site,
            to,
            sink: &site.web.namespace,
            many_flows: false,
        }
    }

    fn with_many_flows(self) -> Self {
        Self {
            many_flows: true,
            ..self
        }
    }

    /// Packets per CPU-second that arrive at the sink.
    fn rate(&self, effort: Effort) -> Result<f64> {
        if !self.many_flows && self.is_to_container() {
            self.establish().context("get a datagram answered")?;
        }
        self.flood(effort.warm_up)?;
        let before = counted(self.sink)?;
        let nanoseconds = self.flood(effort.time)?;
        let arrived = counted(self.sink)? - before;
        ensure!(arrived > 0, "no packet arrived");
        Ok(arrived as f64 * 1e9 / nanoseconds)
    }

    fn is_to_container(&self) -> bool {
        std::ptr::eq(self.sink, &self.site.web.namespace)
    }

    /// A datagram there and one back, shorter than what is dropped: the flow is established then.
    fn establish(&self) -> Result<()> {
        let server = self.site.web.udp(Family::V4, PORT);
        let client = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SOURCE));
        let client = self.site.outside.run(client)??;
        client.set_read_timeout(Some(ANSWER))?;
        client.connect((self.to, PORT))?;
        client.send(&[0])?;
        let (_, from) = server.recv_from(&mut [0; 64])?;
        server.send_to(&[0], from)?;
        client.recv(&mut [0; 64])?;
        Ok(())
    }

    /// Packets for about so long; gives the nanoseconds of a CPU that they took.
    fn flood(&self, time: Duration) -> Result<f64> {
        if pktgen::is_here() {
            return self.flood_by_pktgen(time);
        }
        Ok(self.flood_by_frames(time)?.cpu_ns as f64)
    }

    /// The module's thread and the interrupts that bring its packets to the sink share one CPU.
    fn flood_by_pktgen(&self, time: Duration) -> Result<f64> {
        let last = if self.many_flows {
            SOURCE + FLOWS
        } else {
            SOURCE
        };
        let flow = Flow {
            from: &self.site.outside,
            device: "eth0",
            source: (OUTSIDE, SOURCE..=last),
            destination: (self.to, PORT),
            next_hop: mac(&self.site.host.namespace, "up0")?,
        };
        let each = flow.send(TRIAL)?;
        let count = (time.as_nanos() as f64 / each) as u64;
        Ok(flow.send(count)? * count as f64 + each * TRIAL as f64)
    }

    fn flood_by_frames(&self, time: Duration) -> Result<Done> {
        let frame = frame(&self.site.host.namespace, &self.site.outside, self.to)?;
        let mut command = load_on(Some(cpu::last()))?;
        command
            .args(["flood", "--at", &self.site.uplink.to_string()])
            .args(["--frame", &frame])
            .args(self.many_flows.then_some("--many-flows"))
            .args(["--time", &time.as_millis().to_string()]);
        let output = self.site.host.namespace.run(|| command.output())??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", said.trim());
        serde_json::from_slice(&output.stdout).context("read what a flood did")
    }
}

/// A datagram from outside to `to`, in hexadecimal. Without a checksum, so that any port goes.
fn frame(host: &Namespace, outside: &Namespace, to: Ipv4Addr) -> Result<String> {
    const CHECKSUM: std::ops::Range<usize> = 40..42;
    let from = End {
        mac: mac(outside, "eth0")?,
        addr: OUTSIDE.into(),
        port: SOURCE,
    };
    let to = End {
        mac: mac(host, "up0")?,
        addr: to.into(),
        port: PORT,
    };
    let mut frame = udp(from, to, &[0; PAYLOAD]);
    ensure!(frame.len() == FRAME, "a frame of {} bytes", frame.len());
    frame[CHECKSUM].fill(0);
    Ok(frame.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(super) fn mac(namespace: &Namespace, name: &str) -> Result<Mac> {
    let interfaces = namespace.interfaces()?;
    let mut interfaces = interfaces.iter();
    let found = interfaces.find(|interface| interface.name == name);
    Ok(Mac::new(found.with_context(|| format!("find {name}"))?.mac))
}

/// Rules that count and drop datagrams as they come in.
pub(super) fn sink(device: &str) -> String {
    format!(
        "table netdev sink {{ chain arrivals {{ type filter hook ingress device \"{device}\" priority 0;\n\
         udp length {LENGTH} counter drop\n}}\n}}\n"
    )
}

/// How many datagrams [`sink`] has dropped.
pub(super) fn counted(inside: &Namespace) -> Result<u64> {
    let mut command = Command::new("nft");
    command.args(["list", "table", "netdev", "sink"]);
    let output = inside.run(|| command.output())??;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    let found = words.find(|word| *word == "packets");
    let count = found.and_then(|_| words.next());
    count
        .and_then(|count| count.parse().ok())
        .with_context(|| format!("read the sink's counter: {text}"))
}
