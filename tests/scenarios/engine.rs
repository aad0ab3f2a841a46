//! Running scenarios over an engine, and what a scenario can say.

use lb_common::{ConnectionFlags, FlowKey, Reason};
use lb_ebpf::Verdict;

use crate::world::World;

/// Something that runs packets: memory or the kernel.
pub trait Engine {
    /// Forgets everything that earlier packets left behind.
    fn reset(&mut self);
    /// Runs one packet through the program that is there.
    fn run(&mut self, at: At, packet: &[u8]) -> Ran;
    /// Makes the tables that userspace owns equal to the world's.
    fn set(&mut self, world: &World);
    /// Lets this many seconds pass.
    fn age(&mut self, seconds: u64);
    fn reason(&mut self, reason: Reason) -> u64;
    /// All Connection entries of both maps.
    fn entries(&mut self) -> Vec<(FlowKey, lb_common::Connection)>;
    fn load(&mut self, endpoint: u32) -> u64;
    /// How many Connections a rule for clients has judged.
    fn judged(&mut self, rule: u16) -> u64;
    /// Asks for a Connection to be forgotten; whether it was.
    fn collect(&mut self, request: lb_ebpf::CollectRequest) -> bool;
}

/// Where a packet meets a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    pub hook: Hook,
    pub ifindex: u32,
    /// The interface that it reached the host on, if it is about to leave.
    pub came_from: u32,
}

/// The programs on packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    EndpointIn,
    UplinkIn,
    UplinkOut,
    LoopbackIn,
    BridgeIn,
    BridgeOut,
}

impl At {
    /// On its way into the host.
    pub fn entering(hook: Hook, ifindex: u32) -> Self {
        Self {
            hook,
            ifindex,
            came_from: 0,
        }
    }
}

/// What came of a packet.
#[derive(Debug)]
pub struct Ran {
    /// The index of a delivery is 0 where the engine cannot tell, nor which kind it is.
    pub verdict: Verdict,
    pub packet: Vec<u8>,
}

/// One row of the table.
#[derive(Clone)]
pub struct Scenario {
    /// The sentence that must be true.
    pub name: String,
    pub world: World,
    pub steps: Vec<Step>,
}

/// One thing that happens, or must hold.
#[derive(Clone)]
pub enum Step {
    Send(Send),
    /// Seconds pass.
    Age(u64),
    /// Userspace changes its tables.
    Change(fn(&mut World)),
    /// This many packets so far left the fast path for this Reason.
    Counted(Reason, u64),
    /// So many established Connections and so many half-open ones (not entries).
    Connections(usize, usize),
    /// How many Connections a rule for clients has judged.
    Judged(u16, u64),
    /// Established Connections of an Endpoint as a Backend.
    Load(u32, u64),
    /// Userspace asks for every Connection to be forgotten, with the timestamps that it sees; this
    /// many are.
    Collected(usize),
    /// Userspace asks with timestamps that no longer hold: nothing is forgotten.
    CollectedStale,
}

/// A packet and what must come of it.
#[derive(Clone)]
pub struct Send {
    pub at: At,
    pub packet: Vec<u8>,
    pub verdict: Verdict,
    pub reason: Reason,
    /// The packet afterwards, if it is not dropped. `None`: as it was.
    pub out: Option<Vec<u8>>,
}

