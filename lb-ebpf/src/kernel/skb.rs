//! All packet bytes: the socket buffer as a [`Frame`].

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{
    bpf_ktime_get_ns, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_redirect_peer,
    bpf_skb_change_tail, bpf_skb_change_type, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;
use bytemuck::Pod;
use lb_common::Reason;
use lb_ebpf::{Checksum, Frame};

/// `PACKET_HOST` of linux/if_packet.h.
const PACKET_HOST: u32 = 0;
/// `BPF_F_PSEUDO_HDR`: the change is in the pseudo header.
const PSEUDO_HEADER: u64 = 1 << 4;
/// `BPF_F_MARK_MANGLED_0`: a UDP checksum of zero stays zero.
const MANGLED_ZERO: u64 = 1 << 5;

pub struct Skb {
    context: TcContext,
}

impl Skb {
    #[inline(always)]
    pub fn new(context: TcContext) -> Self {
        Self { context }
    }

    /// What the kernel handed to the program.
    #[inline(always)]
    pub fn context(&self) -> &TcContext {
        &self.context
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
        // SAFETY: the kernel hands the program a valid context.
        unsafe { (*self.context.skb.skb).ifindex }
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper has no arguments.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        self.context.len()
    }

    #[inline(always)]
    fn load<T: Pod>(&self, offset: u32) -> Option<T> {
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

    #[inline(always)]
    fn store<T: Pod>(&mut self, offset: u32, value: &T) -> Result<(), Reason> {
        // SAFETY: the helper reads `size_of::<T>()` bytes of a live value.
        done(unsafe {
            bpf_skb_store_bytes(
                self.context.skb.skb,
                offset,
                core::ptr::from_ref(value).cast(),
                size_of::<T>() as u32,
                0,
            )
        })
    }

    #[inline(always)]
    fn patch_l3(&mut self, offset: u32, delta: u32) -> Result<(), Reason> {
        // SAFETY: all arguments but the context are values.
        done(unsafe { bpf_l3_csum_replace(self.context.skb.skb, offset, 0, u64::from(delta), 0) })
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
    fn resize(&mut self, len: u32) -> Result<(), Reason> {
        // SAFETY: all arguments but the context are values.
        done(unsafe { bpf_skb_change_tail(self.context.skb.skb, len, 0) })
    }

    #[inline(always)]
    fn address_to_host(&mut self) -> Result<(), Reason> {
        // SAFETY: all arguments but the context are values.
        done(unsafe { bpf_skb_change_type(self.context.skb.skb, PACKET_HOST) })
    }
}
