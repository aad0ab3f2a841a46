//! How the kernel learns that nobody answers any more.

use std::fmt::Debug;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

/// What the programs on sockets know of the server.
pub trait Register: Debug + Send + Sync {
    /// Queries are led for as long as `socket` is open, which comes in the place of the one before.
    fn enter(&self, socket: BorrowedFd<'_>) -> io::Result<()>;

    /// Those of the namespace with this cookie are led no longer.
    fn leave(&self, cookie: u64);
}

/// The server's sign that it has not ended. It is over when this goes, however the process ends.
///
/// # Why
/// Whoever led queries by the heartbeat alone would lead them to closed ports for a while. To look for each
/// namespace's own socket takes five times as long.
#[derive(Debug)]
pub(super) struct Life {
    _socket: UdpSocket,
}

impl Life {
    /// From now on the server lives. Nobody sends anything to this socket; it has a port so that the kernel
    /// needs not count who looks at it.
    pub(super) fn begin(register: &dyn Register) -> io::Result<Self> {
        let _socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        register.enter(_socket.as_fd())?;
        Ok(Self { _socket })
    }
}
