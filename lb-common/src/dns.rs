//! Answers that the kernel gives: which there are, and who may have them.

use bytemuck::{Pod, Zeroable};

use crate::{Port, map_types};

/// Bytes of the longest name that the kernel knows, as on the wire, its final zero included.
pub const NAME: usize = 80;

/// Words of it.
pub const WORDS: usize = NAME / 8;

/// Bytes of the longest answer, without header and question.
pub const BODY: usize = 192;

/// The tables that one namespace may ask at most: eight Networks, and the host's name servers.
pub const TABLES: usize = 9;

/// Places of TTLs in one answer.
pub const TTLS: usize = 8;

/// Elements of `DNS_COUNTS`: tables from here on are counted as table 0.
pub const COUNTED: u32 = 1_024;

/// The table of what the host's name servers have answered. Those of Networks come after it.
pub const HOST: u32 = 1;

/// What an answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct Question {
    /// A Network's number, or [`HOST`].
    pub table: u32,
    /// The type asked for, or [`Question::OTHER`].
    pub kind: u16,
    /// Always zero.
    pub _pad: u16,
    /// As on the wire, in lower case, zeros after it.
    pub name: [u8; NAME],
}

impl Question {
    pub const A: u16 = 1;
    pub const PTR: u16 = 12;
    pub const AAAA: u16 = 28;
    /// Of names of services, which begin with an underscore.
    pub const SRV: u16 = 33;
    /// Every other type, in the table of a Network: whatever is asked, the answer is the same.
    pub const OTHER: u16 = 0;

    /// Where its answer is.
    #[must_use]
    pub fn key(&self) -> AnswerKey {
        let count = length(&self.name).div_ceil(8);
        let words: [u64; WORDS] = bytemuck::cast(self.name);
        AnswerKey {
            table: self.table,
            kind: self.kind,
            _pad: 0,
            name: words.into_iter().take(count).fold(0, hash),
        }
    }

    /// The element of the map that gives `answer` to it.
    #[must_use]
    pub fn element(&self, answer: Answer) -> (AnswerKey, NamedAnswer) {
        (self.key(), NamedAnswer::new(self, answer))
    }
}

/// Bytes of a name as in [`Question::name`], its final zero included.
#[must_use]
pub fn length(name: &[u8; NAME]) -> usize {
    let mut at = 0;
    while let Some(label @ 1..) = name.get(at) {
        at += 1 + usize::from(*label);
    }
    (at + 1).min(NAME)
}

/// The hash of a name with one more word of eight bytes, that of none being 0.
#[inline(always)]
#[must_use]
pub const fn hash(before: u64, word: u64) -> u64 {
    // Multiplies by the golden ratio, as the kernel's `hash_64` (include/linux/hash.h), and lets the upper half,
    // where every bit counts, into the lower one.
    let product = (before ^ word).wrapping_mul(0x61c8_8646_80b5_83eb);
    product ^ (product >> 32)
}

/// Key of the `DNS_ANSWERS` map: a [`Question`] with the hash of its name instead of the name.
///
/// # Why
/// A map hashes all bytes of a key, and most names are much shorter than the longest one. A hash of the
/// words that a name has takes less than half the time; the value says whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct AnswerKey {
    pub table: u32,
    pub kind: u16,
    /// Always zero.
    pub _pad: u16,
    /// By [`hash`], of the name's words.
    pub name: u64,
}

/// Value of the `DNS_ANSWERS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct NamedAnswer {
    /// As in [`Question::name`], in words: BPF reads no more than a byte at once unless it is told how they
    /// are aligned. Zeros: names with the same hash were put here, and the daemon answers all of them.
    pub name: [u64; WORDS],
    pub answer: Answer,
}

impl NamedAnswer {
    #[must_use]
    pub fn new(question: &Question, answer: Answer) -> Self {
        Self {
            name: bytemuck::cast(question.name),
            answer,
        }
    }

    /// The name's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; NAME] {
        bytemuck::cast_ref(&self.name)
    }
}

