//! All packet bytes: the socket buffer as a [`Frame`].

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1};
use aya_ebpf::helpers::{
    bpf_fib_lookup, bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_l4_csum_replace, bpf_redirect,
    bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_adjust_room, bpf_skb_change_head,
    bpf_skb_change_proto, bpf_skb_change_tail, bpf_skb_change_type, bpf_skb_load_bytes,
    bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;
use bytemuck::Pod;
use lb_common::{Mac, Reason};
use lb_ebpf::{Checksum, Frame, Route, Way};

/// Answers of `bpf_fib_lookup`.
const FIB_SUCCESS: i64 = 0;
const FIB_NO_NEIGHBOUR: i64 = 7;
const FIB_TOO_BIG: i64 = 8;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
/// Length of an Ethernet header.
const ETHERNET: u32 = 14;
/// Offset of the EtherType, and two of its values as on the wire.
const ETHERTYPE: u32 = 12;
const TYPE_IPV4: u16 = 0x0800_u16.to_be();
const TYPE_IPV6: u16 = 0x86dd_u16.to_be();
/// `PACKET_HOST` of linux/if_packet.h.
const PACKET_HOST: u32 = 0;
/// `BPF_F_INGRESS`: the packet comes in at the interface.
const INGRESS: u64 = 1;

/// `BPF_F_RECOMPUTE_CSUM`: the sum of the whole packet follows, where the kernel keeps one.
const RECOMPUTE_SUM: u64 = 1;
/// `BPF_ADJ_ROOM_NET`: room behind the network header.
const NETWORK_HEADER: u32 = 0;
/// `BPF_F_PSEUDO_HDR`: the change is in the pseudo header.
const PSEUDO_HEADER: u64 = 1 << 4;
/// `BPF_F_MARK_MANGLED_0`: a UDP checksum of zero stays zero.
const MANGLED_ZERO: u64 = 1 << 5;

/// Whether `bpf_redirect_peer` itself marks packets as being for their receiver, as it does from Linux
/// 6.15 on. The loader sets it, and the verifier removes what is not needed then.
#[unsafe(no_mangle)]
static PEER_IS_HOST: u8 = 0;

pub struct Skb {
    context: TcContext,
    /// Read once: where two paths that read it meet, the compiler adds to the context's address, which
    /// the verifier forbids.
    ifindex: u32,
}

impl Skb {
    #[inline(always)]
    pub fn new(context: TcContext) -> Self {
        // SAFETY: the kernel hands the program a valid context.
        let ifindex = unsafe { (*context.skb.skb).ifindex };
        Self { context, ifindex }
    }

    /// Where the `T` at an even `offset` is, if it is in the packet's first piece.
    #[inline(always)]
    fn place<T: Pod>(&self, offset: u32) -> Option<*mut T> {
        let skb = self.context.skb.skb;
        // SAFETY: the kernel hands the program a valid context.
        let start = unsafe { (*skb).data } as usize;
        // SAFETY: as above.
        let end = unsafe { (*skb).data_end } as usize;
        // The verifier wants to see a bound, and headers end before this one.
        let place = start + core::hint::black_box(offset as usize & 0x7ff);
        (place + size_of::<T>() <= end).then_some(place as *mut T)
    }

    #[inline(always)]
    fn put<T: Pod>(&mut self, offset: u32, value: &T, flags: u64) -> Result<(), Reason> {
        // SAFETY: the helper reads `size_of::<T>()` bytes of a live value.
        done(unsafe {
            bpf_skb_store_bytes(
                self.context.skb.skb,
                offset,
                core::ptr::from_ref(value).cast(),
                size_of::<T>() as u32,
                flags,
            )
        })
    }

    /// What the kernel handed to the program.
    #[inline(always)]
    pub fn context(&self) -> &TcContext {
        &self.context
    }

    /// The same for bytes that may lie outside the packet's first piece.
    #[inline(always)]
    fn load_slowly<T: Pod>(&self, offset: u32) -> Option<T> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes exactly `size_of::<T>()` bytes to `value`, or fails.
        let result = unsafe {
            bpf_skb_load_bytes(
                self.context.skb.skb.cast(),
                offset,
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
            )
        };
        if result != 0 {
            return None;
        }
        // SAFETY: the helper succeeded, and every bit pattern is a `T`.
        Some(unsafe { value.assume_init() })
    }

    /// Hands the packet to the peer of the host-side veth `ifindex`, in its namespace.
    #[inline(always)]
    pub fn redirect_to_peer(&self, ifindex: u32) -> i32 {
        // SAFETY: the helper takes an index and flags by value; a wrong index drops the packet.
        unsafe { bpf_redirect_peer(ifindex, 0) as i32 }
    }
}

#[inline(always)]
fn done(result: i64) -> Result<(), Reason> {
    if result == 0 {
        Ok(())
    } else {
        Err(Reason::RewriteFailed)
    }
}

impl Frame for Skb {
    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    #[inline(always)]
    fn came_from(&self) -> u32 {
        // SAFETY: as in `new`.
        unsafe { (*self.context.skb.skb).ingress_ifindex }
    }

    #[inline(always)]
    fn segment_size(&self) -> u32 {
        // SAFETY: as in `new`.
        unsafe { (*self.context.skb.skb).gso_size }
    }

