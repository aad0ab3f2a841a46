//! The hook on a container's loopback interface: queries to the daemon's port are answered where they
//! are, and go on to the client that asked, which waits on the same interface. And the hook on a Network's
//! bridge, for queries that are led to the host: they have passed `endpoint_in`, so that their source is the
//! container's own, and come there only because they are for the host.
//!
//! # Why
//! A process may send to any port of 127.0.0.11, so that the port does not say whose view counts. Linux 6.13
//! tells the program in which namespace it is. Before it the daemon's own socket does: it is looked up in the
//! namespace of the frame, and the daemon has written the namespace's cookie into the socket's storage,
//! which takes a descriptor of the map and so is nobody else's to write. Where that socket is closed,
//! nothing is answered, whoever closed it.

use core::hint::black_box;
use core::ptr::null_mut;

use aya_ebpf::bindings::{__sk_buff, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::{
    bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_sk_release, bpf_sk_storage_get,
    bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use aya_ebpf::macros::{btf_map, classifier, map};
use aya_ebpf::maps::{HashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::TcContext;
use lb_common::dns::{Answer, AnswerKey, BODY, COUNTED, Counts, NamedAnswer, Sample, View};
use lb_common::{Gate, Guest, Port, Resolver, maps as size};
use lb_ebpf::Frame;
use lb_ebpf::dns::{Became, Datagram, Ends, Names, Place, Told, Work, answer, answer_across};
use lb_ebpf::resolver::Transport;

use crate::maps::Maps;
use crate::programs::{NEXT, REDIRECT, SHOT};
use crate::skb::Skb;
use crate::socket::look_up;

#[map]
static DNS_VIEWS: HashMap<u64, View> =
    HashMap::with_max_entries(size::RESOLVERS, BPF_F_NO_PREALLOC);
#[map]
static DNS_ANSWERS: HashMap<AnswerKey, NamedAnswer> =
    HashMap::with_max_entries(size::DNS_ANSWERS, BPF_F_NO_PREALLOC);
#[map]
static DNS_COUNTS: PerCpuArray<Counts> = PerCpuArray::with_max_entries(COUNTED, 0);
#[map]
static DNS_SAMPLES: RingBuf = RingBuf::with_byte_size(size::DNS_SAMPLES, 0);
/// The cookie of the namespace, at each of the daemon's sockets over UDP.
#[btf_map]
static DNS_SOCKETS: SkStorage<u64> = SkStorage::new();
/// Who may ask at which port of the host.
#[map]
static DNS_GATES: HashMap<Gate, Guest> =
    HashMap::with_max_entries(size::RESOLVERS, BPF_F_NO_PREALLOC);
/// Not pinned: room for one query.
#[map]
static DNS_WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

const NAME_ERROR: u8 = 3;

/// Whether programs on packets are told in which namespace they are, as from Linux 6.13 on. The loader
/// sets it, and the verifier removes what is not needed then.
#[unsafe(no_mangle)]
static KNOWS_NAMESPACE: u8 = 0;

/// tcx egress of a container's loopback interface.
#[classifier]
pub fn dns_lo(context: TcContext) -> i32 {
    let Some(work) = work() else {
        return NEXT;
    };
    let inside = Inside(context.skb.skb);
    match answer(&mut Skb::new(context), &inside, &Kept, work) {
        Became::Untouched | Became::Reply => NEXT,
        Became::Broken => SHOT,
    }
}

/// tcx ingress of a Network's bridge.
#[classifier]
pub fn dns_bridge(context: TcContext) -> i32 {
    let Some(work) = work() else {
        return NEXT;
    };
    let mut skb = Skb::new(context);
    match answer_across(&mut skb, &AtGate, &Kept, work) {
        Became::Untouched => NEXT,
        Became::Reply => {
            skb.send_back();
            REDIRECT
        }
        Became::Broken => SHOT,
    }
}

/// Room for the query that this CPU handles.
#[inline(always)]
fn work<'a>() -> Option<&'a mut Work> {
    let work = DNS_WORK.get_ptr_mut(0)?;
    // SAFETY: per-CPU, and programs that answer do not interrupt each other: a datagram is sent, and comes in,
    // with soft interrupts off.
    Some(unsafe { &mut *work })
}

/// On a container's loopback interface: the context says in which namespace the program runs.
struct Inside(*mut __sk_buff);

/// On a bridge, where a container is known by the port that it asks.
struct AtGate;

/// The maps.
struct Kept;

impl Place for AtGate {
    #[inline(always)]
    fn namespace(&self, ends: &Ends) -> Option<u64> {
        let gate = Gate {
            gateway: ends.destination,
            port: ends.port,
            _pad: 0,
        };
        // SAFETY: copied at once; a torn value is a query that the daemon answers.
        let guest = unsafe { DNS_GATES.get(gate).copied() }?;
        (guest.source == ends.source).then_some(guest.cookie)
    }

    #[inline(always)]
    fn source_port(&self, asked: Port) -> Port {
        asked
    }
}

impl Place for Inside {
    #[inline(always)]
    fn namespace(&self, ends: &Ends) -> Option<u64> {
        if ends.destination != Resolver::ADDRESS {
            return None;
        }
        // SAFETY: the loader sets it before the program is there.
        if unsafe { core::ptr::read_volatile(&raw const KNOWS_NAMESPACE) } != 0 {
            // SAFETY: the helper takes the context of this program type.
            return Some(unsafe { bpf_get_netns_cookie(self.0.cast()) });
        }
        let socket = look_up(self.0.cast(), Transport::Udp, ends.port);
        if socket.is_null() {
            return None;
        }
        let map = (&raw const DNS_SOCKETS).cast_mut().cast();
        // SAFETY: the map and the socket are live, and nothing is made where there is nothing.
        let cookie = unsafe { bpf_sk_storage_get(map, socket.cast(), null_mut(), 0) };
        let cookie = cookie.cast::<u64>();
        // SAFETY: what the helper gives is a value of the map, readable until the program ends.
        let namespace = (!cookie.is_null()).then(|| unsafe { *cookie });
        // SAFETY: released once, not used after.
        unsafe { bpf_sk_release(socket.cast()) };
        namespace
    }

    /// 53 for a socket that takes datagrams from everywhere: the program on `recvmsg` has nothing to do then.
    #[inline(always)]
    fn source_port(&self, asked: Port) -> Port {
        // SAFETY: the kernel hands the program a valid context, and the verifier checks that the field may be read.
        let place = unsafe { (*self.0).__bindgen_anon_2 };
        // SAFETY: the union has room for this one pointer and nothing else.
        let socket = unsafe { place.sk };
        if socket.is_null() {
            return asked;
        }
        // SAFETY: not null, and there for as long as the packet is.
        let is_connected = unsafe { (*socket).dst_port } != 0;
        if is_connected { asked } else { Resolver::PORT }
    }
}

impl Names for Kept {
    #[inline(always)]
    fn view(&self, namespace: u64) -> Option<&View> {
        // SAFETY: an element that is replaced meanwhile stays readable until the program ends.
        unsafe { DNS_VIEWS.get(namespace) }
    }

    #[inline(always)]
    fn answer(&self, key: &AnswerKey) -> Option<&NamedAnswer> {
        // SAFETY: an element that is replaced meanwhile stays readable until the program ends.
        unsafe { DNS_ANSWERS.get(key) }
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
    fn tell(&self, asked: &Told<'_>, answer: &Answer, now: u64) {
        // Nobody reads fast enough: it is a sample anyway.
        let Some(mut room) = DNS_SAMPLES.reserve::<Sample>(0) else {
            return;
        };
        room.write(Sample {
            at: now,
            netns: asked.namespace,
            table: asked.table,
            kind: asked.kind,
            answers: answer.answers,
            code: answer.code,
            _pad: [0; 7],
            name: *asked.name,
        });
        room.submit(0);
    }
}

impl Datagram for Skb {
    #[inline(always)]
    fn read_query(&self, offset: u32, length: u32, into: &mut Work) -> bool {
        if length < Work::SHORTEST as u32 {
            return false;
        }
        let Some(length) = bounded::<{ Work::LONGEST }>(length) else {
            return false;
        };
        let context = self.context().skb.skb;
        // SAFETY: the place is within the value.
        let place = unsafe { core::ptr::from_mut(into).cast::<u8>().add(Work::PLACE) };
        // SAFETY: the value has as many bytes from there on as `length` can be, and more.
        unsafe { bpf_skb_load_bytes(context.cast(), offset, place.cast(), length) == 0 }
    }

    #[inline(always)]
    fn write_body(&mut self, offset: u32, answer: &Answer, start: u32, length: u32) -> bool {
        let start = black_box(start);
        let Some(length) = bounded::<BODY>(length) else {
            return false;
        };
        if start >= BODY as u32 {
            return false;
        }
        let context = self.context().skb.skb;
        // SAFETY: `start` is within the body, which is twice as long as `start` and `length` can be.
        let from = unsafe { answer.body.as_ptr().add(start as usize) };
        // SAFETY: `from` has `length` readable bytes.
        unsafe { bpf_skb_store_bytes(context, offset, from.cast(), length, 0) == 0 }
    }
}

/// `length`, if it is from 1 to `N`.
///
/// # Why
/// The compiler may know the range from callers and would drop the checks that the verifier needs. And the
/// verifier of Linux 6.1 learns nothing from a comparison with 0: it must see that one is added.
#[inline(always)]
fn bounded<const N: usize>(length: u32) -> Option<u32> {
    let before_last = black_box(length.wrapping_sub(1));
    (before_last < N as u32).then(|| before_last + 1)
}
