//! The sockets that a container's queries are led to: inside its namespace, or on the host.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

use lb_common::{Port, Resolver};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{BindToDevice, IpTransparent};

use crate::model::{Gate, Netns};
use crate::netns::{Namespace, cookie_of};

/// The address that containers ask.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Why a container's queries cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// It may be gone, or its loopback interface not up yet: try again with the next observation.
    #[error("open DNS sockets on {ADDRESS} inside {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// The bridge or its address may be gone.
    #[error("open DNS sockets on {gateway} at {bridge}: {source}")]
    OpenOnHost {
        gateway: Ipv4Addr,
        bridge: String,
        source: io::Error,
    },
    /// There may be too many that the kernel watches already.
    #[error(
        "wait for DNS queries: {0}; the kernel setting fs.epoll.max_user_watches may be too low"
    )]
    Listen(io::Error),
    /// The DNS thread has ended.
    #[error("hand over DNS sockets: the DNS server has stopped; restart veer")]
    Stopped,
}

/// A UDP and a TCP socket for one container, on 127.0.0.11 inside its namespace or on the host. Inside they
/// keep that namespace alive, together with everything accepted from them: drop them as soon as the container
/// is gone.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    /// Where the kernel programs lead the namespace's queries.
    pub(super) resolver: Resolver,
    /// Who alone may ask here; `None`: whoever can.
    pub(super) guest: Option<IpAddr>,
}

impl Sockets {
    /// Sockets on ports that the kernel picks, ready for an async runtime.
    pub(super) fn open(netns: &Netns) -> Result<Self, TakeoverError> {
        open_inside(netns, Self::open_here).map_err(|source| TakeoverError::Open {
            path: netns.path.clone(),
            source,
        })
    }

    /// Sockets on the host, in the calling thread's namespace, that hear what comes in by the bridge alone.
    pub(super) fn open_at(gate: &Gate) -> Result<Self, TakeoverError> {
        Self::open_on_host(gate).map_err(|source| TakeoverError::OpenOnHost {
            gateway: gate.gateway,
            bridge: gate.bridge.clone(),
            source,
        })
    }

    fn open_on_host(gate: &Gate) -> io::Result<Self> {
        let sockets = Self::bind(gate.gateway)?;
        let bridge = OsString::from(&gate.bridge);
        setsockopt(&sockets.udp, BindToDevice, &bridge)?;
        setsockopt(&sockets.tcp, BindToDevice, &bridge)?;
        Ok(Self {
            resolver: Resolver {
                gateway: u32::from_ne_bytes(gate.gateway.octets()),
                source: u32::from_ne_bytes(gate.guest.octets()),
                ..sockets.resolver
            },
            guest: Some(gate.guest.into()),
            ..sockets
        })
    }

    fn open_here() -> io::Result<Self> {
        let sockets = Self::bind(ADDRESS)?;
        let transparent = setsockopt(&sockets.udp, IpTransparent, &true)
            .and_then(|()| setsockopt(&sockets.tcp, IpTransparent, &true));
        // Without it the kernel takes back what programs on the loopback interface hand to a socket: it holds
        // it for a mistake where there are NAT rules. Other programs do not need it.
        if let Err(error) = transparent {
            tracing::debug!(%error, "sockets take only what is sent to their own ports");
        }
        Ok(sockets)
    }

    fn bind(address: Ipv4Addr) -> io::Result<Self> {
        let udp = UdpSocket::bind((address, 0))?;
        let tcp = TcpListener::bind((address, 0))?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let resolver = Resolver {
            udp: Port::new(udp.local_addr()?.port()),
            tcp: Port::new(tcp.local_addr()?.port()),
            ..Resolver::default()
        };
        Ok(Self {
            udp,
            tcp,
            resolver,
            guest: None,
        })
    }
}

impl AsRawFd for Sockets {
    fn as_raw_fd(&self) -> RawFd {
        self.udp.as_raw_fd()
    }
}

/// What `open` opens inside `netns`; an error if the path has come to mean another namespace.
pub(super) fn open_inside<T: AsRawFd + Send>(
    netns: &Netns,
    open: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let opened = Namespace::open(&netns.path)?.run(open)??;
    let found = cookie_of(&opened)?;
    if found != netns.cookie {
        let expected = netns.cookie;
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("this is namespace {found} now, {expected} is gone"),
        ));
    }
    Ok(opened)
}
