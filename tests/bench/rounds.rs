//! Variants in turn, in a new order each round, so that no one of them always has the quiet moment.

use std::collections::BTreeMap;

use anyhow::Result;
use rand::seq::SliceRandom as _;

use crate::load::{Done, Mode, SHARES};
use crate::measure::{Effort, Path, measure};
use crate::progress::Progress;
use crate::report::{Latencies, Series, Suite, median};

/// Figures as they come, of whatever variant and measure.
#[derive(Default)]
pub(crate) struct Notes(pub(crate) Vec<Series>);

impl Notes {
    pub(crate) fn note(&mut self, variant: &str, measure: &str, unit: &str, value: f64) {
        let mut all = self.0.iter_mut();
        let known = all.find(|one| one.variant == variant && one.measure == measure);
        match known {
            Some(one) => one.values.push(value),
            None => self.0.push(Series {
                variant: variant.to_owned(),
                measure: measure.to_owned(),
                unit: unit.to_owned(),
                values: vec![value],
            }),
        }
    }
}

/// Measures every path in its modes, for `suite`.
pub(crate) fn rounds(suite: &mut Suite, paths: &[Path<'_>], effort: Effort) -> Result<()> {
    let paths_of = paths.iter().enumerate();
    let every =
        paths_of.flat_map(|(number, path)| path.modes.iter().map(move |mode| (*mode, number)));
    let mut order: Vec<_> = every.collect();
    let mut found: BTreeMap<_, Vec<Done>> = BTreeMap::new();
    let mut progress = Progress::new(order.len() * effort.rounds);
    for _ in 0..effort.rounds {
        order.shuffle(&mut rand::rng());
        for (mode, path) in &order {
            progress.step(&format!("{} over {}", mode.name(), paths[*path].name));
            let done = measure(&paths[*path], *mode, effort)?;
            found.entry((*mode, *path)).or_default().push(done);
        }
    }
    let series = found.iter().flat_map(|((mode, path), done)| {
        let variant = paths[*path].name;
        figures().map(|figure| figure.series(variant, *mode, done))
    });
    let mut series: Vec<_> = series.flatten().collect();
    series.sort_by_key(|series| order_of(&series.measure));
    suite.series = series;
    let asked = found.iter().filter(|((mode, _), _)| has_latency(*mode));
    suite.latencies = asked
        .map(|((mode, path), done)| Latencies {
            variant: paths[*path].name.to_owned(),
            measure: mode.name().to_owned(),
            microseconds: SHARES
                .iter()
                .enumerate()
                .map(|(at, _)| typical(done, at))
                .collect(),
        })
        .collect();
    Ok(())
}

/// The median over all rounds of what one share of the requests took at most, in microseconds.
fn typical(done: &[Done], share: usize) -> f64 {
    let values: Vec<_> = done
        .iter()
        .map(|done| done.quantiles_ns[share] as f64 / 1e3)
        .collect();
    median(&values)
}

fn has_latency(mode: Mode) -> bool {
    matches!(mode, Mode::Rr | Mode::Crr)
}

/// One number of what a client did.
struct Figure {
    name: &'static str,
    unit: &'static str,
    of: fn(&Done) -> f64,
    applies: fn(Mode) -> bool,
}

impl Figure {
    fn series(&self, variant: &str, mode: Mode, done: &[Done]) -> Option<Series> {
        (self.applies)(mode).then(|| Series {
            variant: variant.to_owned(),
            measure: format!("{} {}", mode.name(), self.name),
            unit: match self.unit {
                "" => per_second(mode).to_owned(),
                unit => unit.to_owned(),
            },
            values: done.iter().map(self.of).collect(),
        })
    }
}

fn figures() -> [Figure; 3] {
    [
        Figure {
            name: "per CPU-second",
            unit: "",
            of: |done| done.work as f64 * 1e9 / done.cpu_ns as f64,
            applies: |_| true,
        },
        Figure {
            name: "p50",
            unit: "µs",
            of: |done| done.p50(),
            applies: has_latency,
        },
        Figure {
            name: "p99",
            unit: "µs",
            of: |done| done.p99(),
            applies: has_latency,
        },
    ]
}

fn per_second(mode: Mode) -> &'static str {
    match mode {
        Mode::Rr | Mode::Crr => "requests/s",
        Mode::Stream => "bytes/s",
        Mode::Udp => "datagrams/s",
    }
}

/// Measures together, capacity before latency.
fn order_of(measure: &str) -> (usize, usize) {
    let mode = Mode::ALL
        .iter()
        .position(|mode| measure.starts_with(mode.name()));
    let figure = ["per CPU-second", "p50", "p99"];
    let figure = figure.iter().position(|name| measure.ends_with(name));
    (mode.unwrap_or(usize::MAX), figure.unwrap_or(usize::MAX))
}
