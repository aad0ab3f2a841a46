//! A query as it came from a container, checked.

use hickory_proto::op::{Edns, Message, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};

/// Bytes of the header, RFC 1035 §4.1.1.
pub(super) const HEADER: usize = 12;

/// What every client takes over UDP, RFC 1035 §4.2.1.
const SMALLEST_LIMIT: u16 = 512;

/// What we take over UDP, told to clients that speak EDNS.
pub(super) const OWN_LIMIT: u16 = 1232;

/// Bytes after the name of a question.
const TYPE_AND_CLASS: usize = 4;

/// Flags in the third byte of the header.
const QR: u8 = 0x80;
pub(super) const TC: u8 = 0x02;
const RD: u8 = 0x01;

/// Flags in the fourth.
const RA: u8 = 0x80;
const CD: u8 = 0x10;

/// An EDNS record of ours without its flags, RFC 6891 §6.1.2: of the root, with what we take.
const OPT: [u8; 7] = {
    let [high, low] = OWN_LIMIT.to_be_bytes();
    [0, 0, 41, high, low, 0, 0]
};

/// DO, in the first byte of the flags of an EDNS record.
const DO: u8 = 0x80;

/// A query as it was sent to a name server.
#[derive(Clone, Debug)]
pub(super) struct Sent(Vec<u8>);

/// What a name server sent back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// It cannot or will not answer: SERVFAIL, REFUSED.
    Refusal,
    /// A reply with the client's own id and case, whole.
    Reply {
        message: Vec<u8>,
        /// Whether the name came back in the case in which it was sent.
        echoed: bool,
    },
}

/// Which way a query came, and so its reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// One well-formed query with one question.
#[derive(Clone, Debug)]
pub(super) struct Query {
    bytes: Vec<u8>,
    question: Question,
    edns: Option<Edns>,
    /// Where the question section ends in `bytes`.
    question_end: usize,
    transport: Transport,
}

/// Why bytes are no query that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    /// Not even a header, or a reply: an answer could start a loop.
    Ignored,
    /// With this reply.
    Refused(Vec<u8>),
}

impl Query {
    /// The query in `bytes`, which are one whole message without length prefix.
    pub(super) fn parse(bytes: &[u8], transport: Transport) -> Result<Self, Rejected> {
        let header = bytes.first_chunk::<HEADER>().ok_or(Rejected::Ignored)?;
        let is_reply = header[2] & 0x80 != 0;
        if is_reply {
            return Err(Rejected::Ignored);
        }
        let is_standard = header[2] & 0x78 == 0;
        if !is_standard {
            return Err(Rejected::Refused(bare(header, ResponseCode::NotImp)));
        }
        Self::read(bytes, transport)
            .ok_or_else(|| Rejected::Refused(bare(header, ResponseCode::FormErr)))
    }

    fn read(bytes: &[u8], transport: Transport) -> Option<Self> {
        // Checked before the decoder sees it, which makes room for as many questions as announced.
        let counts = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let (questions, answers, authorities) = (counts(4), counts(6), counts(8));
        if questions != 1 || answers > 1 || authorities > 1 {
            return None;
        }
        let question_end = question_end(bytes)?;
        let is_bare = answers == 0 && authorities == 0 && counts(10) == 0;
        let (question, edns) = if is_bare {
            let mut question = BinDecoder::new(&bytes[HEADER..question_end]);
            (Question::read(&mut question).ok()?, None)
        } else {
            let mut message = Message::read(&mut BinDecoder::new(bytes)).ok()?;
            (message.queries.pop()?, message.edns)
        };
        Some(Self {
            bytes: bytes.to_vec(),
            question,
            edns,
            question_end,
            transport,
        })
    }

    /// The name asked for, in the client's case.
    pub(super) fn name(&self) -> &Name {
        self.question.name()
    }

    pub(super) fn kind(&self) -> RecordType {
        self.question.query_type()
    }

    pub(super) fn class(&self) -> DNSClass {
        self.question.query_class()
    }

    pub(super) fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether the client speaks a version of EDNS that does not exist, RFC 6891 §6.1.3.
    pub(super) fn has_unknown_edns(&self) -> bool {
        self.edns.as_ref().is_some_and(|edns| edns.version() > 0)
    }

    /// The message as a name server is sent it: under another id, and with the letters of the name
    /// in another case where `flip` says so, for each letter in turn.
    pub(super) fn sent(&self, id: u16, mut flip: impl FnMut() -> bool) -> Sent {
        let mut bytes = self.bytes.clone();
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        let name = HEADER..self.question_end - TYPE_AND_CLASS;
        // A label's length is less than 64, and so no letter.
        for letter in bytes[name].iter_mut().filter(|b| b.is_ascii_alphabetic()) {
            if flip() {
                *letter ^= 0x20;
            }
        }
        Sent(bytes)
    }

    /// Judges `message`, which came back for `sent`. `None`: it is no reply to that, who knows whose
    /// it is.
    pub(super) fn accept(&self, sent: &Sent, mut message: Vec<u8>) -> Option<Came> {
        let header = message.first_chunk::<HEADER>()?;
        let is_reply = header[2] & 0xf8 == 0x80;
        if !is_reply || header[..2] != sent.0[..2] {
            return None;
        }
        let code = header[3] & 0x0f;
        let failed = code == ResponseCode::ServFail.low() || code == ResponseCode::Refused.low();
        let question = message.get_mut(HEADER..self.question_end);
        let question = question.filter(|question| question.eq_ignore_ascii_case(self.question()));
        let Some(question) = question else {
            // Some servers leave the question out of an error.
            return failed.then_some(Came::Refusal);
        };
        let echoed = *question == sent.0[HEADER..self.question_end];
        question.copy_from_slice(self.question());
        message[..2].copy_from_slice(&self.bytes[..2]);
        Some(if failed {
            Came::Refusal
        } else {
            Came::Reply { message, echoed }
        })
    }

