//! The kernel side, as the daemon handles it: programs loaded and attached, maps read and written.
//!
//! Everything is pinned (see `pins`), so the datapath works without the daemon. [`Datapath::open`]
//! therefore adopts: it takes the maps as they are, puts its own programs in the place of the pinned
//! ones, each in one step, unless they are the same, and clears nothing. What the maps hold is
//! [`Datapath::actual`]; the difference to what is wanted comes back as Steps for [`Datapath::apply`].
//!
//! # Why
//! Maps belong to one layout ([`lb_common::LAYOUT`]) and programs of another one never see them: its
//! number is part of the pins' paths. Sizes of values are compared besides, because the kernel copies
//! a value whole and nobody else checks that there is room for it.

mod askers;
mod bpf;
mod cgroup;
mod clock;
mod clsact;
mod collect;
mod connections;
mod counters;
mod error;
mod events;
mod expedite;
mod expiry;
mod features;
mod filters;
mod gates;
mod hooks;
mod leads;
mod lock;
mod maps;
mod mounts;
mod names;
mod object;
mod pins;
mod programs;
mod spec;
mod state;
mod uninstall;
mod veths;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use lb_common::dns::Sample;
use lb_common::{
    BackendCounters, Connection, EndpointId, Event, FlowKey, FrontendCounters, Reason, Resolver,
    RuleCounters,
};

use crate::config::{Lead, Maps as Sizes};
use crate::instance::Instance;
use crate::reconcile::{Role, State, Step};
use collect::Place;
use filters::Filters;
use hooks::Hooks;
use lock::Lock;
use maps::Array;
use pins::Pins;
use programs::{COLLECT, DNS_LEAD};

pub use askers::Askers;
pub use clock::now;
pub use collect::Collected;
pub use connections::{Filter, Held};
pub use error::{DatapathError, Warning};
pub use events::EventStream;
pub use features::{Feature, Health, can_enter_namespaces, can_lead_inside, features};
pub use gates::Bridge;
pub use hooks::Hook;
pub use leads::Led;
pub use maps::{Maps, PerCpu, Shared, Table};
pub use names::{Loopback, Names};
pub use object::{OBJECT, Object, PacketLog, set_constants};
pub use programs::{Programs, undisturbed};
pub use spec::Shape;
pub use uninstall::Uninstalled;

/// The index of the loopback interface of every namespace.
const LOOPBACK: u32 = 1;

/// Which datapath to open, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub instance: Instance,
    /// Where the BPF file system is, or is to be mounted.
    pub bpffs: PathBuf,
    /// The instance's own folder, for the lock.
    pub folder: PathBuf,
    /// Sizes of maps that are made; those that are pinned keep theirs.
    pub sizes: Sizes,
    /// The cgroup that DNS is taken over in; `None`: the cgroup2 root.
    pub cgroup: Option<PathBuf>,
    /// What leads containers' DNS queries to the daemon.
    pub lead: Lead,
    /// How veths are attached to; `None`: the best that the kernel has.
    pub hook: Option<Hook>,
    pub object: &'static [u8],
    /// Whether the programs tell of every packet: for debugging alone.
    pub log: bool,
}

impl Options {
    /// What holds on a host, for the calling thread's network namespace.
    pub fn here(sizes: Sizes) -> io::Result<Self> {
        let instance = Instance::here()?;
        Ok(Self {
            folder: instance.folder(),
            instance,
            bpffs: PathBuf::from("/sys/fs/bpf"),
            sizes,
            cgroup: None,
            lead: Lead::Auto,
            hook: None,
            object: OBJECT,
            log: false,
        })
    }
}

/// What a former veer had left, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Whether there were maps.
    pub found: bool,
    /// Interfaces that went on with the new program.
    pub attached: BTreeSet<(Role, u32)>,
    /// Interfaces that had gone meanwhile.
    pub removed: BTreeSet<u32>,
    pub warnings: Vec<Warning>,
}

/// The datapath of one network namespace. Attaching and detaching must be done from a thread in
/// that namespace.
#[derive(Debug)]
pub struct Datapath {
    maps: Maps,
    programs: Programs,
    pins: Pins,
    /// Pins of other layouts.
    others: Vec<Pins>,
    hook: Hook,
    filters: Filters,
    place: Place,
    /// What leads DNS queries to the daemon.
    lead: Lead,
    log: Option<PacketLog>,
    _lock: Lock,
}

