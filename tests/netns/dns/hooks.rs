//! The real socket programs with maps of the test's own, on the root of the machine's cgroup2 tree.
//! They act only in namespaces that the test has put into its map, and end with the test.

use std::fmt::{self, Debug};
use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, PerCpuArray, SkStorage, SockMap};
use aya::programs::tc::qdisc_add_clsact;
use aya::programs::{
    CgroupAttachMode, CgroupSockAddr, ProgramError, SchedClassifier, TcAttachType,
};
use bytemuck::{bytes_of, pod_read_unaligned};
use lb_common::dns::{AnswerKey, Counts, NamedAnswer, View};
use lb_common::{Gate, Guest, Resolver};
use lb_userspace::datapath::undisturbed;
use lb_userspace::dns::{Kernel, Register};
use lb_userspace::netns::Namespace;
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
    resolvers: Arc<Resolvers>,
    leads: HashMap<MapData, u64, [u8; size_of::<Resolver>()]>,
    gates: HashMap<MapData, [u8; size_of::<Gate>()], [u8; size_of::<Guest>()]>,
    daemon: Arc<Mutex<SockMap<MapData>>>,
    heartbeat: Option<Array<MapData, u64>>,
    names: Arc<Names>,
    /// Detaches the programs when dropped.
    ebpf: Ebpf,
}

/// The maps that the kernel answers from.
pub struct Names {
    views: Mutex<HashMap<MapData, u64, [u8; 40]>>,
    answers: Mutex<HashMap<MapData, [u8; 16], [u8; 512]>>,
    counts: PerCpuArray<MapData, [u64; 3]>,
    sockets: Mutex<SkStorage<MapData, u64>>,
}

type Resolvers = Mutex<HashMap<MapData, u64, [u8; size_of::<Resolver>()]>>;

/// What the programs on sockets know of a server.
pub struct Daemon {
    daemon: Arc<Mutex<SockMap<MapData>>>,
    resolvers: Arc<Resolvers>,
}

impl Hooks {
    /// The programs on sockets.
    pub fn attach() -> Self {
        let mut hooks = Self::load();
        let ebpf = &mut hooks.ebpf;
        let cgroup = File::open(cgroup2_root()).expect("open the root of the cgroup2 tree");
        for name in PROGRAMS {
            let program = ebpf.program_mut(name).expect("a program of the object");
            let program: &mut CgroupSockAddr = program.try_into().expect("a program for sockets");
            undisturbed(|| program.load()).unwrap_or_else(|error| panic!("load {name}: {error:?}"));
            let attached = program.attach(&cgroup, CgroupAttachMode::Single);
            attached.unwrap_or_else(|error| panic!("attach {name}: {error:?}"));
        }
        hooks
    }

    /// No program is attached yet.
    pub fn load() -> Self {
        let mut loader = veer_tests::object::loader();
        let object = veer_tests::object::bytes();
        let mut ebpf = loader
            .load(object)
            .expect("load the object: root, and kernel 6.1 or later");
        let mut map = |name| ebpf.take_map(name).expect("a map");
        let names = Names {
            views: Mutex::new(map("DNS_VIEWS").try_into().expect("a hash")),
            answers: Mutex::new(map("DNS_ANSWERS").try_into().expect("a hash")),
            counts: map("DNS_COUNTS").try_into().expect("an array"),
            sockets: Mutex::new(map("DNS_SOCKETS").try_into().expect("a storage")),
        };
        Self {
            resolvers: Arc::new(Mutex::new(map("RESOLVERS").try_into().expect("a hash"))),
            leads: map("DNS_LEADS").try_into().expect("a hash"),
            gates: map("DNS_GATES").try_into().expect("a hash"),
            daemon: {
                let daemon = map("DNS_DAEMON").try_into();
                Arc::new(Mutex::new(daemon.expect("a map of sockets")))
            },
            heartbeat: Some(map("HEARTBEAT").try_into().expect("an array")),
            names: Arc::new(names),
            ebpf,
        }
    }

    /// The maps that the kernel answers from.
    pub fn names(&self) -> Arc<Names> {
        Arc::clone(&self.names)
    }

    /// What the programs on sockets know of a server.
    pub fn register(&self) -> Arc<Daemon> {
        Arc::new(Daemon {
            daemon: Arc::clone(&self.daemon),
            resolvers: Arc::clone(&self.resolvers),
        })
    }

    /// Lets the kernel answer inside.
    pub fn answer_inside(&mut self, namespace: &Namespace) {
        self.attach_in(namespace, "dns_lo", "lo", TcAttachType::Egress);
    }

