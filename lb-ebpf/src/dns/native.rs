//! Names in memory, and frames around queries: for tests and for asking without a kernel.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytemuck::Zeroable;
use lb_common::dns::{Answer, AnswerKey, NAME, NamedAnswer, View};
use lb_common::{Port, Resolver};

use super::{Became, Datagram, Ends, Names, Place, Told, Work, answer, answer_across};
use crate::native::Buffer;

/// Bytes before the DNS header.
pub const HEADERS: usize = 14 + 20 + 8;

/// Answers in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub view: Option<View>,
    pub answers: BTreeMap<AnswerKey, NamedAnswer>,
    /// What [`Names::random`] gives.
    pub random: u32,
    /// How many answers each table has given.
    pub counted: RefCell<BTreeMap<u32, u32>>,
    /// What [`Names::samples`] gives.
    pub samples: u32,
    /// What was told of: the table, the name, and the type that was asked for.
    pub told: RefCell<Vec<(u32, [u8; NAME], u16)>>,
}

/// On a container's loopback interface, asked by a socket that is not connected.
struct Inside;

impl Place for Inside {
    fn namespace(&self, ends: &Ends) -> Option<u64> {
        (ends.destination == Resolver::ADDRESS).then_some(0)
    }

    fn source_port(&self, _asked: Port) -> Port {
        Resolver::PORT
    }
}

/// On the bridge of a Network: the gateway, and who may ask there.
struct AtGate(u32, u32);

impl Place for AtGate {
    fn namespace(&self, ends: &Ends) -> Option<u64> {
        (ends.destination == self.0 && ends.source == self.1).then_some(0)
    }

    fn source_port(&self, asked: Port) -> Port {
        asked
    }
}

impl Names for Memory {
    fn view(&self, _namespace: u64) -> Option<&View> {
        self.view.as_ref()
    }

    fn answer(&self, key: &AnswerKey) -> Option<&NamedAnswer> {
        self.answers.get(key)
    }

    fn random(&self) -> u32 {
        self.random
    }

    fn count(&self, table: u32, _answer: &Answer) {
        *self.counted.borrow_mut().entry(table).or_default() += 1;
    }

    fn samples(&self) -> u32 {
        self.samples
    }

    fn tell(&self, asked: &Told<'_>, _answer: &Answer, _now: u64) {
        let told = (asked.table, *asked.name, asked.kind);
        self.told.borrow_mut().push(told);
    }
}

impl Datagram for Buffer {
    fn read_query(&self, offset: u32, length: u32, into: &mut Work) -> bool {
        let (offset, length) = (offset as usize, length as usize);
        let fits = (Work::SHORTEST..=Work::LONGEST).contains(&length);
        let bytes = self.bytes.get(offset..).and_then(|rest| rest.get(..length));
        let Some(bytes) = bytes.filter(|_| fits) else {
            return false;
        };
        bytemuck::bytes_of_mut(into)[Work::PLACE..][..length].copy_from_slice(bytes);
        true
    }

    fn write_body(&mut self, offset: u32, answer: &Answer, start: u32, length: u32) -> bool {
        let (offset, start, length) = (offset as usize, start as usize, length as usize);
        let Some(room) = self.bytes.get_mut(offset..offset + length) else {
            return false;
        };
        room.copy_from_slice(&answer.body[start..start + length]);
        true
    }
}

/// The frame in which a container asks `query` at `port` inside.
pub fn frame(query: &[u8], port: Port) -> Vec<u8> {
    let asker = u32::from_ne_bytes([127, 0, 0, 1]);
    frame_between([[0; 6]; 2], [asker, Resolver::ADDRESS], query, port)
}

/// The frame from the MAC and IP address of the first to those of the second one in which `query` is asked at
/// `port`; addresses are the wire's four bytes in native words.
pub fn frame_between(macs: [[u8; 6]; 2], ends: [u32; 2], query: &[u8], port: Port) -> Vec<u8> {
    let mut frame = [macs[1], macs[0]].concat();
    let [total, length] = [20 + 8, 8].map(|heads| ((heads + query.len()) as u16).to_be_bytes());
    frame.extend([
        0x08, 0, 0x45, 0, total[0], total[1], 0x12, 0x34, 0x40, 0, 64, 17, 0, 0,
    ]);
    frame.extend(ends.map(u32::to_ne_bytes).concat());
    let check = ip_checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&check);
    frame.extend([0xc0, 0x01]);
    frame.extend(port.wire().to_ne_bytes());
    frame.extend(length);
    frame.extend([0xff, 0x0a]);
    frame.extend(query);
    frame
}

