//! Network namespaces: entering them, and what is seen and changed inside.
//!
//! # Why
//! A thread that has moved to another namespace must never be used for anything else, and an async
//! runtime moves its tasks between threads. So every visit is a thread of its own that ends with it
//! (about 50 µs), or one of those that do nothing but visit ([`for_each`]); and what is needed for
//! longer is a socket that was opened inside: a socket keeps its namespace, whoever uses it.

mod every;
mod host;
mod id;
mod interface;
mod link;
mod netlink;
mod pin;
mod qdisc;
mod readable;
mod route;
mod tour;
mod watch;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic;
use std::path::Path;
use std::thread;

use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};

pub use every::every_namespace;
pub use host::{HostWatch, watch_host};
pub use id::tells_cookies;
pub use interface::{Header, Interface, InterfaceKind};
pub use link::{Links, PairEnd};
pub use pin::unpin;
pub(crate) use readable::readable;
pub use route::Route;
pub use tour::{AT_ONCE, for_each, for_each_with};
pub use watch::{LinkChange, LinkWatch, watch_links};

use netlink::Netlink;
use tour::{Visit, enter};

use crate::model::{Host, Netns};

/// A network namespace, kept alive while this value lives.
#[derive(Debug)]
pub struct Namespace {
    file: OwnedFd,
}

impl Namespace {
    /// The namespace that `path` stands for: `/proc/<pid>/ns/net`, or a file that one is mounted on.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path).map_err(|error| {
            describe(error, || {
                format!("open network namespace {}", path.display())
            })
        })?;
        Ok(Self { file: file.into() })
    }

    /// The namespace that `netns` is; [`io::ErrorKind::NotFound`] if its path has come to mean another
    /// one, or nothing.
    pub fn of(netns: &Netns) -> io::Result<Self> {
        let namespace = Self::open(&netns.path)?;
        if namespace.cookie()? == netns.cookie {
            return Ok(namespace);
        }
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} means another namespace now", netns.path.display()),
        ))
    }

    /// The namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// A new namespace with nothing but a loopback interface that is down. It ends with the last
    /// file, socket and process that hold it.
    pub fn create() -> io::Result<Self> {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
                describe(errno.into(), || "create a network namespace".to_string())
            })?;
            Self::current()
        })?
    }

    /// Another handle on the same namespace.
    pub fn try_clone(&self) -> io::Result<Self> {
        let file = self.file.try_clone()?;
        Ok(Self { file })
    }

    /// The kernel's number of this namespace, unique until reboot. It is entered for that before Linux 6.18.
    pub fn cookie(&self) -> io::Result<u64> {
        match id::cookie(self.as_fd()) {
            Some(cookie) => Ok(cookie),
            None => cookie_of(&self.netlink()?),
        }
    }

    /// What `f` returns when it runs inside this namespace, on a thread of its own unless the calling
    /// one is [`for_each`]'s. Only the network namespace is another; a panic of `f` goes on in the
    /// caller.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> io::Result<T> {
        if let Some(_visit) = Visit::begin(self.as_fd())? {
            return Ok(f());
        }
        on_a_thread(|| {
            enter(self.as_fd())?;
            Ok(f())
        })?
    }

    /// Every interface here with its addresses, by index.
    pub fn interfaces(&self) -> io::Result<Vec<Interface>> {
        interface::interfaces(&mut self.netlink()?)
    }

    /// Every interface here that is no port of a bridge, with its addresses and whether a default
    /// route leads through it.
    pub fn host(&self) -> io::Result<Host> {
        host::host(&mut self.netlink()?)
    }

    /// Makes `to` reachable directly through an interface here (`ip route add <to> dev … scope
    /// link`). A route to the same destination is replaced, so asking twice is once. Fails with
    /// [`io::ErrorKind::NetworkDown`] while the interface is down and with
    /// [`io::ErrorKind::NotFound`] when it is gone.
    pub fn add_route(&self, ifindex: u32, to: IpNet) -> io::Result<()> {
        route::add(&mut self.netlink()?, ifindex, to)
    }

    /// Takes away what [`Namespace::add_route`] made. A route that is not there is no error.
    pub fn remove_route(&self, ifindex: u32, to: IpNet) -> io::Result<()> {
        route::remove(&mut self.netlink()?, ifindex, to)
    }

    /// Every route here to anything but single addresses of its own, of the main table.
    pub fn routes(&self) -> io::Result<Vec<Route>> {
        route::routes(&mut self.netlink()?)
    }

    /// Removes the interface's clsact qdisc unless somebody has a filter on it. No error if there is none.
    pub fn remove_unused_clsact(&self, ifindex: u32) -> io::Result<()> {
        qdisc::remove_unused_clsact(&mut self.netlink()?, ifindex)
    }

    /// The writing side: creating and changing interfaces here, over one socket.
    pub fn links(&self) -> io::Result<Links> {
        Ok(Links::new(self.netlink()?))
    }

    fn netlink(&self) -> io::Result<Netlink> {
        self.run(Netlink::open)?
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Runs `f` on a thread that ends with it.
fn on_a_thread<T: Send>(f: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_string())
            .spawn_scoped(scope, f)
            .map_err(|error| describe(error, || "start a thread for a namespace".to_string()))?;
        Ok(thread
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic)))
    })
}

/// The cookie of the calling thread's namespace, without any privilege.
pub fn current_cookie() -> io::Result<u64> {
    // Any socket knows the namespace that it was made in.
    let socket = std::os::unix::net::UnixDatagram::unbound()
        .map_err(|error| describe(error, || "open a socket".to_string()))?;
    cookie_of(&socket)
}

/// The kernel's number of the namespace that `socket` was opened in.
pub fn cookie_of(socket: &impl AsRawFd) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: both pointers are to live locals, and `length` is the size of the first one.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        let error = io::Error::last_os_error();
        return Err(describe(error, || {
            "read the cookie of a network namespace".into()
        }));
    }
    Ok(cookie)
}

/// `error` with what was attempted in front, and with the kind that says what to do about it.
fn describe(error: io::Error, attempted: impl FnOnce() -> String) -> io::Error {
    let kind = match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => io::ErrorKind::NotFound,
        Some(libc::ENETDOWN) => io::ErrorKind::NetworkDown,
        _ => error.kind(),
    };
    io::Error::new(kind, format!("{}: {error}", attempted()))
}

#[cfg(test)]
mod tests;