    /// Lets it answer on the host, what comes in at `bridge` for where `resolver` is.
    pub fn answer_at(&mut self, host: &Namespace, bridge: &str, cookie: u64, resolver: Resolver) {
        let gate = Gate {
            gateway: resolver.gateway,
            port: resolver.udp,
            _pad: 0,
        };
        let guest = Guest {
            cookie,
            source: resolver.source,
            _pad: 0,
        };
        let key: [u8; size_of::<Gate>()] = bytes_of(&gate).try_into().expect("its bytes");
        let value: [u8; size_of::<Guest>()] = bytes_of(&guest).try_into().expect("its bytes");
        let inserted = self.gates.insert(key, value, 0);
        inserted.expect("write the gate");
        self.attach_in(host, "dns_bridge", bridge, TcAttachType::Ingress);
    }

    /// Leads queries inside, without programs on sockets.
    pub fn lead_inside(&mut self, namespace: &Namespace, resolver: Resolver) {
        let value: [u8; size_of::<Resolver>()] = bytes_of(&resolver).try_into().expect("its bytes");
        let inserted = self.leads.insert(namespace.cookie().unwrap(), value, 0);
        inserted.expect("write the resolver");
        self.attach_in(namespace, "dns_hand", "lo", TcAttachType::Ingress);
        self.attach_in(namespace, "dns_lead", "lo", TcAttachType::Egress);
    }

    fn attach_in(
        &mut self,
        namespace: &Namespace,
        name: &str,
        interface: &str,
        side: TcAttachType,
    ) {
        let program = self.ebpf.program_mut(name).expect("a program");
        let program: &mut SchedClassifier = program.try_into().expect("a classifier");
        undisturbed(|| program.load()).unwrap_or_else(|error| panic!("load {name}: {error:?}"));
        let attached = namespace.run(|| match program.attach(interface, side) {
            // Before Linux 6.6 there is no other place.
            Err(ProgramError::TcError(_)) => {
                qdisc_add_clsact(interface)?;
                program.attach(interface, side)
            }
            attached => attached,
        });
        attached
            .unwrap()
            .unwrap_or_else(|error| panic!("attach {name}: {error:?}"));
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
        let value: [u8; size_of::<Resolver>()] = bytes_of(&resolver).try_into().expect("its bytes");
        let mut resolvers = self.resolvers.lock().unwrap();
        let inserted = resolvers.insert(cookie, value, 0);
        inserted.expect("write the resolver");
    }
}

impl Kernel for Names {
    fn claim(&self, socket: BorrowedFd<'_>, cookie: u64) -> io::Result<()> {
        let mut sockets = self.sockets.lock().unwrap();
        sockets.insert(&socket, cookie, 0).map_err(io::Error::other)
    }

    fn put_view(&self, cookie: u64, view: &View) -> io::Result<()> {
        let value: [u8; 40] = bytes_of(view).try_into().unwrap();
        let mut views = self.views.lock().unwrap();
        views.insert(cookie, value, 0).map_err(io::Error::other)
    }

    fn remove_view(&self, cookie: u64) -> io::Result<()> {
        // Removing what is not there is what is wanted.
        let _ = self.views.lock().unwrap().remove(&cookie);
        Ok(())
    }

    fn answer(&self, key: &AnswerKey) -> io::Result<Option<NamedAnswer>> {
        let key: [u8; 16] = bytes_of(key).try_into().unwrap();
        let found = self.answers.lock().unwrap().get(&key, 0);
        // It is not there.
        Ok(found.ok().map(|value| pod_read_unaligned(&value)))
    }

    fn put_answer(&self, key: &AnswerKey, answer: &NamedAnswer) -> io::Result<()> {
        let key: [u8; 16] = bytes_of(key).try_into().unwrap();
        let value: [u8; 512] = bytes_of(answer).try_into().unwrap();
        let mut answers = self.answers.lock().unwrap();
        answers.insert(key, value, 0).map_err(io::Error::other)
    }

    fn remove_answer(&self, key: &AnswerKey) -> io::Result<()> {
        let key: [u8; 16] = bytes_of(key).try_into().unwrap();
        let _ = self.answers.lock().unwrap().remove(&key);
        Ok(())
    }

    fn clear(&self) -> io::Result<()> {
        Ok(())
    }

    fn counts(&self, table: u32) -> io::Result<Counts> {
        let values = self.counts.get(&table, 0).map_err(io::Error::other)?;
        let sum = |field: usize| values.iter().map(|counts| counts[field]).sum();
        Ok(Counts {
            answered: sum(0),
            empty: sum(1),
            absent: sum(2),
        })
    }

    fn now(&self) -> io::Result<u64> {
        lb_userspace::datapath::now()
    }
}

impl Register for Daemon {
    fn begin(&self) -> io::Result<OwnedFd> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let mut daemon = self.daemon.lock().unwrap();
        daemon.set(0, &socket, 0).map_err(io::Error::other)?;
        Ok(socket.into())
    }

    fn forget(&self, cookie: u64) {
        // It may not have been led.
        let _ = self.resolvers.lock().unwrap().remove(&cookie);
    }
}

impl Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon").finish_non_exhaustive()
    }
}

impl Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
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
