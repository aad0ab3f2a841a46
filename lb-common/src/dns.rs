//! Answers that the kernel gives: which there are, and who may have them.

use bytemuck::{Pod, Zeroable};

use crate::{Port, map_types};

/// Bytes of the longest name that the kernel knows, as on the wire, its final zero included.
pub const NAME: usize = 80;

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

/// Key of the `DNS_ANSWERS` map.
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
}

/// Value of the `DNS_ANSWERS` map: what follows the question in a reply, EDNS aside.
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
    pub count: u16,
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

map_types!(Question: 88, Answer: 432, View: 40, Counts: 24, Sample: 112);
