//! DNS answers in the kernel: each query through the library and through BPF_PROG_TEST_RUN.

use std::path::Path;

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use bytemuck::{Pod, Zeroable, bytes_of};
use lb_common::Port;
use lb_common::dns::{Answer, BODY, HOST, NAME, Question, View};
use lb_ebpf::dns::native::{HEADERS, Memory, frame, ip_checksum, reply, run};
use lb_userspace::netns::Namespace;

/// Where the daemon listens.
const PORT: Port = Port::new(40_000);
/// Tables of two Networks.
const FRONT: u32 = 2;
const BACK: u32 = 3;
/// Seconds.
const TTL: u32 = 5;

const A: u16 = 1;
const PTR: u16 = 12;
const MX: u16 = 15;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const HTTPS: u16 = 65;
const ANY: u16 = 255;

/// A name as on the wire.
fn wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn question(table: u32, kind: u16, name: &str) -> Question {
    let wire = wire(&name.to_ascii_lowercase());
    let mut question = Question {
        table,
        kind,
        ..Question::zeroed()
    };
    question.name[..wire.len()].copy_from_slice(&wire);
    question
}

fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1]);
    record.extend(ttl.to_be_bytes());
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

/// An answer of equal records.
fn answer(records: &[Vec<u8>]) -> Answer {
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
fn names(now: u64) -> Memory {
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
    over.until = now;

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
        (HOST, A, "example.com", kept),
        (HOST, A, "web", answer(&[a(8)])),
        (HOST, MX, "db", answer(&[])),
        (HOST, A, "gone.example.com", absent),
        (HOST, A, "old.example.com", over),
    ];
    let view = View {
        port: PORT,
        count: 3,
        tables: [FRONT, BACK, HOST, 0, 0, 0, 0, 0, 0],
    };
    Memory {
        view: Some(view),
        answers: answers
            .into_iter()
            .map(|(table, kind, name, answer)| (question(table, kind, name), answer))
            .collect(),
        ..Memory::default()
    }
}

/// A query with these flags; `tail` is `additionals` records.
fn query(flags: [u8; 2], name: &[u8], kind: u16, additionals: u8, tail: &[u8]) -> Vec<u8> {
    let mut query = vec![
        0xab,
        0xcd,
        flags[0],
        flags[1],
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        additionals,
    ];
    query.extend(name);
    query.extend(kind.to_be_bytes());
    query.extend([0, 1]);
    query.extend(tail);
    query
}

fn plain(name: &str, kind: u16) -> Vec<u8> {
    query([1, 0], &wire(name), kind, 0, &[])
}

fn edns(name: &str, flags: u8) -> Vec<u8> {
    query([1, 0], &wire(name), A, 1, &opt(flags))
}

fn opt(flags: u8) -> [u8; 11] {
    [0, 0, 41, 4, 208, 0, 0, flags, 0, 0, 0]
}

/// `query` with other bytes at `at`.
fn with(mut query: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    query[at..at + bytes.len()].copy_from_slice(bytes);
    query
}

/// What is said about a reply: the code, the number of answers, and the last byte of the last one.
type Said = (u8, u8, Option<u8>);

