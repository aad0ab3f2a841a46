//! The hooks on sockets, attached to the root of the cgroup2 tree: containers' queries to
//! 127.0.0.11:53 go to the daemon's port in the same namespace or on the host, and come back from 53; host processes
//! that ask for a published port are led to its Backend.
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
    bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns,
    bpf_map_lookup_elem, bpf_set_retval, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release,
};
use aya_ebpf::macros::{cgroup_sock_addr, map};
use aya_ebpf::maps::SockMap;
use aya_ebpf::programs::SockAddrContext;
use lb_common::{Addr, Port, Resolver, SocketKey, SocketReverse};
use lb_ebpf::Tables;
use lb_ebpf::resolver::{self, Asker, Transport};
use lb_ebpf::sockets::{self, Caller, Led, Peer};

use crate::maps::Maps;

/// A socket of the daemon's, which is here until the daemon ends.
#[map]
static DNS_DAEMON: SockMap = SockMap::with_max_entries(1, 0);

/// The system call goes on.
const PROCEED: i32 = 1;
/// It fails.
const REFUSE: i32 = 0;
/// Its error then.
const ECONNREFUSED: i32 = 111;

/// The only key of a map of one.
static FIRST: u32 = 0;

/// Where the daemon listens.
const OURS: Addr = Addr::from_v4_word(Resolver::ADDRESS);

/// The namespace of the socket or packet, as helpers call it (`BPF_F_CURRENT_NETNS`).
pub(crate) const CURRENT_NAMESPACE: u64 = u64::MAX;
/// Bytes of the part of a tuple that [`tuple`] fills in.
pub(crate) const TUPLE: u32 = size_of::<bpf_sock_tuple_v4>() as u32;

#[cgroup_sock_addr(connect4)]
pub fn socket_connect4(context: SockAddrContext) -> i32 {
    V4(Socket(context.sock_addr)).lead()
}

#[cgroup_sock_addr(connect6)]
pub fn socket_connect6(context: SockAddrContext) -> i32 {
    V6(Socket(context.sock_addr)).lead()
}

#[cgroup_sock_addr(sendmsg4)]
pub fn socket_sendmsg4(context: SockAddrContext) -> i32 {
    V4(Socket(context.sock_addr)).lead()
}

#[cgroup_sock_addr(sendmsg6)]
pub fn socket_sendmsg6(context: SockAddrContext) -> i32 {
    V6(Socket(context.sock_addr)).lead()
}

#[cgroup_sock_addr(recvmsg4)]
pub fn socket_recvmsg4(context: SockAddrContext) -> i32 {
    V4(Socket(context.sock_addr)).restore()
}

#[cgroup_sock_addr(recvmsg6)]
pub fn socket_recvmsg6(context: SockAddrContext) -> i32 {
    V6(Socket(context.sock_addr)).restore()
}

#[cgroup_sock_addr(getpeername4)]
pub fn socket_getpeername4(context: SockAddrContext) -> i32 {
    V4(Socket(context.sock_addr)).restore()
}

#[cgroup_sock_addr(getpeername6)]
pub fn socket_getpeername6(context: SockAddrContext) -> i32 {
    V6(Socket(context.sock_addr)).restore()
}

/// The socket that a hook runs for, with the address that the system call is about.
#[derive(Clone, Copy)]
struct Socket(*mut bpf_sock_addr);

/// A socket whose system call is about an IPv4 address.
struct V4(Socket);

/// A socket whose system call is about an IPv6 address, which may be an IPv4 one mapped.
struct V6(Socket);

/// What the two kinds of hooks differ in.
trait Family: Sized {
    fn socket(&self) -> Socket;
    fn address(&self) -> Addr;
    /// Replaces the address; whether this family has such an address.
    fn set_address(&self, address: &Addr) -> bool;

    /// The address that the socket is bound to.
    fn bound(&self) -> Addr;

    /// Leads a query to the daemon, or a host process to a Backend.
    #[inline(always)]
    fn lead(&self) -> i32 {
        let socket = self.socket();
        let asked = Peer {
            address: self.address(),
            port: socket.port(),
        };
        if let Some(to) = resolver::lead(&asked.address, asked.port, socket.transport(), &socket)
            && self.set_address(&to.address)
        {
            socket.set_port(to.port);
            return PROCEED;
        }
        match sockets::lead(&Maps, &Process(self), asked, socket.protocol()) {
            Led::Alone => PROCEED,
            Led::To(peer) if self.set_address(&peer.address) => {
                socket.set_port(peer.port);
                PROCEED
            }
            Led::To(_) | Led::Refused => refuse(),
            // EPERM, as from a rule of iptables on what the host sends.
            Led::Denied => REFUSE,
        }
    }

