//! Sockets that are waited for until there is something to read.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use rtnetlink::sys::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What owns a descriptor.
///
/// # Safety
/// It keeps the descriptor open, and it is the same one, until it is dropped.
pub unsafe trait Owner: AsRawFd {}

// SAFETY: it is made with its descriptor, which only dropping it closes.
unsafe impl Owner for Socket {}
// SAFETY: as above.
unsafe impl Owner for UdpSocket {}

/// `socket`, which does not block, in the runtime that this is called in. It is heard of when there is
/// something to read, and not when there is room again for what is sent.
pub fn readable<S: Owner>(socket: S) -> io::Result<AsyncFd<S>> {
    // SAFETY: what it must be, an owner is.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    Ok(registered?)
}
