use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytemuck::Zeroable;
use hickory_proto::rr::RecordType;
use lb_common::Port;
use lb_ebpf::dns::native::{Memory, reply};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::dns::Rules;
use crate::dns::query::{Query, Transport};
use crate::dns::records::samples::{arbitrary, sample, sample_and};
use crate::dns::reply::{Decision, decide};
use crate::model::Observed;

mod kept;

const COOKIE: u64 = 7;

const RESOLVER: Resolver = Resolver {
    udp: Port::new(40_000),
    tcp: Port::new(40_001),
    docker_udp: Port::new(0),
    docker_tcp: Port::new(0),
    servers: [0; Resolver::SERVERS],
    gateway: 0,
    source: 0,
};

/// The kernel's maps, in memory. Takes so many answers and no more.
#[derive(Debug)]
pub(super) struct Fake {
    views: Mutex<HashMap<u64, View>>,
    answers: Mutex<HashMap<AnswerKey, NamedAnswer>>,
    most: AtomicUsize,
    /// Answers that were written.
    writes: AtomicUsize,
}

impl Fake {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            views: Mutex::default(),
            answers: Mutex::default(),
            most: most.into(),
            writes: AtomicUsize::default(),
        })
    }

    /// What the namespace's queries meet.
    fn memory(&self, cookie: u64) -> Memory {
        Memory {
            view: self.views.lock().expect("no panic").get(&cookie).copied(),
            answers: self
                .answers
                .lock()
                .expect("no panic")
                .iter()
                .map(|(key, answer)| (*key, *answer))
                .collect(),
            ..Memory::default()
        }
    }
}

impl Kernel for Fake {
    fn claim(&self, _socket: BorrowedFd<'_>, _cookie: u64) -> io::Result<()> {
        Ok(())
    }

    fn put_view(&self, cookie: u64, view: &View) -> io::Result<()> {
        self.views.lock().expect("no panic").insert(cookie, *view);
        Ok(())
    }

    fn remove_view(&self, cookie: u64) -> io::Result<()> {
        self.views.lock().expect("no panic").remove(&cookie);
        Ok(())
    }

    fn answer(&self, key: &AnswerKey) -> io::Result<Option<NamedAnswer>> {
        Ok(self.answers.lock().expect("no panic").get(key).copied())
    }

    fn put_answer(&self, key: &AnswerKey, answer: &NamedAnswer) -> io::Result<()> {
        let mut answers = self.answers.lock().expect("no panic");
        self.writes.fetch_add(1, Ordering::Relaxed);
        if answers.len() >= self.most.load(Ordering::Relaxed) && !answers.contains_key(key) {
            return Err(io::Error::other("full"));
        }
        answers.insert(*key, *answer);
        Ok(())
    }

    fn remove_answer(&self, key: &AnswerKey) -> io::Result<()> {
        self.answers.lock().expect("no panic").remove(key);
        Ok(())
    }

    fn clear(&self) -> io::Result<()> {
        Ok(())
    }

    fn counts(&self, _table: u32) -> io::Result<Counts> {
        Ok(Counts::zeroed())
    }

    fn now(&self) -> io::Result<u64> {
        Ok(1_000 * 1_000_000_000)
    }
}

/// `db.cache` on the Network `front`, `db` on the Networks `cache.front` and `Upper`, `many` with
/// thirteen addresses; the asker is on all of them.
fn records(rules: &Rules) -> Records {
    sample(rules, COOKIE)
}

fn published(rules: &Rules) -> (Arc<Fake>, Mirror, Arc<Records>) {
    let fake = Fake::new(usize::MAX);
    let mut mirror = Mirror::new(fake.clone()).expect("an empty kernel");
    let records = Arc::new(records(rules));
    mirror.publish(&records, [(COOKIE, RESOLVER)], Instant::now());
    (fake, mirror, records)
}

fn bytes(name: &str, kind: u16, flags: [u8; 2], edns: Option<u8>) -> Vec<u8> {
    let mut bytes = vec![
        1,
        2,
        flags[0],
        flags[1],
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        edns.is_some().into(),
    ];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    if let Some(flags) = edns {
        bytes.extend([0, 0, 41, 16, 0, 0, 0, flags, 0, 0, 0]);
    }
    bytes
}

/// What the daemon replies from the records; `None` if it asks others.
fn daemons(records: &Records, bytes: &[u8]) -> Option<Vec<u8>> {
    let query = Query::parse(bytes, Transport::Udp).expect("well-formed");
    match decide(&query, records.view(COOKIE)) {
        Decision::Reply(reply, _) => Some(reply),
        Decision::Forward(_) => None,
    }
}