    /// Shows who the process asked for, in place of who answered.
    #[inline(always)]
    fn restore(&self) -> i32 {
        let socket = self.socket();
        let peer = Peer {
            address: self.address(),
            port: socket.port(),
        };
        if resolver::is_shown(&peer.address, peer.port) {
            return PROCEED;
        }
        if let Some(server) =
            resolver::restore(&peer.address, peer.port, socket.transport(), &socket)
            && self.set_address(&server)
        {
            socket.set_port(Resolver::PORT);
        } else if let Some(original) = sockets::restore(&Maps, &Process(self), peer)
            && self.set_address(&original.address)
        {
            socket.set_port(original.port);
        }
        PROCEED
    }
}

impl Family for V4 {
    #[inline(always)]
    fn socket(&self) -> Socket {
        self.0
    }

    #[inline(always)]
    fn address(&self) -> Addr {
        // SAFETY: the context outlives the program; the verifier checks that the field may be read.
        Addr::from_v4_word(unsafe { (*self.0.0).user_ip4 })
    }

    #[inline(always)]
    fn set_address(&self, address: &Addr) -> bool {
        if address.is_v4() {
            // SAFETY: as in `address`, for writing.
            unsafe { (*self.0.0).user_ip4 = address.v4_word() };
        }
        address.is_v4()
    }

    #[inline(always)]
    fn bound(&self) -> Addr {
        // SAFETY: the context has its socket, and the verifier checks that the field may be read.
        Addr::from_v4_word(unsafe { (*self.0.socket()).src_ip4 })
    }
}

impl Family for V6 {
    #[inline(always)]
    fn socket(&self) -> Socket {
        self.0
    }

    #[inline(always)]
    fn address(&self) -> Addr {
        // SAFETY: as for IPv4.
        Addr::from_words(unsafe { (*self.0.0).user_ip6 })
    }

    #[inline(always)]
    fn set_address(&self, address: &Addr) -> bool {
        let [a, b, c, d] = address.words();
        // SAFETY: as for IPv4, for writing.
        let words = unsafe { &raw mut (*self.0.0).user_ip6 }.cast::<u32>();
        // Word by word: the context takes no wider ones.
        for (index, word) in [a, b, c, d].into_iter().enumerate() {
            // SAFETY: the field has four words.
            let place = unsafe { words.add(index) };
            // SAFETY: as for the field.
            unsafe { place.write_volatile(word) };
        }
        true
    }

    #[inline(always)]
    fn bound(&self) -> Addr {
        // SAFETY: as for IPv4.
        Addr::from_words(unsafe { (*self.0.socket()).src_ip6 })
    }
}

/// Has the system call fail as if nobody listened.
#[inline(always)]
fn refuse() -> i32 {
    // SAFETY: the argument is a value.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    REFUSE
}

/// The process whose system call a hook runs for.
struct Process<'a, F>(&'a F);

impl Socket {
    /// What the kernel lets programs see of it.
    #[inline(always)]
    fn socket(&self) -> *const bpf_sock {
        // SAFETY: the context outlives the program; the verifier checks that the field may be read.
        let place = unsafe { (*self.0).__bindgen_anon_1 };
        // SAFETY: the union has room for this one pointer and nothing else.
        unsafe { place.sk }
    }

    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: the helper takes the context of this program type.
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    #[inline(always)]
    fn port(&self) -> Port {
        // SAFETY: as in `protocol`. The lower half has the wire's two bytes.
        Port::from_wire(unsafe { (*self.0).user_port } as u16)
    }

    #[inline(always)]
    fn set_port(&self, port: Port) {
        // SAFETY: as in `protocol`, for writing.
        unsafe { (*self.0).user_port = u32::from(port.wire()) };
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        // SAFETY: the context outlives the program; the verifier checks that the field may be read.
        unsafe { (*self.0).protocol as u8 }
    }

    #[inline(always)]
    fn transport(&self) -> Option<Transport> {
        Transport::from_protocol(u32::from(self.protocol()))
    }
}

