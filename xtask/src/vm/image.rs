//! The bootable part of a kernel image.
//!
//! # Why
//! A bzImage unpacks itself, which takes an emulated processor ten seconds. The host does it in
//! one, once; QEMU then starts the bare kernel at its PVH entry.

use super::elf;

/// Type of the ELF note, owned by "Xen", that holds the entry point QEMU uses.
const PVH_ENTRY: u32 = 18;

/// How the kernel inside a bzImage is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Xz,
    Zstd,
}

/// The compressed kernel inside a bzImage (offsets as in the x86 boot protocol); `None` when the
/// file is no bzImage or compressed in another way.
pub(super) fn payload(image: &[u8]) -> Option<(Compression, &[u8])> {
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    // Zero means 4, says the boot protocol; one more for the boot sector itself.
    let setup_sectors = match image[0x1F1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + number(image, 0x248)?;
    let payload = image.get(start..start.checked_add(number(image, 0x24C)?)?)?;
    // The kernel's build appends the unpacked size, which decompressors take for garbage.
    let payload = payload.get(..payload.len().checked_sub(4)?)?;
    match payload {
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Some((Compression::Xz, payload)),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Some((Compression::Zstd, payload)),
        _ => None,
    }
}

/// Whether QEMU can start this bare kernel.
pub(super) fn is_bootable(kernel: &[u8]) -> bool {
    elf::section(kernel, ".notes").is_some_and(|notes| elf::has_note(notes, "Xen", PVH_ENTRY))
}

fn number(image: &[u8], offset: usize) -> Option<usize> {
    let bytes = image.get(offset..offset + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bz_image(setup_sectors: u8, payload: &[u8]) -> Vec<u8> {
        let sectors = if setup_sectors == 0 {
            4
        } else {
            usize::from(setup_sectors)
        };
        let mut image = vec![0; (sectors + 1) * 512 + 16];
        image[0x1F1] = setup_sectors;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 16;
        image[0x24C..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend_from_slice(payload);
        image.extend_from_slice(b"code behind it");
        image
    }

    #[test]
    fn the_payload_is_found_and_its_appended_size_dropped() {
        let image = bz_image(3, b"\xFD7zXZ\0data\x01\x02\x03\x04");

        assert_eq!(
            payload(&image),
            Some((Compression::Xz, &b"\xFD7zXZ\0data"[..]))
        );
    }

    #[test]
    fn no_setup_sectors_mean_four() {
        let image = bz_image(0, b"\x28\xB5\x2F\xFDdata\x01\x02\x03\x04");

        assert_eq!(
            payload(&image),
            Some((Compression::Zstd, &b"\x28\xB5\x2F\xFDdata"[..]))
        );
    }

    #[test]
    fn other_files_and_compressions_have_no_payload() {
        assert_eq!(payload(&bz_image(4, b"BZh9data1234")), None);
        assert_eq!(payload(b"\x7fELF"), None);
        let image = bz_image(4, b"\xFD7zXZ\0data1234");
        assert_eq!(payload(&image[..image.len() - 20]), None);
    }
}
