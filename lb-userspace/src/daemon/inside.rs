//! The namespaces in which programs are on the loopback interface: those that answer names, or those that
//! lead queries to the daemon. And the bridges where names are answered instead.

use std::collections::{BTreeMap, VecDeque};

use crate::datapath::{Bridge, Datapath, Led, Loopback};
use crate::model::{Gate, Netns};
use crate::netns::{AT_ONCE, for_each};

/// Loopback interfaces with `dns_lo`, and those that are to get it.
#[derive(Debug, Default)]
pub(super) struct Inside {
    /// By the cookies of their namespaces.
    attached: BTreeMap<u64, Loopback>,
    waiting: VecDeque<Netns>,
    /// Where queries are led inside, by the same.
    led: BTreeMap<u64, Led>,
    /// Bridges with `dns_bridge`, by index.
    bridges: BTreeMap<u32, Bridge>,
}

impl Inside {
    /// Notes that the kernel is to answer in this namespace.
    pub(super) fn want(&mut self, netns: Netns) {
        self.waiting.push_back(netns);
    }

    /// Has the kernel answer at a bridge, from now on. Where that fails the daemon goes on to answer.
    pub(super) fn answer_at(&mut self, datapath: &Datapath, gate: &Gate) {
        if self.bridges.contains_key(&gate.ifindex) {
            return;
        }
        match datapath.answer_at(gate.ifindex) {
            Ok(bridge) => self.bridges.extend(bridge.map(|it| (gate.ifindex, it))),
            Err(error) => {
                let bridge = &gate.bridge;
                tracing::warn!(%bridge, %error, "the kernel answers no names at a bridge");
            }
        }
    }

    /// Leaves every bridge where nobody asks any more.
    pub(super) fn keep_bridges(&mut self, is_asked: impl Fn(u32) -> bool) {
        self.bridges.retain(|ifindex, _| is_asked(*ifindex));
    }

    /// Notes that queries are led in this namespace.
    pub(super) fn keep(&mut self, cookie: u64, led: Led) {
        self.led.insert(cookie, led);
    }

    /// Whether queries are led in this namespace.
    pub(super) fn leads(&self, cookie: u64) -> bool {
        self.led.contains_key(&cookie)
    }

    /// Leaves the namespace's queries to others.
    pub(super) fn forget(&mut self, cookie: u64) {
        self.led.remove(&cookie);
        self.attached.remove(&cookie);
        self.waiting.retain(|netns| netns.cookie != cookie);
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Attaches to as many as are done at the same time, so that an observation that comes meanwhile
    /// waits for no more than these. Where that fails the daemon goes on to answer.
    pub(super) fn attach_some(&mut self, datapath: &Datapath) {
        let some = AT_ONCE.min(self.waiting.len());
        let some: Vec<_> = self.waiting.drain(..some).collect();
        let results = for_each(&some, |netns| datapath.answer_inside(netns));
        for (netns, result) in some.into_iter().zip(results) {
            match result {
                Ok(loopback) => drop(self.attached.insert(netns.cookie, loopback)),
                Err(error) => {
                    let netns = netns.path.display();
                    tracing::warn!(%netns, %error, "the kernel answers no names in a container");
                }
            }
        }
    }
}