/// The socket, listening or not connected, that a datagram or a SYN to 127.0.0.11 and `port` would reach
/// in the namespace of `context`: that of a program on sockets or packets. Must be given to
/// `bpf_sk_release` if it is not null.
#[inline(always)]
pub(crate) fn look_up(context: *mut c_void, transport: Transport, port: Port) -> *mut bpf_sock {
    let mut tuple = tuple(bpf_sock_tuple_v4 {
        saddr: Resolver::ADDRESS,
        daddr: Resolver::ADDRESS,
        sport: 0,
        dport: port.wire(),
    });
    match transport {
        // SAFETY: context and tuple are live; the size is that of the part that is filled in.
        Transport::Udp => unsafe {
            bpf_sk_lookup_udp(context, &mut tuple, TUPLE, CURRENT_NAMESPACE, 0)
        },
        // SAFETY: as above.
        Transport::Tcp => unsafe {
            bpf_sk_lookup_tcp(context, &mut tuple, TUPLE, CURRENT_NAMESPACE, 0)
        },
    }
}

/// The ends of a flow of IPv4, as helpers take them.
#[inline(always)]
pub(crate) fn tuple(ipv4: bpf_sock_tuple_v4) -> bpf_sock_tuple {
    bpf_sock_tuple {
        __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 { ipv4 },
    }
}

impl Asker for Socket {
    #[inline(always)]
    fn resolver(&self) -> Option<&Resolver> {
        Maps::resolver(namespace(self))
    }

    #[inline(always)]
    fn heartbeat(&self) -> u64 {
        Maps::heartbeat()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper has no arguments.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn listens(&self, transport: Transport, port: Port) -> bool {
        let socket = look_up(self.0.cast(), transport, port);
        if socket.is_null() {
            return false;
        }
        // SAFETY: not null, and not yet released. Another program's socket may be on every address.
        let is_ours = unsafe { (*socket).src_ip4 } == Resolver::ADDRESS;
        // SAFETY: released once, not used after.
        unsafe { bpf_sk_release(socket.cast()) };
        is_ours
    }

    #[inline(always)]
    fn is_there(&self) -> bool {
        let map = (&raw const DNS_DAEMON).cast_mut().cast();
        // SAFETY: the map and the key are live, and the key has the map's size.
        let socket = unsafe { bpf_map_lookup_elem(map, (&raw const FIRST).cast()) };
        if socket.is_null() {
            return false;
        }
        // SAFETY: of such a map the helper gives a socket, which is held until it is released here, once.
        unsafe { bpf_sk_release(socket) };
        true
    }

    #[inline(always)]
    fn may_send_from(&self, source: u32) -> bool {
        let socket = self.socket();
        // SAFETY: the context has its socket, and the verifier checks that the field may be read.
        let bound = unsafe { (*socket).src_ip4 };
        // SAFETY: as above.
        let interface = unsafe { (*socket).bound_dev_if };
        interface == 0 && (bound == 0 || bound == source)
    }

    #[inline(always)]
    fn is_daemon(&self) -> bool {
        // SAFETY: the context has its socket, and the verifier checks that the field may be read.
        unsafe { (*self.socket()).mark == Resolver::MARK }
    }

    #[inline(always)]
    fn remember(&self, port: Port, server: &Addr) {
        let original = SocketReverse {
            address: *server,
            port: Resolver::PORT,
            _pad: 0,
        };
        Maps.set_socket(&led_to(self.cookie(), port), &original);
    }

    #[inline(always)]
    fn asked(&self, port: Port) -> Option<Addr> {
        let original = Maps.socket(&led_to(self.cookie(), port))?;
        Some(original.address)
    }
}

/// The cookie of the namespace that the socket is in.
#[inline(always)]
fn namespace(socket: &Socket) -> u64 {
    // SAFETY: the helper takes the context of this program type.
    unsafe { bpf_get_netns_cookie(socket.0.cast()) }
}

/// The key of a socket that was led to `port` of 127.0.0.11.
#[inline(always)]
fn led_to(cookie: u64, port: Port) -> SocketKey {
    SocketKey {
        cookie,
        address: OURS,
        port,
        _pad: [0; 3],
    }
}

impl<F: Family> Caller for Process<'_, F> {
    #[inline(always)]
    fn namespace(&self) -> u64 {
        namespace(&self.0.socket())
    }

    #[inline(always)]
    fn cookie(&self) -> u64 {
        self.0.socket().cookie()
    }

    #[inline(always)]
    fn bound(&self) -> Addr {
        self.0.bound()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper has no arguments.
        unsafe { bpf_ktime_get_ns() }
    }
}
