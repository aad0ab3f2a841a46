//! Queries, and what is said to them.

use bytemuck::Zeroable;
use lb_common::Port;
use lb_common::dns::{Answer, HOST, NamedAnswer, Question, View};
use lb_ebpf::dns::native::Memory;
use veer_tests::dns::{A, AAAA, ANY, HTTPS, MX, PTR, TXT, query, wire};

/// Where the daemon listens.
pub(super) const PORT: Port = Port::new(40_000);
/// Tables of two Networks.
pub(super) const FRONT: u32 = 2;
pub(super) const BACK: u32 = 3;
/// Seconds.
pub(super) const TTL: u32 = 5;

pub(super) fn question(table: u32, kind: u16, name: &str) -> Question {
    let wire = wire(&name.to_ascii_lowercase());
    let mut question = Question {
        table,
        kind,
        ..Question::zeroed()
    };
    question.name[..wire.len()].copy_from_slice(&wire);
    question
}

pub(super) fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1]);
    record.extend(ttl.to_be_bytes());
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

/// An answer of equal records.
pub(super) fn answer(records: &[Vec<u8>]) -> Answer {
    let mut answer = Answer::zeroed();
    let body = records.concat();
    answer.length = body.len() as u16;
    answer.answers = records.len() as u16;
    answer.body[..body.len()].copy_from_slice(&body);
    if let [first, _, ..] = records {
        answer.record = first.len() as u16;
        answer.body[body.len()..2 * body.len()].copy_from_slice(&body);
    }
    answer
}

/// What is known: `web` and `big` on both Networks, `db` on the second, and some of the world.
pub(super) fn names(now: u64) -> Memory {
    let a = |last: u8| record(A, TTL, &[10, 0, 0, last]);
    let v6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let daemon = Answer {
        ask_daemon: 1,
        ..Answer::zeroed()
    };
    let mut kept = answer(&[record(5, 0, &wire("to")), a(9)]);
    kept.record = 0;
    (kept.until, kept.expires) = (now + 100_000_000_000, now + 200_500_000_000);
    kept.ttls[..2].copy_from_slice(&[6, 16 + 4 + 6 - 4]);
    kept.ttl_count = 2;
    let mut absent = answer(&[]);
    (absent.code, absent.authorities) = (3, 1);
    absent.until = now + 100_000_000_000;
    let mut over = kept;
    // Longer ago than any clock is behind.
    over.until = now - 1_000_000_000;

    let long = "x".repeat(37);
    let answers = [
        (FRONT, A, "web", answer(&[a(1), a(2), a(3)])),
        (FRONT, AAAA, "web", answer(&[])),
        (FRONT, Question::OTHER, "web", answer(&[])),
        (FRONT, A, "web.front", answer(&[a(1), a(2), a(3)])),
        (FRONT, A, "big", daemon),
        (BACK, A, "web", answer(&[a(4)])),
        (BACK, A, "big", answer(&[a(4)])),
        (BACK, A, "db", answer(&[a(5)])),
        (BACK, AAAA, "db", answer(&[record(AAAA, TTL, &v6)])),
        (
            BACK,
            PTR,
            "5.0.0.10.in-addr.arpa",
            answer(&[record(PTR, TTL, &wire("db.back"))]),
        ),
        (BACK, A, &format!("{long}.{long}"), answer(&[a(6)])),
        (
            BACK,
            Question::SRV,
            "_80._tcp.db",
            answer(&[record(
                Question::SRV,
                TTL,
                &[&[0, 0, 0, 0, 0, 80][..], &wire("db")].concat(),
            )]),
        ),
        (HOST, A, "example.com", kept),
        (HOST, A, "web", answer(&[a(8)])),
        (HOST, MX, "db", answer(&[])),
        (HOST, A, "gone.example.com", absent),
        (HOST, A, "old.example.com", over),
        (BACK, A, "met", answer(&[a(7)])),
    ];
    let answers = answers
        .into_iter()
        .map(|(table, kind, name, answer)| question(table, kind, name).element(answer));
    // The place of `met` on the first Network is another name's.
    let other = NamedAnswer::new(&question(FRONT, A, "other"), answer(&[a(7)]));
    let met = (question(FRONT, A, "met").key(), other);
    let view = View {
        port: PORT,
        count: 3,
        stands_in: 0,
        tables: [FRONT, BACK, HOST, 0, 0, 0, 0, 0, 0],
    };
    Memory {
        view: Some(view),
        answers: answers.chain([met]).collect(),
        ..Memory::default()
    }
}

pub(super) fn plain(name: &str, kind: u16) -> Vec<u8> {
    query([1, 0], &wire(name), kind, 0, &[])
}

pub(super) fn edns(name: &str, flags: u8) -> Vec<u8> {
    query([1, 0], &wire(name), A, 1, &opt(flags))
}

pub(super) fn opt(flags: u8) -> [u8; 11] {
    [0, 0, 41, 4, 208, 0, 0, flags, 0, 0, 0]
}

/// `query` with other bytes at `at`.
pub(super) fn with(mut query: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    query[at..at + bytes.len()].copy_from_slice(bytes);
    query
}

/// What is said about a reply: the code, the number of answers, and the last byte of the last one.
pub(super) type Said = (u8, u8, Option<u8>);

