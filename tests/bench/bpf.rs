//! Programs of a few instructions, written here: loaded and run without a loader.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `BPF_PROG_TYPE_SCHED_CLS` and `BPF_PROG_TYPE_XDP`.
pub(crate) const CLASSIFIER: u32 = 3;
pub(crate) const XDP: u32 = 6;

/// One instruction of BPF, as the kernel reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// The register that is written in the low half, the one that is read in the high half.
    registers: u8,
    pub(crate) offset: i16,
    value: i32,
}

pub(crate) const fn instruction(
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    value: i32,
) -> Instruction {
    Instruction {
        code,
        registers: to | from << 4,
        offset,
        value,
    }
}

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct Loading {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// The beginning of `union bpf_attr` for BPF_PROG_TEST_RUN.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Running {
    pub(crate) program: u32,
    /// What the program returned last.
    pub(crate) returned: u32,
    pub(crate) data_size_in: u32,
    pub(crate) data_size_out: u32,
    pub(crate) data_in: u64,
    pub(crate) data_out: u64,
    pub(crate) repeat: u32,
    /// Nanoseconds of one run, in the middle.
    pub(crate) duration: u32,
    pub(crate) context_size_in: u32,
    pub(crate) context_size_out: u32,
    pub(crate) context_in: u64,
    pub(crate) context_out: u64,
    pub(crate) flags: u32,
    pub(crate) cpu: u32,
    pub(crate) batch_size: u32,
    pub(crate) _pad: u32,
}

impl Running {
    pub(crate) fn of(program: &OwnedFd) -> Self {
        Self {
            program: program.as_raw_fd().cast_unsigned(),
            ..Self::default()
        }
    }

    /// # Safety
    /// Data and context must be readable for as many bytes as said.
    pub(crate) unsafe fn run(&mut self) -> io::Result<()> {
        const PROG_TEST_RUN: libc::c_long = 10;
        // SAFETY: as the caller promises; nothing is asked to be written but into this itself.
        unsafe { bpf(PROG_TEST_RUN, self) }.map(drop)
    }
}

/// Has the kernel check a program of this kind.
pub(crate) fn load(kind: u32, instructions: &[Instruction]) -> io::Result<OwnedFd> {
    const PROG_LOAD: libc::c_long = 5;
    const LICENSE: &CStr = c"GPL";
    let mut told = Loading {
        kind,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr().addr() as u64,
        license: LICENSE.as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: the instructions and the license live until the call returns.
    let file = unsafe { bpf(PROG_LOAD, &mut told) }?;
    // SAFETY: the kernel has just made it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

/// bpf(2).
///
/// # Safety
/// What `told` points to must be what `command` expects there.
unsafe fn bpf<T>(command: libc::c_long, told: &mut T) -> io::Result<i32> {
    // SAFETY: `told` is valid for its size; the rest is the caller's promise.
    let returned = unsafe { libc::syscall(libc::SYS_bpf, command, told, size_of::<T>()) };
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(returned as i32)
}
