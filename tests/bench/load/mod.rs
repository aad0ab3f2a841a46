//! The load tool: a server and a client of the plainest kind, so that what is between them shows.

mod ask;
mod flood;
mod histogram;
mod resolve;
mod serve;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::cpu::{self, Clock};
use histogram::Histogram;

pub(crate) use flood::FRAME;
pub(crate) use resolve::{Way, query};

/// What client and server do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// One connection; a request of 64 bytes, an answer of 64 bytes, and again.
    Rr,
    /// Connect, one request, one answer, close, and again.
    Crr,
    /// One connection, as many bytes as go through.
    Stream,
    /// Datagrams of 64 bytes one way, 64 of them for each acknowledgment.
    Udp,
}

impl Mode {
    pub(crate) const ALL: [Self; 4] = [Self::Rr, Self::Crr, Self::Stream, Self::Udp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rr => "request/response",
            Self::Crr => "connect-request-close",
            Self::Stream => "stream",
            Self::Udp => "UDP",
        }
    }
}

/// Bytes of a request, an answer and a datagram.
const MESSAGE: usize = 64;
/// Datagrams for each acknowledgment.
const WINDOW: usize = 64;

/// Serve or ask, as one process of a measurement.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// The CPU to stay on
    #[arg(long)]
    cpu: Option<usize>,
    #[command(subcommand)]
    side: Side,
}

#[derive(Debug, Subcommand)]
enum Side {
    /// Answer until killed; says `ready` when it listens
    Serve {
        #[arg(long)]
        mode: Mode,
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Ask for a while, and print what was done as JSON
    Ask(Asking),
    /// The same of a name server
    Resolve(resolve::Resolving),
    /// Let frames arrive at an interface
    Flood(flood::Flooding),
}

/// What a client is told.
#[derive(Debug, Args)]
struct Asking {
    #[arg(long)]
    mode: Mode,
    #[arg(long)]
    to: SocketAddr,
    #[command(flatten)]
    course: Course,
}

/// How a client is measured.
#[derive(Debug, Args)]
struct Course {
    /// How long, in milliseconds
    #[arg(long, value_parser = milliseconds)]
    time: Duration,
    /// How long to ask before counting, in milliseconds
    #[arg(long, value_parser = milliseconds)]
    warm_up: Duration,
    /// Processes that share the work, whose CPU time is counted besides the client's own
    #[arg(long, value_delimiter = ',')]
    with: Vec<u32>,
}

impl Course {
    /// What `go_on` does: first to warm up and then for the figures.
    fn measure(
        &self,
        cpu: Option<usize>,
        mut go_on: impl FnMut(Duration, &mut Histogram) -> Result<u64>,
    ) -> Result<Done> {
        go_on(self.warm_up, &mut Histogram::new())?;

        let clock = Clock::new(&self.with, cpu);
        let (before, started) = (clock.read()?, Instant::now());
        let mut latency = Histogram::new();
        let work = go_on(self.time, &mut latency)?;
        let (wall, cpu) = (started.elapsed(), clock.read()? - before);
        Ok(Done {
            work,
            cpu_ns: cpu,
            wall_ns: wall.as_nanos() as u64,
            quantiles_ns: SHARES.map(|share| latency.quantile(share)),
        })
    }
}

/// Shares of requests of which it is told how long they took at most.
pub(crate) const SHARES: [f64; 9] = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999];
/// Where a half, and 99 of 100, are in [`SHARES`].
const MEDIAN: usize = 3;
const OF_A_HUNDRED: usize = 6;
const _: () = assert!(SHARES[MEDIAN] == 0.5 && SHARES[OF_A_HUNDRED] == 0.99);

/// What a client did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Requests, bytes or datagrams.
    pub(crate) work: u64,
    /// CPU time of all processes that shared the work, and of their core's soft interrupts.
    pub(crate) cpu_ns: u64,
    pub(crate) wall_ns: u64,
    /// Of single requests, for each of [`SHARES`]; 0 where there are none.
    pub(crate) quantiles_ns: [u64; SHARES.len()],
}

impl Done {
    /// Microseconds that half of the requests took at most.
    pub(crate) fn p50(&self) -> f64 {
        self.quantiles_ns[MEDIAN] as f64 / 1e3
    }

    /// Microseconds that 99 of 100 requests took at most.
    pub(crate) fn p99(&self) -> f64 {
        self.quantiles_ns[OF_A_HUNDRED] as f64 / 1e3
    }
}

impl Load {
    pub(crate) fn run(self) -> Result<()> {
        if let Some(cpu) = self.cpu {
            cpu::stay_on(cpu)?;
        }
        let done = match self.side {
            Side::Serve { mode, listen } => return serve::serve(mode, listen),
            Side::Ask(asking) => ask::ask(&asking, self.cpu)?,
            Side::Resolve(told) => resolve::resolve(&told, self.cpu)?,
            Side::Flood(told) => flood::flood(&told, self.cpu)?,
        };
        println!("{}", serde_json::to_string(&done)?);
        Ok(())
    }
}

fn milliseconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}