/// Runs every scenario, each from empty tables; fails with all that do not hold.
pub fn run_all(scenarios: &[Scenario], engine: &mut impl Engine) {
    assert!(
        scenarios.len() > 60,
        "the table has shrunk to {}",
        scenarios.len()
    );
    let mut failures = Vec::new();
    for scenario in scenarios {
        engine.reset();
        if let Err(failure) = run(scenario, engine) {
            failures.push(format!("{}: {failure}", scenario.name));
        }
    }
    println!("{} scenarios ran", scenarios.len());
    assert!(
        failures.is_empty(),
        "{} failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn run(scenario: &Scenario, engine: &mut impl Engine) -> Result<(), String> {
    let mut world = scenario.world.clone();
    engine.set(&world);
    for (index, step) in scenario.steps.iter().enumerate() {
        let result = match step {
            Step::Send(send) => sent(engine, send),
            Step::Age(seconds) => {
                engine.age(*seconds);
                Ok(())
            }
            Step::Change(change) => {
                change(&mut world);
                engine.set(&world);
                Ok(())
            }
            Step::Counted(reason, count) => same(reason.name(), &engine.reason(*reason), count),
            Step::Connections(established, half_open) => {
                connections(engine, *established, *half_open)
            }
            Step::Judged(rule, count) => same("judged", &engine.judged(*rule), count),
            Step::Load(endpoint, load) => same("load", &engine.load(*endpoint), load),
            Step::Collected(count) => same("collected", &collect(engine, 0), count),
            Step::CollectedStale => same("collected", &collect(engine, 1), &0),
        };
        result.map_err(|failure| format!("step {}: {failure}", index + 1))?;
    }
    Ok(())
}

fn sent(engine: &mut impl Engine, send: &Send) -> Result<(), String> {
    let before = engine.reason(send.reason);
    let ran = engine.run(send.at, &send.packet);
    let is_same = match (ran.verdict, send.verdict) {
        (Verdict::Deliver { ifindex: 0 }, Verdict::Deliver { .. } | Verdict::Leave { .. }) => true,
        (got, wanted) => got == wanted,
    };
    if !is_same {
        let counted: Vec<_> = Reason::ALL
            .iter()
            .filter(|reason| engine.reason(**reason) > 0)
            .map(|reason| reason.name())
            .collect();
        return Err(format!(
            "{:?} instead of {:?}; counted: {counted:?}",
            ran.verdict, send.verdict
        ));
    }
    same(
        send.reason.name(),
        &(engine.reason(send.reason) - before),
        &1,
    )?;
    if ran.verdict == Verdict::Drop {
        return Ok(());
    }
    let wanted = send.out.as_ref().unwrap_or(&send.packet);
    if ran.packet != *wanted {
        return Err(difference(&ran.packet, wanted));
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, wanted: &T) -> Result<(), String> {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{what}: {got:?} instead of {wanted:?}"))
    }
}

fn connections(
    engine: &mut impl Engine,
    established: usize,
    half_open: usize,
) -> Result<(), String> {
    let entries = engine.entries();
    let count = |is_established: bool| {
        entries
            .iter()
            .filter(|(_, entry)| entry.has(ConnectionFlags::ESTABLISHED) == is_established)
            .count()
    };
    let (got_established, got_half_open) = (count(true), count(false));
    same(
        "entries, established and half-open",
        &(got_established, got_half_open),
        &(established * 2, half_open * 2),
    )
}

/// Collects what is idle in both directions, as userspace does; `skew` falsifies the timestamps.
fn collect(engine: &mut impl Engine, skew: u64) -> usize {
    let entries = engine.entries();
    let mut collected = 0;
    for (flow, entry) in entries
        .iter()
        .filter(|(_, entry)| entry.has(ConnectionFlags::FORWARD))
    {
        let other_key = entry.other_half(flow);
        let other = entries
            .iter()
            .find(|(key, _)| *key == other_key)
            .map(|(_, entry)| *entry);
        let request = lb_ebpf::CollectRequest {
            flow: *flow,
            last_seen: entry.last_seen + skew,
            other_last_seen: other.map_or(0, |other| other.last_seen),
            flags: if entry.has(ConnectionFlags::ESTABLISHED) {
                0
            } else {
                lb_ebpf::CollectRequest::HALF_OPEN
            },
        };
        collected += usize::from(engine.collect(request));
    }
    collected
}

fn difference(got: &[u8], wanted: &[u8]) -> String {
    let at: Vec<_> = (0..got.len().max(wanted.len()))
        .filter(|index| got.get(*index) != wanted.get(*index))
        .collect();
    format!(
        "bytes {at:?} differ:\n  got    {}\n  wanted {}",
        hex(got),
        hex(wanted)
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
