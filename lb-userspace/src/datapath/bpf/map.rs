//! One map: its elements as bytes.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bytemuck::{Pod, Zeroable};

use super::{Command, Memory, address, bpf, info, number, open_pin};

/// What the kernel tells about a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Zeroable, Pod)]
#[repr(C)]
pub(crate) struct MapInfo {
    /// An `enum bpf_map_type`.
    pub(crate) kind: u32,
    /// The map's number, unique while it lives.
    pub(crate) id: u32,
    /// Bytes.
    pub(crate) key_size: u32,
    /// Bytes, of one CPU's value.
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

impl MapInfo {
    /// Kinds whose values exist once for each possible CPU.
    const PER_CPU: [u32; 3] = [5, 6, 10];
}

#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C)]
struct ElementAttr {
    map: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C)]
struct BatchAttr {
    cursor_in: u64,
    cursor_out: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// A place in the order of a hash map's buckets. It stays good while the map lives, whatever is
/// inserted or deleted meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor(Option<u32>);

/// What one batch gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// How many elements were written.
    pub(crate) count: usize,
    /// Where to go on; `None` at the end.
    pub(crate) next: Option<Cursor>,
}

/// An open map.
#[derive(Debug)]
pub(crate) struct Map {
    fd: OwnedFd,
    info: MapInfo,
    /// Bytes that the kernel reads and writes for one value: of all CPUs where there are several.
    value_len: usize,
}

impl Map {
    /// The map behind `fd`.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let info: MapInfo = info(fd.as_fd())?;
        let value_len = if MapInfo::PER_CPU.contains(&info.kind) {
            let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
            cpus * info.value_size.next_multiple_of(8) as usize
        } else {
            info.value_size as usize
        };
        Ok(Self {
            fd,
            info,
            value_len,
        })
    }

    /// The map that is pinned at `path`.
    pub(crate) fn from_pin(path: &Path) -> io::Result<Self> {
        Self::new(open_pin(path)?)
    }

    /// The same map through a descriptor of its own.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            ..*self
        })
    }

    pub(crate) fn info(&self) -> MapInfo {
        self.info
    }

    /// Bytes of one value, of all CPUs where there are several.
    pub(crate) fn value_len(&self) -> usize {
        self.value_len
    }

    /// Copies the value of `key` into `value`; `false` if there is none.
    pub(crate) fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        self.check(key, Some(value));
        let mut attr = self.element(key);
        attr.value = value.as_mut_ptr() as u64;
        // SAFETY: the kernel reads a key and writes a value, both as long as checked above.
        found(unsafe { bpf(Command::MapLookup, &mut attr) })
    }

    /// Inserts or replaces.
    pub(crate) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.check(key, Some(value));
        let mut attr = self.element(key);
        attr.value = address(value);
        // SAFETY: the kernel reads a key and a value, both as long as checked above.
        unsafe { bpf(Command::MapUpdate, &mut attr) }.map(drop)
    }

    /// Deletes; `false` if there was nothing.
    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<bool> {
        self.check(key, None);
        let mut attr = self.element(key);
        // SAFETY: the kernel reads a key as long as checked above.
        found(unsafe { bpf(Command::MapDelete, &mut attr) })
    }

    /// Copies the key that comes after `key`, the first one after `None`, into `next`; `false` at the
    /// end.
    pub(crate) fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
        self.check(next, None);
        let mut attr = self.element(&[]);
        attr.key = 0;
        if let Some(key) = key {
            self.check(key, None);
            attr.key = address(key);
        }
        attr.value = next.as_mut_ptr() as u64;
        // SAFETY: the kernel reads a key, if there is one, and writes a key, both as long as checked
        // above.
        found(unsafe { bpf(Command::MapNextKey, &mut attr) })
    }

    /// Copies elements of a hash map from `from` on, as many whole buckets as fit. Fails with
    /// [`io::ErrorKind::StorageFull`] if not even one does.
    pub(crate) fn lookup_batch(
        &self,
        from: Cursor,
        keys: &mut [u8],
        values: &mut [u8],
    ) -> io::Result<Slice> {
        let count = keys.len() / self.info.key_size as usize;
        assert!(
            values.len() / self.value_len >= count,
            "fewer values than keys"
        );
        let mut next = 0_u32;
        let mut attr = BatchAttr {
            cursor_in: from.0.as_ref().map_or(0, |place| &raw const *place as u64),
            cursor_out: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            map: number(self.fd.as_fd()),
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the kernel writes at most `count` keys and values, for which there is room, and
        // reads and writes a place of four bytes, as hash maps do.
        let result = unsafe { bpf(Command::MapLookupBatch, &mut attr) };
        let next = match result {
            Ok(_) => Some(Cursor(Some(next))),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => None,
            Err(error) => return Err(error),
        };
        Ok(Slice {
            count: attr.count as usize,
            next,
        })
    }

    /// Bytes of memory that the kernel says it takes. Before Linux 6.4, whose maps say so themselves
    /// (`map_mem_usage`), that is computed from its size, whatever is in it.
    pub(crate) fn memory_taken(&self) -> io::Result<u64> {
        let path = format!("/proc/self/fdinfo/{}", number(self.fd.as_fd()));
        let text = fs::read_to_string(path)?;
        let bytes = text.lines().find_map(|line| line.strip_prefix("memlock:"));
        let bytes = bytes.and_then(|bytes| bytes.trim().parse().ok());
        bytes.ok_or_else(|| io::Error::other("the kernel does not tell a map's memory"))
    }

    /// The values of an array that was made for it (`BPF_F_MMAPABLE`), as memory.
    pub(crate) fn memory(&self) -> io::Result<Memory> {
        Memory::new(self.fd.as_fd(), &self.info)
    }

    fn element(&self, key: &[u8]) -> ElementAttr {
        ElementAttr {
            map: number(self.fd.as_fd()),
            key: address(key),
            ..ElementAttr::zeroed()
        }
    }

    fn check(&self, key: &[u8], value: Option<&[u8]>) {
        assert_eq!(key.len(), self.info.key_size as usize, "length of a key");
        if let Some(value) = value {
            assert_eq!(value.len(), self.value_len, "length of a value");
        }
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn found(result: io::Result<i32>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

impl From<Map> for OwnedFd {
    fn from(map: Map) -> Self {
        map.fd
    }
}