impl Datapath {
    /// Loads the programs, or adopts what is pinned. Clears nothing, and leaves nothing half done that
    /// the next call does not complete.
    pub fn open(options: &Options) -> Result<(Self, Adopted), DatapathError> {
        features::require()?;
        mounts::require_bpffs(&options.bpffs)?;
        let lock = Lock::take(&options.folder, &options.instance)?;
        let pins = Pins::new(&options.bpffs, options.instance.name());
        pins.create()?;
        let found = pins.map(spec::SETTINGS.name).exists();
        let (object, mut warnings) =
            Object::adopt(options.object, &options.sizes, &pins, options.log)?;
        let Object {
            maps,
            programs,
            log,
        } = object;

        let mut datapath = Self {
            lead: Lead::Sockets,
            hook: options.hook.map_or_else(features::hook, Ok)?,
            filters: Filters::of(&options.folder),
            maps,
            programs,
            others: pins.other_layouts()?,
            pins,
            place: Place::default(),
            log,
            _lock: lock,
        };
        let kept = datapath.hooks().adopt(&datapath.programs)?;
        let hindrance = cgroup::attach(&datapath.programs, &datapath.pins, options)?;
        let can_enter = features::can_enter_namespaces();
        let (lead, warning) = leads::choose(options.lead, hindrance, can_enter, &|| {
            datapath.programs.get(DNS_LEAD).is_ok()
        });
        datapath.lead = lead;
        warnings.extend(warning);
        warnings.extend(datapath.retire_others()?);
        let adopted = Adopted {
            found,
            attached: kept.attached,
            removed: kept.removed,
            warnings,
        };
        Ok((datapath, adopted))
    }

    /// Detaches everything of the instance and removes every pin. Fails with
    /// [`DatapathError::AlreadyServed`] while a daemon serves it.
    pub fn uninstall(options: &Options) -> Result<Uninstalled, DatapathError> {
        uninstall::uninstall(options)
    }

    /// What the maps hold and what is attached. Must be called from a thread in the datapath's network
    /// namespace: before Linux 6.6 what is attached is asked of the interfaces by name.
    pub fn actual(&self) -> Result<State, DatapathError> {
        state::actual(&self.maps, &self.hooks())
    }

    /// Carries out one Step. Carrying it out again changes nothing.
    pub fn apply(&mut self, step: &Step) -> Result<(), DatapathError> {
        state::apply(&self.maps, &self.hooks(), &self.programs, step)
    }

    /// Sends DNS queries from the namespace with this cookie to `resolver`.
    pub fn set_resolver(&self, cookie: u64, resolver: Resolver) -> Result<(), DatapathError> {
        if self.lead == Lead::Loopback {
            return self.maps.dns_leads.put(&cookie, &resolver);
        }
        self.open_gate(cookie, &resolver)?;
        self.maps.resolvers.put(&cookie, &resolver)
    }

    /// Leaves DNS queries from the namespace with this cookie to Docker's resolver again.
    pub fn remove_resolver(&self, cookie: u64) -> Result<(), DatapathError> {
        self.maps.dns_leads.remove(&cookie)?;
        self.close_gate(cookie)?;
        self.maps.resolvers.remove(&cookie).map(drop)
    }

    /// The namespaces whose DNS programs on sockets lead, by cookie, and where it goes.
    pub fn resolvers(&self) -> Result<Vec<(u64, Resolver)>, DatapathError> {
        self.maps.resolvers.entries()
    }

    /// What the programs say of every packet, once, if they were opened with [`Options::log`].
    pub fn take_log(&mut self) -> Option<PacketLog> {
        self.log.take()
    }

    /// The sign of life that the takeover of DNS depends on.
    pub fn heartbeat(&self) -> Result<Heartbeat, DatapathError> {
        Ok(Heartbeat(self.maps.heartbeat.try_clone()?))
    }

    /// How often each Reason was counted.
    pub fn reasons(&self) -> Result<Vec<(Reason, u64)>, DatapathError> {
        self.maps.count_reasons()
    }