    #[inline(always)]
    fn route(&self, way: &mut Way) -> Route {
        let size = size_of::<Way>() as i32;
        // SAFETY: `way` is live, has the layout of the helper's structure and its size.
        let answer = unsafe {
            bpf_fib_lookup(
                self.context.skb.skb.cast(),
                core::ptr::from_mut(way).cast(),
                size,
                0,
            )
        };
        match answer {
            FIB_SUCCESS => Route::Neighbour,
            FIB_NO_NEIGHBOUR => Route::NoNeighbour,
            FIB_TOO_BIG => Route::TooBig,
            _ => Route::None,
        }
    }

    #[inline(always)]
    fn send_out(&mut self, way: &Way, route: Route) -> Result<(), Reason> {
        if route == Route::Neighbour {
            self.store(0, &[way.destination_mac, way.source_mac])?;
            // SAFETY: the helper takes an index and flags by value; a wrong index drops the packet.
            unsafe { bpf_redirect(way.ifindex, 0) };
            return Ok(());
        }
        if route == Route::Home {
            // The loopback interface has no address: what has none is for the host.
            self.store(0, &[Mac::NONE; 2])?;
            // SAFETY: as above.
            unsafe { bpf_redirect(way.ifindex, INGRESS) };
            return Ok(());
        }
        let (is_v4, address) = way.next_hop();
        let mut next = bpf_redir_neigh {
            nh_family: if is_v4 { AF_INET } else { AF_INET6 },
            __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: address },
        };
        let size = size_of::<bpf_redir_neigh>() as i32;
        // SAFETY: `next` is live and has this size. IPv4 reads the first word of the address.
        unsafe { bpf_redirect_neigh(way.ifindex, &mut next, size, 0) };
        Ok(())
    }

    #[inline(always)]
    fn send_back(&mut self) {
        // SAFETY: as for `send_out`.
        unsafe { bpf_redirect(self.ifindex(), 0) };
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper has no arguments.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn tick(&self) -> u64 {
        // SAFETY: the helper has no arguments. The verifier puts a load in its place.
        unsafe { bpf_jiffies64() }
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        self.context.len()
    }

    #[inline(always)]
    fn load<T: Pod>(&self, offset: u32) -> Option<T> {
        // Headers begin at even addresses, not all at whole words.
        if align_of::<T>() > 2 {
            return self.load_slowly(offset);
        }
        match self.place::<T>(offset) {
            // SAFETY: the bytes are the packet's, at an even address, and every bit pattern is a `T`.
            Some(place) => Some(unsafe { core::ptr::read(place) }),
            None => self.load_slowly(offset),
        }
    }

    #[inline(always)]
    fn store<T: Pod>(&mut self, offset: u32, value: &T) -> Result<(), Reason> {
        if align_of::<T>() == 2
            && let Some(place) = self.place::<T>(offset)
        {
            // SAFETY: the bytes are the packet's, at an even address, and its alone: the kernel sees to that
            // before it starts a program that writes so.
            unsafe { core::ptr::write(place, *value) };
            return Ok(());
        }
        self.put(offset, value, 0)
    }

    #[inline(always)]
    fn store_summed<T: Pod>(&mut self, offset: u32, value: &T) -> Result<(), Reason> {
        self.put(offset, value, RECOMPUTE_SUM)
    }

    #[inline(always)]
    fn widen(&mut self, bytes: i32) -> Result<(), Reason> {
        // SAFETY: all arguments but the context are values.
        done(unsafe { bpf_skb_adjust_room(self.context.skb.skb, bytes, NETWORK_HEADER, 0) })
    }

    #[inline(always)]
    fn patch_l4(
        &mut self,
        offset: u32,
        delta: u32,
        kind: Checksum,
        udp: bool,
    ) -> Result<(), Reason> {
        let pseudo = if kind == Checksum::Pseudo {
            PSEUDO_HEADER
        } else {
            0
        };
        let flags = pseudo | if udp { MANGLED_ZERO } else { 0 };
        // SAFETY: all arguments but the context are values.
        done(unsafe {
            bpf_l4_csum_replace(self.context.skb.skb, offset, 0, u64::from(delta), flags)
        })
    }

    #[inline(always)]
    fn protocol(&self) -> u16 {
        // SAFETY: as in `new`.
        (unsafe { (*self.context.skb.skb).protocol }) as u16
    }

    #[inline(always)]
    fn dress(&mut self, ethertype: u16) -> Result<(), Reason> {
        // SAFETY: all arguments but the context are values.
        done(unsafe { bpf_skb_change_head(self.context.skb.skb, ETHERNET, 0) })?;
        self.store(ETHERTYPE, &ethertype)
    }

    #[inline(always)]
    fn exchange_header(&mut self, to_v4: bool) -> Result<(), Reason> {
        let ethertype = if to_v4 { TYPE_IPV4 } else { TYPE_IPV6 };
        // SAFETY: all arguments but the context are values.
        done(unsafe { bpf_skb_change_proto(self.context.skb.skb, ethertype, 0) })?;
        self.store(ETHERTYPE, &ethertype)
    }

    #[inline(always)]
    fn resize(&mut self, len: u32) -> Result<(), Reason> {
        // SAFETY: all arguments but the context are values.
        done(unsafe { bpf_skb_change_tail(self.context.skb.skb, len, 0) })
    }

    #[inline(always)]
    fn address_to_host(&mut self) -> Result<(), Reason> {
        // SAFETY: the loader sets it before the program is there.
        if unsafe { core::ptr::read_volatile(&raw const PEER_IS_HOST) } != 0 {
            return Ok(());
        }
        // SAFETY: all arguments but the context are values.
        done(unsafe { bpf_skb_change_type(self.context.skb.skb, PACKET_HOST) })
    }
}