/// A reply's bytes, those of its records in order: both sides give them in any.
fn in_order(mut reply: Vec<u8>, query: &[u8], record: usize) -> Vec<u8> {
    let question_end = query.len() - if query[11] == 1 { 11 } else { 0 };
    if record == usize::MAX {
        return reply;
    }
    let range = question_end..question_end + usize::from(reply[7]) * record;
    let records = reply[range.clone()].chunks(record);
    let mut records: Vec<Vec<u8>> = records.map(<[u8]>::to_vec).collect();
    records.sort();
    reply[range].copy_from_slice(&records.concat());
    reply
}

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const HTTPS: u16 = 65;

const NAMES: &[&str] = &[
    "web",
    "WEB",
    "web.front",
    "Web.front",
    "db",
    "db.cache",
    "db.cache.front",
    "db.Upper",
    "db.upper",
    "many",
    "many.front",
    "tasks.web",
    "unknown",
    "unknown.front",
    "host-web",
    "1.0.0.10.in-addr.arpa",
    "9.9.9.9.in-addr.arpa",
    "0.10.in-addr.arpa",
    "_80._tcp.web",
    "_http._tcp.web.front",
    "_http._tcp.Web.front",
    "_80._udp.web",
    "_81._tcp.web",
    "_53._tcp.db.cache",
    "_53._tcp.db.cache.front",
    "_5000._tcp.db",
    "_80._tcp.unknown",
    "_tcp.web",
    "",
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
];

proptest! {
    /// The kernel may leave a question to the daemon, but never answers one differently.
    #[test]
    fn what_the_kernel_answers_the_daemon_would_answer_with_the_same_bytes(
        name in prop::sample::select(NAMES),
        kind in prop::sample::select(&[A, AAAA, PTR, HTTPS, 15, 16, 33, 255][..]),
        rd in 0..2_u8,
        low in prop::sample::select(&[0_u8, 0x10, 0x20, 0x30][..]),
        edns in prop::sample::select(&[None, Some(0), Some(0x80)][..]),
        leak: bool,
        single_labels: bool,
    ) {
        let rules = Rules { leak, single_labels, ..Rules::default() };
        let (fake, _mirror, records) = published(&rules);
        let query = bytes(name, kind, [rd, low], edns);

        if let Some(kernels) = reply(&query, &fake.memory(COOKIE), 0) {
            let daemons = daemons(&records, &query);
            prop_assert!(daemons.is_some(), "the daemon would ask others");
            // One record at most has any other type.
            let record = match kind { A => 16, AAAA => 28, _ => usize::MAX };
            prop_assert_eq!(
                in_order(kernels, &query, record),
                in_order(daemons.unwrap_or_default(), &query, record)
            );
        }
    }
}

