//! The records of a reply that somebody else gave, as they are kept and given again.
//!
//! They stay as they came, compressed names included: these point into the question or into the
//! records themselves, and both are where they were in every reply to the same question.

use bytemuck::Zeroable;
use lb_common::dns::{Answer, BODY};

use super::query::{HEADER, Query};

/// The longest that a name's existence is believed, in seconds.
const LONGEST: u32 = 86_400;
/// The longest that its absence is, RFC 2308 §5.
const LONGEST_NEGATIVE: u32 = 3_600;

const NO_ERROR: u8 = 0;
const NAME_ERROR: u8 = 3;

const SOA: u16 = 6;
const OPT: u16 = 41;
const TSIG: u16 = 250;

/// A flag in the fourth byte of the header.
const AD: u8 = 0x20;

/// What follows the question, without OPT record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Body {
    code: u8,
    is_authentic: bool,
    /// Answers, authorities, additionals.
    counts: [u16; 3],
    bytes: Vec<u8>,
    /// Where in `bytes` the TTLs are.
    ttls: Vec<u16>,
    /// Seconds that all of it may be kept.
    ttl: u32,
}

/// One record, by its places in a message.
struct Place {
    kind: u16,
    start: usize,
    ttl_at: usize,
    ttl: u32,
    data_end: usize,
}

impl Body {
    /// The records of `message`, a reply to a question that ends at `question_end`. `None` if they
    /// cannot be kept: an error, cut, signed for this exchange alone, without a time to live.
    pub(super) fn of(message: &[u8], question_end: usize) -> Option<Self> {
        let header = message.first_chunk::<HEADER>()?;
        let (code, is_cut) = (header[3] & 0x0f, header[2] & super::query::TC != 0);
        if is_cut || !matches!(code, NO_ERROR | NAME_ERROR) {
            return None;
        }
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let mut counts = [count(6), count(8), count(10)];
        let mut places = places(message, question_end, counts)?;
        let mut end = places.last().map_or(question_end, |last| last.data_end);
        if end != message.len() {
            return None;
        }
        let has_opt = counts[2] > 0 && places.last().is_some_and(|last| last.kind == OPT);
        if has_opt {
            end = places.pop()?.start;
            counts[2] -= 1;
        }
        if places.iter().any(|p| matches!(p.kind, OPT | TSIG)) {
            return None;
        }
        let ttl = lifetime(message, &places, counts, code)?;
        let from_question = |place: &Place| u16::try_from(place.ttl_at - question_end).ok();
        Some(Self {
            code,
            is_authentic: header[3] & AD != 0,
            counts,
            bytes: message[question_end..end].to_vec(),
            ttls: places.iter().map(from_question).collect::<Option<_>>()?,
            ttl,
        })
    }

    /// Seconds that it may be kept.
    pub(super) fn ttl(&self) -> u32 {
        self.ttl
    }

    /// The same for the kernel, its times left open; `None` if it does not fit there.
    pub(super) fn in_kernel(&self) -> Option<Answer> {
        let mut answer = Answer::zeroed();
        let [answers, authorities, additionals] = self.counts;
        (answer.answers, answer.authorities) = (answers, authorities);
        answer.additionals = additionals;
        answer.code = self.code | if self.is_authentic { AD } else { 0 };
        answer.length = u16::try_from(self.bytes.len()).ok()?;
        if self.bytes.len() > BODY {
            return None;
        }
        answer.body[..self.bytes.len()].copy_from_slice(&self.bytes);
        answer.ttl_count = u16::try_from(self.ttls.len()).ok()?;
        let ttls = answer.ttls.get_mut(..self.ttls.len())?;
        ttls.copy_from_slice(&self.ttls);
        Some(answer)
    }

    /// The reply to `query` made of it, in which everything lives for `ttl` seconds more.
    pub(super) fn reply(&self, query: &Query, ttl: u32) -> Vec<u8> {
        let authentic = if self.is_authentic { AD } else { 0 };
        let reply = query.with(self.code | authentic, self.counts, |reply| {
            let body = reply.len();
            reply.extend(&self.bytes);
            for &at in &self.ttls {
                let at = body + usize::from(at);
                reply[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
            }
        });
        query.fit(reply)
    }
}

/// Every record after the question. `None` if a section is not as long as the header says.
fn places(message: &[u8], question_end: usize, counts: [u16; 3]) -> Option<Vec<Place>> {
    let count: usize = counts.iter().map(|count| usize::from(*count)).sum();
    // Each has eleven bytes at least.
    if count > message.len() / 11 {
        return None;
    }
    let mut places = Vec::with_capacity(count);
    let mut at = question_end;
    for _ in 0..count {
        let place = place(message, at)?;
        at = place.data_end;
        places.push(place);
    }
    Some(places)
}

fn place(message: &[u8], start: usize) -> Option<Place> {
    let fixed = name_end(message, start)?;
    let head: &[u8; 10] = message.get(fixed..)?.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
    let data_end = fixed + head.len() + length;
    // RFC 2181 §8: what looks negative is zero.
    let ttl = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    (data_end <= message.len()).then_some(Place {
        kind: u16::from_be_bytes([head[0], head[1]]),
        start,
        ttl_at: fixed + 4,
        ttl: if ttl > i32::MAX as u32 { 0 } else { ttl },
        data_end,
    })
}

fn name_end(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            length if length < 64 => at += 1 + length,
            length if length >= 192 => return Some(at + 2),
            _ => return None,
        }
    }
}

/// Seconds that the records may be kept; `None` if not at all.
fn lifetime(message: &[u8], places: &[Place], counts: [u16; 3], code: u8) -> Option<u32> {
    let answers = usize::from(counts[0]);
    let (answers, rest) = places.split_at(answers.min(places.len()));
    let positive = answers.iter().map(|place| place.ttl).min();
    let negative = rest.iter().take(usize::from(counts[1])).find_map(|place| {
        let minimum = message.get(place.data_end - 4..place.data_end)?;
        let minimum = u32::from_be_bytes(minimum.try_into().ok()?);
        (place.kind == SOA).then_some(place.ttl.min(minimum).min(LONGEST_NEGATIVE))
    });
    let ttl = match (positive, negative) {
        (Some(positive), Some(negative)) => positive.min(negative),
        (Some(positive), None) if code == NO_ERROR => positive,
        (None, Some(negative)) => negative,
        (Some(_) | None, None) => return None,
    };
    (ttl > 0).then_some(ttl.min(LONGEST))
}

#[cfg(test)]
mod tests;
