//! A query, from its bytes.

use core::hint::black_box;

use bytemuck::{Pod, Zeroable};
use lb_common::Port;
use lb_common::dns::{NAME, Question, WORDS, hash};

use super::{Datagram, Ends};
use crate::frame::Frame;

/// Where the IP header begins, after Ethernet's.
const IP: u32 = 14;
/// Where the type of an Ethernet frame is.
pub(super) const ETHERTYPE: u32 = 12;
/// Where the question begins.
pub(super) const QUESTION: u32 = IP + 20 + 8 + 12;
/// Type and class, after the name.
pub(super) const TYPE_AND_CLASS: u32 = 4;
/// An OPT record without options.
pub(super) const OPT: u32 = 11;

const UDP: u8 = 17;
const CLASS_IN: u16 = 1;
const KIND_OPT: u8 = 41;
/// From here on types are about the exchange and not about a name: ANY, zone transfers, keys.
const FIRST_META: u16 = 128;

const RD: u8 = 0x01;
const AD: u8 = 0x20;
const CD: u8 = 0x10;

/// The end of names of addresses, the byte before it the length of the label.
const ARPA: [u8; 6] = *b"\x04arpa\0";

/// Ethernet's type, and the headers of IPv4 without options, UDP and DNS, as on the wire.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Heads {
    pub(super) ethertype: u16,
    pub(super) version_and_length: u8,
    pub(super) service: u8,
    pub(super) total: u16,
    pub(super) id: u16,
    pub(super) fragment: u16,
    pub(super) hops: u8,
    pub(super) protocol: u8,
    pub(super) check: u16,
    pub(super) source: [u16; 2],
    pub(super) destination: [u16; 2],
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) length: u16,
    pub(super) udp_check: u16,
    pub(super) query: u16,
    pub(super) flags: [u8; 2],
    pub(super) counts: [u16; 4],
}

const _: () = assert!(size_of::<Heads>() == 42);

/// Room for one query: more than a BPF stack has.
///
/// # Why
/// In words, where there are many bytes: this processor reads and writes no others at once unless it
/// is told how they are aligned.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Work {
    /// What is looked up: the name in lower case, zeros after it in its last word, and what was there before
    /// in words after that.
    name: [u64; WORDS],
    _pad: [u8; 6],
    /// Those of the query, and then of the reply.
    pub(super) heads: Heads,
    /// What follows them, after which there is what was there before.
    rest: [u64; REST / 8],
    /// Bytes of the name.
    length: u32,
    /// Its labels, without the root; 0: there are none, or they are not good.
    labels: u32,
}

/// Bytes of a name, its type and class and an OPT record, and one.
const REST: usize = NAME + TYPE_AND_CLASS as usize + OPT as usize + 1;

impl Work {
    /// Where a query is, from Ethernet's type on.
    pub const PLACE: usize = core::mem::offset_of!(Self, heads);

    /// The shortest and the longest query that there is room for.
    pub const SHORTEST: usize = size_of::<Heads>();
    pub const LONGEST: usize = Self::SHORTEST + REST;

    /// The name that is looked up, with zeros after it.
    #[inline(always)]
    pub(super) fn whole_name(&mut self, length: u32) -> &[u8; NAME] {
        for index in 0..WORDS {
            if !is_used(index, length) {
                self.name[index] = 0;
            }
        }
        self.name()
    }

    #[inline(always)]
    fn name(&self) -> &[u8; NAME] {
        bytemuck::cast_ref(&self.name)
    }

    /// Whether the same name is looked up, of `length` bytes, as `other`, which has zeros after it.
    ///
    /// # Why
    /// A name ends with its only label without bytes: a longer one differs before that, so that words after it
    /// need not be read. Code that is run costs more here than what it does: none of it is in the cache.
    #[inline(always)]
    pub(super) fn is_name(&self, length: u32, other: &[u64; WORDS]) -> bool {
        let words = self.name.iter().zip(other).enumerate();
        for (index, (one, other)) in words {
            if !is_used(index, length) {
                break;
            }
            if one != other {
                return false;
            }
        }
        true
    }

    #[inline(always)]
    fn bytes(&self) -> &[u8; REST] {
        bytemuck::cast_ref(&self.rest)
    }
}