    /// What the Frontend with this id has seen.
    pub fn frontend_counters(&self, id: u32) -> Result<FrontendCounters, DatapathError> {
        self.maps.count_frontend(id)
    }

    /// What the rule with this number has judged; 0: Frontends' own lists.
    pub fn rule_counters(&self, rule: u32) -> Result<RuleCounters, DatapathError> {
        self.maps.count_rule(rule)
    }

    /// What the Endpoint with this id has seen as a Backend.
    pub fn backend_counters(&self, id: EndpointId) -> Result<BackendCounters, DatapathError> {
        self.maps.count_backend(id)
    }

    /// How many established Connections the Endpoint has as a Backend.
    pub fn load(&self, id: EndpointId) -> u64 {
        self.maps.loads.get(id).unwrap_or_default()
    }

    /// How many Connections the Frontend with this id has opened in turn.
    pub fn turns(&self, id: u32) -> u64 {
        self.maps.turns.get(id).unwrap_or_default()
    }

    /// The clients' entries of at most `limit` Connections, established ones first.
    pub fn connections(
        &self,
        filter: &Filter,
        limit: usize,
    ) -> Result<Vec<(FlowKey, Connection)>, DatapathError> {
        connections::list(&self.maps, filter, limit)
    }

    /// How large the maps really are, which may be of another configuration than `configured`.
    pub fn sizes(&self, configured: Sizes) -> Sizes {
        Sizes {
            veths: self.maps.veths.capacity(),
            endpoints: self.maps.endpoints.len(),
            frontends: self.maps.frontends.capacity(),
            slots: self.maps.slots.len(),
            ..configured
        }
    }

    /// What Connections still name: these ids are not free.
    pub fn held(&self) -> Result<Held, DatapathError> {
        connections::held(&self.maps)
    }

    /// Forgets Connections that are over: looks at about `budget` entries from where the last call
    /// ended.
    pub fn collect_slice(&mut self, budget: usize) -> Result<Collected, DatapathError> {
        let program = self.programs.get(COLLECT)?;
        collect::collect(&self.maps, program, &mut self.place, budget)
    }

    /// What happens to single flows. Must be called within a tokio runtime.
    pub fn events(&self) -> Result<EventStream<Event>, DatapathError> {
        EventStream::new(&self.maps.events, &spec::EVENTS)
    }

    /// Some of the DNS answers that the kernel gives. Must be called within a tokio runtime.
    pub fn dns_samples(&self) -> Result<EventStream<Sample>, DatapathError> {
        EventStream::new(&self.maps.dns_samples, &spec::DNS_SAMPLES)
    }

    /// The maps themselves.
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// Bytes of memory that the kernel takes for all maps.
    pub fn maps_memory(&self) -> Result<u64, DatapathError> {
        let taken = |name: String| {
            let path = self.pins.map(&name);
            let taken = bpf::Map::from_pin(&path).and_then(|map| map.memory_taken());
            taken.map_err(DatapathError::file("ask for the memory of", path))
        };
        self.pins.maps()?.into_iter().map(taken).sum()
    }

    /// The programs as they are loaded, for running them with a packet of one's own.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// How veths are attached to.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// The folder that the pins are in.
    pub fn pinned_at(&self) -> &Path {
        self.pins.instance()
    }

    /// Takes the socket programs of other layouts off; those on veths go when ours come.
    fn retire_others(&self) -> Result<Vec<Warning>, DatapathError> {
        let retire = |other: &Pins| {
            cgroup::detach(other)?;
            Ok(Warning::OtherLayout {
                path: other.layout().to_owned(),
            })
        };
        self.others.iter().map(retire).collect()
    }

    fn hooks(&self) -> Hooks<'_> {
        Hooks {
            pins: &self.pins,
            hook: self.hook,
            others: &self.others,
        }
    }
}

/// The sign of life of the DNS server. Without one for [`Resolver::PATIENCE`], containers ask Docker's
/// resolver again.
#[derive(Debug)]
pub struct Heartbeat(Array<u64>);

impl Heartbeat {
    /// Says that the server is alive now.
    pub fn beat(&self) -> Result<(), DatapathError> {
        let now = clock::now().map_err(DatapathError::file("read", "CLOCK_MONOTONIC"))?;
        self.0.put(0, &now)
    }
}
