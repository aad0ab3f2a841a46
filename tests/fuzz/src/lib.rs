//! What is fuzzed, as functions that panic where something does not hold.
//!
//! | target | input | must hold |
//! |---|---|---|
//! | `dns_query` | one byte that chooses the transport, then a DNS message | every reply is well-formed and is to that query; the kernel never says anything else than the daemon |
//! | `dns_records` | words, zeros between them: names of Networks and containers | the same for a question about everything that the kernel was given |

use std::fs;
use std::io;

use hickory_proto::op::Message;
use hickory_proto::serialize::binary::BinDecodable;
use lb_common::dns::{NAME, Question, length};
use lb_common::{Port, Resolver};
use lb_ebpf::dns::native::{self, Memory};
use lb_userspace::dns::{Records, Rules};
use lb_userspace::model::{Observed, PortRange, Protocol};
use serde_json::json;

/// The namespace that asks.
const COOKIE: u64 = 7;

/// Bytes of a DNS header.
const HEADER: usize = 12;

/// What every client takes over UDP, and the most that it can say it does.
const LIMITS: [usize; 2] = [512, 65_535];

/// Addresses enough for the largest answers.
const CONTAINERS: usize = 14;

/// The type that is asked for where the kernel has one answer to all.
const TXT: u16 = 16;

/// Names of a first Network, the last of which everybody has.
const WORDS: [&str; 7] = ["front", "web", "db", "db.cache", "Upper", "a.b", "many"];

thread_local! {
    static SITE: (Records, Memory) = site(&WORDS);
}

/// Any bytes as a message.
pub fn query(data: &[u8]) {
    let Some((transport, message)) = data.split_first() else {
        return;
    };
    SITE.with(|(records, memory)| {
        let reply = records.reply(COOKIE, message, transport & 1 == 1);
        if let Some(reply) = &reply {
            let limit = LIMITS[usize::from(transport & 1)];
            answers(message, reply, limit.max(payload(message)));
        }
        same(records, memory, message);
    });
}

/// Any words as names.
pub fn records(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let words: Vec<&str> = text.split('\0').take(2 * CONTAINERS).collect();
    let (records, memory) = site(&words);
    for (key, named) in &memory.answers {
        same(&records, &memory, &asked(key.kind, named.bytes()));
    }
}

/// Runs `target` on every file that the command line names.
pub fn replay(target: fn(&[u8])) -> io::Result<()> {
    std::env::args_os()
        .skip(1)
        .try_for_each(|file| fs::read(file).map(|data| target(&data)))
}

/// A Network called as the first word, with containers called as the others, the first of which asks.
fn site(words: &[&str]) -> (Records, Memory) {
    let network = words.first().copied().unwrap_or_default();
    let containers = words.iter().skip(1).take(CONTAINERS).enumerate();
    let containers: Vec<_> = containers
        .map(|(index, name)| container(index, name, words))
        .collect();
    let observed = json!({
        "networks": [{
            "id": "1", "name": network, "bridge": "br", "subnets": [], "internal": false, "labels": {},
        }],
        "containers": containers,
        "notices": [],
    });
    let mut observed: Observed = serde_json::from_value(observed).expect("as it is written");
    for (index, container) in (0..).zip(&mut observed.containers) {
        container.publishing.exposed = vec![PortRange {
            protocol: Protocol::Tcp,
            first: 79 + index,
            count: 2,
        }];
    }
    let records = Records::build(&observed, &[], &Rules::default());
    let resolver = Resolver {
        udp: Port::new(40_000),
        ..Resolver::default()
    };
    let memory = records.in_kernel(COOKIE, resolver);
    (records, memory)
}

fn container(index: usize, name: &str, words: &[&str]) -> serde_json::Value {
    let cookie = if index == 0 {
        COOKIE
    } else {
        100 + index as u64
    };
    // The last word is everybody's hostname: the name with the most addresses.
    json!({
        "id": format!("{index:016}"), "name": name, "hostname": words.last(), "state": "running",
        "labels": {}, "netns": {"path": "/nowhere", "cookie": cookie}, "sharers": [],
        "dns_servers": [],
        "attachments": [{
            "network": "1", "endpoint_id": "e", "v4": format!("10.0.0.{}", index + 1),
            "v6": index.is_multiple_of(2).then(|| format!("fd00::{index:x}")), "aliases": [], "link": null,
        }],
    })
}

