//! Records as the kernel reads them. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use bytemuck::Zeroable;
use lb_common::Resolver;
use lb_common::dns::{Answer, BODY, HOST, NAME, Question, View};

use super::changes::Changes;
use super::services::services;
use super::view_of;
use crate::dns::records::{Known, Records, Table, Upstreams};
use crate::model::NetworkId;

const IN: u16 = 1;

/// The number of each Network's table. No number is given twice, so that a view that is about to go
/// never means another Network.
#[derive(Debug, Default)]
pub(in crate::dns) struct Numbers {
    known: HashMap<NetworkId, u32>,
    last: u32,
}

/// Where the names of records are.
pub(super) struct Index<'a> {
    records: &'a Records,
    /// Of each name, the tables that have it.
    names: HashMap<&'a str, Vec<&'a Table>>,
    /// Of each Network's name, its tables.
    networks: HashMap<&'a str, Vec<&'a Table>>,
    tables: HashMap<&'a NetworkId, &'a Table>,
}

/// Who claims a text as a name.
#[derive(Default)]
struct Claims<'a> {
    /// Whether it is a name by itself somewhere.
    is_plain: bool,
    /// The Networks of which it is a name with the Network's after it.
    networks: BTreeSet<&'a str>,
    names: Vec<(u32, &'a Known)>,
}

impl Numbers {
    /// Forgets those of other Networks.
    pub(super) fn retain(&mut self, tables: &[Table]) {
        let stay: HashSet<_> = tables.iter().map(|table| &table.id).collect();
        self.known.retain(|id, _| stay.contains(id));
    }

    /// Numbers those that have none.
    pub(super) fn give(&mut self, tables: &[Table]) {
        for table in tables {
            if !self.known.contains_key(&table.id) {
                self.last += 1;
                self.known.insert(table.id.clone(), HOST + self.last);
            }
        }
    }

    fn get(&self, id: &NetworkId) -> Option<u32> {
        self.known.get(id).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NetworkId, u32)> {
        self.known.iter().map(|(id, number)| (id, *number))
    }
}

/// Whether a name of the table may be asked for with the Network's after it. The kernel knows no upper
/// case, which counts there.
pub(super) fn has_full_names(table: &Table) -> bool {
    !table.network.bytes().any(|byte| byte.is_ascii_uppercase())
}

impl<'a> Index<'a> {
    pub(super) fn new(records: &'a Records) -> Self {
        let mut index = Self {
            records,
            names: HashMap::new(),
            networks: HashMap::new(),
            tables: HashMap::new(),
        };
        for table in records.tables() {
            for name in table.names.keys() {
                index.names.entry(name).or_default().push(table);
            }
            index.tables.insert(&table.id, table);
            if has_full_names(table) {
                let of_name = index.networks.entry(&table.network);
                of_name.or_default().push(table);
            }
        }
        index
    }

    fn claims(&self, text: &str, numbers: &Numbers) -> Claims<'a> {
        let mut claims = Claims::default();
        let mut add = |table: &'a Table, name: &str| {
            let known = table.names.get(name);
            let found = known.and_then(|known| Some((numbers.get(&table.id)?, known)));
            claims.names.extend(found);
            found.is_some()
        };
        for table in self.names.get(text).into_iter().flatten() {
            claims.is_plain |= add(table, text);
        }
        for (dot, _) in text.match_indices('.') {
            let (name, network) = (&text[..dot], &text[dot + 1..]);
            for table in self.networks.get(network).into_iter().flatten() {
                if add(table, name) {
                    claims.networks.insert(&table.network);
                }
            }
        }
        claims
    }

    /// Every answer about `text`.
    ///
    /// The kernel looks a text up in one table after the other. The daemon first looks for it as a name
    /// everywhere, then for parts of it on one Network. Where these could differ, the text is left to the
    /// daemon in every table.
    pub(super) fn answers(&self, text: &str, numbers: &Numbers) -> BTreeMap<Question, Answer> {
        let mut answers = BTreeMap::new();
        let Some(name) = wire(text, NAME) else {
            return answers;
        };
        let claims = self.claims(text, numbers);
        let is_clear = usize::from(claims.is_plain) + claims.networks.len() == 1;
        for (number, known) in &claims.names {
            let known = is_clear.then_some(*known);
            render(&mut answers, *number, &name, known, self.records);
        }
        let rules = self.records.rules();
        if rules.srv {
            services(&mut answers, text, &claims.names, is_clear, rules.ttl);
        }
        answers
    }

    /// Every answer about what has changed.
    pub(super) fn about(
        &self,
        changes: &Changes<'_>,
        numbers: &Numbers,
    ) -> impl Iterator<Item = (Question, Answer)> {
        let texts = changes.texts.iter();
        let names = texts.flat_map(|text| self.answers(text, numbers));
        let addresses = changes.addresses.iter();
        let owners =
            addresses.filter_map(|(network, address)| self.owner(network, *address, numbers));
        names.chain(owners)
    }

    /// The answer about whose `address` is on a Network.
    pub(super) fn owner(
        &self,
        network: &NetworkId,
        address: IpAddr,
        numbers: &Numbers,
    ) -> Option<(Question, Answer)> {
        let table = self.tables.get(network)?;
        let owner = table.owners.get(&address)?;
        let name = wire(&arpa(address), NAME)?;
        let question = question(numbers.get(network)?, Question::PTR, &name);
        let full = format!("{owner}.{}", table.network);
        Some((question, pointer(&full, self.records.rules().ttl)))
    }
}