#[test]
fn the_kernel_answers_what_is_simple_and_leaves_the_rest_to_the_daemon() {
    let (fake, _mirror, _records) = published(&Rules::default());
    let memory = fake.memory(COOKIE);
    let answers = |name: &str, kind: u16| {
        let reply = reply(&bytes(name, kind, [1, 0], None), &memory, 0)?;
        Some(reply[7])
    };

    for (name, kind, expected) in [
        ("web", A, Some(1)),
        ("WEB", A, Some(1)),
        ("web.front", A, Some(1)),
        ("web", HTTPS, Some(0)),
        ("db.cache", A, Some(1)),
        ("1.0.0.10.in-addr.arpa", PTR, Some(1)),
        // `db` on `cache.front`, and `db.cache` on `front`: the daemon knows which comes first.
        ("db.cache.front", A, None),
        ("db.Upper", A, None),
        ("db.upper", A, None),
        ("_80._tcp.web", SRV, Some(1)),
        ("_http._tcp.web.front", SRV, Some(1)),
        ("_54._tcp.db.cache", SRV, Some(1)),
        ("web", SRV, Some(0)),
        // The kernel knows the services that there are, and a few of those only.
        ("_81._tcp.web", SRV, None),
        ("_5000._tcp.db", SRV, None),
        ("_53._tcp.db.cache.front", SRV, None),
        // Thirteen records do not fit.
        ("many", A, None),
        ("many", AAAA, Some(0)),
        ("unknown", A, None),
    ] {
        assert_eq!(answers(name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn a_change_is_there_with_the_next_answer_and_what_is_gone_is_gone() {
    let (fake, mut mirror, _) = published(&Rules::default());
    let query = bytes("web", A, [1, 0], None);
    assert!(reply(&query, &fake.memory(COOKIE), 0).is_some());

    let empty: Observed = serde_json::from_value(json!({
        "networks": [], "containers": [], "notices": []
    }))
    .expect("nothing is there");
    let nobody = Arc::new(Records::build(&empty, &[], &Rules::default()));
    mirror.publish(&nobody, [(COOKIE, RESOLVER)], Instant::now());

    assert!(fake.answers.lock().expect("no panic").is_empty());
    assert_eq!(fake.memory(COOKIE).view, None);
}

#[test]
fn only_namespaces_in_which_somebody_listens_are_answered() {
    let (fake, mut mirror, records) = published(&Rules::default());
    mirror.dismiss(COOKIE);
    assert_eq!(fake.memory(COOKIE).view, None);

    mirror.admit(&records, COOKIE, RESOLVER);
    assert!(fake.memory(COOKIE).view.is_some());

    mirror.publish(&records, [], Instant::now());
    assert_eq!(fake.memory(COOKIE).view, None);
}

#[test]
fn the_kernel_knows_where_others_servers_are_stood_in_for() {
    let (fake, mut mirror, records) = published(&Rules::default());
    let stands_in = || fake.memory(COOKIE).view.map(|view| view.stands_in);
    assert_eq!(stands_in(), Some(0));
    let mut resolver = RESOLVER;
    resolver.servers[0] = u32::from_ne_bytes([192, 0, 2, 53]);

    mirror.admit(&records, COOKIE, resolver);
    assert_eq!(stands_in(), Some(1));

    mirror.publish(&records, [(COOKIE, resolver)], Instant::now());
    assert_eq!(stands_in(), Some(1));
}

#[test]
fn without_room_for_every_answer_the_kernel_gives_none_until_there_is_room() {
    let fake = Fake::new(5);
    let mut mirror = Mirror::new(fake.clone()).expect("an empty kernel");
    let records = Arc::new(records(&Rules::default()));
    let served = [(COOKIE, RESOLVER)];
    let begun = Instant::now();

    mirror.publish(&records, served, begun);
    mirror.admit(&records, COOKIE, RESOLVER);
    assert_eq!(fake.memory(COOKIE).view, None);
    assert!(fake.answers.lock().expect("no panic").is_empty());

    fake.most.store(usize::MAX, Ordering::Relaxed);
    mirror.publish(&records, served, begun + PAUSE / 2);
    assert_eq!(fake.memory(COOKIE).view, None);

    mirror.publish(&records, served, begun + PAUSE);
    let query = bytes("web", A, [1, 0], None);
    assert!(reply(&query, &fake.memory(COOKIE), 0).is_some());
}

#[test]
fn a_change_that_finds_no_room_takes_back_what_was_there() {
    let (fake, mut mirror, _) = published(&Rules::default());
    fake.most.store(0, Ordering::Relaxed);
    let other = Arc::new(sample_and(&Rules::default(), COOKIE, &["new"]));

    mirror.publish(&other, [(COOKIE, RESOLVER)], Instant::now());

    assert_eq!(fake.memory(COOKIE).view, None);
    assert!(fake.answers.lock().expect("no panic").is_empty());
}

#[test]
fn what_has_not_changed_is_not_written_again() {
    let (fake, mut mirror, records) = published(&Rules::default());
    let writes = || fake.writes.swap(0, Ordering::Relaxed);
    let all = writes();

    mirror.publish(&records, [(COOKIE, RESOLVER)], Instant::now());
    assert_eq!(writes(), 0);

    let other = Arc::new(sample_and(&Rules::default(), COOKIE, &["new"]));
    mirror.publish(&other, [(COOKIE, RESOLVER)], Instant::now());
    let few = writes();
    assert!((1..all / 4).contains(&few), "{few} of {all}");
}

proptest! {
    #[test]
    fn after_any_changes_the_kernel_has_what_it_would_have_of_the_last_records_alone(
        editions in prop::collection::vec(arbitrary(), 1..6)
    ) {
        let editions: Vec<_> = editions.into_iter().map(Arc::new).collect();
        let fake = Fake::new(usize::MAX);
        let mut mirror = Mirror::new(fake.clone()).expect("an empty kernel");
        for edition in &editions {
            mirror.publish(edition, [], Instant::now());
        }

        let mut numbers = Numbers::default();
        let wanted = answers(&editions[editions.len() - 1], &mut numbers);

        let there = fake.answers.lock().expect("no panic").clone();
        let wanted = wanted.into_iter().map(|(question, answer)| question.element(answer));
        prop_assert_eq!(by_network(there, &mirror.numbers), by_network(wanted, &numbers));
    }
}

type ByNetwork = BTreeMap<(NetworkId, u16, Vec<u8>), Answer>;

/// Answers without the numbers of tables.
fn by_network(
    answers: impl IntoIterator<Item = (AnswerKey, NamedAnswer)>,
    numbers: &Numbers,
) -> ByNetwork {
    let network = |number| {
        let mut numbers = numbers.iter();
        numbers
            .find(|(_, one)| *one == number)
            .map(|(id, _)| id.clone())
    };
    let answers = answers.into_iter();
    let named = answers.map(|(key, named)| {
        let network = network(key.table).expect("a table that there is");
        ((network, key.kind, named.bytes().to_vec()), named.answer)
    });
    named.collect()
}

#[test]
fn every_type_is_known_by_its_number() {
    for (number, kind) in [
        (A, RecordType::A),
        (AAAA, RecordType::AAAA),
        (PTR, RecordType::PTR),
        (HTTPS, RecordType::HTTPS),
    ] {
        assert_eq!(u16::from(kind), number);
    }
}
