//! How soon a container that the Engine connects to a network is served.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use veer_tests::engine::{Engine, IMAGE};

use super::super::lab::{Latency, Site, host};
use super::computing::{Computing, QUIET};
use super::{PATIENCE, REST, until};

/// Where the Engine's data is in memory: it writes down each connection before it lets anybody ask
/// about the container, and how long a disk takes says nothing about veer.
const MEMORY: &str = "/dev/shm";

/// Containers that are connected to one network.
const CONTAINERS: usize = 20;

/// How long the connections of one round took.
pub(super) struct Connected {
    /// Until they were served, by what the daemon says.
    pub(super) veer: Latency,
    /// Until the Engine, with nobody else there, had said what the container is.
    pub(super) engine: Latency,
    /// What the machine makes of computing alone, meanwhile.
    pub(super) computing: Latency,
}

/// How often a round may be made again because the machine was not quiet.
const AGAIN: usize = 2;

/// The rounds that count.
pub(super) struct Rounds {
    pub(super) all: Vec<Connected>,
    /// How many were not quiet.
    pub(super) noisy: usize,
    /// Whether those are left out: there are enough of the others.
    pub(super) are_quiet: bool,
}

impl Rounds {
    /// Makes so many, and some of them again.
    fn make(wanted: usize, mut round: impl FnMut() -> Result<Connected>) -> Result<Self> {
        let (mut all, mut noisy) = (Vec::new(), Vec::new());
        while all.len() < wanted && noisy.len() < AGAIN * wanted {
            let connected = round()?;
            let place = if is_quiet(&connected.computing) {
                &mut all
            } else {
                &mut noisy
            };
            place.push(connected);
        }
        let (count, are_quiet) = (noisy.len(), all.len() == wanted);
        if !are_quiet {
            all.append(&mut noisy);
        }
        Ok(Self {
            all,
            noisy: count,
            are_quiet,
        })
    }
}

/// Whether a process that only computes had the CPU when it wanted to.
///
/// # Why
/// On a machine that others share 3 ms of computing take 12 to 70 at p99 in some minutes, and no daemon can be
/// quicker than the CPU that it waits for.
fn is_quiet(computing: &Latency) -> bool {
    computing.p99_microseconds <= QUIET.as_secs_f64() * 1e6
}

/// For each round the time from the Engine's event on, of so many connections of containers that run. Why not,
/// where there is no Engine to be had.
pub(super) fn connect(rounds: usize, connections: usize) -> Result<Result<Rounds, String>> {
    if let Some(program) = Engine::lacks() {
        return Ok(Err(format!("{program} is not installed")));
    }
    if !Path::new(MEMORY).is_dir() {
        return Ok(Err(format!("there is no {MEMORY}")));
    }
    let data = tempfile::Builder::new()
        .prefix("veer-engine-")
        .tempdir_in(MEMORY)?;
    let root = data.path().join("data");
    let namespace = host()?;
    let site = Site::on(namespace.try_clone()?)?;
    let arguments = ["--data-root", &root.to_string_lossy()];
    let engine = Engine::start_with(namespace, &arguments);
    let town = Town::new(&engine, connections);
    let round = || {
        let engine = town.asked()?;
        let mut computing = Computing::new();
        Ok(Connected {
            engine,
            veer: town.served(&site, &mut computing)?,
            computing: latency(computing.times),
        })
    };
    Rounds::make(rounds, round).map(Ok)
}

/// Containers on a network of their own, and networks that they can be connected to.
struct Town<'a> {
    engine: &'a Engine,
    containers: usize,
    networks: usize,
}

impl<'a> Town<'a> {
    fn new(engine: &'a Engine, connections: usize) -> Self {
        let containers = connections.min(CONTAINERS);
        let networks = connections.div_ceil(CONTAINERS);
        for number in 0..=networks {
            engine.docker(["network", "create", &network(number)]);
        }
        for number in 0..containers {
            let name = container(number);
            let home = network(0);
            let words = format!("run -d --name {name} --network {home} {IMAGE} sleep 100000");
            engine.docker(words.split(' '));
        }
        Self {
            engine,
            containers,
            networks,
        }
    }

    fn connections(&self) -> usize {
        self.containers * self.networks
    }

    /// How long every connection takes until the Engine, without veer, has said what the container is.
    fn asked(&self) -> Result<Latency> {
        let asking = Asking::start(&self.engine.socket(), self.connections())?;
        self.connect(|_| Ok(()))?;
        let latency = asking.finish();
        self.disconnect();
        latency
    }

    /// How long every connection takes until veer serves it.
    fn served(&self, site: &Site, computing: &mut Computing) -> Result<Latency> {
        let daemon = site.following(&self.engine.socket(), "")?;
        site.until_served(self.containers, &daemon)?;
        self.connect(|connected| {
            until(|| {
                let status = site.status().context("ask the daemon")?;
                Ok(status.counts.endpoints == self.containers + connected)
            })?;
            sleep(REST);
            computing.take();
            Ok(())
        })?;
        let latency = site.status().context("ask the daemon")?.latency;
        let connections = self.connections();
        ensure!(
            latency.count >= connections,
            "{} of {connections} changes were measured",
            latency.count
        );
        drop(daemon);
        site.veer(&["uninstall"])?;
        self.disconnect();
        Ok(latency)
    }