/// What is asked, the query, and what is said; `None`: the daemon is asked.
type Row = (&'static str, Vec<u8>, Option<Said>);

fn rows() -> Vec<Row> {
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
            "the longest name",
            plain(&format!("{long}.{long}"), A),
            Some((0, 1, Some(6))),
        ),
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
        ("upper case in several labels", plain("web.Front", A), None),
        (
            "a name that is too long",
            plain(&format!("{long}.{long}x"), A),
            None,
        ),
        ("ANY", plain("web", ANY), None),
        ("the root", plain("", A), None),
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
        ("another class", with(web(), 20, &[3]), None),
        ("a label that is too long", with(web(), 12, &[64]), None),
        ("a compressed name", with(web(), 12, &[0xc0, 0x0c]), None),
        ("a label beyond the end", with(web(), 12, &[20]), None),
        ("a name that ends early", with(web(), 13, &[0]), None),
        ("a byte after the end", [web(), vec![0]].concat(), None),
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

/// The program, or nothing where the kernel has no use for it.
struct Kernel {
    ebpf: Option<Ebpf>,
}

impl Kernel {
    fn new(names: &Memory) -> Self {
        if !lb_userspace::datapath::answers_names() {
            eprintln!("only natively: this kernel is older than 6.13");
            return Self { ebpf: None };
        }
        let mut loader = veer_tests::object::loader();
        let mut ebpf = loader
            .load(veer_tests::object::bytes())
            .expect("load the object: root, and kernel 6.1 or later");
        program(&mut ebpf)
            .load()
            .unwrap_or_else(|error| panic!("load dns_lo: {error:?}"));
        let mut kernel = Self { ebpf: Some(ebpf) };
        let here = Namespace::open(Path::new("/proc/self/ns/net")).expect("our own namespace");
        let cookie = here.cookie().expect("its cookie");
        let view = names.view.expect("the asker is known");
        kernel.put::<u64, View, 8, 40>("DNS_VIEWS", cookie, view);
        for (question, answer) in &names.answers {
            kernel.put::<Question, Answer, 88, 432>("DNS_ANSWERS", *question, *answer);
        }
        kernel
    }

    fn put<K: Pod, V: Pod, const KN: usize, const VN: usize>(
        &mut self,
        map: &str,
        key: K,
        value: V,
    ) {
        let ebpf = self.ebpf.as_mut().expect("just loaded");
        let map = ebpf.map_mut(map).expect("a map");
        let mut map: HashMap<&mut MapData, [u8; KN], [u8; VN]> = map.try_into().expect("a hash");
        let key: [u8; KN] = bytes_of(&key).try_into().expect("the key's size");
        let value: [u8; VN] = bytes_of(&value).try_into().expect("the value's size");
        map.insert(key, value, 0).expect("write");
    }

    /// What becomes of a frame: in the kernel, or natively where that cannot be.
    fn run(&mut self, frame: &[u8], names: &Memory) -> Vec<u8> {
        let Some(ebpf) = &mut self.ebpf else {
            return run(frame, names, now());
        };
        let mut output = vec![0; frame.len() + 512];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut output),
            ..TestRunOptions::new()
        };
        let result = program(ebpf).test_run(options).expect("run dns_lo");
        assert_eq!(result.return_value as i32, -1, "no frame is lost");
        output.truncate(result.data_size_out as usize);
        output
    }
}

fn program(ebpf: &mut Ebpf) -> &mut SchedClassifier {
    let program = ebpf.program_mut("dns_lo").expect("a program of the object");
    program.try_into().expect("a classifier")
}

/// Nanoseconds by which the clock that programs read may be behind ours: it moves with the timer's
/// tick, which comes a hundred times a second at least.
const LAG: u64 = 20_000_000;

/// The kernel's own clock, which it counts down by.
fn now() -> u64 {
    lb_userspace::datapath::now().expect("read the clock")
}

/// Checks the headers around a reply and takes them off.
fn unwrapped(asked: &[u8], replied: &[u8]) -> Vec<u8> {
    let (ip, asked_ip) = (&replied[14..34], &asked[14..34]);
    assert_eq!(
        (&ip[12..16], &ip[16..]),
        (&asked_ip[16..], &asked_ip[12..16])
    );
    let mut unchecked = ip.to_vec();
    unchecked[10..12].fill(0);
    assert_eq!(ip_checksum(&unchecked), ip[10..12], "the header's checksum");
    assert_eq!(
        usize::from(u16::from_be_bytes([ip[2], ip[3]])),
        replied.len() - 14
    );
    assert_eq!(
        (&replied[34..36], &replied[36..38]),
        (&asked[36..38], &asked[34..36])
    );
    let length = u16::from_be_bytes([replied[38], replied[39]]);
    assert_eq!(usize::from(length), replied.len() - 34);
    assert_eq!(replied[40..42], [0, 0], "no checksum over UDP");
    replied[HEADERS..].to_vec()
}

/// The replies that the library may give, by what comes first; none if the daemon is asked.
fn replies(query: &[u8], names: &Memory, now: u64) -> Vec<Vec<u8>> {
    let with = |random| Memory {
        random,
        ..names.clone()
    };
    (0..3)
        .filter_map(|random| reply(query, &with(random), now))
        .collect()
}

