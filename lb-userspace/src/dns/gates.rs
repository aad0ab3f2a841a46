//! Sockets on the host that queries are led to.

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;

/// Where the kernel finds the sockets on the host. It has them for as long as they are open.
pub trait Gates: Debug + Send + Sync {
    /// Notes the sockets of the namespace with this cookie.
    fn admit(&self, cookie: u64, udp: BorrowedFd<'_>, tcp: BorrowedFd<'_>) -> io::Result<()>;
}
