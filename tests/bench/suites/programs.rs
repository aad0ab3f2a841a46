//! What one packet costs in `endpoint_in`, by the kernel's own clock (BPF_PROG_TEST_RUN).

mod floor;

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, MapData};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use bytemuck::{Pod, bytes_of};
use lb_common::{
    Addr, Connection, ConnectionFlags as Flags, Endpoint, EndpointState, FlowKey, Frontend,
    FrontendKey, Mac, Port, Settings, Slot, Timeouts, VIP_MAC, Veth, VethFlags, maps,
};
use lb_userspace::datapath::set_constants;
use veer_tests::object;
use veer_tests::packets::{End, udp};

use super::target;
use crate::measure::Effort;
use crate::progress::Progress;
use crate::report::{Bound, Suite};
use crate::rounds::Notes;
use floor::Floor;

/// Where BPF_PROG_TEST_RUN says that packets come from.
const LOOPBACK: u32 = 1;
const ZONE: u16 = 1;
const UDP: u8 = 17;
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const MEMBER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
const VIP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const CLIENT_MAC: Mac = Mac::new([2, 0, 0, 0, 0, 2]);
const MEMBER_MAC: Mac = Mac::new([2, 0, 0, 0, 0, 3]);

/// Runs of one packet for one figure.
const REPEAT: u32 = 1_000_000;
/// Packets of different flows for one figure.
const FLOWS: u32 = 20_000;

pub(super) fn suite(effort: Effort) -> Result<Suite> {
    let sizes: &[u32] = if effort.is_quick() {
        &[1, 10_000]
    } else {
        &[1, 10_000, 1_000_000]
    };
    let largest = sizes.last().copied().unwrap_or(1);
    let mut bench = Bench::new(largest, maps::HALF_OPEN)?;
    let mut crowded = Bench::new(1, maps::HALF_OPEN)?;
    let mut roomy = Bench::new(1, ROOM)?;
    crowded.connections(0..1)?;
    crowded.frontends(FRONTENDS)?;
    let mut floor = Floor::new(&bench.ebpf)?;
    let mut notes = Notes::default();
    let mut note = |variant: &str, value: f64| notes.note(variant, MEASURE, "ns", value);
    let mut progress = Progress::new(sizes.len() * effort.rounds);
    let mut held = 0;
    for size in sizes {
        bench.connections(held..*size)?;
        held = *size;
        for _ in 0..effort.rounds {
            progress.step(&format!("{size} Connections"));
            if *size == 1 {
                note("veer: hit", bench.hit()?);
                note(CROWDED_HIT, crowded.hit()?);
                note("veer: miss", bench.miss()?);
                note("veer: not IP", bench.not_ip()?);
                note("veer: new", bench.opened()?);
                note(ROOMY_NEW, roomy.opened()?);
                note(ONCE, bench.not_ip_once()?);
                note(CROWDED_NEW, crowded.opened()?);
                note("kernel: nothing", floor.empty(REPEAT)?);
                note("kernel: a look-up", floor.look_up(0, REPEAT)?);
                note(
                    "kernel: look-up, checksum, redirection",
                    floor.rewrite(REPEAT)?,
                );
                note("kernel: nothing, once", average(|| floor.empty(1))?);
                note("kernel: two half-open entries", average(|| floor.insert())?);
            }
            note(
                &format!("kernel: look-ups over {size} Connections"),
                average(|| floor.look_up(rand::random_range(0..*size), 2))?,
            );
            note(
                &format!("veer: hits over {size} Connections"),
                bench.hits(*size)?,
            );
        }
    }
    let largest = format!("veer: hits over {largest} Connections");
    let at_most = Bound::AtMost;
    Ok(Suite {
        name: "programs".to_owned(),
        about: "Time of `endpoint_in` for one UDP packet, IPv4, as the kernel measures it. `hit` is of an \
                established Connection, there and back; `miss` is between two containers, `not IP` is \
                nobody's; `new` opens a Connection, for which an older half-open one makes room where nothing \
                else is said. That and the last rows are runs of a single packet each, between system \
                calls, and the last rows take a random Connection, so that caches do not help; `not IP, \
                once` is what such a run takes that does nothing. Rows of `kernel` are programs of a few \
                instructions that ask the kernel for the same and decide nothing, over the same maps: the \
                least that it can be."
            .to_owned(),
        settings: vec![format!("{REPEAT} runs for each figure; {FLOWS} where flows differ")],
        series: notes.0,
        targets: vec![
            target(MEASURE, "veer: hit", None, at_most(90.0)),
            target(MEASURE, "veer: miss", None, at_most(45.0)),
            target(MEASURE, "veer: new", None, at_most(400.0)),
            target(MEASURE, CROWDED_HIT, Some("veer: hit"), at_most(1.03)),
            target(MEASURE, &largest, Some("veer: hits over 1 Connections"), at_most(1.6)),
        ],
        ..Suite::default()
    })
}

