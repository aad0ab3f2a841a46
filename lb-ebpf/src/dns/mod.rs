//! DNS answers in the kernel: a query that a container sends to the daemon's private port, on its
//! loopback interface or on the host, is made its own reply, if the answer is known for certain.
//!
//! | what | is answered |
//! |---|---|
//! | a name of one of the asker's Networks | from the table of the first that knows it |
//! | any other name | from what the host's name servers said before, if the asker may ask them |
//!
//! Everything else goes up to the daemon: other ports, fragments and IP options, replies, other
//! operations than a query, more or less than one question, other classes than IN, ANY, compressed or
//! long names, upper case in a name of several labels (of a Network's name it counts), EDNS of another
//! version or with options, bytes after the end, and records that the daemon has kept for itself.
//!
//! # Why
//! The answers are rendered by the daemon, and only their order and their age are decided here, so
//! that a reply has the bytes that the daemon's own would have.

#[cfg(any(feature = "native", test))]
pub mod native;
mod question;
mod reply;

use lb_common::dns::{Answer, AnswerKey, NAME, NamedAnswer, TABLES, View};
use lb_common::{Mac, Port};

use crate::frame::Frame;
pub use question::Work;
use question::{Asked, ETHERTYPE, read};

/// A frame that a container sends.
pub trait Datagram: Frame {
    /// Reads `length` bytes from `offset` on to [`Work::PLACE`]; `false` if they are fewer than
    /// [`Work::SHORTEST`] or more than [`Work::LONGEST`].
    fn read_query(&self, offset: u32, length: u32, into: &mut Work) -> bool;

    /// Writes `length` bytes of the body from `start` on; `start` < `BODY`, `length` <= `BODY`.
    fn write_body(&mut self, offset: u32, answer: &Answer, start: u32, length: u32) -> bool;
}

/// The ends of a datagram: addresses as the wire's four bytes in native words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub source: u32,
    pub destination: u32,
    pub port: Port,
}

/// Where a frame is seen.
pub trait Place {
    /// The cookie of the namespace that sends it; `None` if it does not go to the daemon.
    fn namespace(&self, ends: &Ends) -> Option<u64>;

    /// The port that an answer comes from, where `asked` is the one that the query has come to.
    fn source_port(&self, asked: Port) -> Port;
}

/// What may be asked.
pub trait Names {
    /// What may be asked in this namespace.
    fn view(&self, namespace: u64) -> Option<&View>;

    fn answer(&self, key: &AnswerKey) -> Option<&NamedAnswer>;

    fn random(&self) -> u32;

    /// Counts an answer from this table.
    fn count(&self, table: u32, answer: &Answer);

    /// One in so many answers is told; 0: none.
    fn samples(&self) -> u32;

    /// Tells of an answer to `asked`.
    fn tell(&self, asked: &Told<'_>, answer: &Answer, now: u64);
}

/// A question that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The cookie of the namespace that asked.
    pub namespace: u64,
    /// Whose answer it was given.
    pub table: u32,
    /// As in [`lb_common::dns::Question::name`].
    pub name: &'a [u8; NAME],
    /// The type of the records that were asked for.
    pub kind: u16,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[repr(u32)]
pub enum Became {
    /// It is as it was, and goes on.
    Untouched = 0,
    /// It is the reply, and goes on: back to who asked.
    Reply = 1,
    /// It could only be changed in part and must not go on.
    Broken = 2,
}

/// As [`answer`], of a frame that does not go to who asked by itself: it is addressed to them.
#[inline(always)]
pub fn answer_across(
    frame: &mut impl Datagram,
    place: &impl Place,
    names: &impl Names,
    work: &mut Work,
) -> Became {
    let became = answer(frame, place, names, work);
    if became != Became::Reply {
        return became;
    }
    let Some([to, from]) = frame.load::<[Mac; 2]>(0) else {
        return Became::Broken;
    };
    match frame.store(0, &[from, to]) {
        Ok(()) => Became::Reply,
        Err(_) => Became::Broken,
    }
}

/// Makes the query in `frame` its own reply, if that is known.
#[inline(always)]
pub fn answer(
    frame: &mut impl Datagram,
    place: &impl Place,
    names: &impl Names,
    work: &mut Work,
) -> Became {
    let length = frame.len().wrapping_sub(ETHERTYPE);
    if !frame.read_query(ETHERTYPE, length, work) || !work.heads.are_plain() {
        return Became::Untouched;
    }
    let ends = work.heads.ends();
    let Some(namespace) = place.namespace(&ends) else {
        return Became::Untouched;
    };
    let port = ends.port;
    let Some(view) = names.view(namespace).filter(|view| view.port == port) else {
        return Became::Untouched;
    };
    let Some(asked) = read(frame, work) else {
        return Became::Untouched;
    };
    let Some((table, answer)) = find(view, &asked, names, work) else {
        return Became::Untouched;
    };
    // A clock and chance take some time: only where they matter.
    let is_timed = answer.until != 0 || answer.ttl_count != 0;
    let now = if is_timed { frame.now() } else { 0 };
    if answer.until != 0 && now >= answer.until {
        return Became::Untouched;
    }
    let samples = names.samples();
    let is_random = samples != 0 || answer.answers > 1;
    let random = if is_random { names.random() } else { 0 };
    if view.stands_in == 0 {
        work.heads.set_port(place.source_port(port));
    }
    if !reply::write(frame, work, &asked, answer, random, now) {
        return Became::Broken;
    }
    names.count(table, answer);
    if samples != 0 && random.is_multiple_of(samples) {
        let told = Told {
            namespace,
            table,
            name: work.whole_name(asked.name),
            kind: asked.kind,
        };
        names.tell(&told, answer, frame.now());
    }
    Became::Reply
}

/// The answer of the first table that knows the name, and the table.
#[inline(always)]
fn find<'a>(
    view: &View,
    asked: &Asked,
    names: &'a impl Names,
    work: &Work,
) -> Option<(u32, &'a Answer)> {
    for index in 0..TABLES {
        if index >= usize::from(view.count) {
            return None;
        }
        let table = view.tables[index];
        let is_host = table == lb_common::dns::HOST;
        // What servers said depends on flags of the query; only the plain ones are kept here.
        if is_host && !asked.is_plain {
            return None;
        }
        let kind = if is_host {
            asked.kind
        } else {
            asked.own_kind()
        };
        let key = AnswerKey {
            table,
            kind,
            _pad: 0,
            name: asked.hash,
        };
        if let Some(NamedAnswer { name, answer }) = names.answer(&key) {
            // Of another name with that hash nothing is said about this one.
            let is_known = work.is_name(asked.name, name) && answer.ask_daemon == 0;
            return is_known.then_some((table, answer));
        }
    }
    None
}
