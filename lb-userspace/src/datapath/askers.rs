//! Who is led to the DNS server, and for how long.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use lb_common::{Gate, Guest, Resolver};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit};

use super::Datapath;
use super::error::DatapathError;
use super::gates::gate;
use super::maps::Table;
use crate::dns::{FILES, Register};

/// The maps by which the programs on sockets lead. Whom they do not lead asks Docker's resolver.
#[derive(Debug)]
pub struct Askers {
    daemon: Table<u32, i32>,
    resolvers: Table<u64, Resolver>,
    gates: Table<Gate, Guest>,
}

impl Datapath {
    /// What leads to the DNS server.
    pub fn askers(&self) -> Result<Askers, DatapathError> {
        Ok(Askers {
            daemon: self.maps.dns_daemon.try_clone()?,
            resolvers: self.maps.resolvers.try_clone()?,
            gates: self.maps.dns_gates.try_clone()?,
        })
    }
}

impl Register for Askers {
    /// The map has a socket until it is closed, however the process ends. Nobody sends anything to it; it has
    /// a port so that the kernel need not count who looks at it.
    fn begin(&self) -> io::Result<OwnedFd> {
        let opened = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| {
            let why = format!(
                "open a UDP socket on 127.0.0.1, by which the kernel knows that veer lives: {error}; is the \
                 interface lo up?"
            );
            io::Error::new(error.kind(), why)
        });
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let socket = first_to_go(opened?.into(), limit.min(FILES));
        self.daemon
            .put(&0, &socket.as_raw_fd())
            .map_err(io::Error::other)?;
        Ok(socket)
    }

    fn forget(&self, cookie: u64) {
        let forgotten = self.resolvers.get(&cookie).and_then(|resolver| {
            if let Some(gate) = resolver.as_ref().and_then(gate) {
                self.gates.remove(&gate)?;
            }
            match resolver.and_then(Resolver::closed) {
                None => self.resolvers.remove(&cookie).map(drop),
                Some(closed) => self.resolvers.put(&cookie, &closed),
            }
        });
        if let Err(error) = forgotten {
            tracing::warn!(cookie, %error, "a container's DNS queries may be led to where nobody listens");
        }
    }
}

/// The same file under the highest of `count` numbers, as many as this process gives to files.
///
/// # Why
/// When a process is killed its files are let go from the highest number down (`task_work_run` takes what was
/// added last), and each link of a program on the way takes some 15 ms. What says that somebody listens must go
/// before the sockets on which they do.
fn first_to_go(file: OwnedFd, count: u64) -> OwnedFd {
    let Ok(highest) = i32::try_from(count.saturating_sub(1)) else {
        return file;
    };
    match fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(highest)) {
        // SAFETY: the kernel has just given it, to nobody else.
        Ok(number) => unsafe { OwnedFd::from_raw_fd(number) },
        // There is something already.
        Err(_) => file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_go_first_has_the_highest_number() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let place = socket.local_addr().expect("a place");
        let moved = first_to_go(socket.into(), 1_000);
        assert_eq!(moved.as_raw_fd(), 999);
        assert_eq!(UdpSocket::from(moved).local_addr().expect("a place"), place);
    }
}