/// What may be asked in the namespace; `None` if the kernel is not to answer there.
pub(in crate::dns) fn view(
    records: &Records,
    numbers: &Numbers,
    cookie: u64,
    resolver: Resolver,
) -> Option<View> {
    // The tables are everybody's, and so are the answers of the kernel.
    let view = records.view(cookie).filter(|view| !view.has_own_names())?;
    let tables = view.tables().map(|table| numbers.get(&table.id));
    let mut tables = tables.collect::<Option<Vec<u32>>>()?;
    if *view.upstreams() == Upstreams::Host && records.rules().single_labels {
        tables.push(HOST);
    }
    view_of(resolver, &tables)
}

/// The three answers about one name; the daemon's business without `known`.
fn render(
    answers: &mut BTreeMap<Question, Answer>,
    number: u32,
    name: &[u8; NAME],
    known: Option<&Known>,
    records: &Records,
) {
    let rules = records.rules();
    let ttl = rules.ttl;
    let a = known.and_then(|known| {
        let octets = known.v4.iter().map(|address| address.octets());
        equals(octets.map(|data| record(Question::A, ttl, &data)))
    });
    let aaaa = known.and_then(|known| {
        let octets = known.v6.iter().map(|address| address.octets());
        equals(octets.map(|data| record(Question::AAAA, ttl, &data)))
    });
    let other = known.filter(|_| !rules.leak).map(|_| Answer::zeroed());
    for (kind, answer) in [
        (Question::A, a),
        (Question::AAAA, aaaa),
        (Question::OTHER, other),
    ] {
        let answer = answer.unwrap_or_else(daemons);
        answers.insert(question(number, kind, name), answer);
    }
}

/// An answer that the daemon gives.
pub(super) fn daemons() -> Answer {
    Answer {
        ask_daemon: 1,
        ..Answer::zeroed()
    }
}

pub(super) fn question(table: u32, kind: u16, name: &[u8; NAME]) -> Question {
    Question {
        table,
        kind,
        _pad: 0,
        name: *name,
    }
}

/// An answer of records of one size, any of which may come first; `None` if they are too many.
pub(super) fn equals(records: impl Iterator<Item = Vec<u8>>) -> Option<Answer> {
    let mut answer = Answer::zeroed();
    let mut body = Vec::new();
    for record in records {
        answer.record = u16::try_from(record.len()).ok()?;
        answer.answers += 1;
        body.extend(record);
    }
    if body.len() > BODY {
        return None;
    }
    answer.length = u16::try_from(body.len()).ok()?;
    answer.body[..body.len()].copy_from_slice(&body);
    answer.body[body.len()..2 * body.len()].copy_from_slice(&body);
    Some(answer)
}

fn pointer(to: &str, ttl: u32) -> Answer {
    let data = wire::<BODY>(to, BODY);
    let length = to.len() + 2;
    let record = data.map(|data| record(Question::PTR, ttl, &data[..length]));
    let answer = record.and_then(|record| equals(std::iter::once(record)));
    answer.unwrap_or_else(daemons)
}

/// A record about the name in question, which begins right after the header.
pub(super) fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend(IN.to_be_bytes());
    record.extend(ttl.to_be_bytes());
    // At most a name, of 255 bytes.
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

/// A name as on the wire, zeros after it; `None` if there is no such name, or it has more than `most`
/// bytes.
pub(super) fn wire<const N: usize>(text: &str, most: usize) -> Option<[u8; N]> {
    let mut wire = [0; N];
    let mut at = 0;
    for label in text.split('.') {
        if label.is_empty() || label.len() > 63 || at + 1 + label.len() + 1 > most.min(N) {
            return None;
        }
        wire[at] = u8::try_from(label.len()).ok()?;
        wire[at + 1..][..label.len()].copy_from_slice(label.as_bytes());
        at += 1 + label.len();
    }
    Some(wire)
}

/// The name that an address has for PTR.
fn arpa(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let mut text = String::with_capacity(72);
            for byte in address.octets().iter().rev() {
                text.push_str(&format!("{:x}.{:x}.", byte & 0x0f, byte >> 4));
            }
            text.push_str("ip6.arpa");
            text
        }
    }
}
