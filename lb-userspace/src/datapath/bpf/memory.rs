//! The values of an array map as memory that is shared with the kernel.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

use bytemuck::Pod;

use super::MapInfo;

/// All values of one array. Programs read and write them at the same time: a value of more than
/// one word may be seen half written.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    /// Bytes from one value to the next.
    stride: usize,
    values: u32,
    value_size: usize,
}

// SAFETY: the mapping belongs to no thread, and all access is volatile.
unsafe impl Send for Memory {}
// SAFETY: as above; what is behind it changes under every reader anyway, because programs write.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn new(fd: BorrowedFd<'_>, info: &MapInfo) -> io::Result<Self> {
        let stride = info.value_size.next_multiple_of(8) as usize;
        let len = stride * info.max_entries as usize;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start =
            NonNull::new(start.cast()).ok_or_else(|| io::Error::other("a mapping at address 0"))?;
        Ok(Self {
            start,
            stride,
            values: info.max_entries,
            value_size: info.value_size as usize,
        })
    }

    /// The value at `index`, `None` beyond the end.
    pub(crate) fn read<T: Pod>(&self, index: u32) -> Option<T> {
        let value = self.place::<T>(index)?;
        // SAFETY: `place` gives aligned memory of the mapping, and every bit pattern is a `T`.
        Some(unsafe { value.read_volatile() })
    }

    /// Writes the value at `index`; `None` beyond the end.
    pub(crate) fn write<T: Pod>(&self, index: u32, value: T) -> Option<()> {
        let place = self.place::<T>(index)?;
        // SAFETY: `place` gives aligned memory of the mapping, which is writable.
        unsafe { place.write_volatile(value) };
        Some(())
    }

    fn place<T: Pod>(&self, index: u32) -> Option<NonNull<T>> {
        assert_eq!(size_of::<T>(), self.value_size, "size of a value");
        assert!(align_of::<T>() <= 8, "values are aligned to 8 bytes");
        if index >= self.values {
            return None;
        }
        // SAFETY: an index below the number of values is within the mapping.
        Some(unsafe { self.start.add(index as usize * self.stride) }.cast())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let len = self.stride * self.values as usize;
        // SAFETY: exactly what was mapped, and nobody holds a reference into it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), len) };
    }
}
