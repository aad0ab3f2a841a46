//! The sockets inside a container's namespace that its queries are led to.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;

use lb_common::{Port, Resolver};

use crate::model::Netns;
use crate::netns::Namespace;

/// The address that containers ask.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Why a container's queries cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// It may be gone, or its loopback interface not up yet: try again with the next observation.
    #[error("open DNS sockets on {ADDRESS} inside {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// The DNS thread has ended.
    #[error("hand over DNS sockets: the DNS server has stopped; restart veer")]
    Stopped,
}

/// A UDP and a TCP socket on 127.0.0.11 inside a container's namespace. Together with everything
/// accepted from them they keep that namespace alive: drop them as soon as the container is gone.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

impl Sockets {
    /// Sockets on ports that the kernel picks, ready for an async runtime.
    pub(super) fn open(netns: &Netns) -> Result<Self, TakeoverError> {
        let open = || {
            let udp = UdpSocket::bind((ADDRESS, 0))?;
            let tcp = TcpListener::bind((ADDRESS, 0))?;
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            Ok(Self { udp, tcp })
        };
        let opened = enter(netns).and_then(|namespace| namespace.run(open)?);
        opened.map_err(|source| TakeoverError::Open {
            path: netns.path.clone(),
            source,
        })
    }

    /// Where the kernel programs lead the namespace's queries.
    pub(super) fn resolver(&self) -> io::Result<Resolver> {
        Ok(Resolver {
            udp: Port::new(self.udp.local_addr()?.port()),
            tcp: Port::new(self.tcp.local_addr()?.port()),
            ..Resolver::default()
        })
    }
}

/// The namespace that `netns` names; an error if its path has come to mean another one.
pub(super) fn enter(netns: &Netns) -> io::Result<Namespace> {
    let namespace = Namespace::open(&netns.path)?;
    let found = namespace.cookie()?;
    if found != netns.cookie {
        let expected = netns.cookie;
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("this is namespace {found} now, {expected} is gone"),
        ));
    }
    Ok(namespace)
}
