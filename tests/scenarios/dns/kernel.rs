//! `dns_lo` through BPF_PROG_TEST_RUN.

use std::path::Path;

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use bytemuck::{Pod, bytes_of};
use lb_common::dns::{Answer, Question, View};
use lb_ebpf::dns::native::{Memory, run};
use lb_userspace::datapath::undisturbed;
use lb_userspace::netns::Namespace;

/// The program, or nothing: the library is asked then.
pub(super) struct Kernel {
    ebpf: Option<Ebpf>,
}

impl Kernel {
    pub(super) fn natively(_names: &Memory) -> Self {
        Self { ebpf: None }
    }

    pub(super) fn load(names: &Memory) -> Self {
        assert!(
            lb_userspace::datapath::answers_names(),
            "this kernel is older than 6.13: run with `--skip {}`",
            super::IN_THE_KERNEL
        );
        let mut loader = veer_tests::object::loader();
        let mut ebpf = loader
            .load(veer_tests::object::bytes())
            .expect("load the object: root, and kernel 6.1 or later");
        undisturbed(|| program(&mut ebpf).load())
            .unwrap_or_else(|error| panic!("load dns_lo: {error:?}"));
        let mut kernel = Self { ebpf: Some(ebpf) };
        let here = Namespace::open(Path::new("/proc/self/ns/net")).expect("our own namespace");
        let cookie = here.cookie().expect("its cookie");
        let view = names.view.expect("the asker is known");
        kernel.put::<u64, View, 8, 40>("DNS_VIEWS", cookie, view);
        for (question, answer) in &names.answers {
            kernel.put::<Question, Answer, 88, 432>("DNS_ANSWERS", *question, *answer);
        }
        kernel
    }

    fn put<K: Pod, V: Pod, const KN: usize, const VN: usize>(
        &mut self,
        map: &str,
        key: K,
        value: V,
    ) {
        let ebpf = self.ebpf.as_mut().expect("just loaded");
        let map = ebpf.map_mut(map).expect("a map");
        let mut map: HashMap<&mut MapData, [u8; KN], [u8; VN]> = map.try_into().expect("a hash");
        let key: [u8; KN] = bytes_of(&key).try_into().expect("the key's size");
        let value: [u8; VN] = bytes_of(&value).try_into().expect("the value's size");
        map.insert(key, value, 0).expect("write");
    }

    /// What becomes of a frame: in the kernel, or natively.
    pub(super) fn run(&mut self, frame: &[u8], names: &Memory) -> Vec<u8> {
        let Some(ebpf) = &mut self.ebpf else {
            return run(frame, names, now());
        };
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
}

fn program(ebpf: &mut Ebpf) -> &mut SchedClassifier {
    let program = ebpf.program_mut("dns_lo").expect("a program of the object");
    program.try_into().expect("a classifier")
}

/// The kernel's own clock, which it counts down by.
pub(super) fn now() -> u64 {
    lb_userspace::datapath::now().expect("read the clock")
}
