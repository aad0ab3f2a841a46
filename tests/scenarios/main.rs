//! The datapath's behaviour as a table: packets in, verdict, Reason and packets out.
//!
//! Every scenario runs twice: natively over the library, and through BPF_PROG_TEST_RUN over the real
//! object. The kernel run needs root and is what the load gate repeats on other kernels.

mod dns;
mod engine;
mod kernel;
mod memory;
mod surroundings;
mod table;
mod world;

use engine::{Engine, run_all};
use veer_tests::vm;

#[test]
fn every_scenario_holds_natively() {
    run_all(&table::all(), &mut memory::start());
}

#[test]
fn every_scenario_holds_in_the_kernel() {
    run_all(&table::all(), &mut kernel::start());
}

/// What the verifier removes otherwise must pass it, too, and change nothing.
#[test]
fn every_scenario_holds_in_the_kernel_with_its_log() {
    run_all(&table::all(), &mut kernel::start_with_log(5));
}

/// BPF_PROG_TEST_RUN refuses frames without a whole network header, so this one is native only.
#[test]
fn every_prefix_of_a_packet_is_malformed_natively() {
    let mut engine = memory::start();
    engine.set(&world::World::new());
    for family in [world::Family::V4, world::Family::V6] {
        let (from, to) = (
            world::CLIENT.end(family, 40_000),
            world::PAIR.end(family, 80),
        );
        let whole = veer_tests::packets::tcp(from, to, veer_tests::packets::SYN, b"");
        for length in 0..whole.len() {
            let before = engine.reason(lb_common::Reason::Malformed);
            engine.run(world::CLIENT.at(), &whole[..length]);
            let after = engine.reason(lb_common::Reason::Malformed);
            assert_eq!(after - before, 1, "the first {length} bytes, {family:?}");
        }
    }
}

/// What is not run on other kernels: the tests that go there, and what those kernels lack.
const SKIPPED: [&str; 2] = ["on_linux_", dns::BY_NAMESPACE];

/// The load gate: what passes here passes on the oldest kernel that veer promises.
#[test]
fn every_scenario_holds_on_linux_6_1() {
    vm::pass_again_on("6.1", &SKIPPED);
}

#[test]
fn every_scenario_holds_on_linux_6_12() {
    vm::pass_again_on("6.12", &SKIPPED);
}