const MEASURE: &str = "time of a packet";
const CROWDED_HIT: &str = "veer: hit, 10,000 Frontends";
const ONCE: &str = "veer: not IP, once";
const CROWDED_NEW: &str = "veer: new, 10,000 Frontends";
const ROOMY_NEW: &str = "veer: new, nothing makes room";
/// Entries of a table of half-open Connections that no run fills.
const ROOM: u32 = 1 << 20;
/// The first number of Connections that are opened: established ones are below.
const NEW: u32 = 10_000_000;
/// On a host with many.
const FRONTENDS: u16 = 10_000;

struct Bench {
    ebpf: Ebpf,
    /// How many Connections were opened.
    opened: u32,
}

impl Bench {
    fn new(connections: u32, half_open: u32) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        set_constants(&mut loader, &0);
        loader.map_max_entries("CONNECTIONS", 2 * connections + 1_024);
        loader.map_max_entries("HALF_OPEN", half_open);
        let mut ebpf = loader.load(object::bytes()).context("load the programs")?;
        program(&mut ebpf)?.load().context("load endpoint_in")?;
        let mut bench = Self { ebpf, opened: 0 };
        bench.world()?;
        Ok(bench)
    }

    /// A client, a Group of one Member, and the client's veth.
    fn world(&mut self) -> Result<()> {
        let settings = Settings {
            vips_v4: Ipv4Addr::new(198, 18, 0, 0).into(),
            vips_v4_mask: Addr::mask(96 + 15),
            timeouts: Timeouts::default(),
            ..Settings::default()
        };
        self.set::<_, { size_of::<Settings>() }>("SETTINGS", 0, &settings)?;
        for (id, address, mac) in [(1, CLIENT, CLIENT_MAC), (2, MEMBER, MEMBER_MAC)] {
            let endpoint = Endpoint {
                v4: address.into(),
                ifindex: LOOPBACK,
                generation: 1,
                mac,
                zone: ZONE,
                state: EndpointState::Active as u8,
                ..Endpoint::default()
            };
            self.set::<_, { size_of::<Endpoint>() }>("ENDPOINTS", id, &endpoint)?;
        }
        let veth = Veth {
            v4: CLIENT.into(),
            endpoint: 1,
            generation: 1,
            mac: CLIENT_MAC,
            zone: ZONE,
            flags: VethFlags::ANTI_SPOOFING,
            ..Veth::default()
        };
        self.put::<_, _, 4, { size_of::<Veth>() }>("VETHS", &LOOPBACK, &veth)?;
        let slot = Slot {
            endpoint: 2,
            ..Slot::default()
        };
        self.set::<_, { size_of::<Slot>() }>("SLOTS", 0, &slot)?;
        let frontend = Frontend {
            id: 1,
            slot_count: 1,
            ..Frontend::default()
        };
        let key = FrontendKey::vip(VIP.into(), ZONE);
        self.put::<_, _, { size_of::<FrontendKey>() }, { size_of::<Frontend>() }>(
            "FRONTENDS",
            &key,
            &frontend,
        )
    }

    /// Established Connections with these numbers.
    ///
    /// The packet of one comes out as what the other direction's entry takes in: so that it can go
    /// through the program again and again, rewritten each time.
    fn connections(&mut self, numbers: std::ops::Range<u32>) -> Result<()> {
        let map = self
            .ebpf
            .map_mut("CONNECTIONS")
            .context("find CONNECTIONS")?;
        let mut map: HashMap<
            &mut MapData,
            [u8; size_of::<FlowKey>()],
            [u8; size_of::<Connection>()],
        > = map.try_into()?;
        for number in numbers {
            let (there, back) = (flow(number, VIP), flow(number, MEMBER));
            for (from, to) in [(&there, &back), (&back, &there)] {
                let entry = Connection {
                    source: to.source,
                    destination: to.destination,
                    source_port: to.source_port,
                    destination_port: to.destination_port,
                    target: 2,
                    generation: 1,
                    backend: 2,
                    frontend: 1,
                    timeout: u32::MAX,
                    client: 1,
                    last_seen: 0,
                    flags: Flags::FORWARD | Flags::REPLIED | Flags::ESTABLISHED,
                    other_zone: ZONE,
                    ..Connection::default()
                };
                map.insert(raw(from)?, raw(&entry)?, 0)?;
            }
        }
        Ok(())
    }

    /// So many Frontends in all, each with an address of its own.
    fn frontends(&mut self, count: u16) -> Result<()> {
        let frontend = Frontend {
            id: 2,
            slot_count: 1,
            ..Frontend::default()
        };
        for number in 1..count {
            let vip = Ipv4Addr::from(u32::from(VIP) + u32::from(number));
            let key = FrontendKey::vip(vip.into(), ZONE);
            self.put::<_, _, { size_of::<FrontendKey>() }, { size_of::<Frontend>() }>(
                "FRONTENDS",
                &key,
                &frontend,
            )?;
        }
        Ok(())
    }

    fn hit(&mut self) -> Result<f64> {
        self.time(&packet(0, VIP), REPEAT)
    }

    fn miss(&mut self) -> Result<f64> {
        let mut other = packet(0, MEMBER);
        // Another destination port: nobody's Connection.
        other[36..38].copy_from_slice(&9_u16.to_be_bytes());
        self.time(&other, REPEAT)
    }

    fn not_ip(&mut self) -> Result<f64> {
        self.time(&foreign(), REPEAT)
    }

    fn not_ip_once(&mut self) -> Result<f64> {
        average(|| self.time(&foreign(), 1))
    }

    fn opened(&mut self) -> Result<f64> {
        average(|| {
            self.opened += 1;
            self.time(&packet(NEW + self.opened, VIP), 1)
        })
    }

    fn hits(&mut self, size: u32) -> Result<f64> {
        average(|| self.time(&packet(rand::random_range(0..size), VIP), 2))
    }

    /// Nanoseconds for one run of `packet`.
    fn time(&mut self, packet: &[u8], repeat: u32) -> Result<f64> {
        let options = TestRunOptions {
            data_in: Some(packet),
            repeat,
            ..TestRunOptions::default()
        };
        let done = program(&mut self.ebpf)?.test_run(options)?;
        Ok(done.duration.as_nanos() as f64)
    }

    fn set<V: Pod, const N: usize>(&mut self, name: &str, index: u32, value: &V) -> Result<()> {
        let map = self
            .ebpf
            .map_mut(name)
            .with_context(|| format!("find {name}"))?;
        let mut map: Array<_, [u8; N]> = map.try_into()?;
        Ok(map.set(index, raw(value)?, 0)?)
    }

    fn put<K: Pod, V: Pod, const KN: usize, const VN: usize>(
        &mut self,
        name: &str,
        key: &K,
        value: &V,
    ) -> Result<()> {
        let map = self
            .ebpf
            .map_mut(name)
            .with_context(|| format!("find {name}"))?;
        let mut map: HashMap<_, [u8; KN], [u8; VN]> = map.try_into()?;
        Ok(map.insert(raw(key)?, raw(value)?, 0)?)
    }
}

