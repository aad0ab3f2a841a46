//! A host of one's own: a network namespace, a BPF file system and a cgroup.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use aya::maps::MapInfo;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use lb_common::{
    Addr, Algorithm, Endpoint, EndpointState, Frontend, FrontendKey, Mac, Settings, Slot, Veth,
};
use lb_userspace::config::{Lead, Maps};
use lb_userspace::datapath::{Adopted, Datapath, DatapathError, OBJECT, Options};
use lb_userspace::instance::Instance;
use lb_userspace::netns::Namespace;
use lb_userspace::reconcile::{Role, State, plan};
use nix::mount::{MntFlags, umount2};
use nix::unistd::geteuid;
use tempfile::TempDir;

pub(crate) struct Host {
    namespace: Namespace,
    folder: TempDir,
    cgroup: PathBuf,
}

impl Host {
    pub(crate) fn new() -> Self {
        assert!(geteuid().is_root(), "this test needs root");
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bpf")).unwrap();
        // The folder's name is nobody else's.
        let name = folder.path().file_name().unwrap().to_string_lossy();
        let cgroup = cgroup2().join(format!("veer-test{name}"));
        fs::create_dir(&cgroup).unwrap();
        Self {
            namespace: Namespace::create().unwrap(),
            folder,
            cgroup,
        }
    }

    pub(crate) fn options(&self) -> Options {
        let instance = Instance::of(self.namespace.cookie().unwrap());
        Options {
            folder: self.folder.path().join(instance.name()),
            instance,
            bpffs: self.folder.path().join("bpf"),
            sizes: small(),
            cgroup: Some(self.cgroup.clone()),
            lead: Lead::Sockets,
            hook: None,
            object: OBJECT,
            log: false,
        }
    }

    /// Runs `act` in the host's network namespace.
    pub(crate) fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(act).unwrap()
    }

    pub(crate) fn open(&self, options: &Options) -> Result<(Datapath, Adopted), DatapathError> {
        self.run(|| Datapath::open(options))
    }

    /// Opens the datapath and makes its state the desired one.
    pub(crate) fn serve(&self, options: &Options, desired: &State) -> Datapath {
        let (mut datapath, _) = self.open(options).unwrap();
        self.reconcile(&mut datapath, desired);
        datapath
    }

    pub(crate) fn reconcile(&self, datapath: &mut Datapath, desired: &State) {
        self.run(|| {
            for step in plan(&datapath.actual().unwrap(), desired) {
                datapath.apply(&step).unwrap();
            }
        });
    }

    /// Runs a program of iproute2 in the host's network namespace and gives what it prints.
    pub(crate) fn iproute2(&self, program: &str, args: &str) -> String {
        iproute2(&self.namespace, program, args)
    }

    /// A veth pair whose near end has this index.
    pub(crate) fn add_veth(&self, ifindex: u32) {
        let args = format!("link add name near{ifindex} index {ifindex} type veth");
        self.iproute2("ip", &format!("{args} peer name far{ifindex}"));
    }

    /// How many programs named `endpoint_in` see what comes in through the near end of this index.
    pub(crate) fn programs_on(&self, ifindex: u32) -> usize {
        let name = format!("near{ifindex}");
        let filters = self.iproute2("tc", &format!("filter show dev {name} ingress"));
        let filters = filters.lines().filter(|line| line.contains(" handle "));
        let linked = self.run(|| SchedClassifier::query_tcx(&name, TcAttachType::Ingress));
        // Before Linux 6.6 there is nothing to ask.
        let linked = linked.map_or(0, |(_, programs)| programs.len());
        filters.count() + linked
    }

    pub(crate) fn remove_veth(&self, ifindex: u32) {
        self.iproute2("ip", &format!("link delete near{ifindex}"));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let bpffs = self.folder.path().join("bpf");
        // The mount goes with everything in it, pins as well; a test may not have mounted it.
        while umount2(&bpffs, MntFlags::MNT_DETACH).is_ok() {}
        // A cgroup that is in use after all stays, and says so by its name.
        let _ = fs::remove_dir(&self.cgroup);
    }
}