/// The checksum of an IPv4 header in which that field is zero.
pub fn ip_checksum(header: &[u8]) -> [u8; 2] {
    let words = header.chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_be_bytes()
}

/// As it is in the kernel, where there was something else before.
fn used() -> Work {
    let mut work = Work::zeroed();
    bytemuck::bytes_of_mut(&mut work).fill(0xa5);
    work
}

/// What becomes of a frame at `now`, in nanoseconds since boot.
pub fn run(frame: &[u8], names: &Memory, now: u64) -> Vec<u8> {
    let mut buffer = Buffer {
        bytes: frame.to_vec(),
        ifindex: 1,
        now,
        ..Buffer::default()
    };
    match answer(&mut buffer, &Inside, names, &mut used()) {
        Became::Reply | Became::Untouched => buffer.bytes,
        Became::Broken => Vec::new(),
    }
}

/// The same on a bridge: `gateway` is where `guest` may ask.
pub fn run_across(frame: &[u8], [guest, gateway]: [u32; 2], names: &Memory, now: u64) -> Vec<u8> {
    let mut buffer = Buffer {
        bytes: frame.to_vec(),
        ifindex: 1,
        now,
        ..Buffer::default()
    };
    let place = AtGate(gateway, guest);
    match answer_across(&mut buffer, &place, names, &mut used()) {
        Became::Reply | Became::Untouched => buffer.bytes,
        Became::Broken => Vec::new(),
    }
}

/// The reply to `query` that the kernel would give at `now`; `None` if it leaves it to the daemon.
pub fn reply(query: &[u8], names: &Memory, now: u64) -> Option<Vec<u8>> {
    let asked = frame(query, names.view?.port);
    let mut came = run(&asked, names, now);
    (came != asked).then(|| came.split_off(HEADERS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::dns::{Question, TABLES};

    const PORT: Port = Port::new(40_000);
    const TABLE: u32 = 2;

    fn query(name: &[u8]) -> Vec<u8> {
        let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(name);
        query.extend([0, 1, 0, 1]);
        query
    }

    fn question(name: &[u8]) -> Question {
        let mut question = Question {
            table: TABLE,
            kind: Question::A,
            ..Question::zeroed()
        };
        question.name[..name.len()].copy_from_slice(name);
        question
    }

    #[test]
    fn an_answer_comes_from_port_53_unless_others_are_stood_in_for() {
        let name = b"\x03web\0";
        let source_port = |stands_in| {
            let mut tables = [0; TABLES];
            tables[0] = TABLE;
            let names = Memory {
                view: Some(View {
                    port: PORT,
                    count: 1,
                    stands_in,
                    tables,
                }),
                answers: [question(name).element(Answer::zeroed())].into(),
                ..Memory::default()
            };
            let mut buffer = Buffer {
                bytes: frame(&query(name), PORT),
                ifindex: 1,
                ..Buffer::default()
            };
            let became = answer(&mut buffer, &Inside, &names, &mut Work::zeroed());
            assert_eq!(became, Became::Reply);
            Port::from_wire(u16::from_ne_bytes([buffer.bytes[34], buffer.bytes[35]]))
        };

        assert_eq!(source_port(0), Resolver::PORT);
        assert_eq!(source_port(1), PORT);
    }

    #[test]
    fn of_an_answer_nothing_is_told_that_was_asked_before() {
        let asked: [&[u8]; 2] = [b"\x13a-name-that-is-long\0", b"\x02db\0"];
        let mut tables = [0; TABLES];
        tables[0] = TABLE;
        let known = asked.map(|name| question(name).element(Answer::zeroed()));
        let names = Memory {
            view: Some(View {
                port: PORT,
                count: 1,
                stands_in: 0,
                tables,
            }),
            answers: known.into(),
            samples: 1,
            ..Memory::default()
        };
        let mut work = Work::zeroed();

        for name in asked {
            let mut buffer = Buffer {
                bytes: frame(&query(name), PORT),
                ifindex: 1,
                ..Buffer::default()
            };
            let became = answer(&mut buffer, &Inside, &names, &mut work);
            assert_eq!(became, Became::Reply);
        }

        let told = asked.map(|name| (TABLE, question(name).name, Question::A));
        assert_eq!(*names.told.borrow(), told);
    }
}
