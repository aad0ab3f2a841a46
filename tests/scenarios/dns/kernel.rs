//! `dns_lo` through BPF_PROG_TEST_RUN.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use aya::maps::{HashMap, MapData, SkStorage};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use bytemuck::{Pod, bytes_of};
use lb_common::dns::{Answer, Question, View};
use lb_ebpf::dns::native::{Memory, run};
use lb_userspace::datapath::{set_constants, undisturbed};
use lb_userspace::netns::Namespace;

/// Where the daemon listens.
pub(super) const OURS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The program, or nothing: the library is asked then.
pub(super) struct Kernel {
    program: Option<Program>,
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
            _socket: None,
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

    fn load(names: &Memory, mut loader: EbpfLoader<'_>) -> Self {
        let mut ebpf = loader
            .load(veer_tests::object::bytes())
            .expect("load the object: root, and kernel 6.1 or later");
        undisturbed(|| program(&mut ebpf).load())
            .unwrap_or_else(|error| panic!("load dns_lo: {error:?}"));
        let (here, view) = (namespace(), names.view.expect("the asker is known"));
        let cookie = here.cookie().expect("its cookie");
        let socket = here.run(|| UdpSocket::bind((OURS, view.port.get())));
        let socket = socket.expect("enter it").expect("bind there");
        let sockets = ebpf.map_mut("DNS_SOCKETS").expect("a map");
        let mut sockets = SkStorage::<_, u64>::try_from(sockets).expect("a storage");
        sockets.insert(&socket, cookie, 0).expect("write");
        put::<u64, View, 8, 40>(&mut ebpf, "DNS_VIEWS", cookie, view);
        for (question, answer) in &names.answers {
            put::<Question, Answer, 88, 432>(&mut ebpf, "DNS_ANSWERS", *question, *answer);
        }
        Self {
            program: Some(Program::start(Arc::new(Mutex::new(ebpf)), here)),
            _socket: Some(socket),
        }
    }

    /// Goes on in a new namespace, where nobody listens.
    pub(super) fn elsewhere(&mut self) -> Namespace {
        let empty = namespace();
        let there = empty.try_clone().expect("another handle");
        let ebpf = self.program.take().expect("in the kernel").ebpf;
        self.program = Some(Program::start(ebpf, there));
        empty
    }

    /// What becomes of a frame: in the kernel, or natively.
    pub(super) fn run(&mut self, frame: &[u8], names: &Memory) -> Vec<u8> {
        let Some(program) = &self.program else {
            return run(frame, names, now());
        };
        program.frames.send(frame.to_vec()).expect("it runs");
        program.became.recv().expect("it runs")
    }
}

impl Program {
    /// Runs in `namespace` on a thread that stays there, until nobody sends any more: entering takes long
    /// on emulated processors.
    fn start(ebpf: Arc<Mutex<Ebpf>>, namespace: Namespace) -> Self {
        let (frames, received) = mpsc::channel::<Vec<u8>>();
        let (results, became) = mpsc::channel();
        let shared = Arc::clone(&ebpf);
        thread::spawn(move || {
            let run = || {
                for frame in received {
                    let became = run_in_kernel(&mut shared.lock().expect("no panic"), &frame);
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

fn run_in_kernel(ebpf: &mut Ebpf, frame: &[u8]) -> Vec<u8> {
    let mut output = vec![0; frame.len() + 512];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut output),
        ..TestRunOptions::new()
    };
    let result = program(ebpf).test_run(options).expect("run dns_lo");
    assert_eq!(result.return_value as i32, -1, "no frame is lost");
    output.truncate(result.data_size_out as usize);
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

fn program(ebpf: &mut Ebpf) -> &mut SchedClassifier {
    let program = ebpf.program_mut("dns_lo").expect("a program of the object");
    program.try_into().expect("a classifier")
}

/// The kernel's own clock, which it counts down by.
pub(super) fn now() -> u64 {
    lb_userspace::datapath::now().expect("read the clock")
}
