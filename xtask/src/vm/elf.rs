//! As much of ELF as kernel images and modules need: one section by its name.

/// Content of section `name` of a little-endian 64-bit ELF file; `None` when there is no such
/// section or the file is not of that kind.
pub(super) fn section<'a>(file: &'a [u8], name: &str) -> Option<&'a [u8]> {
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(read::<8>(file, 0x28)?).ok()?;
    let entry_size = usize::try_from(read::<2>(file, 0x3A)?).ok()?;
    let count = usize::try_from(read::<2>(file, 0x3C)?).ok()?;
    let names_index = usize::try_from(read::<2>(file, 0x3E)?).ok()?;
    let header = |index: usize| file.get(table.checked_add(index.checked_mul(entry_size)?)?..);
    let names = content(file, header(names_index)?)?;
    (0..count).filter_map(header).find_map(|header| {
        let start = usize::try_from(read::<4>(header, 0)?).ok()?;
        let own_name = names.get(start..)?.split(|&byte| byte == 0).next()?;
        (own_name == name.as_bytes())
            .then(|| content(file, header))
            .flatten()
    })
}

/// Whether a section of ELF notes holds a note of this owner and type.
pub(super) fn has_note(notes: &[u8], owner: &str, kind: u32) -> bool {
    let mut rest = notes;
    while let (Some(name_size), Some(size), Some(note_kind)) =
        (word(rest, 0), word(rest, 4), word(rest, 8))
    {
        let Some(name) = rest.get(12..12 + name_size) else {
            return false;
        };
        if note_kind == kind as usize && name.strip_suffix(b"\0") == Some(owner.as_bytes()) {
            return true;
        }
        let length = 12 + name_size.next_multiple_of(4) + size.next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
    }
    false
}

fn content<'a>(file: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let start = usize::try_from(read::<8>(header, 0x18)?).ok()?;
    let size = usize::try_from(read::<8>(header, 0x20)?).ok()?;
    file.get(start..start.checked_add(size)?)
}

fn word(bytes: &[u8], offset: usize) -> Option<usize> {
    usize::try_from(read::<4>(bytes, offset)?).ok()
}

/// The little-endian number of `N` bytes at `offset`.
fn read<const N: usize>(bytes: &[u8], offset: usize) -> Option<u64> {
    let field = bytes.get(offset..offset.checked_add(N)?)?;
    Some(
        field
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u64::from(byte)),
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An ELF file that holds nothing but these sections (and their names).
    pub(in super::super) fn elf_with(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let names: String = sections
            .iter()
            .map(|(name, _)| format!("{name}\0"))
            .collect();
        let contents = sections.iter().map(|&(_, c)| c).chain([names.as_bytes()]);
        let mut file = vec![0_u8; 0x40];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let mut headers = Vec::new();
        let mut name_offset = 0_u32;
        for (index, content) in contents.enumerate() {
            let mut header = [0_u8; 0x40];
            header[..4].copy_from_slice(&name_offset.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(file.len() as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(content.len() as u64).to_le_bytes());
            headers.extend_from_slice(&header);
            file.extend_from_slice(content);
            name_offset += sections
                .get(index)
                .map_or(0, |(name, _)| name.len() as u32 + 1);
        }
        let table = file.len() as u64;
        file[0x28..0x30].copy_from_slice(&table.to_le_bytes());
        file[0x3A..0x3C].copy_from_slice(&0x40_u16.to_le_bytes());
        file[0x3C..0x3E].copy_from_slice(&(sections.len() as u16 + 1).to_le_bytes());
        file[0x3E..0x40].copy_from_slice(&(sections.len() as u16).to_le_bytes());
        file.extend_from_slice(&headers);
        file
    }

    #[test]
    fn a_section_is_found_by_its_name() {
        let file = elf_with(&[(".text", b"code"), (".modinfo", b"license=GPL\0")]);

        assert_eq!(section(&file, ".modinfo"), Some(&b"license=GPL\0"[..]));
        assert_eq!(section(&file, ".text"), Some(&b"code"[..]));
        assert_eq!(section(&file, ".mod"), None);
    }

    #[test]
    fn a_cut_or_foreign_file_has_no_sections() {
        let file = elf_with(&[(".modinfo", b"license=GPL\0")]);

        for length in 0..file.len() {
            let _must_not_panic = section(&file[..length], ".modinfo");
        }
        assert_eq!(section(&file[..0x30], ".modinfo"), None);
        assert_eq!(section(b"MZ", ".modinfo"), None);
    }

    #[test]
    fn a_note_is_found_behind_others_of_odd_sizes() {
        let mut notes = Vec::new();
        for (owner, kind, content) in [
            ("Linux\0", 0_u32, &b"12345"[..]),
            ("Xen\0", 18, b"entry678"),
        ] {
            notes.extend_from_slice(&(owner.len() as u32).to_le_bytes());
            notes.extend_from_slice(&(content.len() as u32).to_le_bytes());
            notes.extend_from_slice(&kind.to_le_bytes());
            for part in [owner.as_bytes(), content] {
                notes.extend_from_slice(part);
                notes.resize(notes.len().next_multiple_of(4), 0);
            }
        }

        assert!(has_note(&notes, "Xen", 18));
        assert!(!has_note(&notes, "Xen", 17));
        assert!(!has_note(&notes, "Linux", 18));
    }
}