/// `reply` is well-formed and is one to `message`.
fn answers(message: &[u8], reply: &[u8], limit: usize) {
    assert!(
        reply.len() >= HEADER && reply.len() <= limit,
        "{}",
        reply.len()
    );
    assert_eq!(reply[..2], message[..2], "the id");
    assert_eq!(reply[2] & 0x80, 0x80, "QR");
    let read = Message::from_bytes(reply).expect("a message");
    let has_question = !read.queries.is_empty();
    if has_question {
        let name = &reply[HEADER..];
        let end = name.iter().position(|byte| *byte == 0).expect("the root");
        // Labels may have zeros in them; the beginning must be the same all the same.
        assert_eq!(
            reply[HEADER..][..end],
            message[HEADER..][..end],
            "the question"
        );
    }
}

/// The payload size that a client with EDNS says, wherever it is: no reply is longer.
fn payload(message: &[u8]) -> usize {
    let read = Message::from_bytes(message);
    read.map_or(0, |message| usize::from(message.max_payload()))
}

/// The kernel says nothing, or what the daemon says: of the same records, in any order.
fn same(records: &Records, memory: &Memory, message: &[u8]) {
    if memory.view.is_none() {
        return;
    }
    let Some(mut kernels) = native::reply(message, memory, 0) else {
        return;
    };
    answers(message, &kernels, LIMITS[1]);
    let daemons = records.reply(COOKIE, message, false);
    let mut daemons = daemons.expect("the daemon would ask others");
    kernels.sort_unstable();
    daemons.sort_unstable();
    assert_eq!(kernels, daemons, "{message:?}");
}

/// A query for what the kernel has of a name; `kind` as in [`Question::kind`].
fn asked(kind: u16, name: &[u8; NAME]) -> Vec<u8> {
    let mut message = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(&name[..length(name)]);
    let kind = if kind == Question::OTHER { TXT } else { kind };
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs that are good, to be spoiled.
    const QUERIES: [&[u8]; 5] = [
        b"\0\x01\x02\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01",
        b"\x01\x01\x02\x01\0\0\x01\0\0\0\0\0\0\x03web\x05front\0\0\xff\0\x01",
        b"\0\x01\x02\x01\0\0\x01\0\0\0\0\0\x01\x04many\0\0\x1c\0\x01\0\0\x29\x04\xd0\0\0\x80\0\0\0",
        b"\0\x01\x02\x01\0\0\x01\0\0\0\0\0\0\x03_80\x04_tcp\x03web\0\0\x21\0\x01",
        b"\0\x01\x02\x01\0\0\x01\0\0\0\0\0\0\x011\x010\x010\x0210\x07in-addr\x04arpa\0\0\x0c\0\x01",
    ];
    const NAMES: [&[u8]; 3] = [
        b"front\0web\0db\0db.front\0a.b.c\0WEB\0many",
        b"\0\0\0",
        b"x.front\0_80._tcp.web\0web\0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\0.\0..",
    ];

    /// Runs `target` on `rounds` spoiled inputs, the same ones every time.
    fn spoil(inputs: &[&[u8]], rounds: usize, target: fn(&[u8])) {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        for round in 0..rounds {
            let mut data = inputs[round % inputs.len()].to_vec();
            for _ in 0..next(5) {
                let at = next(data.len());
                match next(4) {
                    0 => data.insert(at, next(256) as u8),
                    1 if data.len() > 1 => drop(data.remove(at)),
                    2 => data[at] = b".\0_A"[next(4)],
                    _ => data[at] = next(256) as u8,
                }
            }
            target(&data);
        }
    }

    /// What libFuzzer begins with, and what it has found.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds");
        let files = fs::read_dir(format!("{folder}/{target}")).expect("seeds");
        let files = files.map(|file| fs::read(file.expect("a file").path()).expect("readable"));
        files.collect()
    }

    #[test]
    fn every_seed_holds() {
        let (queries, names) = (seeds("dns_query"), seeds("dns_records"));
        assert!(!queries.is_empty() && !names.is_empty());

        queries.iter().for_each(|data| query(data));
        names.iter().for_each(|data| records(data));
    }

    #[test]
    fn spoiled_queries_get_good_replies() {
        spoil(&QUERIES, 50_000, query);
    }

    #[test]
    fn spoiled_names_are_answered_alike_by_the_kernel_and_the_daemon() {
        spoil(&NAMES, 300, records);
    }

    #[test]
    fn good_queries_are_answered() {
        SITE.with(|(records, memory)| {
            for data in QUERIES {
                let reply = records.reply(COOKIE, &data[1..], data[0] == 1);
                assert_eq!(reply.expect("known")[3] & 0x0f, 0, "{data:?}");
            }
            assert!(memory.view.is_some() && memory.answers.len() > 50);
        });
    }
}
