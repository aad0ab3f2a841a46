//! A container asks for the address of another.

mod resolvers;
mod turns;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use rand::seq::SliceRandom as _;
use tempfile::TempDir;

use self::resolvers::{Answering, Asker};
use self::turns::{DOCKER, Part, beside, turns};
use super::sanity::figure;
use super::target;
use crate::cpu;
use crate::load::{Done, Way};
use crate::measure::{Effort, load_on};
use crate::progress::Progress;
use crate::proxy::find;
use crate::report::{Bound, Suite, Target};
use crate::rounds::Notes;

/// Who is asked for.
const NAME: &str = "web";

/// How often what one client gets is measured in a round, and what share of the time each takes.
///
/// # Why
/// A processor that others share has two speeds, one 1.7 times the other, and keeps one for half a second to many
/// seconds. Of few long samples it hangs on chance how many are fast, for each variant anew.
const SAMPLES: usize = 8;
const SHARE: u32 = 4;

const P50: &str = "answer p50";
const P99: &str = "answer p99";
const CPU: &str = "CPU per query";
const TWO: &str = "two clients";
const GLIBC: &str = "getaddrinfo p50, glibc";
const DNSPERF: &str = "dnsperf";
const MUSL: &str = "getaddrinfo p50, musl";

/// What ends the name of a measure that is taken so.
const ANY_CPU: &str = ", any CPU";

/// What every resolver is measured with.
#[derive(Clone, Copy, Debug)]
enum Measure {
    Latency(Cpus),
    Cost,
    Two,
    /// By the C library with this number.
    Library(usize, Cpus),
    /// By a real program.
    Dnsperf,
}

/// Where client and server run.
#[derive(Clone, Copy, Debug)]
enum Cpus {
    /// Both on the last one.
    One,
    /// Where the kernel puts them, as in practice.
    Any,
}

impl Cpus {
    const BOTH: [Self; 2] = [Self::One, Self::Any];

    /// How this measure is taken.
    fn of(measure: &str) -> &'static [Self] {
        match measure {
            P50 | GLIBC | MUSL => &Self::BOTH,
            _ => &[Self::One],
        }
    }

    /// What the measure is called when it is taken so.
    fn name(self, measure: &str) -> String {
        match self {
            Self::One => measure.to_owned(),
            Self::Any => format!("{measure}{ANY_CPU}"),
        }
    }

    fn one(self) -> Option<usize> {
        match self {
            Self::One => Some(cpu::last()),
            Self::Any => None,
        }
    }
}

/// A client that uses a C library.
struct Library {
    measure: &'static str,
    program: PathBuf,
}

pub(super) fn suite(effort: Effort) -> Result<Suite> {
    let mut suite = description();
    let resolvers = resolvers::start(&mut suite)?;
    let folder = tempfile::tempdir()?;
    let libraries = libraries(&folder, &mut suite)?;
    let mut notes = Notes::default();
    let latency = Cpus::BOTH.map(Measure::Latency).into_iter();
    let by_library = (0..libraries.len())
        .flat_map(|number| Cpus::BOTH.map(|cpus| Measure::Library(number, cpus)));
    let often = latency.chain([Measure::Cost]).chain(by_library);
    let often = often.flat_map(|measure| [measure; SAMPLES]);
    let all = often.chain([Measure::Two]);
    let has_dnsperf = find(DNSPERF)?.is_some();
    if !has_dnsperf {
        suite.left_out.push("dnsperf is not installed".to_owned());
    }
    let all = all.chain(has_dnsperf.then_some(Measure::Dnsperf));
    let all: Vec<Measure> = all.collect();
    let mut turns = turns(&resolvers);
    let taken = |one: &Part<'_>| all.iter().filter(|measure| one.takes(**measure)).count();
    let steps: usize = turns.iter().flatten().map(taken).sum();
    let mut progress = Progress::new(steps * effort.rounds);
    for _ in 0..effort.rounds {
        turns.shuffle(&mut rand::rng());
        for turn in &turns {
            let answering = turn.iter().map(|one| Ok((one, one.resolver.answer()?)));
            let answering = answering.collect::<Result<Vec<_>>>()?;
            let mut order = all.clone();
            order.shuffle(&mut rand::rng());
            // One right after the other, so that as many samples of each come at either speed.
            let order = order.into_iter().flat_map(|measure| {
                let parts = answering.iter().filter(|(part, _)| part.takes(measure));
                let mut parts: Vec<_> = parts.map(|one| (measure, one)).collect();
                parts.shuffle(&mut rand::rng());
                parts
            });
            for (measure, (part, answering)) in order {
                let step = format!("{measure:?} of {}", part.name);
                progress.step(&step);
                note(&mut notes, measure, part, answering, &libraries, effort).context(step)?;
            }
        }
    }
    let rank = |measure: &str| {
        let all = [P50, P99, CPU, TWO, GLIBC, MUSL, DNSPERF];
        let any = measure.strip_suffix(ANY_CPU);
        let place = all.iter().position(|one| *one == any.unwrap_or(measure));
        (place, any.is_some())
    };
    let place = |name: &str| {
        let found = resolvers.iter().position(|one| one.name == name);
        found.unwrap_or(resolvers.len())
    };
    notes
        .0
        .sort_by_key(|series| (rank(&series.measure), place(&series.variant)));
    suite.series = notes.0;
    Ok(suite)
}

