//! `dns_lo` and `dns_bridge` through BPF_PROG_TEST_RUN.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use aya::maps::{HashMap, MapData, SkStorage};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use bytemuck::{Pod, bytes_of};
use lb_common::dns::{AnswerKey, NamedAnswer, View};
use lb_common::{Gate, Guest, Port};
use lb_ebpf::dns::native::{Memory, frame, frame_between, run, run_across};
use lb_userspace::datapath::{set_constants, undisturbed};
use lb_userspace::netns::Namespace;
use nix::time::{ClockId, clock_gettime};

/// Where the daemon listens.
pub(super) const OURS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Where containers ask on the host, and who does: a container's and the bridge's addresses.
pub(super) const ENDS: [[u8; 4]; 2] = [[172, 20, 0, 2], [172, 20, 0, 1]];
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]];
/// The guest's namespace.
const GUEST: u64 = 77;

/// `TCX_NEXT`, and `TCX_REDIRECT`.
const NEXT: i32 = -1;
const REDIRECT: i32 = 7;

/// The program, or nothing: the library is asked then.
pub(super) struct Kernel {
    program: Option<Program>,
    /// Whether queries are seen on a bridge.
    is_bridge: bool,
    /// The daemon's.
    _socket: Option<UdpSocket>,
}

/// The program, in a namespace.
struct Program {
    ebpf: Arc<Mutex<Ebpf>>,
    frames: Sender<Vec<u8>>,
    became: Receiver<Vec<u8>>,
}

impl Kernel {
    pub(super) fn natively(_names: &Memory) -> Self {
        Self {
            program: None,
            is_bridge: false,
            _socket: None,
        }
    }

    pub(super) fn natively_on_a_bridge(names: &Memory) -> Self {
        Self {
            is_bridge: true,
            ..Self::natively(names)
        }
    }

    /// The program on a bridge.
    pub(super) fn on_a_bridge(names: &Memory) -> Self {
        let mut ebpf = object(names, veer_tests::object::loader(), "dns_bridge");
        let view = names.view.expect("the asker is known");
        put::<u64, View, 8, 40>(&mut ebpf, "DNS_VIEWS", GUEST, view);
        let [source, gateway] = ENDS.map(u32::from_ne_bytes);
        let gate = Gate {
            gateway,
            port: view.port,
            _pad: 0,
        };
        let guest = Guest {
            cookie: GUEST,
            source,
            _pad: 0,
        };
        put::<Gate, Guest, 8, 16>(&mut ebpf, "DNS_GATES", gate, guest);
        let program = Program::start("dns_bridge", Arc::new(Mutex::new(ebpf)), namespace());
        Self {
            program: Some(program),
            is_bridge: true,
            _socket: None,
        }
    }

    /// The frame in which the container asks.
    pub(super) fn frame(&self, query: &[u8], port: Port) -> Vec<u8> {
        match self.is_bridge {
            true => frame_between(MACS, ENDS.map(u32::from_ne_bytes), query, port),
            false => frame(query, port),
        }
    }

    /// Has the program find out where it is as the daemon would have it on this kernel.
    pub(super) fn by_namespace(names: &Memory) -> Self {
        let mut loader = veer_tests::object::loader();
        set_constants(&mut loader, &0);
        Self::load(names, loader)
    }

    /// Has it find out as on any kernel.
    pub(super) fn by_socket(names: &Memory) -> Self {
        Self::load(names, veer_tests::object::loader())
    }

    fn load(names: &Memory, loader: EbpfLoader<'_>) -> Self {
        let mut ebpf = object(names, loader, "dns_lo");
        let (here, view) = (namespace(), names.view.expect("the asker is known"));
        let cookie = here.cookie().expect("its cookie");
        let socket = here.run(|| UdpSocket::bind((OURS, view.port.get())));
        let socket = socket.expect("enter it").expect("bind there");
        let sockets = ebpf.map_mut("DNS_SOCKETS").expect("a map");
        let mut sockets = SkStorage::<_, u64>::try_from(sockets).expect("a storage");
        sockets.insert(&socket, cookie, 0).expect("write");
        put::<u64, View, 8, 40>(&mut ebpf, "DNS_VIEWS", cookie, view);
        let program = Program::start("dns_lo", Arc::new(Mutex::new(ebpf)), here);
        Self {
            program: Some(program),
            is_bridge: false,
            _socket: Some(socket),
        }
    }