    /// Each container to each network but their own, and after each `rest`, which is told how many
    /// there are.
    fn connect(&self, mut rest: impl FnMut(usize) -> Result<()>) -> Result<()> {
        for (index, (network, container)) in self.pairs().enumerate() {
            let words = format!("network connect --alias tg-net {network} {container}");
            self.engine.docker(words.split(' '));
            sleep(REST);
            rest(index + 1)?;
        }
        Ok(())
    }

    fn disconnect(&self) {
        for (network, container) in self.pairs() {
            self.engine
                .docker(["network", "disconnect", &network, &container]);
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (String, String)> {
        let networks = (1..=self.networks).map(network);
        networks.flat_map(|network| {
            (0..self.containers).map(move |number| (network.clone(), container(number)))
        })
    }
}

fn network(number: usize) -> String {
    format!("net{number}")
}

fn container(number: usize) -> String {
    format!("web{number}")
}

/// Of at least one time.
fn latency(mut times: Vec<Duration>) -> Latency {
    times.sort();
    let at = |share: usize| times[(times.len() * share).div_ceil(100) - 1];
    Latency {
        count: times.len(),
        p50_microseconds: at(50).as_secs_f64() * 1e6,
        p99_microseconds: at(99).as_secs_f64() * 1e6,
    }
}

/// A thread that asks an Engine about each container that is connected, as soon as it hears of it.
struct Asking(JoinHandle<Result<Vec<Duration>>>);

/// What an event says, as far as it matters here.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "timeNano")]
    at: u64,
    #[serde(rename = "Actor")]
    actor: Actor,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "Attributes")]
    attributes: Attributes,
}

#[derive(Deserialize)]
struct Attributes {
    container: String,
}

impl Asking {
    /// Until there have been so many events.
    fn start(socket: &Path, events: usize) -> Result<Self> {
        let filters = "%7B%22type%22:%5B%22network%22%5D,%22event%22:%5B%22connect%22%5D%7D";
        let mut stream = open(socket)?;
        get(&mut stream, &format!("/events?filters={filters}"))?;
        let mut lines = BufReader::new(stream);
        // The Engine answers at once, so that nothing is missed from here on.
        loop {
            let mut head = String::new();
            lines.read_line(&mut head)?;
            if head.trim().is_empty() {
                break;
            }
        }
        let socket = socket.to_owned();
        let ask = move || (0..events).map(|_| ask(&mut lines, &socket)).collect();
        Ok(Self(thread::spawn(ask)))
    }

    fn finish(self) -> Result<Latency> {
        let times = self.0.join();
        let times = times.map_err(|_| anyhow::anyhow!("who asks the Engine panicked"))??;
        Ok(latency(times))
    }
}

/// Waits for an event, asks what the container is, and returns the time from the one to the other.
fn ask(events: &mut BufReader<UnixStream>, socket: &Path) -> Result<Duration> {
    let mut stream = open(socket)?;
    let mut line = String::new();
    events.read_line(&mut line)?;
    let event: Event = serde_json::from_str(&line).with_context(|| format!("read {line}"))?;
    let container = event.actor.attributes.container;
    get(&mut stream, &format!("/containers/{container}/json"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    ensure!(answer.contains("tg-net"), "no alias in {answer}");
    Ok(now.saturating_sub(Duration::from_nanos(event.at)))
}

fn open(socket: &Path) -> Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Asks in the old way, in which the answer is not cut into pieces and ends with the connection.
fn get(stream: &mut UnixStream, path: &str) -> Result<()> {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(computing: u64) -> Connected {
        let of = |milliseconds| latency(vec![Duration::from_millis(milliseconds)]);
        Connected {
            veer: of(5),
            engine: of(1),
            computing: of(computing),
        }
    }

    fn rounds(wanted: usize, computing: &[u64]) -> (Vec<f64>, usize) {
        let mut left = computing.iter();
        let rounds = Rounds::make(wanted, || {
            let next = left.next().context("no more rounds")?;
            Ok(connected(*next))
        });
        let rounds = rounds.expect("enough rounds");
        assert_eq!(left.next(), None, "as many as there are");
        assert_eq!(rounds.are_quiet, rounds.all.len() == wanted);
        let all = rounds.all.iter();
        let all = all.map(|one| one.computing.p99_microseconds / 1e3);
        (all.collect(), rounds.noisy)
    }

    #[test]
    fn rounds_that_were_not_quiet_are_made_again_and_counted() {
        assert_eq!(rounds(2, &[3, 70, 4]), (vec![3.0, 4.0], 1));
        assert_eq!(rounds(2, &[4, 3]), (vec![4.0, 3.0], 0));
    }

    #[test]
    fn where_it_is_never_quiet_every_round_counts() {
        assert_eq!(rounds(1, &[70, 5]), (vec![70.0, 5.0], 2));
        assert_eq!(
            rounds(2, &[3, 7, 8, 9, 6]),
            (vec![3.0, 7.0, 8.0, 9.0, 6.0], 4)
        );
    }
}
