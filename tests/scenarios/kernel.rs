//! The engine in the kernel: the real object through BPF_PROG_TEST_RUN.

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use bytemuck::{Pod, bytes_of, pod_read_unaligned};
use lb_common::{
    Addr, Cells, Connection, Endpoint, FlowKey, Frontend, FrontendKey, Interface, Limit, Link,
    Local, Network, OpenPort, Reason, Settings, Slot, Source, SourceKey, Subnet, SubnetKey, Veth,
};
use lb_ebpf::{CollectRequest, Verdict};
use lb_userspace::datapath::{set_constants, undisturbed};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::engine::{At, Engine, Hook, Ran};
use crate::surroundings;
use crate::world::World;

/// BPF_PROG_TEST_RUN gives packets to the loopback interface.
const LOOPBACK: u32 = 1;

/// The ids that the world's Endpoints and Frontends have are below this.
const LOW_IDS: u32 = 256;

pub struct InKernel {
    ebpf: Ebpf,
    world: Option<World>,
    /// How often the map of veths was changed.
    changes: u64,
}

/// Loads the object with maps of its own, as the daemon does: without its log.
pub fn start() -> InKernel {
    start_with_log(0)
}

/// Keeps this thread on its CPU, where the programs are run as well: refusals are limited on each CPU by
/// itself.
fn stay() {
    let mut here = CpuSet::new();
    let cpu = sched_getcpu().expect("ask for this CPU");
    here.set(cpu).expect("name this CPU");
    sched_setaffinity(Pid::from_raw(0), &here).expect("stay on this CPU");
}

