//! A report as one page that needs nothing else: bars, with the spread as a line, and curves.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Result;

use super::curve::{latencies, scaling};
use super::table::{short, table};
use super::{Report, Series, Suite};

const WIDTH: f64 = 560.0;
const LABEL: f64 = 200.0;
const BAR: f64 = 22.0;

/// The whole page.
pub(crate) fn html(report: &Report) -> Result<String> {
    let mut page = String::from(
        "<!doctype html><meta charset=utf-8><title>veer: benchmarks</title><style>\
         body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
         svg{display:block;margin:.5rem 0 1.5rem}text{font:12px system-ui,sans-serif}\
         pre{overflow:auto;background:#8881;padding:1rem}</style><h1>veer: benchmarks</h1>",
    );
    for suite in &report.suites {
        let _ = write!(
            page,
            "<h2>{}</h2><p>{}</p>",
            escape(&suite.name),
            escape(&suite.about)
        );
        for measure in measures(suite) {
            let series = suite.series.iter().filter(|s| s.measure == measure);
            bars(&mut page, measure, &series.collect::<Vec<_>>());
        }
        for chart in scaling(suite).into_iter().chain(latencies(suite)) {
            let _ = write!(page, "<h3>{}</h3>{}", escape(&chart.title), chart.draw()?);
        }
    }
    let _ = write!(
        page,
        "<h2>Figures</h2><pre>{}</pre>",
        escape(&table(report))
    );
    Ok(page)
}

/// In the order of their first appearance.
fn measures(suite: &Suite) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    let measures = suite.series.iter().map(|series| series.measure.as_str());
    measures.filter(|measure| seen.insert(*measure)).collect()
}

fn bars(page: &mut String, measure: &str, series: &[&Series]) {
    let most = series
        .iter()
        .flat_map(|s| &s.values)
        .fold(0.0, |most: f64, v| most.max(*v));
    let scale = WIDTH / most.max(f64::MIN_POSITIVE);
    let height = BAR * series.len() as f64;
    let unit = series.first().map_or("", |series| &series.unit);
    let _ = write!(page, "<h3>{} ({})</h3>", escape(measure), escape(unit));
    let _ = write!(
        page,
        "<svg width={} height={height} role=img>",
        LABEL + WIDTH + 90.0
    );
    for (row, one) in series.iter().enumerate() {
        let (top, width) = (BAR * row as f64, one.median() * scale);
        let (low, high) = (
            one.median() * (1.0 - one.spread()),
            one.median() * (1.0 + one.spread()),
        );
        let (low, high) = (LABEL + low * scale, LABEL + high * scale);
        let (text, middle) = (top + 15.0, top + 9.0);
        let colour = if one.variant.starts_with("veer") {
            "#2a7de1"
        } else {
            "#999"
        };
        let _ = write!(
            page,
            "<text x=0 y={text} fill=currentColor>{}</text>\
             <rect x={LABEL} y={} width={width:.1} height={} fill='{colour}'/>\
             <path d='M{low:.1} {middle}H{high:.1}' stroke=currentColor stroke-width=2 />\
             <text x={:.1} y={text} fill=currentColor>{}</text>",
            escape(&one.variant),
            top + 2.0,
            BAR - 6.0,
            LABEL + width.max(high - LABEL) + 6.0,
            short(one.median()),
        );
    }
    page.push_str("</svg>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Machine;

    #[test]
    fn a_page_has_a_bar_for_every_variant_and_nothing_from_elsewhere() {
        let series = |variant: &str, value: f64| Series {
            variant: variant.to_owned(),
            measure: "p50 <µs>".to_owned(),
            unit: "µs".to_owned(),
            values: vec![value],
        };
        let report = Report {
            machine: Machine {
                cpu: "a".to_owned(),
                cpus: 1,
                kernel: "k".to_owned(),
                commit: "c".to_owned(),
                at: 0,
                emulated: false,
                others: 0,
            },
            rounds: 1,
            suites: vec![Suite {
                name: "groups".to_owned(),
                series: vec![series("veer", 2.0), series("bridge", 1.0)],
                ..Suite::default()
            }],
        };

        let page = html(&report).unwrap();

        assert_eq!(page.matches("<rect").count(), 2);
        assert!(page.contains("p50 &lt;µs&gt;") && !page.contains("http"));
    }
}
