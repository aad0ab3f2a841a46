//! What the kernel itself takes for what `endpoint_in` asks of it: programs that do that and nothing else,
//! over the same maps and measured in the same way.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{Map, MapData};
use bytemuck::bytes_of;
use lb_common::{Connection, FlowKey};
use veer_tests::packets::udp;

use super::{CLIENT, CLIENT_MAC, MEMBER, VIP, VIP_MAC, end, flow};
use crate::bpf::{CLASSIFIER, Instruction, Running, instruction, load};

/// Where two keys and a value lie in the frames that the programs get: at even words.
const THERE: i32 = 48;
const BACK: i32 = THERE + KEY;
const VALUE: i32 = BACK + KEY;
const KEY: i32 = size_of::<FlowKey>() as i32;
const LENGTH: i32 = VALUE + size_of::<Connection>() as i32;
/// Of Ethernet, IPv4 and UDP.
const HEADERS: i32 = 42;
/// Where the checksum of UDP is.
const CHECKSUM: i32 = 40;

/// `struct __sk_buff`: a word that stays from one run to the next, and where the packet is.
const MARK: i16 = 8;
const DATA: i16 = 76;
const DATA_END: i16 = 80;

/// What the programs return that have done all they should; `bpf_redirect_peer` gives it.
const DONE: i32 = 7;

/// The programs.
pub(super) struct Floor {
    empty: OwnedFd,
    look_up: OwnedFd,
    rewrite: OwnedFd,
    insert: OwnedFd,
    /// How many Connections there are entries for.
    inserted: u32,
}

impl Floor {
    /// Over the maps of loaded programs.
    pub(super) fn new(ebpf: &Ebpf) -> Result<Self> {
        let connections = descriptor(ebpf, "CONNECTIONS")?;
        let half_open = descriptor(ebpf, "HALF_OPEN")?;
        let loaded = |what, body: Vec<Instruction>| load(CLASSIFIER, &body).context(what);
        Ok(Self {
            empty: loaded("load an empty program", done())?,
            look_up: loaded("load a look-up", [look_up(connections), done()].concat())?,
            rewrite: loaded("load a rewrite", [look_up(connections), rewrite()].concat())?,
            insert: loaded("load an insertion", [insert(half_open), done()].concat())?,
            inserted: 0,
        })
    }

    /// A run that does nothing.
    pub(super) fn empty(&self, repeat: u32) -> Result<f64> {
        time(&self.empty, &frame(0), repeat)
    }

    /// A look-up of an entry of the Connection with this number, and reading the entry: of both in turn.
    pub(super) fn look_up(&self, number: u32, repeat: u32) -> Result<f64> {
        time(&self.look_up, &frame(number), repeat)
    }

    /// The same, a changed checksum, and handing the packet on.
    pub(super) fn rewrite(&self, repeat: u32) -> Result<f64> {
        time(&self.rewrite, &frame(0), repeat)
    }

    /// Writing the two entries of a half-open Connection, a new one.
    pub(super) fn insert(&mut self) -> Result<f64> {
        self.inserted += 1;
        let keys = [VIP, MEMBER].map(|to| FlowKey {
            // Of no Network that there is.
            zone: 2,
            ..flow(self.inserted, to)
        });
        time(&self.insert, &frame_with(&keys), 1)
    }
}

fn descriptor(ebpf: &Ebpf, name: &str) -> Result<i32> {
    let map = ebpf.map(name).with_context(|| format!("find {name}"))?;
    let data: &MapData = match map {
        Map::HashMap(data) | Map::LruHashMap(data) => data,
        _ => anyhow::bail!("{name} is no hash"),
    };
    Ok(data.fd().as_fd().as_raw_fd())
}

/// Nanoseconds for one run.
fn time(program: &OwnedFd, frame: &[u8], repeat: u32) -> Result<f64> {
    let mut running = Running {
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr().addr() as u64,
        repeat,
        ..Running::of(program)
    };
    // SAFETY: the frame lives until the call returns, and it only reads it.
    unsafe { running.run() }.context("run a program")?;
    ensure!(
        running.returned == DONE as u32,
        "a program over the maps did not do its work"
    );
    Ok(f64::from(running.duration))
}

fn frame(number: u32) -> Vec<u8> {
    frame_with(&[flow(number, VIP), flow(number, MEMBER)])
}

fn frame_with(keys: &[FlowKey; 2]) -> Vec<u8> {
    let mut payload = vec![0; (THERE - HEADERS) as usize];
    for key in keys {
        payload.extend(bytes_of(key));
    }
    payload.extend(bytes_of(&Connection::default()));
    udp(end(CLIENT, CLIENT_MAC, 1), end(VIP, VIP_MAC, 1), &payload)
}