    /// `message`, cut to header and question with TC set if it is longer than the client takes.
    pub(super) fn fit(&self, message: Vec<u8>) -> Vec<u8> {
        if message.len() <= self.limit().into() {
            return message;
        }
        let mut cut = message;
        cut.truncate(self.question_end);
        cut[2] |= TC;
        cut[6..HEADER].fill(0);
        cut
    }

    /// The message as it came.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Id, flags and counts of the message.
    pub(super) fn header(&self) -> [u8; HEADER] {
        // `parse` saw to it that they are there.
        self.bytes.first_chunk().copied().unwrap_or_default()
    }

    /// Whether the client speaks EDNS, and if so whether it wants signatures (DO).
    pub(super) fn wants_signatures(&self) -> Option<bool> {
        let edns = self.edns.as_ref();
        edns.map(|edns| edns.flags().dnssec_ok)
    }

    /// Where the question ends, in bytes from the beginning of the message.
    pub(super) fn question_end(&self) -> usize {
        self.question_end
    }

    /// The question section, in the client's case and uncompressed.
    pub(super) fn question(&self) -> &[u8] {
        &self.bytes[HEADER..self.question_end]
    }

    /// Longest reply that the client takes, in bytes.
    pub(super) fn limit(&self) -> u16 {
        match self.transport {
            Transport::Udp => {
                let told = self.edns.as_ref().map_or(0, Edns::max_payload);
                told.max(SMALLEST_LIMIT)
            }
            Transport::Tcp => u16::MAX,
        }
    }

    /// A reply without records: same id and question, RA, not authoritative.
    pub(super) fn reply(&self, code: ResponseCode) -> Message {
        let asked = self.header();
        let mut reply = Message::response(u16::from_be_bytes([asked[0], asked[1]]), OpCode::Query);
        reply.metadata.recursion_desired = asked[2] & RD != 0;
        reply.metadata.checking_disabled = asked[3] & CD != 0;
        reply.metadata.recursion_available = true;
        reply.metadata.response_code = code;
        reply.queries = vec![self.question.clone()];
        reply.edns = self.edns.as_ref().map(|theirs| {
            let mut ours = Edns::new();
            ours.set_max_payload(OWN_LIMIT);
            ours.set_dnssec_ok(theirs.flags().dnssec_ok);
            ours
        });
        reply
    }

    /// The bytes of `reply`, cut to whole records with TC set if it is longer than the client takes.
    pub(super) fn encode(&self, reply: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(self.limit());
        match reply.emit(&mut encoder) {
            Ok(()) => bytes,
            // Nothing we build is too long for its field; a client that gets this asks elsewhere.
            Err(_) => bare_from(&self.bytes, ResponseCode::ServFail),
        }
    }

    /// A reply with records whose bytes are there already: `counts` answers, authorities and additionals,
    /// which `write` adds, and an EDNS record if the client speaks EDNS. `code` is the fourth byte of the
    /// header as far as the records have a say in it.
    pub(super) fn with(
        &self,
        code: u8,
        counts: [u16; 3],
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Vec<u8> {
        let asked = self.header();
        let signatures = self.wants_signatures();
        let [answers, authorities, additionals] = counts;
        let additionals = additionals + u16::from(signatures.is_some());
        let mut reply = Vec::with_capacity(SMALLEST_LIMIT.into());
        reply.extend(&asked[..2]);
        reply.extend([QR | (asked[2] & RD), RA | (asked[3] & CD) | code]);
        for count in [1, answers, authorities, additionals] {
            reply.extend(count.to_be_bytes());
        }
        reply.extend(self.question());
        write(&mut reply);
        if let Some(wanted) = signatures {
            reply.extend(OPT);
            reply.extend([if wanted { DO } else { 0 }, 0, 0, 0]);
        }
        reply
    }

    /// The bytes of a reply that only says `code`.
    pub(super) fn failure(&self, code: ResponseCode) -> Vec<u8> {
        self.encode(&self.reply(code))
    }
}

impl Sent {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// `message` with the length in front that TCP needs, RFC 1035 §4.2.2.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    // No message is longer: it was a datagram, came framed itself, or was encoded to a limit.
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend(length.to_be_bytes());
    framed.extend(&message[..length.into()]);
    framed
}

/// A header alone that answers `header` with `code`.
fn bare(header: &[u8; HEADER], code: ResponseCode) -> Vec<u8> {
    let mut reply = [0; HEADER];
    reply[..2].copy_from_slice(&header[..2]);
    reply[2] = 0x80 | (header[2] & 0x79);
    reply[3] = 0x80 | code.low();
    reply.to_vec()
}

fn bare_from(bytes: &[u8], code: ResponseCode) -> Vec<u8> {
    bytes
        .first_chunk()
        .map_or_else(Vec::new, |header| bare(header, code))
}

/// Where the question section of a message with one question ends; `None` if it is cut off or its
/// name is compressed, which a first name never needs.
fn question_end(bytes: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => break,
            length if length < 64 => at += 1 + length,
            _ => return None,
        }
    }
    let end = at + 1 + TYPE_AND_CLASS;
    (end <= bytes.len()).then_some(end)
}

#[cfg(test)]
mod tests;