/// What follows the question in a reply, EDNS aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Answer {
    /// Nanoseconds since boot from when on the daemon is asked; 0: it never runs out.
    pub until: u64,
    /// Nanoseconds since boot up to which TTLs are counted down.
    pub expires: u64,
    /// Bytes of the body.
    pub length: u16,
    /// Bytes of each record of a body whose records are equals: any of them may come first. The body
    /// is there twice then, so that it can be read from any record on. 0: it is there once.
    pub record: u16,
    pub answers: u16,
    pub authorities: u16,
    pub additionals: u16,
    /// Used elements of `ttls`.
    pub ttl_count: u16,
    /// Where in the body TTLs are that are counted down, in bytes.
    pub ttls: [u16; TTLS],
    /// The fourth byte of the header, without RA and CD: AD and the response code.
    pub code: u8,
    /// 1: the name is known, and the daemon is to answer for it.
    pub ask_daemon: u8,
    /// Always zero.
    pub _pad: [u8; 2],
    /// Not more than [`BODY`] bytes, perhaps twice.
    pub body: [u8; 2 * BODY],
}

/// Value of the `DNS_VIEWS` map, keyed by the cookie (u64) of a network namespace: what may be asked
/// there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct View {
    /// Where queries are led to on 127.0.0.11.
    pub port: Port,
    /// Used elements of `tables`.
    pub count: u8,
    /// 1 if queries to others' servers are led there as well: answers then come from that port, for which the
    /// programs on sockets know whom to show.
    pub stands_in: u8,
    /// In the order in which they are asked; the first that knows a name answers alone.
    pub tables: [u32; TABLES],
}

/// Element of the `DNS_COUNTS` map, by table: answers given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Counts {
    /// With records.
    pub answered: u64,
    /// Without: a name that has nothing of the type asked for.
    pub empty: u64,
    /// That there is no such name.
    pub absent: u64,
}

/// Record of the `DNS_SAMPLES` ring buffer: one of the answers that were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Sample {
    /// Nanoseconds since boot.
    pub at: u64,
    /// Cookie of the namespace that asked.
    pub netns: u64,
    /// As in [`Question::table`].
    pub table: u32,
    /// The type that was asked for.
    pub kind: u16,
    /// Records in the answer.
    pub answers: u16,
    /// As in [`Answer::code`].
    pub code: u8,
    /// Always zero.
    pub _pad: [u8; 7],
    /// As in [`Question::name`].
    pub name: [u8; NAME],
}

map_types!(Question: 88, AnswerKey: 16, Answer: 432, NamedAnswer: 512, View: 40, Counts: 24, Sample: 112);

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &[u8]) -> AnswerKey {
        let mut question = Question {
            table: 7,
            kind: Question::AAAA,
            ..Question::zeroed()
        };
        question.name[..name.len()].copy_from_slice(name);
        question.key()
    }

    #[test]
    fn names_of_any_length_have_places_of_their_own() {
        let mut longest = [b'x'; NAME];
        (longest[0], longest[40], longest[NAME - 1]) = (39, 38, 0);
        let mut other = longest;
        other[NAME - 2] = b'y';
        // A zero is a letter as any other.
        let names: [&[u8]; 7] = [
            b"\x02db\0",
            b"\x02dc\0",
            b"\x0a\0\0\0\0\0\0\0\0\0\0\0",
            b"\x0a\0\0\0\0\0\0\0\0\0a\0",
            b"\x07_a_tcp_\x02db\0",
            &longest,
            &other,
        ];

        let keys = names.map(key);

        for (index, one) in keys.iter().enumerate() {
            assert_eq!((one.table, one.kind), (7, Question::AAAA));
            assert!(!keys[..index].contains(one), "{:?}", names[index]);
        }
    }

    #[test]
    fn each_word_that_a_name_has_counts_once() {
        let words = [*b"\x07web-one", *b"\x03net\0\0\0\0"].map(u64::from_ne_bytes);

        assert_eq!(
            key(b"\x07web-one\x03net\0").name,
            hash(hash(0, words[0]), words[1])
        );
        assert_eq!(key(b"\x07web-one\0").name, hash(hash(0, words[0]), 0));
    }
}
