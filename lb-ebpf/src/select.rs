//! Which Backend a new Connection gets.

use lb_common::{Algorithm, FlowKey, Frontend, Slot};

use crate::tables::Tables;

/// How many slots are looked at for one whose Endpoint takes new Connections. Userspace publishes
/// tables without the others; this covers the moment before it has.
const PROBES: u32 = 16;

/// A slot of the Frontend whose Endpoint is active, as its algorithm chooses.
#[inline(always)]
pub fn choose(tables: &impl Tables, frontend: &Frontend, flow: &FlowKey) -> Option<Slot> {
    let count = frontend.slot_count;
    if count == 0 {
        return None;
    }
    let first = match Algorithm::from_u8(frontend.algorithm) {
        Algorithm::RoundRobin | Algorithm::WeightedRoundRobin => {
            (tables.take_turn(frontend.id) % count as u64) as u32
        }
        Algorithm::Random => tables.random() % count,
        Algorithm::LeastConnections => less_loaded(tables, frontend),
        Algorithm::Maglev => flow_hash(flow) % count,
    };
    for probe in 0..PROBES {
        if probe >= count {
            break;
        }
        let slot = tables.slot(frontend.first_slot + (first + probe) % count)?;
        if tables
            .endpoint(slot.endpoint)
            .is_some_and(|endpoint| endpoint.is_active())
        {
            return Some(slot);
        }
    }
    None
}

/// The less loaded of two different slots at random (Mitzenmacher, "The power of two choices",
/// 2001).
#[inline(always)]
fn less_loaded(tables: &impl Tables, frontend: &Frontend) -> u32 {
    let count = frontend.slot_count;
    let one = tables.random() % count;
    if count == 1 {
        return one;
    }
    let other = (one + 1 + tables.random() % (count - 1)) % count;
    let load = |index| match tables.slot(frontend.first_slot + index) {
        Some(slot) => tables.load(slot.endpoint),
        None => u64::MAX,
    };
    if load(other) < load(one) { other } else { one }
}

/// A hash of the client's side of a flow and what it asks for, the same on every host.
#[inline(always)]
pub const fn flow_hash(flow: &FlowKey) -> u32 {
    let s = flow.source.words();
    let d = flow.destination.words();
    let ports = (flow.source_port.get() as u32) << 16 | flow.destination_port.get() as u32;
    let mut hash = mix(0x9e37_79b9 ^ flow.protocol as u32, s[0]);
    hash = mix(hash, s[1]);
    hash = mix(hash, s[2]);
    hash = mix(hash, s[3]);
    hash = mix(hash, d[2]);
    hash = mix(hash, d[3]);
    hash = mix(hash, ports);
    finish(hash)
}

/// One round of MurmurHash3's 32-bit body (Appleby, public domain).
#[inline(always)]
const fn mix(hash: u32, word: u32) -> u32 {
    let word = word
        .wrapping_mul(0xcc9e_2d51)
        .rotate_left(15)
        .wrapping_mul(0x1b87_3593);
    (hash ^ word)
        .rotate_left(13)
        .wrapping_mul(5)
        .wrapping_add(0xe654_6b64)
}

/// MurmurHash3's 32-bit finalizer.
#[inline(always)]
const fn finish(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}