/// Of one measurement for each flow.
fn average(mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut sum = 0.0;
    for _ in 0..FLOWS {
        sum += measure()?;
    }
    Ok(sum / f64::from(FLOWS))
}

fn program(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier> {
    let program = ebpf
        .program_mut("endpoint_in")
        .context("find endpoint_in")?;
    Ok(program.try_into()?)
}

fn raw<T: Pod, const N: usize>(value: &T) -> Result<[u8; N]> {
    Ok(bytes_of(value).try_into()?)
}

/// The client's flow with this number to an address. 60,000 for each destination port.
fn flow(number: u32, to: Ipv4Addr) -> FlowKey {
    FlowKey {
        source: CLIENT.into(),
        destination: to.into(),
        source_port: Port::new((1_024 + number % 60_000) as u16),
        destination_port: Port::new((1_000 + number / 60_000) as u16),
        zone: ZONE,
        protocol: UDP,
        _pad: 0,
    }
}

/// Of a protocol that is none of veer's business.
fn foreign() -> Vec<u8> {
    let mut packet = packet(0, MEMBER);
    packet[12..14].copy_from_slice(&0x88cc_u16.to_be_bytes());
    packet
}

fn packet(number: u32, to: Ipv4Addr) -> Vec<u8> {
    let flow = flow(number, to);
    let from = end(CLIENT, CLIENT_MAC, flow.source_port.get());
    let to = end(to, VIP_MAC, flow.destination_port.get());
    udp(from, to, &[0; 18])
}

fn end(addr: Ipv4Addr, mac: Mac, port: u16) -> End {
    let addr = addr.into();
    End { mac, addr, port }
}
