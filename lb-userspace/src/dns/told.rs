//! What a container would be answered, without asking anybody.

use std::net::IpAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use lb_common::Resolver;
use lb_ebpf::dns::native::{Memory, reply};

use super::kernel::{Numbers, answers, view};
use super::query::{Query, Rejected, Transport};
use super::records::{Records, Upstreams};
use super::reply::{Decision, decide};
use super::tally::{Outcome, Path};
use super::upstream::Upstream;
use crate::model::Netns;

/// What would be answered, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub path: Path,
    /// `None` if a server is yet to be asked.
    pub outcome: Option<Outcome>,
    /// As in a zone file.
    pub records: Vec<String>,
    /// Why, in the order in which it is looked.
    pub reasons: Vec<String>,
}

/// What the container in `netns` would be answered about the records of type `kind` of `name`;
/// `None` if there can be no such name.
pub(super) fn told(
    records: &Records,
    upstream: &Upstream,
    netns: &Netns,
    resolver: Option<Resolver>,
    name: &str,
    kind: RecordType,
) -> Option<Told> {
    let query = question(name, kind)?;
    let mut reasons = Vec::new();
    let asker = records.view(netns.cookie);
    if let Some(asker) = asker {
        let networks: Vec<&str> = asker.tables().map(|table| table.network.as_str()).collect();
        reasons.push(format!("it may ask for names of: {}", networks.join(", ")));
    }
    match decide(&query, asker) {
        Decision::Reply(bytes, network) => {
            match network {
                Some(network) => {
                    reasons.push(format!("{network} is the first that knows the name"))
                }
                None => reasons.push("no Network knows the name, and it stays here".to_owned()),
            }
            let in_kernel = resolver
                .is_some_and(|resolver| kernel_answers(records, netns.cookie, resolver, &query));
            let path = if in_kernel {
                Path::Kernel
            } else {
                Path::Daemon
            };
            Some(answered(path, &bytes, reasons))
        }
        Decision::Forward(upstreams) => {
            reasons.push("none of them knows the name".to_owned());
            Some(forwarded(upstream, upstreams, netns, &query, reasons))
        }
    }
}

fn forwarded(
    upstream: &Upstream,
    upstreams: &Upstreams,
    netns: &Netns,
    query: &Query,
    mut reasons: Vec<String>,
) -> Told {
    let servers = upstream.servers(upstreams, netns);
    let addresses: Vec<String> = servers
        .iter()
        .map(|server| server.ip().to_string())
        .collect();
    reasons.push(match upstreams {
        Upstreams::Nobody => "its Networks are internal: nobody is asked for it".to_owned(),
        _ if servers.is_empty() => "there is no name server to ask".to_owned(),
        Upstreams::Host => format!("the host's servers are asked: {}", addresses.join(", ")),
        Upstreams::Own(_) => format!("its own servers are asked: {}", addresses.join(", ")),
    });
    if let Some(bytes) = upstream.peek(query, upstreams, netns) {
        reasons.push("they have answered before, and that still holds".to_owned());
        return answered(Path::Cache, &bytes, reasons);
    }
    Told {
        path: if servers.is_empty() {
            Path::Nobody
        } else {
            Path::Upstream
        },
        outcome: servers.is_empty().then_some(Outcome::Failed),
        records: Vec::new(),
        reasons,
    }
}

fn answered(path: Path, bytes: &[u8], reasons: Vec<String>) -> Told {
    let message = Message::from_vec(bytes);
    let records = message.map_or_else(
        |_| Vec::new(),
        |message| message.answers.iter().map(ToString::to_string).collect(),
    );
    Told {
        path,
        outcome: Some(Outcome::of(bytes)),
        records,
        reasons,
    }
}

/// The kernel's own decision, over what the records make of its maps.
fn kernel_answers(records: &Records, cookie: u64, resolver: Resolver, query: &Query) -> bool {
    reply(query.bytes(), &records.in_kernel(cookie, resolver), 0).is_some()
}

impl Records {
    /// What a container in the namespace with this cookie is replied to `message`, one whole message that
    /// came over UDP or TCP; `None`: nothing, or what others say.
    pub fn reply(&self, cookie: u64, message: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let transport = if over_tcp {
            Transport::Tcp
        } else {
            Transport::Udp
        };
        match Query::parse(message, transport) {
            Ok(query) => match decide(&query, self.view(cookie)) {
                Decision::Reply(reply, _) => Some(reply),
                Decision::Forward(_) => None,
            },
            Err(Rejected::Refused(reply)) => Some(reply),
            Err(Rejected::Ignored) => None,
        }
    }

    /// What the kernel has for that namespace, whose queries are led to `resolver`.
    pub fn in_kernel(&self, cookie: u64, resolver: Resolver) -> Memory {
        let mut numbers = Numbers::default();
        let answers = answers(self, &mut numbers).into_iter();
        let answers = answers.map(|(question, answer)| question.element(answer));
        Memory {
            view: view(self, &numbers, cookie, resolver),
            answers: answers.collect(),
            ..Memory::default()
        }
    }
}

/// As a client would ask: over UDP, without EDNS. An address is asked for by its PTR name.
fn question(name: &str, kind: RecordType) -> Option<Query> {
    let name = match (name.parse::<IpAddr>(), kind) {
        (Ok(address), RecordType::PTR) => Name::from(address),
        _ => Name::from_ascii(name).ok()?,
    };
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(hickory_proto::op::Query::query(name, kind));
    Query::parse(&message.to_bytes().ok()?, Transport::Udp).ok()
}
