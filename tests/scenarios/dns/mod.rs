//! DNS answers in the kernel: each query through the library and through BPF_PROG_TEST_RUN.

mod kernel;
mod table;

use std::net::UdpSocket;

use lb_common::dns::{BODY, NAME};
use lb_ebpf::dns::native::{HEADERS, Memory, frame, ip_checksum, reply};

use kernel::{Kernel, OURS, at_least, now};
use table::{PORT, names, plain, rows, with};
use veer_tests::dns::{A, wire};

/// What tests have in their names whose program is told its namespace, as from Linux 6.13 on.
pub(crate) const BY_NAMESPACE: &str = "by_namespace::";

/// Makes whatever answers queries by these names.
type Start = fn(&Memory) -> Kernel;

macro_rules! scenarios {
    ($($name:ident,)+) => {
        mod natively {
            $(#[test] fn $name() { super::$name(super::Kernel::natively); })+
        }
        mod natively_on_a_bridge {
            $(#[test] fn $name() { super::$name(super::Kernel::natively_on_a_bridge); })+
        }
        mod in_the_kernel_on_a_bridge {
            $(#[test] fn $name() { super::$name(super::Kernel::on_a_bridge); })+
        }
        mod in_the_kernel_by_namespace {
            $(#[test] fn $name() { super::$name(super::Kernel::by_namespace); })+
        }
        mod in_the_kernel_by_socket {
            $(#[test] fn $name() { super::$name(super::Kernel::by_socket); })+
        }
    };
}

scenarios! {
    what_is_surely_known_is_answered_and_everything_else_goes_up_unchanged,
    other_frames_are_left_alone,
    every_record_comes_first_sometimes,
    the_time_that_is_left_is_counted_down,
    mutated_queries_get_the_same_from_the_library_and_from_the_kernel,
}

/// A process that sends to the port of another namespace's daemon must not see its names.
#[test]
fn a_namespace_is_not_answered_what_another_one_may_ask() {
    let names = names(now());
    let asked = frame(&plain("db", A), PORT);
    for start in [Kernel::by_namespace, Kernel::by_socket] {
        let mut kernel = start(&names);
        assert_ne!(kernel.run(&asked, &names), asked, "it is answered itself");

        let empty = kernel.elsewhere();
        assert_eq!(kernel.run(&asked, &names), asked, "no socket there");

        let _own = empty
            .run(|| UdpSocket::bind((OURS, PORT.get())))
            .unwrap()
            .unwrap();
        assert_eq!(kernel.run(&asked, &names), asked, "the socket of a process");
    }
}

/// Whoever asks at a port of the host must be the one whose port that is.
#[test]
fn a_port_of_the_host_answers_the_one_whose_it_is_alone() {
    let names = names(now());
    for start in [Kernel::natively_on_a_bridge, Kernel::on_a_bridge] {
        let mut kernel = start(&names);
        let asked = kernel.frame(&plain("db", A), PORT);
        assert_ne!(kernel.run(&asked, &names), asked, "it is answered itself");

        let neighbour = with(asked, 14 + 15, &[3]);
        assert_eq!(kernel.run(&neighbour, &names), neighbour);
    }
}

/// Checks the headers around a reply and takes them off.
fn unwrapped(asked: &[u8], replied: &[u8]) -> Vec<u8> {
    assert_eq!(
        (&replied[..6], &replied[6..12]),
        (&asked[6..12], &asked[..6])
    );
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
    // Who asks inside is not connected, and sees where it has asked.
    let is_inside = asked_ip[16..] == OURS.octets();
    let shown = if is_inside { &[0, 53] } else { &asked[36..38] };
    assert_eq!(
        (&replied[34..36], &replied[36..38]),
        (shown, &asked[34..36])
    );
    let length = u16::from_be_bytes([replied[38], replied[39]]);
    assert_eq!(usize::from(length), replied.len() - 34);
    assert_eq!(replied[40..42], [0, 0], "no checksum over UDP");
    replied[HEADERS..].to_vec()
}

/// Half of the step in which TTLs are counted down.
const STEP: u64 = 500_000_000;

/// The replies that the library may give at any time from `start` to `end`: a machine may stand still for
/// seconds in between.
fn replies_between(query: &[u8], names: &Memory, start: u64, end: u64) -> Vec<Vec<u8>> {
    let mut all = replies(query, names, end);
    let mut at = start;
    while at < end {
        all.extend(replies(query, names, at));
        at += STEP;
    }
    all
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

fn what_is_surely_known_is_answered_and_everything_else_goes_up_unchanged(start: Start) {
    let names = names(now());
    let mut kernel = start(&names);

    for (what, query, said) in rows() {
        let asked = kernel.frame(&query, PORT);
        let before = at_least();
        let came = kernel.run(&asked, &names);
        let expected = replies_between(&query, &names, before, now());

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

fn other_frames_are_left_alone(start: Start) {
    let names = names(now());
    let mut kernel = start(&names);
    let asked = kernel.frame(&plain("db", A), PORT);

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

fn every_record_comes_first_sometimes(start: Start) {
    let mut names = names(now());
    let mut kernel = start(&names);
    let asked = kernel.frame(&plain("web", A), PORT);
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

fn the_time_that_is_left_is_counted_down(start: Start) {
    let started = now();
    let names = names(started);
    let mut kernel = start(&names);
    let asked = kernel.frame(&plain("example.com", A), PORT);

    let before = at_least();
    let reply = unwrapped(&asked, &kernel.run(&asked, &names));
    let after = now();

    let left = |now: u64| ((started + 200_500_000_000 - now) / 1_000_000_000) as u32;
    let body = &reply[12 + wire("example.com").len() + 4..];
    let ttl = u32::from_be_bytes(*body[6..].first_chunk().expect("four bytes"));
    assert!((left(after)..=left(before)).contains(&ttl), "{ttl}");
    assert_eq!(body[22..26], ttl.to_be_bytes(), "the same in every record");
}

fn mutated_queries_get_the_same_from_the_library_and_from_the_kernel(start: Start) {
    // A run of a million takes `VEER_FUZZ=1000000`.
    let rounds = std::env::var("VEER_FUZZ").map_or(10_000, |text| text.parse().expect("a number"));
    let names = names(now());
    let mut kernel = start(&names);
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
        let asked = kernel.frame(&query, PORT);
        let before = at_least();
        let came = kernel.run(&asked, &names);
        let after = now();
        if came == asked {
            // An answer may have run out since.
            let known = [before, after].map(|at| !replies(&query, &names, at).is_empty());
            assert_ne!(known, [true; 2], "only natively: {query:?}");
        } else {
            let expected = replies_between(&query, &names, before, after);
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
