//! The real socket programs with maps of the test's own, on the root of the machine's cgroup2 tree.
//! They act only in namespaces that the test has put into its map, and end with the test.

use std::fs::{self, File};
use std::time::Duration;

use aya::maps::{Array, HashMap, MapData};
use aya::programs::{CgroupAttachMode, CgroupSockAddr};
use aya::{Ebpf, EbpfLoader};
use bytemuck::bytes_of;
use lb_common::Resolver;
use nix::time::{ClockId, clock_gettime};

const PROGRAMS: [&str; 8] = [
    "socket_connect4",
    "socket_connect6",
    "socket_sendmsg4",
    "socket_sendmsg6",
    "socket_recvmsg4",
    "socket_recvmsg6",
    "socket_getpeername4",
    "socket_getpeername6",
];

pub struct Hooks {
    resolvers: HashMap<MapData, u64, [u8; 8]>,
    heartbeat: Option<Array<MapData, u64>>,
    /// Detaches the programs when dropped.
    _ebpf: Ebpf,
}

impl Hooks {
    pub fn attach() -> Self {
        let mut loader = EbpfLoader::new();
        for name in [
            "CONNECTIONS",
            "HALF_OPEN",
            "SLOTS",
            "FRONTENDS",
            "ENDPOINTS",
        ] {
            loader.map_max_entries(name, 1_024);
        }
        let object = veer_tests::object::bytes();
        let mut ebpf = loader
            .load(object)
            .expect("load the object: root, and kernel 6.1 or later");
        let cgroup = File::open(cgroup2_root()).expect("open the root of the cgroup2 tree");
        for name in PROGRAMS {
            let program = ebpf.program_mut(name).expect("a program of the object");
            let program: &mut CgroupSockAddr = program.try_into().expect("a program for sockets");
            program
                .load()
                .unwrap_or_else(|error| panic!("load {name}: {error:?}"));
            let attached = program.attach(&cgroup, CgroupAttachMode::Single);
            attached.unwrap_or_else(|error| panic!("attach {name}: {error:?}"));
        }
        let resolvers = ebpf.take_map("RESOLVERS").expect("a map");
        let heartbeat = ebpf.take_map("HEARTBEAT").expect("a map");
        Self {
            resolvers: resolvers.try_into().expect("a hash"),
            heartbeat: Some(heartbeat.try_into().expect("an array")),
            _ebpf: ebpf,
        }
    }

    /// Writes the time into the heartbeat map, each time it is called.
    pub fn beat(&mut self) -> impl FnMut() + Send + use<> {
        let mut heartbeat = self.heartbeat.take().expect("asked for once");
        move || {
            let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock"));
            let now = u64::try_from(now.as_nanos()).expect("less than 584 years");
            heartbeat.set(0, now, 0).expect("write the heartbeat");
        }
    }

    pub fn lead(&mut self, cookie: u64, resolver: Resolver) {
        let value: [u8; 8] = bytes_of(&resolver).try_into().expect("eight bytes");
        let inserted = self.resolvers.insert(cookie, value, 0);
        inserted.expect("write the resolver");
    }
}

fn cgroup2_root() -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read the mounts");
    let mut fields = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let root = fields.find(|fields| fields.get(2) == Some(&"cgroup2"));
    root.expect("cgroup2 is mounted")[1].to_string()
}
