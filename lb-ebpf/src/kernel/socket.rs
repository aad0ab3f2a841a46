//! The hooks on sockets, attached to the root of the cgroup2 tree: containers' queries to
//! 127.0.0.11:53 go to the daemon's port in the same namespace, and come back from 53.
//!
//! | hook | sees |
//! |---|---|
//! | connect | TCP, and UDP sockets that are connected before they send |
//! | sendmsg | UDP datagrams with a destination of their own |
//! | recvmsg | the source of a UDP datagram, shown to the program |
//! | getpeername | what a connected socket is connected to |
//!
//! The IPv6 hooks see `::ffff:127.0.0.11`. Kernel 5.8, for getpeername.

use core::ffi::c_void;

use aya_ebpf::bindings::{
    bpf_sock, bpf_sock_addr, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as bpf_sock_tuple_v4,
};
use aya_ebpf::helpers::{
    bpf_get_netns_cookie, bpf_ktime_get_ns, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release,
};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use lb_common::{Addr, Port, Resolver};
use lb_ebpf::resolver::{Asker, Transport, lead, restore};

use crate::maps::Maps;

/// The system call goes on; these programs refuse none.
const PROCEED: i32 = 1;

/// The namespace of the socket, as helpers call it (`BPF_F_CURRENT_NETNS`).
const CURRENT_NAMESPACE: u64 = u64::MAX;

#[cgroup_sock_addr(connect4)]
pub fn socket_connect4(context: SockAddrContext) -> i32 {
    Socket(context.sock_addr).lead(Socket::v4)
}

#[cgroup_sock_addr(connect6)]
pub fn socket_connect6(context: SockAddrContext) -> i32 {
    Socket(context.sock_addr).lead(Socket::v6)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn socket_sendmsg4(context: SockAddrContext) -> i32 {
    Socket(context.sock_addr).lead(Socket::v4)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn socket_sendmsg6(context: SockAddrContext) -> i32 {
    Socket(context.sock_addr).lead(Socket::v6)
}

#[cgroup_sock_addr(recvmsg4)]
pub fn socket_recvmsg4(context: SockAddrContext) -> i32 {
    Socket(context.sock_addr).restore(Socket::v4)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn socket_recvmsg6(context: SockAddrContext) -> i32 {
    Socket(context.sock_addr).restore(Socket::v6)
}

#[cgroup_sock_addr(getpeername4)]
pub fn socket_getpeername4(context: SockAddrContext) -> i32 {
    Socket(context.sock_addr).restore(Socket::v4)
}

#[cgroup_sock_addr(getpeername6)]
pub fn socket_getpeername6(context: SockAddrContext) -> i32 {
    Socket(context.sock_addr).restore(Socket::v6)
}

/// The socket that a hook runs for, with the address that the system call is about.
#[derive(Clone, Copy)]
struct Socket(*mut bpf_sock_addr);

impl Socket {
    #[inline(always)]
    fn lead(self, address: impl Fn(&Self) -> Addr) -> i32 {
        if let Some(port) = lead(&address(&self), self.port(), self.transport(), &self) {
            self.set_port(port);
        }
        PROCEED
    }

    #[inline(always)]
    fn restore(self, address: impl Fn(&Self) -> Addr) -> i32 {
        if let Some(port) = restore(&address(&self), self.port(), self.transport(), &self) {
            self.set_port(port);
        }
        PROCEED
    }

    #[inline(always)]
    fn v4(&self) -> Addr {
        // SAFETY: the context outlives the program; the verifier checks that the field may be read.
        Addr::from_v4_word(unsafe { (*self.0).user_ip4 })
    }

    #[inline(always)]
    fn v6(&self) -> Addr {
        // SAFETY: as in `v4`.
        Addr::from_words(unsafe { (*self.0).user_ip6 })
    }

    #[inline(always)]
    fn port(&self) -> Port {
        // SAFETY: as in `v4`. The lower half has the wire's two bytes.
        Port::from_wire(unsafe { (*self.0).user_port } as u16)
    }

    #[inline(always)]
    fn set_port(&self, port: Port) {
        // SAFETY: as in `v4`, for writing.
        unsafe { (*self.0).user_port = u32::from(port.wire()) };
    }

    #[inline(always)]
    fn transport(&self) -> Option<Transport> {
        // SAFETY: as in `v4`.
        Transport::from_protocol(unsafe { (*self.0).protocol })
    }

    /// The socket, listening or not connected, that a datagram or a SYN to 127.0.0.11 and `port`
    /// would reach. Must be given to [`release`].
    #[inline(always)]
    fn look_up(&self, transport: Transport, port: Port) -> *mut bpf_sock {
        let mut tuple = bpf_sock_tuple {
            __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 {
                ipv4: bpf_sock_tuple_v4 {
                    saddr: Resolver::ADDRESS,
                    daddr: Resolver::ADDRESS,
                    sport: 0,
                    dport: port.wire(),
                },
            },
        };
        let context = self.0.cast::<c_void>();
        let size = size_of::<bpf_sock_tuple_v4>() as u32;
        match transport {
            // SAFETY: context and tuple are live; `size` is that of the part that is filled in.
            Transport::Udp => unsafe {
                bpf_sk_lookup_udp(context, &mut tuple, size, CURRENT_NAMESPACE, 0)
            },
            // SAFETY: as above.
            Transport::Tcp => unsafe {
                bpf_sk_lookup_tcp(context, &mut tuple, size, CURRENT_NAMESPACE, 0)
            },
        }
    }
}

impl Asker for Socket {
    #[inline(always)]
    fn resolver(&self) -> Option<Resolver> {
        // SAFETY: the helper takes the context of this program type.
        Maps::resolver(unsafe { bpf_get_netns_cookie(self.0.cast()) })
    }

    #[inline(always)]
    fn heartbeat(&self) -> u64 {
        Maps::heartbeat()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper has no arguments.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn listens(&self, transport: Transport, port: Port) -> bool {
        let socket = self.look_up(transport, port);
        if socket.is_null() {
            return false;
        }
        // SAFETY: not null, and not yet released. Another program's socket may be on every address.
        let is_ours = unsafe { (*socket).src_ip4 } == Resolver::ADDRESS;
        // SAFETY: released once, not used after.
        unsafe { bpf_sk_release(socket.cast()) };
        is_ours
    }
}
