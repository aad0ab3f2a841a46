//! A container on a test's host, and what it sends and receives.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use ipnet::IpNet;
use lb_userspace::netns::Namespace;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

/// How long a socket waits for an answer before the test fails.
pub const ANSWER: Duration = Duration::from_secs(10);

/// How long a socket waits for what must not come.
pub const SILENCE: Duration = Duration::from_millis(300);

/// IPv4 and IPv6, for tests that do the same with both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The address that means every address of this family.
    pub fn any(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// One container: a namespace with `eth0` on a bridge of the host.
#[derive(Debug)]
pub struct Station {
    pub name: String,
    pub namespace: Namespace,
    pub zone: u16,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub mac: [u8; 6],
    /// Index of `eth0`.
    pub ifindex: u32,
    /// Index of the other end, on the host.
    pub host_ifindex: u32,
}

impl Station {
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    pub fn link_local(&self) -> Option<Ipv6Addr> {
        let interfaces = self.namespace.interfaces().unwrap();
        let own = interfaces.iter().find(|i| i.ifindex == self.ifindex)?;
        own.link_local()
    }

    /// Makes `to` reachable on the link, as VIPs are.
    pub fn add_route(&self, to: IpNet) {
        self.namespace.add_route(self.ifindex, to).unwrap();
    }

    /// What `f` returns inside the container's network namespace.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(f).unwrap()
    }

    /// A UDP socket on `port` of every address of `family`; 0: any free port.
    pub fn udp(&self, family: Family, port: u16) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind((family.any(), port)).unwrap());
        socket.set_read_timeout(Some(ANSWER)).unwrap();
        socket
    }

    /// A TCP socket that listens on `port` of every address of `family`; 0: any free port.
    pub fn listen(&self, family: Family, port: u16) -> TcpListener {
        self.run(|| TcpListener::bind((family.any(), port)).unwrap())
    }

    /// A TCP connection to `to` from any port.
    pub fn connect(&self, to: impl Into<SocketAddr>) -> io::Result<TcpStream> {
        let to = to.into();
        let stream = self.run(|| TcpStream::connect_timeout(&to, ANSWER))?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        Ok(stream)
    }

    /// A TCP connection to `to` from `port`, which several connections may share.
    pub fn connect_from(&self, port: u16, to: impl Into<SocketAddr>) -> io::Result<TcpStream> {
        let to = to.into();
        let (family, from) = match to {
            SocketAddr::V4(_) => (AddressFamily::Inet, Family::V4.any()),
            SocketAddr::V6(_) => (AddressFamily::Inet6, Family::V6.any()),
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = self.run(|| socket(family, SockType::Stream, flags, None))?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        let from: SockaddrStorage = SocketAddr::new(from, port).into();
        bind(fd.as_raw_fd(), &from)?;
        let to: SockaddrStorage = to.into();
        // The timeout for sending is also that for connecting (socket(7)).
        let stream = TcpStream::from(fd);
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        connect(stream.as_raw_fd(), &to)?;
        Ok(stream)
    }
}

/// Ends a connection with a reset, leaving nothing behind on either side.
pub fn reset(stream: TcpStream) {
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, sockopt::Linger, &at_once).unwrap();
}
