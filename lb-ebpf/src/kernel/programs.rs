//! The programs on packets.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::debug;
use lb_ebpf::{Frame, Outcome, Verdict, Work, collect as forget};

use crate::maps::Maps;
use crate::skb::Skb;

/// `TCX_NEXT` and `TC_ACT_UNSPEC`: whatever comes next.
pub(crate) const NEXT: i32 = -1;
/// `TC_ACT_SHOT`.
pub(crate) const SHOT: i32 = 2;
/// `TC_ACT_REDIRECT`: where to, a helper has been told.
pub(crate) const REDIRECT: i32 = 7;

/// tcx ingress of a host-side veth: everything its container sends.
#[classifier]
pub fn endpoint_in(context: TcContext) -> i32 {
    run(context, lb_ebpf::endpoint_in)
}

/// tcx ingress of an uplink: everything that reaches the host from outside.
#[classifier]
pub fn uplink_in(context: TcContext) -> i32 {
    run(context, lb_ebpf::uplink_in)
}

/// tcx egress of an uplink: everything that leaves the host.
#[classifier]
pub fn uplink_out(context: TcContext) -> i32 {
    run(context, lb_ebpf::uplink_out)
}

/// As `uplink_in`, on an interface without Ethernet.
#[classifier]
pub fn uplink_in_bare(context: TcContext) -> i32 {
    run(context, lb_ebpf::uplink_in_bare)
}

/// As `uplink_out`, on an interface without Ethernet.
#[classifier]
pub fn uplink_out_bare(context: TcContext) -> i32 {
    run(context, lb_ebpf::uplink_out_bare)
}

/// tcx ingress of the loopback interface: what the host sends to itself.
#[classifier]
pub fn loopback_in(context: TcContext) -> i32 {
    run(context, lb_ebpf::loopback_in)
}

/// tcx ingress of a Network's bridge: what containers send to the host's stack.
#[classifier]
pub fn bridge_in(context: TcContext) -> i32 {
    run(context, lb_ebpf::bridge_in)
}

/// tcx egress of a Network's bridge: what the host's stack sends to containers.
#[classifier]
pub fn bridge_out(context: TcContext) -> i32 {
    run(context, lb_ebpf::bridge_out)
}

/// Has `decide` judge the packet, and does what it says.
#[inline(always)]
fn run(context: TcContext, decide: impl Fn(&mut Skb, &Maps, &mut Work) -> Outcome) -> i32 {
    let mut skb = Skb::new(context);
    let Some(work) = Maps::work() else {
        return NEXT;
    };
    let outcome = decide(&mut skb, &Maps, work).blurred(work);
    log(&skb, work, outcome);
    match outcome.verdict() {
        Verdict::Pass => NEXT,
        Verdict::Drop => SHOT,
        Verdict::Deliver { ifindex } => skb.redirect_to_peer(ifindex),
        Verdict::Leave { .. } => REDIRECT,
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
