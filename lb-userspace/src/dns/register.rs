//! How the kernel learns who answers, and that nobody does any more.

use std::fmt::Debug;
use std::io;
use std::os::fd::OwnedFd;

/// What leads queries to the server.
pub trait Register: Debug + Send + Sync {
    /// From now on queries are led, until what is returned is closed.
    fn begin(&self) -> io::Result<OwnedFd>;

    /// Those of the namespace with this cookie are led no longer, as nobody listens there.
    fn forget(&self, cookie: u64);
}
