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

use super::query::Query;
use super::records::{Known, Upstreams, View};
use super::service;

/// What to do about a query.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Decision<'a> {
    /// These bytes are the reply, made of what is known of this Network.
    Reply(Vec<u8>, Option<&'a str>),
    /// Somebody else knows: ask them.
    Forward(&'a Upstreams),
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
        None if stays_here(query, view) => Decision::Reply(known(query, Vec::new(), 0), None),
        None => Decision::Forward(view.upstreams()),
    }
}

/// Whether an unknown name is answered as if it had no addresses.
fn stays_here(query: &Query, view: View<'_>) -> bool {
    let is_address = matches!(query.kind(), RecordType::A | RecordType::AAAA);
    is_address && !view.rules().single_labels && query.name().num_labels() == 1
}

/// The records that answer `query`, and the Network that they are of; `None` if the name is not ours.
fn answers<'a>(query: &Query, view: View<'a>) -> Option<(&'a str, Vec<RData>)> {
    if query.kind() == RecordType::PTR
        && let Some(address) = address_of(query.name())
    {
        let (network, owner) = view.find_owner(address)?;
        let labels = owner.split('.').chain(network.split('.'));
        let owner = Name::from_labels(labels.map(str::as_bytes));
        let record = owner.map(|owner| RData::PTR(PTR(owner)));
        return Some((network, record.into_iter().collect()));
    }
    let text = text_of(query.name())?;
    if query.kind() == RecordType::SRV
        && view.rules().srv
        && let Some(service) = service::read(&text)
    {
        let (network, known) = view.find(service.name)?;
        let record = service.record(known, query.name());
        return Some((network, record.into_iter().collect()));
    }
    let (network, known) = view.find(&text)?;
    let kind = query.kind();
    let is_leaked = !matches!(kind, RecordType::A | RecordType::AAAA | RecordType::MX);
    if is_leaked && view.rules().leak {
        return None;
    }
    let answers = match kind {
        RecordType::A => v4_of(known).collect(),
        RecordType::AAAA => v6_of(known).collect(),
        RecordType::ANY => v4_of(known).chain(v6_of(known)).collect(),
        _ => Vec::new(),
    };
    Some((network, answers))
}

fn v4_of(known: &Known) -> impl Iterator<Item = RData> + '_ {
    known.v4.iter().map(|&address| RData::A(A(address)))
}

fn v6_of(known: &Known) -> impl Iterator<Item = RData> + '_ {
    known.v6.iter().map(|&address| RData::AAAA(AAAA(address)))
}

fn known(query: &Query, mut answers: Vec<RData>, ttl: u32) -> Vec<u8> {
    answers.shuffle(&mut rand::rng());
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
