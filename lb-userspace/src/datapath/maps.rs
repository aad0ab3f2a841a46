//! Typed access to the maps. Reading and writing take `&self`: the kernel orders what happens at once.

use std::io;
use std::marker::PhantomData;

use bytemuck::Pod;
use lb_common::{
    Addr, Affinity, AffinityKey, BackendCounters, Cells, Connection, Endpoint, FlowKey, Frontend,
    FrontendCounters, FrontendKey, Gate, Guest, Interface, Link, Local, Network, OpenPort,
    Resolver, RuleCounters, Settings, Slot, Source, SourceKey, Subnet, SubnetKey, dns,
};

use super::bpf::{self, Cursor, Memory};
use super::error::DatapathError;
use super::spec::{self, Spec};
use super::veths::Veths;

/// Elements that are copied in one system call when a map is listed.
const BATCH: usize = 1_024;

/// All maps that userspace reads or writes.
#[derive(Debug)]
pub struct Maps {
    pub settings: Array<Settings>,
    pub veths: Veths,
    pub endpoints: Shared<Endpoint>,
    pub frontends: Table<FrontendKey, Frontend>,
    pub slots: Shared<Slot>,
    pub ports: Shared<Cells>,
    pub sources: Trie<SourceKey, Source>,
    pub rule_counters: PerCpu<RuleCounters>,
    pub locals: Table<Addr, Local>,
    pub interfaces: Table<u32, Interface>,
    pub networks: Array<Network>,
    pub subnets: Trie<SubnetKey, Subnet>,
    pub open_ports: Table<OpenPort, u32>,
    pub links: Table<Link, u32>,
    pub turns: Shared<u64>,
    pub loads: Shared<u64>,
    pub connections: Table<FlowKey, Connection>,
    pub half_open: Table<FlowKey, Connection>,
    pub affinity: Table<AffinityKey, Affinity>,
    pub reasons: PerCpu<u64>,
    pub frontend_counters: PerCpu<FrontendCounters>,
    pub backend_counters: PerCpu<BackendCounters>,
    pub resolvers: Table<u64, Resolver>,
    pub dns_leads: Table<u64, Resolver>,
    pub heartbeat: Array<u64>,
    pub dns_views: Table<u64, dns::View>,
    pub dns_answers: Table<dns::AnswerKey, dns::NamedAnswer>,
    pub dns_counts: PerCpu<dns::Counts>,
    pub dns_sockets: Table<i32, u64>,
    pub dns_gates: Table<Gate, Guest>,
    pub dns_daemon: Table<u32, i32>,
    pub(super) events: bpf::Map,
    pub(super) dns_samples: bpf::Map,
}

impl Maps {
    /// Takes each map from `open` and sees to it that it is what the programs expect.
    pub(super) fn open(
        mut open: impl FnMut(&Spec) -> Result<bpf::Map, DatapathError>,
    ) -> Result<Self, DatapathError> {
        let mut checked = |spec: Spec| {
            let map = open(&spec)?;
            if spec.shape() != map.info().into() {
                return Err(DatapathError::Layout {
                    map: spec.name,
                    found: map.info().into(),
                    expected: spec.shape(),
                });
            }
            Ok(Named { spec, map })
        };
        Ok(Self {
            settings: Array::new(checked(spec::SETTINGS)?),
            veths: Veths::new(
                Table::new(checked(spec::VETHS)?),
                Array::new(checked(spec::VETH_CHANGES)?),
            )?,
            endpoints: Shared::new(checked(spec::ENDPOINTS)?)?,
            frontends: Table::new(checked(spec::FRONTENDS)?),
            slots: Shared::new(checked(spec::SLOTS)?)?,
            ports: Shared::new(checked(spec::PORTS)?)?,
            sources: Trie(Table::new(checked(spec::SOURCES)?)),
            rule_counters: PerCpu::new(checked(spec::RULE_COUNTERS)?),
            locals: Table::new(checked(spec::LOCALS)?),
            interfaces: Table::new(checked(spec::INTERFACES)?),
            networks: Array::new(checked(spec::NETWORKS)?),
            subnets: Trie(Table::new(checked(spec::SUBNETS)?)),
            open_ports: Table::new(checked(spec::OPEN_PORTS)?),
            links: Table::new(checked(spec::LINKS)?),
            turns: Shared::new(checked(spec::TURNS)?)?,
            loads: Shared::new(checked(spec::LOADS)?)?,
            connections: Table::new(checked(spec::CONNECTIONS)?),
            half_open: Table::new(checked(spec::HALF_OPEN)?),
            affinity: Table::new(checked(spec::AFFINITY)?),
            reasons: PerCpu::new(checked(spec::REASONS)?),
            frontend_counters: PerCpu::new(checked(spec::FRONTEND_COUNTERS)?),
            backend_counters: PerCpu::new(checked(spec::BACKEND_COUNTERS)?),
            resolvers: Table::new(checked(spec::RESOLVERS)?),
            dns_leads: Table::new(checked(spec::DNS_LEADS)?),
            heartbeat: Array::new(checked(spec::HEARTBEAT)?),
            dns_views: Table::new(checked(spec::DNS_VIEWS)?),
            dns_answers: Table::new(checked(spec::DNS_ANSWERS)?),
            dns_counts: PerCpu::new(checked(spec::DNS_COUNTS)?),
            dns_sockets: Table::new(checked(spec::DNS_SOCKETS)?),
            dns_gates: Table::new(checked(spec::DNS_GATES)?),
            dns_daemon: Table::new(checked(spec::DNS_DAEMON)?),
            events: checked(spec::EVENTS)?.map,
            dns_samples: checked(spec::DNS_SAMPLES)?.map,
        })
    }
}

