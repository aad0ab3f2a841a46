//! The figures in the documentation: what stands between two marks. A run makes its suites anew and leaves
//! the others as they are; each says where and with what it was measured.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::table::short;
use super::{NOISE, Report, Suite};

/// By suite and target.
type Reasons<'p> = BTreeMap<(&'p str, &'p str), &'p str>;

/// What a suite begins with.
const HEADING: &str = "### ";

/// The page with the figures of `report` in the place of those that it has. What somebody wrote
/// behind a target stays as long as the target does.
pub(crate) fn recorded(page: &str, report: &Report) -> Result<String> {
    let [begin, end] = marks(report.machine.emulated);
    let (before, rest) = page
        .split_once(&begin)
        .with_context(|| format!("there is no line `{begin}`"))?;
    let (old, after) = rest
        .split_once(&end)
        .with_context(|| format!("there is no line `{end}`"))?;
    let figures = figures(report, old);
    Ok(format!("{before}{begin}\n\n{figures}{end}{after}"))
}

fn marks(emulated: bool) -> [String; 2] {
    let name = if emulated { "emulated" } else { "figures" };
    [
        format!("<!-- {name} -->"),
        format!("<!-- end of {name} -->"),
    ]
}

/// What stands behind each target, by the suite and the target's text.
fn reasons(old: &str) -> Reasons<'_> {
    let (mut suite, mut reasons) = ("", Reasons::new());
    for line in old.lines() {
        suite = line.strip_prefix(HEADING).unwrap_or(suite);
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let ["", target, _, "met" | "missed" | "not measured", reason, ""] = cells[..] else {
            continue;
        };
        if !reason.is_empty() {
            reasons.insert((suite, target), reason);
        }
    }
    reasons
}

/// The suites of `old` in their order, those of `report` made anew or added.
fn figures(report: &Report, old: &str) -> String {
    let reasons = reasons(old);
    let mut sections: Vec<(&str, String)> = old
        .split(HEADING)
        .skip(1)
        .map(|section| {
            let name = section.lines().next().unwrap_or_default();
            (name, format!("{HEADING}{}\n\n", section.trim_end()))
        })
        .collect();
    for suite in &report.suites {
        let new = section(report, suite, &reasons);
        match sections.iter_mut().find(|(name, _)| *name == suite.name) {
            Some((_, section)) => *section = new,
            None => sections.push((&suite.name, new)),
        }
    }
    sections.into_iter().map(|(_, section)| section).collect()
}

fn section(report: &Report, suite: &Suite, reasons: &Reasons<'_>) -> String {
    let line = report.machine.line(report.rounds);
    let mut text = format!("{HEADING}{}\n\n{line}.\n", suite.name);
    let notes = suite
        .left_out
        .iter()
        .map(|left_out| format!("Left out: {left_out}"));
    for note in suite.settings.iter().cloned().chain(notes) {
        let _ = write!(text, "\n- {note}");
    }
    if !suite.settings.is_empty() || !suite.left_out.is_empty() {
        text.push('\n');
    }
    targets(&mut text, suite, reasons);
    grid(&mut text, suite);
    text.push('\n');
    text
}

fn targets(text: &mut String, suite: &Suite, reasons: &Reasons<'_>) {
    if suite.targets.is_empty() {
        return;
    }
    text.push_str("\n| target | found | | why |\n|---|---:|---|---|\n");
    for target in &suite.targets {
        let (words, (found, verdict)) = (target.text(), suite.verdict(target));
        let reason = reasons
            .get(&(suite.name.as_str(), words.as_str()))
            .unwrap_or(&"");
        let _ = writeln!(text, "| {words} | {found} | {verdict} | {reason} |");
    }
}

/// Variants down, measures across.
fn grid(text: &mut String, suite: &Suite) {
    let first_of = |of: fn(&super::Series) -> &str| {
        let mut seen = BTreeSet::new();
        let all = suite.series.iter().map(of);
        all.filter(|name| seen.insert(*name)).collect::<Vec<_>>()
    };
    let (variants, measures) = (
        first_of(|series| &series.variant),
        first_of(|series| &series.measure),
    );
    text.push_str("\n| |");
    for measure in &measures {
        let mut series = suite.series.iter();
        let series = series.find(|series| series.measure == *measure);
        let unit = series.map_or("", |series| &series.unit);
        let _ = write!(text, " {measure}, {unit} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---:|".repeat(measures.len()));
    for variant in variants {
        let _ = write!(text, "\n| {variant} |");
        for measure in &measures {
            let cell = suite.find(variant, measure).map(|series| {
                let mark = if series.spread() > NOISE { " ~" } else { "" };
                format!("{}{mark}", short(series.median()))
            });
            let _ = write!(text, " {} |", cell.unwrap_or_default());
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Bound, Machine, Series, Target};

    fn report(value: f64) -> Report {
        Report {
            machine: Machine {
                cpu: "a".to_owned(),
                cpus: 2,
                kernel: "k".to_owned(),
                commit: "c".to_owned(),
                at: 0,
                emulated: false,
                others: 0,
            },
            rounds: 5,
            suites: vec![Suite {
                name: "s".to_owned(),
                series: vec![Series {
                    variant: "veer".to_owned(),
                    measure: "m".to_owned(),
                    unit: "ns".to_owned(),
                    values: vec![value],
                }],
                targets: vec![Target {
                    measure: "m".to_owned(),
                    of: "veer".to_owned(),
                    to: None,
                    bound: Bound::AtMost(10.0),
                }],
                ..Suite::default()
            }],
        }
    }

    #[test]
    fn new_figures_take_the_place_of_old_ones_and_reasons_stay() {
        let page = "# A\n<!-- figures -->\nold\n<!-- end of figures -->\nB\n";

        let first = recorded(page, &report(20.0)).unwrap();
        assert!(
            first.contains("| m: veer ≤ 10 | 20.0 | missed |  |"),
            "{first}"
        );
        let explained = first.replace("| missed |  |", "| missed | the cache |");
        let second = recorded(&explained, &report(9.0)).unwrap();

        assert!(
            second.contains("| m: veer ≤ 10 | 9.00 | met | the cache |"),
            "{second}"
        );
        assert!(
            !second.contains("old") && second.ends_with("-->\nB\n"),
            "{second}"
        );
        assert_eq!(recorded(&second, &report(9.0)).unwrap(), second);
    }

    #[test]
    fn a_run_of_one_suite_leaves_the_others_as_they_are() {
        let page = "<!-- figures -->\n<!-- end of figures -->\n";
        let mut other = report(1.0);
        other.suites[0].name = "other".to_owned();
        let both = recorded(&recorded(page, &report(20.0)).unwrap(), &other).unwrap();
        assert!(both.contains("| 20.0 | missed |") && both.contains("### other\n"));

        let mut newer = report(9.0);
        newer.machine.commit = "d".to_owned();
        let again = recorded(&both, &newer).unwrap();

        let [ours, others] = again.split_once("### other").unwrap().into();
        assert!(
            ours.contains("commit d") && ours.contains("| 9.00 | met |"),
            "{again}"
        );
        assert!(
            others.contains("commit c") && others.contains("| 1.00 | met |"),
            "{again}"
        );
    }

    #[test]
    fn a_page_without_the_marks_is_left_alone() {
        assert!(recorded("# A\n", &report(1.0)).is_err());
    }
}