/// What is asked, the query, and what is said; `None`: the daemon is asked.
pub(super) type Row = (&'static str, Vec<u8>, Option<Said>);

pub(super) fn rows() -> Vec<Row> {
    let parts = [
        known(),
        flagged(),
        strangers(),
        heads(),
        questions(),
        records(),
    ];
    parts.into_iter().flatten().collect()
}

/// Names of containers, in every way in which they may be asked for.
fn known() -> Vec<Row> {
    let web = || plain("web", A);
    let long = "x".repeat(37);
    vec![
        ("an address", plain("db", A), Some((0, 1, Some(5)))),
        ("an address, IPv6", plain("db", AAAA), Some((0, 1, Some(1)))),
        ("several addresses", web(), Some((0, 3, None))),
        (
            "upper case in a single label",
            plain("WeB", A),
            Some((0, 3, None)),
        ),
        ("the full name", plain("web.front", A), Some((0, 3, None))),
        (
            "the other family only",
            plain("web", AAAA),
            Some((0, 0, None)),
        ),
        (
            "another type of a known name",
            plain("web", HTTPS),
            Some((0, 0, None)),
        ),
        ("TXT of a known name", plain("web", TXT), Some((0, 0, None))),
        (
            "a name of an address",
            plain("5.0.0.10.in-addr.arpa", PTR),
            Some((0, 1, Some(0))),
        ),
        (
            "a service",
            plain("_80._tcp.db", Question::SRV),
            Some((0, 1, Some(0))),
        ),
        (
            "a service that nobody is known to have",
            plain("_81._tcp.db", Question::SRV),
            None,
        ),
        (
            "SRV of a name that is no service's",
            plain("web", Question::SRV),
            Some((0, 0, None)),
        ),
        (
            "the longest name",
            plain(&format!("{long}.{long}"), A),
            Some((0, 1, Some(6))),
        ),
    ]
}

/// The same with flags and options that change nothing.
fn flagged() -> Vec<Row> {
    vec![
        ("with EDNS", edns("db", 0), Some((0, 1, Some(0)))),
        ("with EDNS and DO", edns("db", 0x80), Some((0, 1, Some(0)))),
        (
            "without RD",
            query([0, 0], &wire("db"), A, 0, &[]),
            Some((0, 1, Some(5))),
        ),
        (
            "with AD and CD",
            query([1, 0x30], &wire("db"), A, 0, &[]),
            Some((0, 1, Some(5))),
        ),
    ]
}

/// Names of others, and names that only the daemon answers.
fn strangers() -> Vec<Row> {
    let long = "x".repeat(37);
    vec![
        (
            "a name of the world",
            plain("example.com", A),
            Some((0, 2, Some(9))),
        ),
        (
            "one that is not there",
            plain("gone.example.com", A),
            Some((3, 0, None)),
        ),
        (
            "one of the world without RD",
            query([0, 0], &wire("example.com"), A, 0, &[]),
            None,
        ),
        ("one of the world with DO", edns("example.com", 0x80), None),
        ("one that ran out", plain("old.example.com", A), None),
        ("an unknown name", plain("unknown", A), None),
        ("one that the daemon keeps", plain("big", A), None),
        ("one with the hash of another", plain("met", A), None),
        ("upper case in several labels", plain("web.Front", A), None),
        (
            "a name that is too long",
            plain(&format!("{long}.{long}x"), A),
            None,
        ),
        ("ANY", plain("web", ANY), None),
        ("the root", plain("", A), None),
    ]
}

/// Heads that are no plain query's.
fn heads() -> Vec<Row> {
    let web = || plain("web", A);
    vec![
        ("a reply", with(web(), 2, &[0x81]), None),
        ("another operation", with(web(), 2, &[0x29]), None),
        ("AA", with(web(), 2, &[0x05]), None),
        ("TC", with(web(), 2, &[0x03]), None),
        ("RA", with(web(), 3, &[0x80]), None),
        ("Z", with(web(), 3, &[0x40]), None),
        ("an error code", with(web(), 3, &[0x03]), None),
        ("no question", with(web(), 5, &[0]), None),
        ("two questions", with(web(), 5, &[2]), None),
        ("many questions", with(web(), 4, &[1]), None),
        ("an answer", with(web(), 7, &[1]), None),
        ("an authority", with(web(), 9, &[1]), None),
        (
            "an additional that is not there",
            with(web(), 11, &[1]),
            None,
        ),
        ("two additionals", with(edns("db", 0), 11, &[2]), None),
        ("many additionals", with(edns("db", 0), 10, &[1]), None),
    ]
}

/// Questions that are none, and what follows them.
fn questions() -> Vec<Row> {
    let web = || plain("web", A);
    vec![
        ("another class", with(web(), 20, &[3]), None),
        ("a label that is too long", with(web(), 12, &[64]), None),
        ("a compressed name", with(web(), 12, &[0xc0, 0x0c]), None),
        ("a label beyond the end", with(web(), 12, &[20]), None),
        ("a name that ends early", with(web(), 13, &[0]), None),
        ("a byte after the end", [web(), vec![0]].concat(), None),
    ]
}

/// Records that are more than a plain OPT record.
fn records() -> Vec<Row> {
    let web = || plain("web", A);
    vec![
        (
            "EDNS of another version",
            with(edns("db", 0), 26, &[1]),
            None,
        ),
        ("an extended code", with(edns("db", 0), 25, &[1]), None),
        ("unknown EDNS flags", with(edns("db", 0), 28, &[1]), None),
        (
            "an OPT record with a name",
            with(edns("db", 0), 20, &[1]),
            None,
        ),
        (
            "an option",
            query(
                [1, 0],
                &wire("db"),
                A,
                1,
                &[&opt(0)[..9], &[0, 4, 0, 3, 0, 0]].concat(),
            ),
            None,
        ),
        (
            "options whose length lies",
            with(edns("db", 0), 30, &[4]),
            None,
        ),
        ("a signature", with(edns("db", 0), 22, &[250]), None),
        ("a header alone", web()[..12].to_vec(), None),
        ("half a header", web()[..7].to_vec(), None),
    ]
}