/// A map and what it is called.
#[derive(Debug)]
struct Named {
    spec: Spec,
    map: bpf::Map,
}

impl Named {
    fn len(&self) -> u32 {
        self.map.info().max_entries
    }

    /// The same map through a descriptor of its own.
    fn try_clone(&self) -> Result<Self, DatapathError> {
        let map = self.map.try_clone();
        Ok(Self {
            spec: self.spec,
            map: map.map_err(|error| self.error("open", error))?,
        })
    }

    /// Gives `error` the map's name and, if the map is full, the way out.
    fn error(&self, attempt: &'static str, error: io::Error) -> DatapathError {
        let map = self.spec.name;
        if error.raw_os_error() == Some(libc::E2BIG) {
            return self.full();
        }
        DatapathError::Map {
            attempt,
            map,
            source: error,
        }
    }

    fn full(&self) -> DatapathError {
        DatapathError::MapFull {
            map: self.spec.name,
            size: self.len(),
            key: self.spec.config_key().unwrap_or("maps"),
        }
    }
}

/// A hash map.
#[derive(Debug)]
pub struct Table<K, V> {
    inner: Named,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    fn new(inner: Named) -> Self {
        Self {
            inner,
            types: PhantomData,
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Result<Option<V>, DatapathError> {
        let mut value = V::zeroed();
        let found = self
            .inner
            .map
            .lookup(bytemuck::bytes_of(key), bytemuck::bytes_of_mut(&mut value))
            .map_err(|error| self.inner.error("read", error))?;
        Ok(found.then_some(value))
    }

    /// Inserts or replaces, in one step for everybody who reads.
    pub fn put(&self, key: &K, value: &V) -> Result<(), DatapathError> {
        self.inner
            .map
            .update(bytemuck::bytes_of(key), bytemuck::bytes_of(value))
            .map_err(|error| self.inner.error("write", error))
    }

    /// Removes; `false` if there was nothing.
    pub fn remove(&self, key: &K) -> Result<bool, DatapathError> {
        self.inner
            .map
            .delete(bytemuck::bytes_of(key))
            .map_err(|error| self.inner.error("delete from", error))
    }

    /// Removes every element that is there when it begins.
    pub fn clear(&self) -> Result<(), DatapathError> {
        for (key, _) in self.entries()? {
            self.remove(&key)?;
        }
        Ok(())
    }

    /// Every element that is there from the beginning to the end of the listing.
    pub fn entries(&self) -> Result<Vec<(K, V)>, DatapathError> {
        let mut entries = Vec::new();
        let mut place = Some(Cursor::default());
        while let Some(from) = place {
            place = self.slice(from, BATCH, &mut entries)?;
        }
        Ok(entries)
    }

    /// Appends about `budget` elements from `from` on, and gives the place to go on from, `None` at
    /// the end.
    pub(super) fn slice(
        &self,
        from: Cursor,
        budget: usize,
        entries: &mut Vec<(K, V)>,
    ) -> Result<Option<Cursor>, DatapathError> {
        let mut room = budget.max(1);
        loop {
            let mut keys = vec![K::zeroed(); room];
            let mut values = vec![V::zeroed(); room];
            let result = self.inner.map.lookup_batch(
                from,
                bytemuck::cast_slice_mut(&mut keys),
                bytemuck::cast_slice_mut(&mut values),
            );
            match result {
                Ok(slice) => {
                    entries.extend(keys.into_iter().zip(values).take(slice.count));
                    return Ok(slice.next);
                }
                // A bucket is never cut: one that has more elements than there is room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => room *= 2,
                Err(error) => return Err(self.inner.error("list", error)),
            }
        }
    }

    /// The same table through a descriptor of its own.
    pub(super) fn try_clone(&self) -> Result<Self, DatapathError> {
        Ok(Self::new(self.inner.try_clone()?))
    }

    /// How many elements there is room for.
    pub fn capacity(&self) -> u32 {
        self.inner.len()
    }
}

/// A longest-prefix match: a hash map that is listed otherwise.
#[derive(Debug)]
pub struct Trie<K, V>(Table<K, V>);

impl<K: Pod, V: Pod> Trie<K, V> {
    /// Inserts or replaces, in one step for everybody who reads.
    pub fn put(&self, key: &K, value: &V) -> Result<(), DatapathError> {
        self.0.put(key, value)
    }

    /// Removes; `false` if there was nothing.
    pub fn remove(&self, key: &K) -> Result<bool, DatapathError> {
        self.0.remove(key)
    }

    /// The value of the longest prefix that `key` begins with.
    pub fn get(&self, key: &K) -> Result<Option<V>, DatapathError> {
        self.0.get(key)
    }

    /// Every element. Nobody else may change the map meanwhile.
    pub fn entries(&self) -> Result<Vec<(K, V)>, DatapathError> {
        let inner = &self.0.inner;
        let mut entries: Vec<(K, V)> = Vec::new();
        let mut next = K::zeroed();
        loop {
            let last = entries.last().map(|(key, _)| bytemuck::bytes_of(key));
            let found = inner.map.next_key(last, bytemuck::bytes_of_mut(&mut next));
            if !found.map_err(|error| inner.error("list", error))? {
                return Ok(entries);
            }
            // The longest prefix of a key that is there is that key.
            match self.get(&next)? {
                Some(value) => entries.push((next, value)),
                None => return Ok(entries),
            }
        }
    }
}

/// An array that is reached by system calls.
#[derive(Debug)]
pub struct Array<V> {
    inner: Named,
    types: PhantomData<V>,
}

impl<V: Pod> Array<V> {
    fn new(inner: Named) -> Self {
        Self {
            inner,
            types: PhantomData,
        }
    }

    /// The value at `index`.
    pub fn get(&self, index: u32) -> Result<V, DatapathError> {
        let mut value = V::zeroed();
        self.inner
            .map
            .lookup(&index.to_ne_bytes(), bytemuck::bytes_of_mut(&mut value))
            .map_err(|error| self.inner.error("read", error))?;
        Ok(value)
    }

    /// How many values there are.
    pub fn len(&self) -> u32 {
        self.inner.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replaces the value at `index`.
    pub fn put(&self, index: u32, value: &V) -> Result<(), DatapathError> {
        self.inner
            .map
            .update(&index.to_ne_bytes(), bytemuck::bytes_of(value))
            .map_err(|error| self.inner.error("write", error))
    }

    /// The same array through a descriptor of its own.
    pub(super) fn try_clone(&self) -> Result<Self, DatapathError> {
        Ok(Self::new(self.inner.try_clone()?))
    }
}

/// An array whose memory is shared with the kernel.
#[derive(Debug)]
pub struct Shared<V> {
    inner: Named,
    memory: Memory,
    types: PhantomData<V>,
}

impl<V: Pod> Shared<V> {
    fn new(inner: Named) -> Result<Self, DatapathError> {
        let memory = inner.map.memory();
        let memory = memory.map_err(|error| inner.error("map into memory", error))?;
        Ok(Self {
            inner,
            memory,
            types: PhantomData,
        })
    }

    /// How many values there are.
    pub fn len(&self) -> u32 {
        self.inner.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at `index`, `None` beyond the end and where the kernel does not give the memory: who
    /// then writes is told.
    pub fn get(&self, index: u32) -> Option<V> {
        self.memory.read(index).ok().flatten()
    }

    /// Replaces the value at `index`. Fails with [`DatapathError::MapFull`] beyond the end.
    pub fn put(&self, index: u32, value: V) -> Result<(), DatapathError> {
        let written = self.memory.write(index, value);
        written
            .map_err(|error| self.inner.error("map into memory", error))?
            .ok_or_else(|| self.inner.full())
    }
}

/// An array with a value for each CPU.
#[derive(Debug)]
pub struct PerCpu<V> {
    inner: Named,
    types: PhantomData<V>,
}

impl<V: Pod> PerCpu<V> {
    fn new(inner: Named) -> Self {
        Self {
            inner,
            types: PhantomData,
        }
    }

    /// The same array through a descriptor of its own.
    pub(super) fn try_clone(&self) -> Result<Self, DatapathError> {
        Ok(Self::new(self.inner.try_clone()?))
    }

    pub(super) fn len(&self) -> u32 {
        self.inner.len()
    }

    /// Gives all CPUs the same value at `index`.
    pub(super) fn put_all(&self, index: u32, value: &V) -> Result<(), DatapathError> {
        // The kernel rounds each CPU's value up to whole words.
        let mut one = vec![0; size_of::<V>().next_multiple_of(8)];
        one[..size_of::<V>()].copy_from_slice(bytemuck::bytes_of(value));
        let all = one.repeat(self.inner.map.value_len() / one.len());
        let put = self.inner.map.update(&index.to_ne_bytes(), &all);
        put.map_err(|error| self.inner.error("write", error))
    }

    /// The values of all CPUs at `index`.
    pub fn get(&self, index: u32) -> Result<Vec<V>, DatapathError> {
        let mut bytes = vec![0; self.inner.map.value_len()];
        self.inner
            .map
            .lookup(&index.to_ne_bytes(), &mut bytes)
            .map_err(|error| self.inner.error("read", error))?;
        // The kernel rounds each CPU's value up to whole words.
        let values = bytes.chunks_exact(size_of::<V>().next_multiple_of(8));
        Ok(values
            .map(|value| bytemuck::pod_read_unaligned(&value[..size_of::<V>()]))
            .collect())
    }
}
