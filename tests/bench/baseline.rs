//! What veer's way into a container took when somebody last looked: a change that makes it longer says
//! so, by changing this file too.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::report::Report;
use crate::suites::instructions::{MEASURE, ROUTED, VEER};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/instructions.json");
/// How much more is no reason to fail.
const MARGIN: f64 = 0.03;

/// Instructions per packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Baseline {
    /// On which kernel.
    kernel: String,
    veer: f64,
    /// By the plain kernel, on the same way.
    routed: f64,
}

/// Makes these figures the baseline.
pub(crate) fn keep(report: &Report) -> Result<()> {
    let mut text = serde_json::to_string_pretty(&Baseline::of(report)?)?;
    text.push('\n');
    fs::write(PATH, text).with_context(|| format!("write {PATH}"))
}

/// Fails if veer's figure is larger than the baseline's.
pub(crate) fn check(report: &Report) -> Result<()> {
    let text = fs::read_to_string(PATH).with_context(|| format!("read {PATH}"))?;
    let baseline: Baseline = serde_json::from_str(&text).with_context(|| format!("read {PATH}"))?;
    let now = Baseline::of(report)?;
    let growth = growth(&baseline, &now);
    println!(
        "veer takes {:+.1} % instructions per packet, compared with {PATH}",
        100.0 * growth
    );
    ensure!(
        growth <= MARGIN,
        "veer's way into a container takes {:.0} instructions, {:.1} % more than the baseline: find out \
         why, or accept it with `cargo xtask bench --vm --baseline` and commit that file",
        now.veer,
        100.0 * growth
    );
    Ok(())
}

impl Baseline {
    fn of(report: &Report) -> Result<Self> {
        let mut suites = report.suites.iter();
        let suite = suites.find(|suite| suite.find(VEER, MEASURE).is_some());
        let suite = suite.context("the report has no instructions: make it with `--vm`")?;
        let figure = |variant: &str| {
            suite
                .find(variant, MEASURE)
                .map(crate::report::Series::median)
        };
        Ok(Self {
            kernel: report.machine.kernel.clone(),
            veer: figure(VEER).context("find veer's figure")?,
            routed: figure(ROUTED).context("find the figure of plain routing")?,
        })
    }
}

/// By what share veer's figure is larger now. Another kernel or emulator is taken out by what it does to
/// plain routing.
fn growth(baseline: &Baseline, now: &Baseline) -> f64 {
    let expected = baseline.veer * now.routed / baseline.routed;
    now.veer / expected - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(veer: f64, routed: f64) -> Baseline {
        Baseline {
            kernel: String::new(),
            veer,
            routed,
        }
    }

    #[test]
    fn what_another_kernel_does_to_every_packet_is_no_growth() {
        let baseline = figures(5_000.0, 8_000.0);

        assert!(growth(&baseline, &figures(5_500.0, 8_800.0)).abs() < 1e-9);
        assert!(growth(&baseline, &figures(5_100.0, 8_000.0)) <= MARGIN);
        assert!(growth(&baseline, &figures(5_200.0, 8_000.0)) > MARGIN);
    }

    #[test]
    fn the_baseline_in_the_repository_can_be_read() {
        let text = fs::read_to_string(PATH).unwrap();
        let baseline: Baseline = serde_json::from_str(&text).unwrap();

        assert!(baseline.veer > 0.0 && baseline.routed > 0.0);
    }
}