/// r6 = context, r7 = the packet's beginning; leaves if the packet is too short.
fn begin() -> [Instruction; 7] {
    [
        instruction(0xbf, 6, 1, 0, 0),        // r6 = r1
        instruction(0x61, 7, 6, DATA, 0),     // r7 = data
        instruction(0x61, 3, 6, DATA_END, 0), // r3 = its end
        instruction(0xbf, 4, 7, 0, 0),        // r4 = r7
        instruction(0x07, 4, 0, 0, LENGTH),   // r4 += LENGTH
        instruction(0xbd, 4, 3, 1, 0),        // if r4 <= r3: go on
        instruction(0x95, 0, 0, 0, 0),        // exit
    ]
}

/// r1 = the map
fn map(descriptor: i32) -> [Instruction; 2] {
    const IS_MAP: u8 = 1;
    [
        instruction(0x18, 1, IS_MAP, 0, descriptor),
        instruction(0, 0, 0, 0, 0),
    ]
}

/// Looks the keys up in turn, and reads what is found to its end.
fn look_up(descriptor: i32) -> Vec<Instruction> {
    const LOOK_UP: i32 = 1;
    let mut all = vec![instruction(0xb7, 0, 0, 0, 0)]; // r0 = 0
    all.extend(begin());
    all.extend([
        instruction(0xbf, 2, 7, 0, 0),     // r2 = r7
        instruction(0x07, 2, 0, 0, THERE), // r2 += THERE
        instruction(0x61, 5, 6, MARK, 0),  // r5 = mark
        instruction(0x15, 5, 0, 1, 0),     // if it is 0: not the other one
        instruction(0x07, 2, 0, 0, KEY),   // r2 += KEY
        instruction(0xa7, 5, 0, 0, 1),     // r5 ^= 1
        instruction(0x63, 6, 5, MARK, 0),  // mark = r5
    ]);
    all.extend(map(descriptor));
    all.extend([
        instruction(0x85, 0, 0, 0, LOOK_UP),
        instruction(0x55, 0, 0, 1, 0), // if r0 is there: go on
        instruction(0x95, 0, 0, 0, 0), // exit
    ]);
    let words = (0..size_of::<Connection>() as i16).step_by(8);
    all.extend(words.map(|offset| instruction(0x79, 1, 0, offset, 0))); // r1 = *(u64 *)(r0 + offset)
    all
}

/// A change of an address in the checksum, and `bpf_redirect_peer`.
fn rewrite() -> Vec<Instruction> {
    const L4_CSUM_REPLACE: i32 = 11;
    const REDIRECT_PEER: i32 = 155;
    const PSEUDO_HEADER_MANGLED_0: i32 = 1 << 4 | 1 << 5;
    vec![
        instruction(0xbf, 1, 6, 0, 0),                       // r1 = r6
        instruction(0xb7, 2, 0, 0, CHECKSUM),                // r2 = CHECKSUM
        instruction(0xb7, 3, 0, 0, 0),                       // r3 = 0
        instruction(0xb7, 4, 0, 0, 0x1234),                  // r4: what is added
        instruction(0xb7, 5, 0, 0, PSEUDO_HEADER_MANGLED_0), // r5: how
        instruction(0x85, 0, 0, 0, L4_CSUM_REPLACE),
        instruction(0xb7, 1, 0, 0, super::LOOPBACK as i32), // r1 = the interface
        instruction(0xb7, 2, 0, 0, 0),                      // r2 = 0
        instruction(0x85, 0, 0, 0, REDIRECT_PEER),
        instruction(0x95, 0, 0, 0, 0), // exit
    ]
}

/// Inserts both keys, the second one first, as `endpoint_in` does.
fn insert(descriptor: i32) -> Vec<Instruction> {
    const UPDATE: i32 = 2;
    const NOEXIST: i32 = 1;
    let mut all = vec![instruction(0xb7, 0, 0, 0, 0)]; // r0 = 0
    all.extend(begin());
    for (key, how) in [(BACK, NOEXIST), (THERE, 0)] {
        all.extend(map(descriptor));
        all.extend([
            instruction(0xbf, 2, 7, 0, 0),     // r2 = r7
            instruction(0x07, 2, 0, 0, key),   // r2 += key
            instruction(0xbf, 3, 7, 0, 0),     // r3 = r7
            instruction(0x07, 3, 0, 0, VALUE), // r3 += VALUE
            instruction(0xb7, 4, 0, 0, how),   // r4 = how
            instruction(0x85, 0, 0, 0, UPDATE),
            instruction(0x15, 0, 0, 1, 0), // if it is done: go on
            instruction(0x95, 0, 0, 0, 0), // exit
        ]);
    }
    all
}

fn done() -> Vec<Instruction> {
    vec![
        instruction(0xb7, 0, 0, 0, DONE), // r0 = DONE
        instruction(0x95, 0, 0, 0, 0),    // exit
    ]
}