fn description() -> Suite {
    Suite {
        name: "dns".to_owned(),
        about: "A container of an Engine asks for the address of another. `p50` and `p99` are of single queries, \
                one after the other; CPU is of a client that has 32 queries under way, and of the server. Client \
                and server share one CPU, but for two such clients, which have all CPUs to themselves with the \
                server, and for `any CPU`, where the kernel puts them where it likes, as in practice. \
                `a datagram to oneself` is the limit: a client that is sent its own queries, in a namespace \
                without any rules, and without any server."
            .to_owned(),
        settings: vec![
            "Docker and veer answer at 127.0.0.11, the others at the address of their network's gateway; all on \
             hosts with Docker's rules, which track connections, and all but Docker on one"
                .to_owned(),
            "no_conntrack: veer with `dns.no_conntrack = true`, which takes Docker's rules out of containers"
                .to_owned(),
            "veer is there only while it is measured, as its programs run at everybody's sockets; what is called \
             `beside` it was measured then, in turns with it"
                .to_owned(),
        ],
        targets: targets(),
        ..Suite::default()
    }
}

fn targets() -> Vec<Target> {
    let (docker, dnsmasq) = (DOCKER, "dnsmasq");
    let (at_most, at_least) = (Bound::AtMost, Bound::AtLeast);
    let bounds = [
        (P50, docker, at_most(0.1)),
        (P50, dnsmasq, at_most(0.2)),
        (CPU, docker, at_most(0.111)),
        (CPU, dnsmasq, at_most(0.25)),
        (TWO, docker, at_least(5.0)),
        (GLIBC, docker, at_most(0.333)),
        (MUSL, docker, at_most(0.222)),
    ];
    let in_kernel = ["veer, kernel", "veer, kernel, no_conntrack"].into_iter();
    let in_kernel =
        in_kernel.flat_map(|of| bounds.map(|(measure, to, bound)| (measure, of, to, bound)));
    let all = in_kernel.chain([(P50, "veer, userspace", docker, at_most(0.435))]);
    all.flat_map(|(measure, of, to, bound)| {
        // Two clients are not measured in turns.
        let to = if measure == TWO {
            to.to_owned()
        } else {
            beside(to, of)
        };
        let places = Cpus::of(measure).iter();
        places.map(move |cpus| target(&cpus.name(measure), of, Some(&to), bound))
    })
    .collect()
}