    /// Goes on in a new namespace, where nobody listens.
    pub(super) fn elsewhere(&mut self) -> Namespace {
        let empty = namespace();
        let there = empty.try_clone().expect("another handle");
        let ebpf = self.program.take().expect("in the kernel").ebpf;
        self.program = Some(Program::start("dns_lo", ebpf, there));
        empty
    }

    /// What becomes of a frame: in the kernel, or natively.
    pub(super) fn run(&mut self, frame: &[u8], names: &Memory) -> Vec<u8> {
        let Some(program) = &self.program else {
            return match self.is_bridge {
                true => run_across(frame, ENDS.map(u32::from_ne_bytes), names, now()),
                false => run(frame, names, now()),
            };
        };
        program.frames.send(frame.to_vec()).expect("it runs");
        program.became.recv().expect("it runs")
    }
}

impl Program {
    /// Runs in `namespace` on a thread that stays there, until nobody sends any more: entering takes long
    /// on emulated processors.
    fn start(name: &'static str, ebpf: Arc<Mutex<Ebpf>>, namespace: Namespace) -> Self {
        let (frames, received) = mpsc::channel::<Vec<u8>>();
        let (results, became) = mpsc::channel();
        let shared = Arc::clone(&ebpf);
        thread::spawn(move || {
            let run = || {
                for frame in received {
                    let mut ebpf = shared.lock().expect("no panic");
                    let became = run_in_kernel(program(&mut ebpf, name), &frame);
                    results.send(became).expect("somebody waits");
                }
            };
            namespace.run(run).expect("enter the namespace");
        });
        Self {
            ebpf,
            frames,
            became,
        }
    }
}

/// The object with its answers, and one of its programs.
fn object(names: &Memory, mut loader: EbpfLoader<'_>, name: &str) -> Ebpf {
    let mut ebpf = loader
        .load(veer_tests::object::bytes())
        .expect("load the object: root, and kernel 6.1 or later");
    undisturbed(|| program(&mut ebpf, name).load())
        .unwrap_or_else(|error| panic!("load {name}: {error:?}"));
    for (key, answer) in &names.answers {
        put::<AnswerKey, NamedAnswer, 16, 512>(&mut ebpf, "DNS_ANSWERS", *key, *answer);
    }
    ebpf
}

fn run_in_kernel(program: &mut SchedClassifier, frame: &[u8]) -> Vec<u8> {
    let mut output = vec![0; frame.len() + 512];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut output),
        ..TestRunOptions::new()
    };
    let result = program.test_run(options).expect("run the program");
    output.truncate(result.data_size_out as usize);
    // Where the frame goes on by itself: a reply on a bridge, whose MAC addresses are swapped, does not.
    let goes_on = output[..6] == frame[..6];
    let expected = if goes_on { NEXT } else { REDIRECT };
    assert_eq!(result.return_value as i32, expected, "no frame is lost");
    output
}

fn put<K: Pod, V: Pod, const KN: usize, const VN: usize>(
    ebpf: &mut Ebpf,
    map: &str,
    key: K,
    value: V,
) {
    let map = ebpf.map_mut(map).expect("a map");
    let mut map: HashMap<&mut MapData, [u8; KN], [u8; VN]> = map.try_into().expect("a hash");
    let key: [u8; KN] = bytes_of(&key).try_into().expect("the key's size");
    let value: [u8; VN] = bytes_of(&value).try_into().expect("the value's size");
    map.insert(key, value, 0).expect("write");
}

/// A new one in which addresses of the loopback interface can be bound.
fn namespace() -> Namespace {
    let namespace = Namespace::create().expect("a new namespace");
    let mut links = namespace.links().expect("its links");
    let lo = links.index_of("lo").expect("its loopback interface");
    links.set_up(lo).expect("set it up");
    namespace
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    let program = ebpf.program_mut(name).expect("a program of the object");
    program.try_into().expect("a classifier")
}

/// The kernel's own clock.
pub(super) fn now() -> u64 {
    lb_userspace::datapath::now().expect("read the clock")
}

/// The least that the clock of programs may say from now on: it moves with the timer's tick, and so stands
/// still for as long as an emulated machine gets none.
pub(super) fn at_least() -> u64 {
    let coarse = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("read the clock");
    Duration::from(coarse).as_nanos() as u64
}