/// A query that the kernel may answer; its name is [`Work::name`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) kind: u16,
    /// Bytes of the name.
    pub(super) name: u32,
    /// By [`hash`], of the name in lower case.
    pub(super) hash: u64,
    /// Flags of its EDNS record, the first byte, where DO is; `None` without such a record.
    pub(super) edns: Option<u8>,
    /// Whether it is as nearly all are: RD, neither AD nor CD nor DO.
    pub(super) is_plain: bool,
    /// Whether it asks for PTR, of a name of an address.
    pub(super) is_arpa: bool,
    /// Whether its first label begins with an underscore.
    pub(super) is_service: bool,
}

impl Asked {
    /// The type in the table of a Network.
    #[inline(always)]
    pub(super) fn own_kind(&self) -> u16 {
        match self.kind {
            Question::A | Question::AAAA => self.kind,
            _ if self.is_arpa => self.kind,
            Question::SRV if self.is_service => self.kind,
            _ => Question::OTHER,
        }
    }
}

impl Heads {
    /// Whether they are those of a datagram of IPv4 in one piece.
    #[inline(always)]
    pub(super) fn are_plain(&self) -> bool {
        let is_whole = self.fragment & 0x3fff_u16.to_be() == 0;
        self.ethertype == 0x0800_u16.to_be()
            && self.version_and_length == 0x45
            && self.protocol == UDP
            && is_whole
    }

    /// Where they come from and go to.
    #[inline(always)]
    pub(super) fn ends(&self) -> Ends {
        Ends {
            source: bytemuck::cast(self.source),
            destination: bytemuck::cast(self.destination),
            port: Port::from_wire(self.destination_port),
        }
    }

    /// Has them go to this port, which is the one that the reply comes from.
    #[inline(always)]
    pub(super) fn set_port(&mut self, port: Port) {
        self.destination_port = port.wire();
    }

    /// Bytes after the DNS header, if every length says the same.
    #[inline(always)]
    fn rest(&self, frame: &impl Frame) -> Option<u32> {
        let datagram = u32::from(u16::from_be(self.length));
        let total = u32::from(u16::from_be(self.total));
        let agree = total == datagram + 20 && frame.len() == total + IP;
        agree.then(|| datagram.wrapping_sub(8 + 12))
    }
}

/// The query, if it is one that may be answered here. Its name is in `work` then.
#[inline(always)]
pub(super) fn read(frame: &impl Datagram, work: &mut Work) -> Option<Asked> {
    let heads = &work.heads;
    let plain = heads.flags == [RD, 0];
    let is_query = heads.flags[0] & !RD == 0 && heads.flags[1] & !(AD | CD) == 0;
    // One question, no answers, no authorities, at most an OPT record.
    let [questions, answers, authorities, additionals] = heads.counts;
    let has_edns = additionals == 1_u16.to_be();
    let is_simple =
        questions == 1_u16.to_be() && answers | authorities == 0 && (additionals == 0 || has_edns);
    if !is_query || !is_simple {
        return None;
    }
    let rest = heads.rest(frame)?;
    let after = TYPE_AND_CLASS + if has_edns { OPT } else { 0 };
    let name = rest.wrapping_sub(after);
    let tail = tail(work.bytes(), name, has_edns)?;
    measure(work, name);
    // Read again from memory: the verifier would follow every length of name and number of labels
    // to the end of the program otherwise.
    let work = black_box(work);
    let (name, labels) = (work.length, work.labels);
    if labels == 0 || name == 0 || name > NAME as u32 {
        return None;
    }
    let lower = lower(work, name);
    if lower.was_upper && labels > 1 {
        return None;
    }
    let dnssec = tail.edns.unwrap_or(0);
    Some(Asked {
        kind: tail.kind,
        name,
        hash: lower.hash,
        edns: tail.edns,
        is_plain: plain && dnssec == 0,
        is_arpa: tail.kind == Question::PTR && is_arpa(work.name(), name),
        is_service: work.name()[1] == b'_',
    })
}

struct Tail {
    kind: u16,
    edns: Option<u8>,
}

/// What follows the name.
#[inline(always)]
fn tail(bytes: &[u8; REST], name: u32, has_edns: bool) -> Option<Tail> {
    // As in [`is_arpa`].
    let at = black_box(name) as usize;
    if at > NAME {
        return None;
    }
    let tail: &[u8; 15] = bytes[at..].first_chunk()?;
    let kind = u16::from_be_bytes([tail[0], tail[1]]);
    let class = u16::from_be_bytes([tail[2], tail[3]]);
    if class != CLASS_IN || kind >= FIRST_META || kind == 0 || kind == u16::from(KIND_OPT) {
        return None;
    }
    if !has_edns {
        return Some(Tail { kind, edns: None });
    }
    // Root name, type, payload size, extended code, version, flags, no options.
    let is_opt = tail[4] == 0 && tail[5] == 0 && tail[6] == KIND_OPT;
    let is_known = tail[9] == 0 && tail[10] == 0 && tail[11] & 0x7f == 0 && tail[12] == 0;
    let is_bare = tail[13] == 0 && tail[14] == 0;
    let edns = Some(tail[11]);
    (is_opt && is_known && is_bare).then_some(Tail { kind, edns })
}