#[test]
fn what_is_surely_known_is_answered_and_everything_else_goes_up_unchanged() {
    let names = names(now());
    let mut kernel = Kernel::new(&names);

    for (what, query, said) in rows() {
        let asked = frame(&query, PORT);
        let before = now() - LAG;
        let came = kernel.run(&asked, &names);
        let mut expected = replies(&query, &names, before);
        expected.extend(replies(&query, &names, now()));

        let Some((code, answers, last)) = said else {
            assert_eq!(came, asked, "{what}: unchanged");
            assert!(expected.is_empty(), "{what}: natively as well");
            continue;
        };
        assert_ne!(came, asked, "{what}: answered");
        let reply = unwrapped(&asked, &came);
        assert_eq!(
            (reply[0], reply[1], reply[2] & 0x80),
            (0xab, 0xcd, 0x80),
            "{what}"
        );
        assert_eq!((reply[3] & 0x0f, reply[7]), (code, answers), "{what}");
        if let Some(last) = last {
            assert_eq!(reply.last(), Some(&last), "{what}");
        }
        assert!(
            expected.contains(&reply),
            "{what}: {reply:?} is none of {expected:?}"
        );
    }
}

#[test]
fn other_frames_are_left_alone() {
    let names = names(now());
    let mut kernel = Kernel::new(&names);
    let asked = frame(&plain("db", A), PORT);

    for (what, at, bytes) in [
        ("another port", 36, &[0, 53][..]),
        ("another address", 33, &[12]),
        ("TCP", 23, &[6]),
        ("IPv6", 12, &[0x86, 0xdd]),
        ("IP options", 14, &[0x46]),
        ("a first fragment", 20, &[0x20]),
        ("a later fragment", 21, &[1]),
        ("a UDP length that lies", 39, &[12]),
        ("an IP length that lies", 17, &[40]),
    ] {
        let other = with(asked.clone(), at, bytes);
        assert_eq!(kernel.run(&other, &names), other, "{what}");
    }
    assert_ne!(
        kernel.run(&asked, &names),
        asked,
        "the frame itself is answered"
    );
}

#[test]
fn every_record_comes_first_sometimes() {
    let mut names = names(now());
    let mut kernel = Kernel::new(&names);
    let asked = frame(&plain("web", A), PORT);
    let mut first = [0; 3];

    for turn in 0..300 {
        names.random = turn;
        let reply = unwrapped(&asked, &kernel.run(&asked, &names));
        let last_byte = reply[12 + 9 + 15];
        first[usize::from(last_byte) - 1] += 1;
    }

    // By chance one is below 50 less than once in 10^8 runs.
    assert!(first.iter().all(|count| *count > 50), "{first:?}");
}

#[test]
fn the_time_that_is_left_is_counted_down() {
    let started = now();
    let names = names(started);
    let mut kernel = Kernel::new(&names);
    let asked = frame(&plain("example.com", A), PORT);

    let before = now() - LAG;
    let reply = unwrapped(&asked, &kernel.run(&asked, &names));
    let after = now();

    let left = |now: u64| ((started + 200_500_000_000 - now) / 1_000_000_000) as u32;
    let body = &reply[12 + wire("example.com").len() + 4..];
    let ttl = u32::from_be_bytes(*body[6..].first_chunk().unwrap());
    assert!((left(after)..=left(before)).contains(&ttl), "{ttl}");
    assert_eq!(body[22..26], ttl.to_be_bytes(), "the same in every record");
}

#[test]
fn mutated_queries_get_the_same_from_the_library_and_from_the_kernel() {
    // A run of a million takes `VEER_FUZZ=1000000`.
    let rounds = std::env::var("VEER_FUZZ").map_or(20_000, |text| text.parse().expect("a number"));
    let names = names(now());
    let mut kernel = Kernel::new(&names);
    let seeds: Vec<_> = rows().into_iter().map(|(_, query, _)| query).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut answered = 0;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };

    for _ in 0..rounds {
        let mut query = seeds[next(seeds.len())].clone();
        for _ in 0..next(4) {
            let at = next(query.len());
            query[at] = next(256) as u8;
        }
        if next(8) == 0 {
            query.truncate(next(query.len()) + 1);
        }
        let asked = frame(&query, PORT);
        let before = now() - LAG;
        let came = kernel.run(&asked, &names);
        let mut expected = replies(&query, &names, before);
        expected.extend(replies(&query, &names, now()));
        if came == asked {
            assert!(expected.is_empty(), "only natively: {query:?}");
        } else {
            let reply = unwrapped(&asked, &came);
            assert!(
                expected.contains(&reply),
                "{query:?} gave {reply:?}, not {expected:?}"
            );
            answered += 1;
        }
    }
    assert!(
        answered > rounds / 100,
        "{answered} of {rounds} were answered"
    );
}

const _: () = assert!(
    NAME == 80 && BODY == 192,
    "the names above are as long as may be"
);
