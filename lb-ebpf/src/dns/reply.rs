//! The reply, written over its query.

use lb_common::dns::{Answer, BODY, TTLS};

use super::Datagram;
use super::question::{Asked, ETHERTYPE, Heads, OPT, QUESTION, TYPE_AND_CLASS, Work};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// Bytes that veer takes over UDP, in its own EDNS record.
const PAYLOAD: u16 = 1_232;

const QR: u8 = 0x80;
const RA: u8 = 0x80;
const RD: u8 = 0x01;
const CD: u8 = 0x10;

/// Makes `frame` the reply. `false` if that failed, perhaps in part.
#[inline(always)]
pub(super) fn write(
    frame: &mut impl Datagram,
    work: &mut Work,
    asked: &Asked,
    answer: &Answer,
    random: u32,
    now: u64,
) -> bool {
    let length = u32::from(answer.length).min(BODY as u32);
    let body = QUESTION + asked.name + TYPE_AND_CLASS;
    let edns = if asked.edns.is_some() { OPT } else { 0 };
    let end = body + length + edns;
    if end != frame.len() && frame.resize(end).is_err() {
        return false;
    }
    if length > 0 && !frame.write_body(body, answer, first(answer, random), length) {
        return false;
    }
    if !count_down(frame, body, answer, now) {
        return false;
    }
    if let Some(flags) = asked.edns
        && frame.store(body + length, &opt(flags)).is_err()
    {
        return false;
    }
    turn(&mut work.heads, asked, answer, end);
    frame.store(ETHERTYPE, &work.heads).is_ok()
}

/// Where the body begins: at any of its records, if they are equals.
#[inline(always)]
fn first(answer: &Answer, random: u32) -> u32 {
    let record = u32::from(answer.record);
    let count = u32::from(answer.answers);
    if record == 0 || count < 2 {
        return 0;
    }
    (random % count) * record
}

/// Writes the time that is left into every TTL that is not for ever.
///
/// # Why
/// It is divided only where it is needed: that takes a twentieth of the time of the whole program.
#[inline(always)]
fn count_down(frame: &mut impl Datagram, body: u32, answer: &Answer, now: u64) -> bool {
    if answer.ttl_count == 0 {
        return true;
    }
    let left = answer.expires.saturating_sub(now) / SECOND;
    let left = (left as u32).to_be_bytes();
    for index in 0..TTLS {
        if index >= usize::from(answer.ttl_count) {
            return true;
        }
        let at = body + u32::from(answer.ttls[index]);
        if frame.store(at, &left).is_err() {
            return false;
        }
    }
    true
}

#[inline(always)]
fn opt(flags: u8) -> [u8; OPT as usize] {
    let [high, low] = PAYLOAD.to_be_bytes();
    [0, 0, 41, high, low, 0, 0, flags, 0, 0, 0]
}

/// Makes the headers those of the reply, which ends at `end`.
#[inline(always)]
fn turn(heads: &mut Heads, asked: &Asked, answer: &Answer, end: u32) {
    let total = (end - 14) as u16;
    heads.check = checksum(heads, total);
    heads.total = total.to_be();
    core::mem::swap(&mut heads.source, &mut heads.destination);
    core::mem::swap(&mut heads.source_port, &mut heads.destination_port);
    heads.length = (total - 20).to_be();
    // None, RFC 768: the datagram never leaves the host's memory.
    heads.udp_check = 0;
    heads.flags[0] = QR | (heads.flags[0] & RD);
    heads.flags[1] = RA | (heads.flags[1] & CD) | answer.code;
    let additionals = answer.additionals + u16::from(asked.edns.is_some());
    heads.counts = [1, answer.answers, answer.authorities, additionals].map(u16::to_be);
}

/// The header's checksum with another total length, RFC 1624: swapped addresses add up to the same.
#[inline(always)]
fn checksum(heads: &Heads, total: u16) -> u16 {
    let not = |word: u16| u32::from(!u16::from_be(word));
    let sum = not(heads.check) + not(heads.total) + u32::from(total);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_be()
}
