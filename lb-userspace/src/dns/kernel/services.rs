//! Names of services as the kernel reads them: `_80._tcp.web` and `_http._tcp.web`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bytemuck::Zeroable;
use lb_common::dns::{Answer, NAME, Question};

use super::render::{daemons, equals, question, record, wire};
use crate::dns::records::Known;
use crate::dns::service::{Service, offered};

/// Services of one name in the kernel; more are the daemon's business, all of them.
const MOST: usize = 32;

/// Adds the answers about the services of `text`, which all of `names` know, each in its table.
///
/// The first Network that knows `text` answers alone, also that there is no such service. So every
/// table has an answer for what any of them has. Without `is_clear` that is the daemon's business.
pub(super) fn services(
    answers: &mut BTreeMap<Question, Answer>,
    text: &str,
    names: &[(u32, &Known)],
    is_clear: bool,
    ttl: u32,
) {
    let Some(target) = wire::<NAME>(text, NAME) else {
        return;
    };
    let target = &target[..text.len() + 2];
    let all = names
        .iter()
        .flat_map(|(_, known)| offered(known).take(MOST + 1));
    let all: BTreeSet<Service<'static>> = all.collect();
    if all.len() > MOST {
        return;
    }
    for service in all {
        for label in service.labels() {
            let Some(name) = wire(&format!("{label}.{text}"), NAME) else {
                continue;
            };
            for (number, known) in names {
                let answer = if !is_clear {
                    daemons()
                } else if service.is_of(known) {
                    let [high, low] = service.port().to_be_bytes();
                    let data = [&[0, 0, 0, 0, high, low], target].concat();
                    let record = record(Question::SRV, ttl, &data);
                    equals(std::iter::once(record)).unwrap_or_else(daemons)
                } else {
                    Answer::zeroed()
                };
                answers.insert(question(*number, Question::SRV, &name), answer);
            }
        }
    }
}
