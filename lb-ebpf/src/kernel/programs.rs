//! The programs on packets.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::debug;
use lb_ebpf::{Frame, Outcome, Verdict, Work, collect as forget, endpoint_in as decide};

use crate::maps::Maps;
use crate::skb::Skb;

/// `TCX_NEXT` and `TC_ACT_UNSPEC`: whatever comes next.
const NEXT: i32 = -1;
/// `TC_ACT_SHOT`.
const SHOT: i32 = 2;

/// tcx ingress of a host-side veth: everything its container sends.
#[classifier]
pub fn endpoint_in(context: TcContext) -> i32 {
    let mut skb = Skb::new(context);
    let Some(work) = Maps::work() else {
        return NEXT;
    };
    let outcome: Outcome = decide(&mut skb, &Maps, work);
    log(&skb, work, outcome);
    match outcome.verdict() {
        Verdict::Pass => NEXT,
        Verdict::Drop => SHOT,
        Verdict::Deliver { ifindex } => skb.redirect_to_peer(ifindex),
    }
}

/// Tells about every packet: for debugging alone. The level is a constant that the loader sets, and at
/// its default the verifier removes all of this.
#[inline(always)]
fn log(skb: &Skb, work: &Work, outcome: Outcome) {
    let flow = &work.packet.flow;
    debug!(
        skb.context(),
        "veth {} protocol {} {:x} {} -> {:x} {}: reason {}",
        skb.ifindex(),
        flow.protocol,
        flow.source.v4_word().swap_bytes(),
        flow.source_port.get(),
        flow.destination.v4_word().swap_bytes(),
        flow.destination_port.get(),
        outcome.reason() as u8
    );
}

/// Never attached: run by userspace to forget one Connection.
#[classifier]
pub fn collect(context: TcContext) -> i32 {
    let Some(work) = Maps::spare_work() else {
        return 0;
    };
    forget(&Skb::new(context), &Maps, work) as i32
}
