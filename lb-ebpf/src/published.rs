//! Ports that are published on addresses of the host.

use lb_common::{Addr, FrontendKey, Port, Reason, SourceKey};

use crate::packet::Kind;
use crate::settle::{Step, may_open};
use crate::tables::{Tables, Work};

/// Finds the Frontend that the packet is for, if its destination is the host's, and leaves it in
/// `work.frontend`: the one with this very address, then the one with every address.
#[inline(never)]
pub fn find(tables: &impl Tables, work: &mut Work) -> bool {
    let flow = &work.packet.flow;
    let cell = match work.packet.kind() {
        Kind::Tcp | Kind::Udp => tables.cell(flow.protocol, flow.destination_port.get()),
        Kind::Sctp => flow.destination_port.get(),
        _ => 0,
    };
    if cell == 0 {
        return false;
    }
    let mut key = FrontendKey::published(flow.destination, Port::new(cell), flow.protocol);
    let mut found = tables.frontend(&key);
    let to = &flow.destination;
    if found.is_none() && (to.is_loopback() || tables.is_local(to)) {
        key.address = FrontendKey::wildcard(work.packet.is_v4());
        found = tables.frontend(&key);
    }
    match found {
        Some(frontend) => {
            work.frontend = frontend;
            true
        }
        None => false,
    }
}

/// [`Step::OPEN`] if the packet may open a Connection at `work.frontend`: it begins one, and the
/// Frontend serves its client.
#[inline(never)]
pub fn admit(tables: &impl Tables, work: &Work) -> Step {
    admitted(tables, work).into()
}

#[inline(always)]
fn admitted(tables: &impl Tables, work: &Work) -> Result<Step, Reason> {
    may_open(&work.packet)?;
    let list = work.frontend.sources;
    if list == 0 {
        return Ok(Step::OPEN);
    }
    let client = work.packet.flow.source;
    let is_denied = if client.is_loopback() {
        bars_host(tables, list, client)
    } else {
        bars(tables, list, client, work.now)
    };
    if is_denied {
        return Err(Reason::SourceDenied);
    }
    Ok(Step::OPEN)
}

/// Whether a list or a rule turns the client away. Counts the rule.
#[inline(always)]
fn bars(tables: &impl Tables, list: u32, client: Addr, now: u64) -> bool {
    match tables.source(&SourceKey::of(list, client)) {
        Some(source) => {
            tables.count_rule(source.rule, now);
            source.denies()
        }
        None => false,
    }
}

/// Whether a Frontend's own list turns a process of the host away that sends from `client`.
#[inline(always)]
pub fn bars_host(tables: &impl Tables, list: u32, client: Addr) -> bool {
    let source = tables.source(&SourceKey::of(list, client));
    source.is_some_and(|source| source.denies_host())
}
