//! A cpio archive in the "newc" format, the one that Linux unpacks as its initramfs.
//!
//! # Why
//! Written here, it needs neither root (device nodes are only bytes) nor a cpio program.

use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive under construction. Paths are relative to the guest's root; parents come by themselves.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    pub(super) fn directory(&mut self, path: &str) {
        if path.is_empty() || !self.directories.insert(path.to_owned()) {
            return;
        }
        self.parents(path);
        self.entry(path, DIRECTORY | 0o755, &[], (0, 0));
    }

    pub(super) fn executable(&mut self, path: &str, content: &[u8]) {
        self.parents(path);
        self.entry(path, REGULAR | 0o755, content, (0, 0));
    }

    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.parents(path);
        self.entry(path, REGULAR | 0o644, content, (0, 0));
    }

    pub(super) fn symlink(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.entry(path, SYMLINK | 0o777, target.as_bytes(), (0, 0));
    }

    /// A character device with its (major, minor) number.
    pub(super) fn device(&mut self, path: &str, number: (u32, u32)) {
        self.parents(path);
        self.entry(path, CHARACTER_DEVICE | 0o600, &[], number);
    }

    /// The finished archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        self.inode += 1;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let size = u32::try_from(content.len()).expect("no file of an initramfs reaches 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("no path reaches 4 GiB");
        // inode, mode, uid, gid, links, mtime, size, major, minor, device major, device minor,
        // name size with its NUL, checksum (unused in this format).
        let fields = [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAILER: &str = "0707010000000{N}000000000000000000000000000000010000000000000000\
                           000000000000000000000000000000000000000B00000000TRAILER!!!\0\0\0\0";

    fn trailer(inode: u32) -> String {
        TRAILER.replace("{N}", &inode.to_string())
    }

    #[test]
    fn an_empty_archive_is_the_trailer_alone() {
        let bytes = Archive::default().finish();

        assert_eq!(String::from_utf8(bytes).unwrap(), trailer(1));
    }

    #[test]
    fn a_file_is_header_name_and_content_each_padded_to_four_bytes() {
        let mut archive = Archive::default();
        archive.file("init", b"hello");
        let bytes = archive.finish();

        let expected = "07070100000001000081A4000000000000000000000001000000000000000500000000\
                        000000000000000000000000000000050000000\
                        0init\0\0hello\0\0\0"
            .to_owned()
            + &trailer(2);
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn parents_are_written_once_and_before_their_children() {
        let mut archive = Archive::default();
        archive.executable("bin/busybox", b"");
        archive.symlink("bin/sh", "busybox");
        archive.device("dev/console", (5, 1));
        let text = String::from_utf8(archive.finish()).unwrap();

        let position = |name: &str| text.find(&format!("{name}\0")).unwrap();
        assert!(position("bin") < position("bin/busybox"));
        assert!(position("bin/busybox") < position("bin/sh"));
        assert!(position("dev") < position("dev/console"));
        assert_eq!(text.matches("00000000bin\0").count(), 1);
        assert!(text.contains("00000005000000010000000C00000000dev/console\0"));
    }

    #[test]
    fn everything_starts_at_a_multiple_of_four() {
        let mut archive = Archive::default();
        for length in 0..9 {
            archive.file(&"n".repeat(length + 1), &vec![b'x'; length]);
        }
        let bytes = archive.finish();

        assert_eq!(bytes.len() % 4, 0);
        let starts: Vec<_> = bytes
            .windows(6)
            .enumerate()
            .filter(|(_, w)| w == b"070701")
            .map(|(i, _)| i)
            .collect();
        assert_eq!(starts.len(), 10);
        assert!(starts.iter().all(|start| start % 4 == 0));
    }
}
