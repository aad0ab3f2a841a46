//! DNS messages as bytes.

pub const A: u16 = 1;
pub const PTR: u16 = 12;
pub const MX: u16 = 15;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const HTTPS: u16 = 65;
pub const ANY: u16 = 255;

/// A name as on the wire; the root without any label.
pub fn wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).expect("a label"));
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// A query with these flags; `tail` is `additionals` records.
pub fn query(flags: [u8; 2], name: &[u8], kind: u16, additionals: u8, tail: &[u8]) -> Vec<u8> {
    let [first, second] = flags;
    let head = [0xab, 0xcd, first, second, 0, 1, 0, 0, 0, 0, 0, additionals];
    let kind = kind.to_be_bytes();
    [&head[..], name, &kind, &[0, 1], tail].concat()
}
