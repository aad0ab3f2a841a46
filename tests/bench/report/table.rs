//! A report as text, in Markdown that also reads well on a terminal.

use std::fmt::Write as _;

use super::{Report, Suite};

/// Everything that a run found.
pub(crate) fn table(report: &Report) -> String {
    let mut text = format!("{}\n", report.machine.line(report.rounds));
    for suite in &report.suites {
        let _ = write!(text, "\n## {}\n\n{}\n", suite.name, suite.about);
        suite_table(&mut text, suite);
    }
    text
}

fn suite_table(text: &mut String, suite: &Suite) {
    for setting in &suite.settings {
        let _ = writeln!(text, "- {setting}");
    }
    for left_out in &suite.left_out {
        let _ = writeln!(text, "- Left out: {left_out}");
    }
    if suite.is_noisy() {
        text.push_str("- The machine was too noisy for some of these figures (± above 10 %).\n");
    }
    text.push_str("\n| measure | variant | median | ± |\n|---|---|---:|---:|\n");
    for series in &suite.series {
        let _ = writeln!(
            text,
            "| {} | {} | {} {} | {:.1} % |",
            series.measure,
            series.variant,
            short(series.median()),
            series.unit,
            100.0 * series.spread()
        );
    }
    if suite.targets.is_empty() {
        return;
    }
    text.push_str("\n| target | found | |\n|---|---:|---|\n");
    for target in &suite.targets {
        let (found, verdict) = suite.verdict(target);
        let _ = writeln!(text, "| {} | {found} | {verdict} |", target.text());
    }
}

/// A figure with three digits that count.
pub(super) fn short(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 1e9 => (v / 1e9, " G"),
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e4 => (v / 1e3, " k"),
        v => (v, ""),
    };
    let digits = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let shown = [4.5678, 45.678, 456.78, 45_678.0, 4_567_800.0].map(short);

        assert_eq!(shown, ["4.57", "45.7", "457", "45.7 k", "4.57 M"]);
    }
}
