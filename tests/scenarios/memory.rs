//! The engine in memory: the library without a kernel.

use lb_common::{Connection, FlowKey, Reason};
use lb_ebpf::native::{Buffer, Memory};
use lb_ebpf::{CollectRequest, Work, collect, endpoint_in};

use crate::engine::{Engine, Ran};
use crate::world::World;

pub struct InMemory {
    tables: Memory,
    now: u64,
}

pub fn start() -> InMemory {
    InMemory {
        tables: Memory::default(),
        now: 1_000_000_000_000,
    }
}

impl Engine for InMemory {
    fn reset(&mut self) {
        *self = start();
    }

    fn run(&mut self, ifindex: u32, packet: &[u8]) -> Ran {
        let mut frame = Buffer {
            bytes: packet.to_vec(),
            ifindex,
            now: self.now,
        };
        let outcome = endpoint_in(&mut frame, &self.tables, &mut Work::default());
        Ran {
            verdict: outcome.verdict(),
            packet: frame.bytes,
        }
    }

    fn set(&mut self, world: &World) {
        self.tables.settings = world.settings;
        self.tables.veths = world.veths.clone().into_iter().collect();
        self.tables.endpoints = world.endpoints.clone().into_iter().collect();
        self.tables.frontends = world.frontends.clone().into_iter().collect();
        self.tables.slots = world.slots.clone().into_iter().collect();
    }

    fn age(&mut self, seconds: u64) {
        self.now += seconds * 1_000_000_000;
    }

    fn reason(&mut self, reason: Reason) -> u64 {
        self.tables.reason(reason)
    }

    fn entries(&mut self) -> Vec<(FlowKey, Connection)> {
        let established = self.tables.connections.borrow();
        let half_open = self.tables.half_open.borrow();
        established
            .iter()
            .chain(half_open.iter())
            .map(|(key, entry)| (*key, *entry))
            .collect()
    }

    fn load(&mut self, endpoint: u32) -> u64 {
        self.tables
            .loads
            .borrow()
            .get(&endpoint)
            .copied()
            .unwrap_or(0)
    }

    fn collect(&mut self, request: CollectRequest) -> bool {
        let bytes = bytemuck::bytes_of(&request).to_vec();
        let frame = Buffer {
            bytes,
            ifindex: 1,
            now: self.now,
        };
        collect(&frame, &self.tables, &mut Work::default()) == CollectRequest::DELETED
    }
}
