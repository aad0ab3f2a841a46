//! Two runs side by side.

use std::fmt::Write as _;

use super::Report;
use super::table::short;

/// How `after` differs from `before`, for every measure that both have.
pub(crate) fn compare(before: &Report, after: &Report) -> String {
    let mut text = String::new();
    if before.machine.cpu != after.machine.cpu || before.machine.kernel != after.machine.kernel {
        text.push_str("These runs are of different machines or kernels: compare ratios alone.\n\n");
    }
    let _ = writeln!(
        text,
        "| suite | measure | variant | {} | {} | change |\n|---|---|---|---:|---:|---:|",
        before.machine.commit, after.machine.commit
    );
    for suite in &after.suites {
        let Some(old) = before.suites.iter().find(|old| old.name == suite.name) else {
            continue;
        };
        for series in &suite.series {
            let Some(known) = old.find(&series.variant, &series.measure) else {
                continue;
            };
            let change = 100.0 * (series.median() / known.median() - 1.0);
            // What is within both runs' spread is no change.
            let noise = 100.0 * (series.spread() + known.spread());
            let mark = if change.abs() <= noise {
                " (noise)"
            } else {
                ""
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {change:+.1} %{mark} |",
                suite.name,
                series.measure,
                series.variant,
                short(known.median()),
                short(series.median())
            );
        }
    }
    text
}
