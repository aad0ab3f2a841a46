//! The engine in memory: the library without a kernel.

use lb_common::{Connection, FlowKey, Reason};
use lb_ebpf::native::{Buffer, Memory};
use lb_ebpf::{
    CollectRequest, Work, bridge_in, bridge_out, collect, endpoint_in, loopback_in, uplink_in,
    uplink_out,
};

use crate::engine::{At, Engine, Hook, Ran};
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

    fn run(&mut self, at: At, packet: &[u8]) -> Ran {
        let mut frame = Buffer {
            bytes: packet.to_vec(),
            ifindex: at.ifindex,
            came_from: at.came_from,
            now: self.now,
            exits: crate::world::exits(),
        };
        let (tables, work) = (&self.tables, &mut Work::default());
        let outcome = match at.hook {
            Hook::EndpointIn => endpoint_in(&mut frame, tables, work),
            Hook::UplinkIn => uplink_in(&mut frame, tables, work),
            Hook::UplinkOut => uplink_out(&mut frame, tables, work),
            Hook::LoopbackIn => loopback_in(&mut frame, tables, work),
            Hook::BridgeIn => bridge_in(&mut frame, tables, work),
            Hook::BridgeOut => bridge_out(&mut frame, tables, work),
        };
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
        self.tables.ports = world.ports.clone().into_iter().collect();
        self.tables.sources = world.sources.clone().into_iter().collect();
        self.tables.locals = world.locals.clone().into_iter().collect();
        self.tables.interfaces = world.interfaces.clone().into_iter().collect();
        self.tables.networks = world.networks.clone().into_iter().collect();
        self.tables.subnets = world.subnets.clone().into_iter().collect();
        self.tables.open_ports = world.open_ports.clone().into_iter().collect();
        self.tables.links = world.links.clone().into_iter().collect();
        self.tables.heartbeat = world.heartbeat;
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

    fn judged(&mut self, rule: u16) -> u64 {
        let counters = self.tables.rule_counters.borrow();
        counters
            .get(&rule)
            .map_or(0, |counters| counters.connections)
    }

    fn collect(&mut self, request: CollectRequest) -> bool {
        let bytes = bytemuck::bytes_of(&request).to_vec();
        let frame = Buffer {
            bytes,
            now: self.now,
            ..Buffer::default()
        };
        collect(&frame, &self.tables, &mut Work::default()) == CollectRequest::DELETED
    }
}