/// Runs a program of iproute2 in this network namespace and gives what it prints.
pub(crate) fn iproute2(namespace: &Namespace, program: &str, args: &str) -> String {
    let run = || {
        let run = Command::new(program).args(args.split(' ')).output();
        let output = run.unwrap_or_else(|error| panic!("start {program}: {error}"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args}: {error}");
        String::from_utf8(output.stdout).unwrap()
    };
    namespace.run(run).unwrap()
}

fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" cgroup2 "));
    let mount = mount.expect("this test needs a mounted cgroup2");
    PathBuf::from(mount.split(' ').nth(1).unwrap())
}

/// Sizes that leave room on the machine for other tests.
fn small() -> Maps {
    Maps {
        connections: 4_096,
        half_open: 4_096,
        affinity: 1_024,
        fragments: 1_024,
        veths: 64,
        endpoints: 256,
        frontends: 64,
        slots: 1_024,
        resolvers: 64,
        dns_answers: 1_024,
        events: 4_096,
    }
}

/// Two Endpoints behind the given veths, and a Group of both.
pub(crate) fn desired(veths: [u32; 2]) -> State {
    let mut state = State {
        settings: Settings {
            refusals: 10,
            events: 20,
            ..Settings::default()
        },
        ..State::default()
    };
    for (id, ifindex) in (1..).zip(veths) {
        let v4 = Addr::from(Ipv4Addr::new(10, 0, 0, id as u8));
        state.endpoints.insert(id, endpoint(v4, ifindex));
        state.veths.insert(ifindex, veth(id, v4));
        state.attached.insert((Role::Endpoint, ifindex));
    }
    let slots = [1, 2, 1].map(|endpoint| Slot {
        endpoint,
        ..Slot::default()
    });
    state.slots.insert(100, slots.to_vec());
    state.frontends.insert(
        FrontendKey::vip(Ipv4Addr::new(198, 18, 0, 1).into(), 1),
        Frontend {
            id: 1,
            first_slot: 100,
            slot_count: 3,
            algorithm: Algorithm::Maglev as u8,
            ..Frontend::default()
        },
    );
    state
}

fn endpoint(v4: Addr, ifindex: u32) -> Endpoint {
    Endpoint {
        v4,
        ifindex,
        generation: 1,
        mac: Mac::new([2, 0, 0, 0, 0, ifindex as u8]),
        zone: 1,
        state: EndpointState::Active as u8,
        ..Endpoint::default()
    }
}

fn veth(endpoint: u32, v4: Addr) -> Veth {
    Veth {
        v4,
        endpoint,
        generation: 1,
        zone: 1,
        ..Veth::default()
    }
}

/// The numbers of pinned objects, by their names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    pub(crate) maps: BTreeMap<String, u32>,
    pub(crate) programs: BTreeMap<String, u32>,
    /// Number of the link and of the program behind it.
    pub(crate) links: BTreeMap<String, (u32, u32)>,
    /// Folders that say that an interface has our filter (before Linux 6.6).
    pub(crate) marks: usize,
}

impl Pinned {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.maps.len() + self.programs.len() + self.links.len() + self.marks
    }
}

/// What is pinned below `root`.
pub(crate) fn pinned(root: &Path) -> Pinned {
    let layout = root.join(format!("v{}", lb_common::LAYOUT));
    let map = |path: &Path| MapInfo::from_pin(path).unwrap().id();
    let program = |path: &Path| ProgramInfo::from_pin(path).unwrap().id();
    let link = |path: &Path| {
        let link = FdLink::from(PinnedLink::from_pin(path).unwrap());
        let info = link.info().unwrap();
        (info.id(), info.program_id())
    };
    Pinned {
        maps: each(&layout.join("maps"), map),
        programs: each(&layout.join("programs"), program),
        links: each(&layout.join("links"), link),
        marks: fs::read_dir(layout.join("links")).unwrap().count()
            - files(&layout.join("links")).len(),
    }
}

fn each<T>(folder: &Path, of: impl Fn(&Path) -> T) -> BTreeMap<String, T> {
    files(folder)
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, of(path))
        })
        .collect()
}

/// Every path in a folder that is no folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = entries(folder).into_iter();
    paths.filter(|path| !path.is_dir()).collect()
}

/// Every path in a folder.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}