/// Loads the object with the kernel's side of `aya-log` at a level: 0 is none, 5 is everything.
pub fn start_with_log(level: u8) -> InKernel {
    surroundings::enter();
    stay();
    let mut loader = EbpfLoader::new();
    set_constants(&mut loader, &level);
    for (name, size) in [
        ("CONNECTIONS", 4_096),
        ("HALF_OPEN", 4_096),
        ("SLOTS", 65_536),
    ] {
        loader.map_max_entries(name, size);
    }
    let object = veer_tests::object::bytes();
    let mut ebpf = loader
        .load(object)
        .expect("load the object: root, and kernel 6.1 or later");
    for name in [
        "endpoint_in",
        "uplink_in",
        "uplink_out",
        "uplink_in_bare",
        "uplink_out_bare",
        "loopback_in",
        "bridge_in",
        "bridge_out",
        "collect",
    ] {
        let program = program(&mut ebpf, name);
        undisturbed(|| program.load()).unwrap_or_else(|error| panic!("load {name}: {error:?}"));
    }
    InKernel {
        ebpf,
        world: None,
        changes: 0,
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    ebpf.program_mut(name)
        .expect("a program of the object")
        .try_into()
        .expect("a classifier")
}

impl InKernel {
    fn array<const N: usize>(&mut self, name: &str) -> Array<&mut MapData, [u8; N]> {
        self.ebpf
            .map_mut(name)
            .expect("a map")
            .try_into()
            .expect("an array")
    }

    fn hash<const K: usize, const V: usize>(
        &mut self,
        name: &str,
    ) -> HashMap<&mut MapData, [u8; K], [u8; V]> {
        self.ebpf
            .map_mut(name)
            .expect("a map")
            .try_into()
            .expect("a hash")
    }

    fn put<K: Pod, V: Pod, const KN: usize, const VN: usize>(
        &mut self,
        name: &str,
        key: K,
        value: V,
    ) {
        let result = self
            .hash::<KN, VN>(name)
            .insert(raw::<K, KN>(&key), raw::<V, VN>(&value), 0);
        result.unwrap_or_else(|error| panic!("write {name}: {error}"));
    }

    fn put_at<V: Pod, const N: usize>(&mut self, name: &str, index: u32, value: V) {
        let result = self.array::<N>(name).set(index, raw::<V, N>(&value), 0);
        result.unwrap_or_else(|error| panic!("write {name}: {error}"));
    }

    fn put_per_cpu<V: aya::Pod>(&mut self, name: &str, index: u32, value: V) {
        let map = self.ebpf.map_mut(name).expect("a map");
        let mut map: PerCpuArray<_, V> = map.try_into().expect("a per-CPU array");
        let cpus = aya::util::nr_cpus().expect("count the CPUs");
        let values = PerCpuValues::try_from(vec![value; cpus]).expect("a value for each CPU");
        map.set(index, values, 0)
            .unwrap_or_else(|error| panic!("write {name}: {error}"));
    }

    /// The sum of a counter over all CPUs.
    fn sum(&mut self, name: &str, index: u32) -> u64 {
        let map = self.ebpf.map_mut(name).expect("a map");
        let counters: PerCpuArray<_, u64> = map.try_into().expect("a per-CPU array");
        let values = counters.get(&index, 0);
        values
            .unwrap_or_else(|error| panic!("read {name}: {error}"))
            .iter()
            .sum()
    }

    fn empty<const K: usize, const V: usize>(&mut self, name: &str) {
        let mut map = self.hash::<K, V>(name);
        let keys: Vec<_> = map.keys().filter_map(Result::ok).collect();
        for key in keys {
            map.remove(&key)
                .unwrap_or_else(|error| panic!("empty {name}: {error}"));
        }
    }

    fn put_prefix<const K: usize, const V: usize>(
        &mut self,
        name: &str,
        prefix_length: u32,
        data: [u8; K],
        value: [u8; V],
    ) {
        let mut map: LpmTrie<_, [u8; K], [u8; V]> = self
            .ebpf
            .map_mut(name)
            .expect("a map")
            .try_into()
            .expect("a trie");
        map.insert(&Key::new(prefix_length, data), value, 0)
            .unwrap_or_else(|error| panic!("write {name}: {error}"));
    }

    fn empty_trie<const K: usize, const V: usize>(&mut self, name: &str) {
        let map = self.ebpf.map_mut(name).expect("a map");
        let mut map: LpmTrie<_, [u8; K], [u8; V]> = map.try_into().expect("a trie");
        let keys: Vec<_> = map.keys().filter_map(Result::ok).collect();
        for key in keys {
            map.remove(&key)
                .unwrap_or_else(|error| panic!("empty {name}: {error}"));
        }
    }

    /// Gives the loopback interface what the world says of `ifindex`.
    fn stand_in(&mut self, ifindex: u32) {
        let world = self.world.as_ref();
        let veth = world.and_then(|world| world.veths.get(&ifindex).copied());
        let interface = world.and_then(|world| world.interfaces.get(&ifindex).copied());
        match veth {
            Some(veth) => self.put::<u32, Veth, 4, 72>("VETHS", LOOPBACK, veth),
            // Removing what is not there is what is wanted.
            None => drop(self.hash::<4, 72>("VETHS").remove(&LOOPBACK.to_ne_bytes())),
        }
        self.changes += 1;
        self.put_at::<u64, 8>("VETH_CHANGES", 0, self.changes);
        match interface {
            Some(interface) => self.put::<u32, Interface, 4, 44>("INTERFACES", LOOPBACK, interface),
            None => drop(
                self.hash::<4, 44>("INTERFACES")
                    .remove(&LOOPBACK.to_ne_bytes()),
            ),
        }
    }

    fn test_run(&mut self, name: &str, input: &[u8], came_from: u32) -> (u32, Vec<u8>) {
        let mut output = vec![0; input.len() + 256];
        // A `struct __sk_buff` as far as its field `ingress_ifindex`.
        let mut context = [0; 40];
        context[36..].copy_from_slice(&came_from.to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(input),
            data_out: Some(&mut output),
            ctx_in: (came_from != 0).then_some(context.as_slice()),
            ..TestRunOptions::new()
        };
        let result = program(&mut self.ebpf, name)
            .test_run(options)
            .expect("run the program");
        let length = result.data_size_out as usize;
        output.truncate(length);
        (result.return_value, output)
    }
}

fn raw<T: Pod, const N: usize>(value: &T) -> [u8; N] {
    bytes_of(value).try_into().expect("the type's size")
}

impl Engine for InKernel {
    fn reset(&mut self) {
        self.empty::<40, 80>("CONNECTIONS");
        self.empty::<40, 80>("HALF_OPEN");
        self.empty::<20, 24>("AFFINITY");
        self.empty::<40, 16>("FRAGMENTS");
        self.empty::<24, 24>("FRONTENDS");
        self.empty::<16, 4>("LOCALS");
        self.empty::<4, 44>("INTERFACES");
        self.empty::<28, 4>("OPEN_PORTS");
        self.empty::<40, 4>("LINKS");
        self.empty::<4, 72>("VETHS");
        self.empty_trie::<20, 4>("SOURCES");
        self.empty_trie::<16, 4>("SUBNETS");
        for index in 0..LOW_IDS {
            self.put_at::<Network, 144>("NETWORKS", index, Network::default());
            self.put_per_cpu("RULE_COUNTERS", index, [0_u64; 3]);
        }
        for index in crate::world::World::hosting().ports.into_keys() {
            self.put_at::<Cells, 8>("PORTS", index, Cells::default());
        }
        for index in 0..LOW_IDS {
            self.put_at::<u64, 8>("TURNS", index, 0);
            self.put_at::<u64, 8>("LOADS", index, 0);
        }
        for reason in 0..Reason::COUNT {
            self.put_per_cpu("REASONS", reason, 0_u64);
        }
        for limit in 0..Limit::COUNT {
            self.put_per_cpu("LIMITS", limit, [0_u64; 2]);
        }
    }

    fn run(&mut self, at: At, packet: &[u8]) -> Ran {
        let name = match at.hook {
            Hook::EndpointIn => "endpoint_in",
            Hook::UplinkIn => "uplink_in",
            Hook::UplinkOut => "uplink_out",
            Hook::LoopbackIn => "loopback_in",
            Hook::BridgeIn => "bridge_in",
            Hook::BridgeOut => "bridge_out",
        };
        self.stand_in(at.ifindex);
        let (returned, packet) = self.test_run(name, packet, at.came_from);
        let verdict = match returned as i32 {
            -1 => Verdict::Pass,
            2 => Verdict::Drop,
            7 => Verdict::Deliver { ifindex: 0 },
            other => panic!("{name} returned {other}"),
        };
        Ran { verdict, packet }
    }

    fn set(&mut self, world: &World) {
        self.put_at::<Settings, 120>("SETTINGS", 0, world.settings);
        self.put_at::<u64, 8>("HEARTBEAT", 0, world.heartbeat);
        for (id, endpoint) in &world.endpoints {
            self.put_at::<Endpoint, 64>("ENDPOINTS", *id, *endpoint);
        }
        for (index, slot) in &world.slots {
            self.put_at::<Slot, 8>("SLOTS", *index, *slot);
        }
        for (key, frontend) in &world.frontends {
            self.put::<FrontendKey, Frontend, 24, 24>("FRONTENDS", *key, *frontend);
        }
        for (index, cells) in &world.ports {
            self.put_at::<Cells, 8>("PORTS", *index, *cells);
        }
        for (zone, network) in &world.networks {
            self.put_at::<Network, 144>("NETWORKS", u32::from(*zone), *network);
        }
        for (ifindex, interface) in &world.interfaces {
            self.put::<u32, Interface, 4, 44>("INTERFACES", *ifindex, *interface);
        }
        for address in &world.locals {
            self.put::<Addr, Local, 16, 4>("LOCALS", *address, Local::default());
        }
        for port in &world.open_ports {
            self.put::<OpenPort, u32, 28, 4>("OPEN_PORTS", *port, 0);
        }
        for link in &world.links {
            self.put::<Link, u32, 40, 4>("LINKS", *link, 0);
        }
        for (
            SourceKey {
                prefix_length,
                list,
                address,
            },
            source,
        ) in &world.sources
        {
            let mut data = [0; 20];
            data[..4].copy_from_slice(&list.to_ne_bytes());
            data[4..].copy_from_slice(bytes_of(address));
            self.put_prefix("SOURCES", *prefix_length, data, raw::<Source, 4>(source));
        }
        for (
            SubnetKey {
                prefix_length,
                address,
            },
            subnet,
        ) in &world.subnets
        {
            let data = raw::<Addr, 16>(address);
            self.put_prefix("SUBNETS", *prefix_length, data, raw::<Subnet, 4>(subnet));
        }
        for (ifindex, veth) in &world.veths {
            self.put::<u32, Veth, 4, 72>("VETHS", *ifindex, *veth);
        }
        self.world = Some(world.clone());
    }

    /// Makes every entry older: the kernel's clock cannot be moved. What happened before boot then is
    /// taken off the timeout.
    fn age(&mut self, seconds: u64) {
        for name in ["CONNECTIONS", "HALF_OPEN"] {
            let entries: Vec<_> = entries_of(&mut self.ebpf, name);
            for (key, mut entry) in entries {
                let before_boot = seconds.saturating_sub(entry.last_seen / 1_000_000_000);
                entry.timeout = entry.timeout.saturating_sub(before_boot as u32);
                entry.last_seen = entry.last_seen.saturating_sub(seconds * 1_000_000_000);
                self.put::<FlowKey, Connection, 40, 80>(name, key, entry);
            }
        }
        let affinity: Vec<([u8; 20], [u8; 24])> = self
            .hash::<20, 24>("AFFINITY")
            .iter()
            .filter_map(Result::ok)
            .collect();
        for (key, value) in affinity {
            let mut value: lb_common::Affinity = pod_read_unaligned(&value);
            value.last_used = value.last_used.saturating_sub(seconds * 1_000_000_000);
            self.hash::<20, 24>("AFFINITY")
                .insert(key, raw::<_, 24>(&value), 0)
                .expect("write");
        }
    }

    fn reason(&mut self, reason: Reason) -> u64 {
        self.sum("REASONS", reason as u32)
    }

    fn entries(&mut self) -> Vec<(FlowKey, Connection)> {
        let mut entries = entries_of(&mut self.ebpf, "CONNECTIONS");
        entries.extend(entries_of(&mut self.ebpf, "HALF_OPEN"));
        entries
    }

    fn load(&mut self, endpoint: u32) -> u64 {
        u64::from_ne_bytes(
            self.array::<8>("LOADS")
                .get(&endpoint, 0)
                .expect("read LOADS"),
        )
    }

    fn judged(&mut self, rule: u16) -> u64 {
        let map = self.ebpf.map_mut("RULE_COUNTERS").expect("a map");
        let counters: PerCpuArray<_, [u64; 3]> = map.try_into().expect("a per-CPU array");
        let values = counters
            .get(&u32::from(rule), 0)
            .expect("read the rules' counters");
        values.iter().map(|[connections, ..]| connections).sum()
    }

    fn collect(&mut self, request: CollectRequest) -> bool {
        self.test_run("collect", bytes_of(&request), 0).0 == CollectRequest::DELETED
    }
}

fn entries_of(ebpf: &mut Ebpf, name: &str) -> Vec<(FlowKey, Connection)> {
    let map = ebpf.map_mut(name).expect("a map");
    let map: HashMap<_, [u8; 40], [u8; 80]> = map.try_into().expect("a hash");
    map.iter()
        .filter_map(Result::ok)
        .map(|(key, value)| (pod_read_unaligned(&key), pod_read_unaligned(&value)))
        .collect()
}