/// Counts the labels, if they end where the name does and none is compressed.
#[inline(always)]
fn measure(work: &mut Work, name: u32) {
    work.length = name;
    work.labels = 0;
    let mut at = 0_u32;
    for count in 0..NAME as u32 / 2 {
        let at_most = black_box(at) as usize;
        if at_most >= NAME {
            return;
        }
        let length = u32::from(work.bytes()[at_most]);
        if length == 0 {
            if at + 1 == name {
                work.labels = count;
            }
            return;
        }
        if length > 63 {
            return;
        }
        at += 1 + length;
    }
}

struct Lower {
    was_upper: bool,
    hash: u64,
}

/// Makes the name, of `length` bytes, the one that is looked up, in lower case.
#[inline(always)]
fn lower(work: &mut Work, length: u32) -> Lower {
    let (mut changed, mut hashed) = (0, 0);
    for index in 0..WORDS {
        if !is_used(index, length) {
            break;
        }
        let word = work.rest[index] & first_bytes(length - index as u32 * 8);
        let lower = lower_word(word);
        changed |= word ^ lower;
        hashed = hash(hashed, lower);
        work.name[index] = lower;
    }
    Lower {
        was_upper: changed != 0,
        hash: hashed,
    }
}

/// Whether a name of `length` bytes has any in this word.
#[inline(always)]
const fn is_used(index: usize, length: u32) -> bool {
    length > index as u32 * 8
}

/// All bits of the first `count` bytes of a word, in the order of memory; `count` > 0.
#[inline(always)]
fn first_bytes(count: u32) -> u64 {
    let others = if count < 8 { 64 - 8 * count } else { 0 };
    u64::from_le(u64::MAX >> others)
}

/// Eight bytes, those of `A` to `Z` in lower case. Lengths of labels are below `A`.
#[inline(always)]
fn lower_word(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let low = word & !HIGH;
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let after_z = low + (0x80 - b'Z' as u64 - 1) * ONES;
    let is_upper = from_a & !after_z & !word & HIGH;
    word | (is_upper >> 2)
}

/// Whether a name in lower case is one of an address.
#[inline(always)]
fn is_arpa(lower: &[u8; NAME], name: u32) -> bool {
    // The check must be next to the use: the verifier of Linux 6.1 forgets it otherwise.
    let start = black_box(name.wrapping_sub(ARPA.len() as u32)) as usize;
    if start > NAME - ARPA.len() {
        return false;
    }
    let mut same = true;
    for (index, byte) in ARPA.iter().enumerate() {
        same &= lower[start + index] == *byte;
    }
    same
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(name: &[u8], then: u8) -> [u64; WORDS] {
        let mut bytes = [then; NAME];
        bytes[..name.len().next_multiple_of(8)].fill(0);
        bytes[..name.len()].copy_from_slice(name);
        bytemuck::cast(bytes)
    }

    #[test]
    fn a_name_is_itself_whatever_was_there_before_and_none_that_begins_alike() {
        // Eight bytes, the first word.
        let asked = b"\x06abcdef\0";
        let mut work = Work::zeroed();
        work.name = words(asked, 0xa5);

        let same = |name: &[u8]| work.is_name(asked.len() as u32, &words(name, 0));

        assert!(same(asked));
        assert!(!same(b"\x06abcdef\x01g\0"));
        assert!(!same(b"\x05abcde\0"));
        assert!(!same(b"\x06abcdeg\0"));
    }

    #[test]
    fn letters_become_lower_case_and_nothing_else_changes() {
        for byte in 0..=u8::MAX {
            let word = u64::from_ne_bytes([byte, 0, b'Z', byte, 63, b'[', byte, b'@']);

            let lower = lower_word(word).to_ne_bytes();

            let expected = word.to_ne_bytes().map(|byte| byte.to_ascii_lowercase());
            assert_eq!(lower, expected);
        }
    }
}
