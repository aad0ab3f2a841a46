//! The bpf(2) system call and the memory of maps: everything unsafe that the datapath needs.
//!
//! What goes in and out are bytes and file descriptors. Every function checks lengths against what
//! the kernel says about the object before the kernel reads or writes through a pointer.
//!
//! # Why
//! aya parses the object, creates its maps and loads its programs. It has no batch operations, cannot
//! replace the program of a cgroup link, attaches by an interface's name where we know its index, and
//! wants a map exclusively for each write. These are a few system calls.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::maps::{MapData, RingBuf};
use bytemuck::{Pod, Zeroable};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

mod map;
mod memory;

pub(super) use map::{Cursor, Map, MapInfo};
pub(super) use memory::Memory;

/// Commands of bpf(2) (`enum bpf_cmd`).
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
enum Command {
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ObjPin = 6,
    ObjGet = 7,
    ProgTestRun = 10,
    ObjInfo = 15,
    ProgQuery = 16,
    MapLookupBatch = 24,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkDetach = 34,
}

/// Where a program is attached (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum AttachType {
    Connect4 = 10,
    Connect6 = 11,
    SendMsg4 = 14,
    SendMsg6 = 15,
    RecvMsg4 = 19,
    RecvMsg6 = 20,
    GetPeerName4 = 29,
    GetPeerName6 = 30,
    TcxIngress = 46,
    TcxEgress = 47,
}

/// `BPF_F_BEFORE` without a relative: before all others.
const FIRST: u32 = 1 << 3;

/// What the kernel tells about a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Zeroable, Pod)]
#[repr(C)]
pub(super) struct LinkInfo {
    kind: u32,
    /// The link's number, unique while it lives.
    pub(super) id: u32,
    /// The program behind it.
    pub(super) program: u32,
    _pad: u32,
    target: [u32; 4],
}

impl LinkInfo {
    const CGROUP: u32 = 3;
    const TCX: u32 = 11;

    /// Index of the interface of a tcx link, 0 once the interface is gone; `None` for other links.
    pub(super) fn ifindex(&self) -> Option<u32> {
        (self.kind == Self::TCX).then_some(self.target[0])
    }

    /// Number of the cgroup (its inode) of a cgroup link, 0 once the cgroup is gone; `None` for
    /// other links.
    pub(super) fn cgroup(&self) -> Option<u64> {
        let number = u64::from(self.target[0]) | u64::from(self.target[1]) << 32;
        (self.kind == Self::CGROUP).then_some(number)
    }
}

#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C)]
struct LinkCreateAttr {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    _pad: u32,
    revision: u64,
}

#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C)]
struct LinkUpdateAttr {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C)]
struct TestRunAttr {
    program: u32,
    returned: u32,
    data_in_len: u32,
    data_out_len: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C)]
struct QueryAttr {
    target: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    _pad: u32,
    program_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    /// The kernel writes it back whatever size it is told, so there must be room.
    revision: u64,
}

/// Makes the object behind `fd` a file in the BPF file system. The name must have no dot.
pub(super) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = ObjectAttr {
        path: address(path.as_bytes_with_nul()),
        fd: number(fd),
        flags: 0,
    };
    // SAFETY: `path` is a terminated string and lives until the call returns.
    unsafe { bpf(Command::ObjPin, &mut attr) }.map(drop)
}

/// Opens a pinned map, program or link.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = ObjectAttr {
        path: address(path.as_bytes_with_nul()),
        fd: 0,
        flags: 0,
    };
    // SAFETY: `path` is a terminated string and lives until the call returns.
    let fd = unsafe { bpf(Command::ObjGet, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { owned(fd) })
}

/// Attaches a classifier to an interface of the calling thread's namespace, before all others. It ends with
/// the link.
pub(super) fn attach_tcx(
    program: BorrowedFd<'_>,
    ifindex: u32,
    side: AttachType,
) -> io::Result<OwnedFd> {
    create_link(program, ifindex, side, FIRST)
}

/// Attaches a program to a cgroup, besides those that are there.
pub(super) fn attach_cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: AttachType,
) -> io::Result<OwnedFd> {
    create_link(program, number(cgroup), attach_type, 0)
}

fn create_link(
    program: BorrowedFd<'_>,
    target: u32,
    attach_type: AttachType,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr {
        program: number(program),
        target,
        attach_type: attach_type as u32,
        flags,
        ..LinkCreateAttr::zeroed()
    };
    // SAFETY: this command follows no pointer.
    let fd = unsafe { bpf(Command::LinkCreate, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { owned(fd) })
}

/// Puts `program` in the place of the link's program, in one step.
pub(super) fn replace_program(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr {
        link: number(link),
        program: number(program),
        flags: 0,
        old_program: 0,
    };
    // SAFETY: this command follows no pointer.
    unsafe { bpf(Command::LinkUpdate, &mut attr) }.map(drop)
}

/// What the kernel tells about a link.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    info(link)
}

/// Takes a link off its hook at once. Closing and unpinning it would do so too, but later.
pub(super) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = number(link);
    // SAFETY: this command follows no pointer.
    unsafe { bpf(Command::LinkDetach, &mut attr) }.map(drop)
}

/// What a classifier returns for a packet with these bytes (BPF_PROG_TEST_RUN), once.
pub(super) fn test_run(program: BorrowedFd<'_>, packet: &[u8]) -> io::Result<u32> {
    let mut attr = TestRunAttr {
        program: number(program),
        data_in_len: length(packet),
        data_in: address(packet),
        repeat: 1,
        ..TestRunAttr::zeroed()
    };
    // SAFETY: the kernel reads `packet`, whose length it was given, and writes no data.
    unsafe { bpf(Command::ProgTestRun, &mut attr) }?;
    Ok(attr.returned)
}

/// Whether the kernel knows tcx. `ifindex` is any interface of the calling thread's namespace.
pub(super) fn has_tcx(ifindex: u32) -> io::Result<bool> {
    let mut attr = QueryAttr {
        target: ifindex,
        attach_type: AttachType::TcxIngress as u32,
        ..QueryAttr::zeroed()
    };
    // SAFETY: with a count of 0 the kernel writes no ids.
    match unsafe { bpf(Command::ProgQuery, &mut attr) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What owns the descriptor that it gives, for as long as it lives.
pub(super) trait Ring: AsRawFd {}

impl Ring for RingBuf<MapData> {}

impl Ring for OwnedFd {}

/// Lets tokio tell when a ring buffer has something. Must be called within a runtime.
pub(super) fn watch<T: Ring>(ring: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: a ring buffer owns one descriptor from its making to its end, and gives that one.
    let watched = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    watched.map_err(|error| error.into_parts().1)
}

fn info<T: Pod>(fd: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = T::zeroed();
    let mut attr = InfoAttr {
        fd: number(fd),
        len: size_of::<T>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the kernel writes at most `len` bytes, the size of `info`, and every bit pattern is
    // a value of it.
    unsafe { bpf(Command::ObjInfo, &mut attr) }?;
    Ok(info)
}

/// The system call itself.
///
/// # Safety
/// Addresses in `attr` must be of memory that the command may read or write as it does.
unsafe fn bpf<A: Pod>(command: Command, attr: &mut A) -> io::Result<i32> {
    let attr = bytemuck::bytes_of_mut(attr);
    // SAFETY: `attr` is as long as said; the caller answers for the addresses in it.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as i32, attr.as_mut_ptr(), attr.len()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}

/// # Safety
/// `fd` must be open and nobody else's.
unsafe fn owned(fd: i32) -> OwnedFd {
    // SAFETY: as the caller promises.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr() as u64
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}