fn note(
    notes: &mut Notes,
    measure: Measure,
    part: &Part<'_>,
    answering: &Answering,
    libraries: &[Library],
    effort: Effort,
) -> Result<()> {
    let (name, resolver) = (part.name.as_str(), part.resolver);
    let one_cpu = Some(cpu::last());
    let short = Effort {
        time: effort.time / SHARE,
        warm_up: effort.warm_up / SHARE,
        ..effort
    };
    match measure {
        Measure::Latency(cpus) => {
            let cpu = cpus.one();
            answering.keep_on(cpu)?;
            let done = ask(&resolver.asker, &answering.processes, Way::One, cpu, short)?;
            notes.note(name, &cpus.name(P50), "µs", done.p50());
            if let Cpus::One = cpus {
                notes.note(name, P99, "µs", done.p99());
            }
        }
        Measure::Cost => {
            answering.keep_on(one_cpu)?;
            let done = ask(
                &resolver.asker,
                &answering.processes,
                Way::Many,
                one_cpu,
                short,
            )?;
            let cost = done.cpu_ns as f64 / done.work as f64 / 1e3;
            notes.note(name, CPU, "µs", cost);
        }
        Measure::Two => {
            answering.keep_on(None)?;
            notes.note(name, TWO, "queries/s", two(&resolver.asker, effort)?);
        }
        Measure::Dnsperf => {
            answering.keep_on(one_cpu)?;
            notes.note(name, DNSPERF, "queries/s", dnsperf(&resolver.asker)?);
        }
        Measure::Library(number, cpus) => {
            answering.keep_on(cpus.one())?;
            let library = &libraries[number];
            let mut command = resolver.asker.inside();
            if let Some(cpu) = cpus.one() {
                command.args(["taskset", "-c", &cpu.to_string()]);
            }
            command.arg(&library.program).arg(NAME);
            command.arg(short.time.as_millis().to_string());
            let printed = printed(resolver.asker.run(&mut command)?)?;
            let p50 = printed.split_whitespace().next().context("a figure")?;
            let measure = cpus.name(library.measure);
            notes.note(name, &measure, "µs", p50.parse::<f64>()? / 1e3);
        }
    }
    Ok(())
}

/// Queries per second that two clients get answered at the same time.
fn two(asker: &Asker, effort: Effort) -> Result<f64> {
    let cpus = [0, cpu::last()];
    let done = thread::scope(|scope| {
        let clients =
            cpus.map(|cpu| scope.spawn(move || ask(asker, &[], Way::Many, Some(cpu), effort)));
        clients.map(|client| client.join())
    });
    let rates = done.into_iter().map(|done| {
        let done = done.map_err(|_| anyhow::anyhow!("a client panicked"))??;
        Ok(done.work as f64 * 1e9 / done.wall_ns as f64)
    });
    rates.sum()
}

/// What a client on `cpu` did, whose work these processes share.
fn ask(
    asker: &Asker,
    processes: &[u32],
    way: Way,
    cpu: Option<usize>,
    effort: Effort,
) -> Result<Done> {
    let mut command = asker.inside();
    let load = load_on(cpu)?;
    command.arg(load.get_program()).args(load.get_args());
    let way = match way {
        Way::One => "one",
        Way::Many => "many",
    };
    let with: Vec<_> = processes.iter().map(u32::to_string).collect();
    command.args(["resolve", "--way", way, "--name", NAME]);
    if let Some(server) = asker.server {
        command.args(["--to", &server.to_string()]);
    }
    command
        .args(["--time", &effort.time.as_millis().to_string()])
        .args(["--warm-up", &effort.warm_up.as_millis().to_string()]);
    if !with.is_empty() {
        command.args(["--with", &with.join(",")]);
    }
    let printed = printed(asker.run(&mut command)?)?;
    serde_json::from_str(&printed).context("read what a client did")
}

fn printed(output: Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", said.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// What dnsperf says that it got answered each second, on one CPU with the server.
fn dnsperf(asker: &Asker) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let queries = folder.path().join("queries");
    std::fs::write(&queries, format!("{NAME} A\n"))?;
    let mut command = asker.inside();
    command
        .arg("taskset")
        .args(["-c", &cpu::last().to_string()]);
    let server = asker.server.context("somebody to ask")?;
    command.args([DNSPERF, "-l", "1", "-c", "1", "-q", "32"]);
    command.args(["-s", &server.ip().to_string(), "-d"]);
    let printed = printed(asker.run(command.arg(&queries))?)?;
    figure(&printed, "Queries per second:").with_context(|| format!("dnsperf printed {printed}"))
}

/// Clients built with the C libraries that there are.
fn libraries(folder: &TempDir, suite: &mut Suite) -> Result<Vec<Library>> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/getaddrinfo.c");
    let mut libraries = Vec::new();
    for (compiler, measure, option) in [("cc", GLIBC, "-O2"), ("musl-gcc", MUSL, "-static")] {
        if find(compiler)?.is_none() {
            suite
                .left_out
                .push(format!("{measure}: {compiler} is not installed"));
            continue;
        }
        let program = folder.path().join(compiler);
        let mut command = Command::new(compiler);
        command.args([option, "-o"]).arg(&program).arg(source);
        printed(command.output()?).with_context(|| format!("compile with {compiler}"))?;
        libraries.push(Library { measure, program });
    }
    Ok(libraries)
}
