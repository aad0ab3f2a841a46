//! What a run found, as data.

mod compare;
mod curve;
mod html;
mod page;
mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

pub(crate) use compare::compare;
pub(crate) use html::html;
pub(crate) use page::recorded;
use table::short;
pub(crate) use table::table;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Rounds of each suite.
    pub(crate) rounds: usize,
    pub(crate) suites: Vec<Suite>,
}

/// Where and with what it was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) kernel: String,
    pub(crate) commit: String,
    /// In seconds since 1970.
    pub(crate) at: u64,
    /// Whether a program plays the processor: such figures say nothing about speed.
    #[serde(default)]
    pub(crate) emulated: bool,
    /// Instances of veer that were there before, whose programs run at every socket and so are in the
    /// figures of all variants.
    #[serde(default)]
    pub(crate) others: usize,
}

/// Figures that belong together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Suite {
    pub(crate) name: String,
    /// What it measures, in a sentence.
    pub(crate) about: String,
    /// What was left out here, and why.
    pub(crate) left_out: Vec<String>,
    /// The settings of what veer is compared with.
    pub(crate) settings: Vec<String>,
    pub(crate) series: Vec<Series>,
    /// How long single requests took, where there were any.
    #[serde(default)]
    pub(crate) latencies: Vec<Latencies>,
    pub(crate) targets: Vec<Target>,
}

/// What shares of one variant's requests took at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latencies {
    pub(crate) variant: String,
    pub(crate) measure: String,
    /// For each of [`crate::load::SHARES`], the median of all rounds.
    pub(crate) microseconds: Vec<f64>,
}

/// One measure of one variant, over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) variant: String,
    pub(crate) measure: String,
    pub(crate) unit: String,
    pub(crate) values: Vec<f64>,
}

impl Machine {
    /// In one line, with what was measured on it.
    pub(crate) fn line(&self, rounds: usize) -> String {
        let emulated = if self.emulated { " (emulated)" } else { "" };
        let others = match self.others {
            0 => String::new(),
            1 => ", beside another instance of veer".to_owned(),
            others => format!(", beside {others} other instances of veer"),
        };
        format!(
            "{} × {}{emulated}, Linux {}, commit {}, medians of {rounds} rounds{others}",
            self.cpus, self.cpu, self.kernel, self.commit
        )
    }
}

/// A ratio of two variants, and what it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) measure: String,
    pub(crate) of: String,
    /// The variant to compare with; `None`: the figure itself counts.
    pub(crate) to: Option<String>,
    pub(crate) bound: Bound,
}

/// At least, or at most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    /// In words.
    pub(crate) fn text(&self) -> String {
        let sides = match &self.to {
            Some(to) => format!("{} / {to}", self.of),
            None => self.of.clone(),
        };
        let bound = match self.bound {
            Bound::AtLeast(bound) => format!("≥ {bound}"),
            Bound::AtMost(bound) => format!("≤ {bound}"),
        };
        format!("{}: {sides} {bound}", self.measure)
    }
}

