//! The values of an array map as memory that is shared with the kernel, a window at a time.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use bytemuck::Pod;

use super::MapInfo;

/// Values in a window: 64 KiB at least, which is whole pages on every machine. The kernel fills in all
/// of a mapping when it is made, so that one of a large array as a whole would count as megabytes of
/// the daemon's for some kilobytes that are used.
const WINDOW: usize = 8192;

/// All values of one array. Programs read and write them at the same time: a value of more than
/// one word may be seen half written.
#[derive(Debug)]
pub(crate) struct Memory {
    fd: OwnedFd,
    /// Each made when a value in it is used for the first time.
    windows: Box<[OnceLock<NonNull<u8>>]>,
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
        let windows = (info.max_entries as usize).div_ceil(WINDOW);
        let memory = Self {
            fd: fd.try_clone_to_owned()?,
            windows: (0..windows).map(|_| OnceLock::new()).collect(),
            stride,
            values: info.max_entries,
            value_size: info.value_size as usize,
        };
        // An array that cannot be mapped says so now.
        memory.window(0)?;
        Ok(memory)
    }

    /// The value at `index`, `None` beyond the end.
    pub(crate) fn read<T: Pod>(&self, index: u32) -> io::Result<Option<T>> {
        let value = self.place::<T>(index)?;
        // SAFETY: `place` gives aligned memory of a mapping, and every bit pattern is a `T`.
        Ok(value.map(|value| unsafe { value.read_volatile() }))
    }

    /// Writes the value at `index`; `None` beyond the end.
    pub(crate) fn write<T: Pod>(&self, index: u32, value: T) -> io::Result<Option<()>> {
        let place = self.place::<T>(index)?;
        // SAFETY: `place` gives aligned memory of a mapping, which is writable.
        Ok(place.map(|place| unsafe { place.write_volatile(value) }))
    }

    fn place<T: Pod>(&self, index: u32) -> io::Result<Option<NonNull<T>>> {
        assert_eq!(size_of::<T>(), self.value_size, "size of a value");
        assert!(align_of::<T>() <= 8, "values are aligned to 8 bytes");
        if index >= self.values {
            return Ok(None);
        }
        let window = self.window(index as usize / WINDOW)?;
        // SAFETY: a window holds as many values, but for the last one, which ends with the last value.
        Ok(Some(
            unsafe { window.add(index as usize % WINDOW * self.stride) }.cast(),
        ))
    }

    fn window(&self, number: usize) -> io::Result<NonNull<u8>> {
        if let Some(window) = self.windows[number].get() {
            return Ok(*window);
        }
        let made = self.map(number)?;
        let kept = *self.windows[number].get_or_init(|| made);
        if kept != made {
            // SAFETY: another thread was faster, and nobody has seen this one.
            unsafe { libc::munmap(made.as_ptr().cast(), self.len(number)) };
        }
        Ok(kept)
    }

    fn map(&self, number: usize) -> io::Result<NonNull<u8>> {
        let offset =
            libc::off_t::try_from(number * WINDOW * self.stride).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                self.len(number),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                self.fd.as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast()).ok_or_else(|| io::Error::other("a mapping at address 0"))
    }

    /// Bytes of a window: the last one ends with the array.
    fn len(&self, number: usize) -> usize {
        let rest = self.values as usize - number * WINDOW;
        rest.min(WINDOW) * self.stride
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for (number, window) in self.windows.iter().enumerate() {
            if let Some(start) = window.get() {
                // SAFETY: exactly what was mapped, and nobody holds a reference into it.
                unsafe { libc::munmap(start.as_ptr().cast(), self.len(number)) };
            }
        }
    }
}
