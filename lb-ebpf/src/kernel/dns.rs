//! The hook on a container's loopback interface: queries to the daemon's port are answered where they
//! are, and go on to the client that asked, which waits on the same interface.

use core::hint::black_box;

use aya_ebpf::bindings::{__sk_buff, BPF_F_NO_PREALLOC};
use aya_ebpf::helpers::{
    bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{HashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::TcContext;
use lb_common::dns::{Answer, BODY, COUNTED, Counts, Question, Sample, View};
use lb_common::maps as size;
use lb_ebpf::dns::{Became, Datagram, Heads, Names, Work, answer};

use crate::maps::Maps;
use crate::skb::Skb;

#[map]
static DNS_VIEWS: HashMap<u64, View> =
    HashMap::with_max_entries(size::RESOLVERS, BPF_F_NO_PREALLOC);
#[map]
static DNS_ANSWERS: HashMap<Question, Answer> =
    HashMap::with_max_entries(size::DNS_ANSWERS, BPF_F_NO_PREALLOC);
#[map]
static DNS_COUNTS: PerCpuArray<Counts> = PerCpuArray::with_max_entries(COUNTED, 0);
#[map]
static DNS_SAMPLES: RingBuf = RingBuf::with_byte_size(size::DNS_SAMPLES, 0);
/// Not pinned: room for one query.
#[map]
static DNS_WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

/// `TCX_NEXT` and `TC_ACT_UNSPEC`: whatever comes next.
const NEXT: i32 = -1;
/// `TC_ACT_SHOT`.
const SHOT: i32 = 2;

const NAME_ERROR: u8 = 3;

/// tcx egress of a container's loopback interface.
#[classifier]
pub fn dns_lo(context: TcContext) -> i32 {
    let Some(work) = DNS_WORK.get_ptr_mut(0) else {
        return NEXT;
    };
    // SAFETY: per-CPU, and this program does not interrupt itself: a datagram is sent with soft
    // interrupts off.
    let work = unsafe { &mut *work };
    let here = Here(context.skb.skb);
    match answer(&mut Skb::new(context), &here, work) {
        Became::Untouched | Became::Reply => NEXT,
        Became::Broken => SHOT,
    }
}

/// The maps, and the context that says in which namespace the program runs.
struct Here(*mut __sk_buff);

impl Names for Here {
    #[inline(always)]
    fn view(&self) -> Option<&View> {
        // SAFETY: the helper takes the context of this program type.
        let cookie = unsafe { bpf_get_netns_cookie(self.0.cast()) };
        // SAFETY: an element that is replaced meanwhile stays readable until the program ends.
        unsafe { DNS_VIEWS.get(cookie) }
    }

    #[inline(always)]
    fn answer(&self, question: &Question) -> Option<&Answer> {
        // SAFETY: an element that is replaced meanwhile stays readable until the program ends.
        unsafe { DNS_ANSWERS.get(question) }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper has no arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn count(&self, table: u32, answer: &Answer) {
        let index = if table < COUNTED { table } else { 0 };
        let Some(counts) = DNS_COUNTS.get_ptr_mut(index) else {
            return;
        };
        // SAFETY: per-CPU.
        let counts = unsafe { &mut *counts };
        if answer.code & 0x0f == NAME_ERROR {
            counts.absent += 1;
        } else if answer.answers == 0 {
            counts.empty += 1;
        } else {
            counts.answered += 1;
        }
    }

    #[inline(always)]
    fn samples(&self) -> u32 {
        Maps::dns_samples()
    }

    #[inline(always)]
    fn tell(&self, question: &Question, kind: u16, answer: &Answer, now: u64) {
        // Nobody reads fast enough: it is a sample anyway.
        let Some(mut room) = DNS_SAMPLES.reserve::<Sample>(0) else {
            return;
        };
        room.write(Sample {
            at: now,
            // SAFETY: the helper takes the context of this program type.
            netns: unsafe { bpf_get_netns_cookie(self.0.cast()) },
            table: question.table,
            kind,
            answers: answer.answers,
            code: answer.code,
            _pad: [0; 7],
            name: question.name,
        });
        room.submit(0);
    }
}

impl Datagram for Skb {
    #[inline(always)]
    fn read_heads(&self, offset: u32, into: &mut Heads) -> bool {
        let context = self.context().skb.skb;
        // SAFETY: the helper writes as many bytes as `into` has, or fails.
        let result = unsafe {
            bpf_skb_load_bytes(
                context.cast(),
                offset,
                core::ptr::from_mut(into).cast(),
                size_of::<Heads>() as u32,
            )
        };
        result == 0
    }

    #[inline(always)]
    fn read_name(&self, offset: u32, length: u32, into: &mut Work) -> bool {
        read(self, offset, length, &mut into.name)
    }

    #[inline(always)]
    fn read_tail(&self, offset: u32, length: u32, into: &mut Work) -> bool {
        read(self, offset, length, &mut into.tail)
    }

    #[inline(always)]
    fn write_body(&mut self, offset: u32, answer: &Answer, start: u32, length: u32) -> bool {
        // As in [`read`].
        let (start, length) = (black_box(start), black_box(length));
        if start >= BODY as u32 || length == 0 || length > BODY as u32 {
            return false;
        }
        let context = self.context().skb.skb;
        // SAFETY: `start` is within the body, which is twice as long as `start` and `length` can be.
        let from = unsafe { answer.body.as_ptr().add(start as usize) };
        // SAFETY: `from` has `length` readable bytes.
        unsafe { bpf_skb_store_bytes(context, offset, from.cast(), length, 0) == 0 }
    }
}

#[inline(always)]
fn read<const N: usize>(skb: &Skb, offset: u32, length: u32, into: &mut [u8; N]) -> bool {
    // The compiler knows the range from callers and drops the check that the verifier needs.
    let length = black_box(length);
    if length == 0 || length > N as u32 {
        return false;
    }
    let (context, into) = (skb.context().skb.skb, into.as_mut_ptr());
    // SAFETY: `length` bytes fit.
    unsafe { bpf_skb_load_bytes(context.cast(), offset, into.cast(), length) == 0 }
}