impl Bound {
    pub(crate) fn admits(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl Series {
    pub(crate) fn median(&self) -> f64 {
        median(&self.values)
    }

    /// How many times as much it is as `other`: the median of the ratios of samples of the same round.
    ///
    /// # Why
    /// A processor that others share has two speeds. Where samples of either come half and half, a median is at
    /// one speed or the other by chance, and a ratio of two medians between different speeds. What follows each
    /// other is nearly always at the same speed.
    pub(crate) fn ratio(&self, other: &Self) -> f64 {
        if self.values.len() != other.values.len() {
            return self.median() / other.median();
        }
        let pairs = self.values.iter().zip(&other.values);
        median(&pairs.map(|(one, other)| one / other).collect::<Vec<_>>())
    }

    /// Half the distance between the quartiles, as a share of the median.
    pub(crate) fn spread(&self) -> f64 {
        let half = (quantile(&self.values, 0.75) - quantile(&self.values, 0.25)) / 2.0;
        half / self.median()
    }
}

impl Suite {
    pub(crate) fn find(&self, variant: &str, measure: &str) -> Option<&Series> {
        let mut series = self.series.iter();
        series.find(|series| series.variant == variant && series.measure == measure)
    }

    /// What a target's figure is here.
    pub(crate) fn value(&self, target: &Target) -> Option<f64> {
        let of = self.find(&target.of, &target.measure)?;
        let Some(to) = &target.to else {
            return Some(of.median());
        };
        Some(of.ratio(self.find(to, &target.measure)?))
    }

    /// What a target was met with, and whether it was.
    pub(crate) fn verdict(&self, target: &Target) -> (String, &'static str) {
        match self.value(target) {
            Some(value) if target.bound.admits(value) => (short(value), "met"),
            Some(value) => (short(value), "missed"),
            None => ("–".to_owned(), "not measured"),
        }
    }

    /// Whether the machine was too busy to say anything about this suite.
    pub(crate) fn is_noisy(&self) -> bool {
        self.series.iter().any(|series| series.spread() > NOISE)
    }
}

/// A spread from which on a figure says little.
pub(crate) const NOISE: f64 = 0.1;

impl Report {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a report of `cargo xtask bench`", path.display()))
    }

    /// Writes `report.json` and `report.html` to `folder`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let json = serde_json::to_vec_pretty(self)?;
        for (name, text) in [("report.json", json), ("report.html", html(self)?.into())] {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }
}

/// 0 if there are none.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Between the two nearest values, by distance; 0 if there are none.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let place = share * last as f64;
    let (low, high) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    low + (high - low) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(variant: &str, values: &[f64]) -> Series {
        Series {
            variant: variant.to_owned(),
            measure: "m".to_owned(),
            unit: "u".to_owned(),
            values: values.to_vec(),
        }
    }

    #[test]
    fn a_median_does_not_follow_an_outlier_and_the_spread_tells_of_it() {
        let calm = series("a", &[100.0, 101.0, 99.0, 100.0, 900.0]);
        let wild = series("a", &[100.0, 60.0, 150.0, 40.0, 160.0]);

        assert_eq!(calm.median(), 100.0);
        assert!(calm.spread() < NOISE && wild.spread() > NOISE);
        assert_eq!(series("a", &[1.0, 2.0]).median(), 1.5);
    }

    #[test]
    fn a_ratio_is_of_what_was_measured_in_the_same_turn() {
        // At two speeds, each twice as fast.
        let one = series("one", &[10.0, 17.0, 10.0, 17.0]);
        let other = series("other", &[20.0, 34.0, 20.0, 34.0]);
        let slow_at_last = series("other", &[20.0, 34.0, 34.0, 34.0, 34.0]);

        assert_eq!(one.ratio(&other), 0.5);
        assert_eq!(one.ratio(&slow_at_last), 13.5 / 34.0, "none of the same");
        assert_eq!(other.ratio(&one), 2.0);
    }

    #[test]
    fn a_target_compares_two_or_looks_at_one() {
        let suite = Suite {
            series: vec![series("veer", &[30.0]), series("other", &[20.0])],
            ..Suite::default()
        };
        let target = |to: Option<&str>, bound| Target {
            measure: "m".to_owned(),
            of: "veer".to_owned(),
            to: to.map(str::to_owned),
            bound,
        };

        let ratio = target(Some("other"), Bound::AtLeast(1.4));
        let alone = target(None, Bound::AtMost(25.0));
        let unknown = target(Some("nobody"), Bound::AtLeast(1.0));

        assert_eq!(suite.value(&ratio), Some(1.5));
        assert!(ratio.bound.admits(1.5) && !alone.bound.admits(suite.value(&alone).unwrap()));
        assert_eq!(suite.value(&unknown), None);
    }
}
