//! The hooks on a container's loopback interface where no programs on sockets lead its queries: what goes
//! out there is marked if it is for the daemon, and handed to the daemon's socket where it comes in.

use core::ffi::c_void;

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_NO_PREALLOC, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as bpf_sock_tuple_v4,
};
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_sk_assign, bpf_sk_release, bpf_skc_lookup_tcp};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::TcContext;
use lb_common::{Port, Resolver, maps as size};
use lb_ebpf::dns_lead::{Ends, Inside, Led, dns_lead as lead, marked};
use lb_ebpf::resolver::Transport;

use crate::maps::Maps;
use crate::programs::{NEXT, SHOT};
use crate::skb::Skb;
use crate::socket::{CURRENT_NAMESPACE, TUPLE, look_up, tuple};

#[map]
static DNS_LEADS: HashMap<u64, Resolver> =
    HashMap::with_max_entries(size::RESOLVERS, BPF_F_NO_PREALLOC);

/// `TCX_PASS` and `TC_ACT_OK`: on to the stack. After anything else the kernel takes a packet's socket away.
const PASS: i32 = 0;
/// `BPF_TCP_LISTEN`.
const LISTEN: u32 = 10;

/// tcx egress of a container's loopback interface.
#[classifier]
pub fn dns_lead(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the kernel hands the program a valid context.
    if unsafe { (*skb).mark } != 0 {
        // Somebody else's, who needs it.
        return NEXT;
    }
    match lead(&mut Skb::new(context), &Here(skb)) {
        Led::Alone | Led::Shown => NEXT,
        Led::Marked(mark) => {
            // SAFETY: as above, for writing.
            unsafe { (*skb).mark = mark };
            NEXT
        }
        Led::Broken => SHOT,
    }
}

/// tcx ingress of a container's loopback interface.
#[classifier]
pub fn dns_hand(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the kernel hands the program a valid context.
    let Some((transport, port)) = marked(unsafe { (*skb).mark }) else {
        return NEXT;
    };
    // SAFETY: as above, for writing.
    unsafe { (*skb).mark = 0 };
    match hand_over(skb.cast(), transport, port) {
        true => PASS,
        false => NEXT,
    }
}

/// Has the packet delivered to the socket that is bound to 127.0.0.11 and `port`. `false`: there is none, and
/// it goes where it would have gone.
#[inline(always)]
fn hand_over(context: *mut c_void, transport: Transport, port: Port) -> bool {
    let socket = look_up(context, transport, port);
    if socket.is_null() {
        return false;
    }
    // SAFETY: not null, and not yet released. Another program's socket may be on every address.
    let is_daemons = unsafe { (*socket).src_ip4 } == Resolver::ADDRESS;
    // SAFETY: both are live, and the kernel takes hold of the socket for itself, or fails.
    let is_taken = is_daemons && unsafe { bpf_sk_assign(context, socket.cast(), 0) } == 0;
    // SAFETY: released once, not used after.
    unsafe { bpf_sk_release(socket.cast()) };
    is_taken
}

/// The maps and the connections of the namespace that the packet is in.
struct Here(*mut __sk_buff);

impl Inside for Here {
    #[inline(always)]
    fn resolver(&self) -> Option<Resolver> {
        // SAFETY: the helper takes the context of this program type, and reads the namespace of the socket
        // that sends the packet.
        let cookie = unsafe { bpf_get_netns_cookie(self.0.cast()) };
        // SAFETY: copied at once; a torn value is a wrong port once.
        unsafe { DNS_LEADS.get(cookie).copied() }
    }

    #[inline(always)]
    fn heartbeat(&self) -> u64 {
        Maps::heartbeat()
    }

    #[inline(always)]
    fn is_connected(&self, ends: &Ends) -> bool {
        let mut tuple = tuple(bpf_sock_tuple_v4 {
            saddr: u32::from_ne_bytes(ends.source),
            daddr: u32::from_ne_bytes(ends.destination),
            sport: u16::from_ne_bytes(ends.source_port),
            dport: u16::from_ne_bytes(ends.destination_port),
        });
        let context = self.0.cast();
        // SAFETY: context and tuple are live; the size is that of the part that is filled in.
        let socket =
            unsafe { bpf_skc_lookup_tcp(context, &mut tuple, TUPLE, CURRENT_NAMESPACE, 0) };
        if socket.is_null() {
            return false;
        }
        // SAFETY: not null, and not yet released.
        let state = unsafe { (*socket).state };
        // SAFETY: released once, not used after.
        unsafe { bpf_sk_release(socket.cast()) };
        state != LISTEN
    }
}
