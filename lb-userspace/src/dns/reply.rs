//! What a query is answered, decided from the records alone.
//!
//! | question | answer |
//! |---|---|
//! | A, AAAA of a known name | its addresses in random order |
//! | … known in the other family only | none (NODATA); NXDOMAIN would end musl's search |
//! | ANY of a known name | the addresses of both families |
//! | any other type of a known name | none: it is not told to anybody outside, unless `leak` says so |
//! | PTR of a container's or Group's address | its name with its Network's |
//! | SRV of `_port._protocol.name` | that port, if those of that name are known to have it |
//! | everything else | forwarded |

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use rand::seq::SliceRandom;

use super::query::{HEADER, Query};
use super::records::{Known, Upstreams, View};
use super::service;

/// Where the name of the question begins, as a name, RFC 1035 §4.1.4.
const POINTER: [u8; 2] = [0xc0, HEADER as u8];

/// What to do about a query.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Decision<'a> {
    /// These bytes are the reply, made of what is known of this Network.
    Reply(Vec<u8>, Option<&'a str>),
    /// Somebody else knows: ask them.
    Forward(&'a Upstreams),
}

/// The records of a reply.
enum Answers {
    Addresses(Vec<IpAddr>),
    /// At most one, of another kind.
    Other(Option<RData>),
}

impl Answers {
    const fn none() -> Self {
        Self::Addresses(Vec::new())
    }
}

/// Decides what `query` is answered under `view`: the asker's, or `None` as long as it is not known
/// to which Networks the asker belongs. Then a name may be known or not, so that the client is told
/// to try again (SERVFAIL) and no name of ours is asked outside.
pub(super) fn decide<'a>(query: &Query, view: Option<View<'a>>) -> Decision<'a> {
    if query.has_unknown_edns() {
        return Decision::Reply(query.failure(ResponseCode::BADVERS), None);
    }
    let Some(view) = view else {
        return Decision::Reply(query.failure(ResponseCode::ServFail), None);
    };
    if query.class() != DNSClass::IN {
        return Decision::Forward(view.upstreams());
    }
    match answers(query, view) {
        Some((network, answers)) => {
            let reply = known(query, answers, view.rules().ttl);
            Decision::Reply(reply, Some(network))
        }
        None if stays_here(query, view) => Decision::Reply(known(query, Answers::none(), 0), None),
        None => Decision::Forward(view.upstreams()),
    }
}

/// Whether an unknown name is answered as if it had no addresses.
fn stays_here(query: &Query, view: View<'_>) -> bool {
    let is_address = matches!(query.kind(), RecordType::A | RecordType::AAAA);
    is_address && !view.rules().single_labels && query.name().num_labels() == 1
}

/// The records that answer `query`, and the Network that they are of; `None` if the name is not ours.
fn answers<'a>(query: &Query, view: View<'a>) -> Option<(&'a str, Answers)> {
    if query.kind() == RecordType::PTR
        && let Some(address) = address_of(query.name())
    {
        let (network, owner) = view.find_owner(address)?;
        let labels = owner.split('.').chain(network.split('.'));
        let owner = Name::from_labels(labels.map(str::as_bytes));
        let record = owner.map(|owner| RData::PTR(PTR(owner)));
        return Some((network, Answers::Other(record.ok())));
    }
    let text = text_of(query.name())?;
    if query.kind() == RecordType::SRV
        && view.rules().srv
        && let Some(service) = service::read(&text)
    {
        let (network, known) = view.find(service.name)?;
        let record = service.record(known, query.name());
        return Some((network, Answers::Other(record)));
    }
    let (network, known) = view.find(&text)?;
    let kind = query.kind();
    let is_leaked = !matches!(kind, RecordType::A | RecordType::AAAA | RecordType::MX);
    if is_leaked && view.rules().leak {
        return None;
    }
    let addresses = match kind {
        RecordType::A => v4_of(known).collect(),
        RecordType::AAAA => v6_of(known).collect(),
        RecordType::ANY => v4_of(known).chain(v6_of(known)).collect(),
        _ => Vec::new(),
    };
    Some((network, Answers::Addresses(addresses)))
}

fn v4_of(known: &Known) -> impl Iterator<Item = IpAddr> + '_ {
    known.v4.iter().copied().map(IpAddr::V4)
}

fn v6_of(known: &Known) -> impl Iterator<Item = IpAddr> + '_ {
    known.v6.iter().copied().map(IpAddr::V6)
}

fn known(query: &Query, answers: Answers, ttl: u32) -> Vec<u8> {
    match answers {
        Answers::Addresses(mut addresses) => {
            if addresses.len() > 1 {
                addresses.shuffle(&mut rand::rng());
            }
            let reply = written(query, &addresses, ttl);
            // What is too long is cut where a record ends, which the library does.
            reply.unwrap_or_else(|| encoded(query, addresses.into_iter().map(data), ttl))
        }
        Answers::Other(record) => encoded(query, record, ttl),
    }
}

/// The reply with these addresses, if the client takes as many bytes.
///
/// # Why
/// Nearly all answers of ours are such, and the library that encodes any takes several times as long for
/// them, which is a fifth of the time of the whole exchange. The records' owner is the question's name, which
/// they point to, RFC 1035 §4.1.4.
fn written(query: &Query, addresses: &[IpAddr], ttl: u32) -> Option<Vec<u8>> {
    let count = u16::try_from(addresses.len()).ok()?;
    let reply = query.with(ResponseCode::NoError.low(), [count, 0, 0], |reply| {
        for address in addresses {
            reply.extend(POINTER);
            match address {
                IpAddr::V4(v4) => write(reply, RecordType::A, ttl, &v4.octets()),
                IpAddr::V6(v6) => write(reply, RecordType::AAAA, ttl, &v6.octets()),
            }
        }
    });
    (reply.len() <= query.limit().into()).then_some(reply)
}

/// Adds a record without its owner.
fn write<const N: usize>(reply: &mut Vec<u8>, kind: RecordType, ttl: u32, data: &[u8; N]) {
    reply.extend(u16::from(kind).to_be_bytes());
    reply.extend(u16::from(DNSClass::IN).to_be_bytes());
    reply.extend(ttl.to_be_bytes());
    // 4 or 16.
    reply.extend((N as u16).to_be_bytes());
    reply.extend(data);
}

fn data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

/// The reply with any records, cut to those that the client takes.
fn encoded(query: &Query, answers: impl IntoIterator<Item = RData>, ttl: u32) -> Vec<u8> {
    let mut reply = query.reply(ResponseCode::NoError);
    let name = query.name();
    let record = |data| Record::from_rdata(name.clone(), ttl, data);
    reply.answers = answers.into_iter().map(record).collect();
    query.encode(&reply)
}

/// The name as records have it: labels joined by dots. `None` for names that no container can have,
/// with a dot inside a label or with bytes that are no text.
fn text_of(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        let label = std::str::from_utf8(label).ok()?;
        if label.contains('.') {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(label);
    }
    Some(text)
}

/// The address that a name under `in-addr.arpa` or `ip6.arpa` stands for in full.
fn address_of(name: &Name) -> Option<IpAddr> {
    let network = name.parse_arpa_name().ok()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}

#[cfg(test)]
mod tests;
