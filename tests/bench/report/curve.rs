//! Lines: what shares of the requests took at most, and how figures grow with what there is of
//! something.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use plotters::prelude::*;

use super::Suite;
use crate::load::SHARES;

const SIZE: (u32, u32) = (850, 360);

/// What is asked of `series_label_area_size` and its like, in pixels.
const MARGIN: u32 = 50;

/// Lines over the same two axes, both of which are logarithmic.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chart {
    pub(super) title: String,
    across: Across,
    lines: BTreeMap<String, Vec<(f64, f64)>>,
}

/// What the horizontal axis says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Across {
    /// 10 stands for nine of ten requests, 100 for 99 of 100 and so on.
    Share,
    /// Numbers of something.
    Count,
}

/// One chart for each kind of request.
pub(super) fn latencies(suite: &Suite) -> Vec<Chart> {
    let mut charts: BTreeMap<&str, Chart> = BTreeMap::new();
    for latencies in &suite.latencies {
        let measure = latencies.measure.as_str();
        let chart = charts.entry(measure).or_insert_with(|| Chart {
            title: format!("{measure}: what a share of the requests took at most (µs)"),
            across: Across::Share,
            lines: BTreeMap::new(),
        });
        let points = SHARES.iter().zip(&latencies.microseconds);
        let points = points.filter(|(_, value)| **value > 0.0);
        let points = points.map(|(share, value)| (1.0 / (1.0 - share), *value));
        chart
            .lines
            .insert(latencies.variant.clone(), points.collect());
    }
    charts.into_values().collect()
}

/// One chart for each measure that was taken with several numbers of the same.
pub(super) fn scaling(suite: &Suite) -> Vec<Chart> {
    let mut charts: BTreeMap<(&str, &str), Chart> = BTreeMap::new();
    for series in &suite.series {
        let Some(scaled) = Scaled::read(&series.variant) else {
            continue;
        };
        let of = (series.measure.as_str(), scaled.what);
        let chart = charts.entry(of).or_insert_with(|| Chart {
            title: format!("{} ({}) over {}", series.measure, series.unit, scaled.what),
            across: Across::Count,
            lines: BTreeMap::new(),
        });
        let line = chart.lines.entry(scaled.name.to_owned()).or_default();
        if line.is_empty()
            && let Some(one) = suite.find(scaled.name, &series.measure)
        {
            line.push((1.0, one.median()));
        }
        line.push((scaled.count, series.median()));
    }
    charts.retain(|_, chart| {
        chart.lines.retain(|_, line| line.len() > 1);
        !chart.lines.is_empty()
    });
    charts.into_values().collect()
}

/// What a variant is called that has so many of something.
#[derive(Debug, PartialEq)]
struct Scaled<'v> {
    name: &'v str,
    count: f64,
    what: &'v str,
}

impl<'v> Scaled<'v> {
    /// `veer, 1,000 ports` or `veer: hits over 10000 Connections`.
    fn read(variant: &'v str) -> Option<Self> {
        let (rest, what) = variant.rsplit_once(' ')?;
        let (name, count) = rest.rsplit_once(' ')?;
        let count = count.replace(',', "").parse().ok()?;
        let name = name.strip_suffix(',').unwrap_or(name);
        Some(Self { name, count, what })
    }
}

impl Chart {
    /// As SVG.
    pub(super) fn draw(&self) -> Result<String> {
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        self.draw_on(&area)
            .with_context(|| format!("draw `{}`", self.title))?;
        area.present()?;
        drop(area);
        Ok(svg)
    }

    fn draw_on(&self, area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Result<()> {
        let points = || self.lines.values().flatten();
        let (left, right) = limits(points().map(|point| point.0));
        let (low, high) = limits(points().map(|point| point.1));
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(MARGIN)
            .y_label_area_size(2 * MARGIN)
            .build_cartesian_2d((left..right).log_scale(), (low..high).log_scale())?;
        let label = |value: &f64| self.across.label(*value);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_label_formatter(&label)
            .draw()?;
        for (number, (name, line)) in self.lines.iter().enumerate() {
            let colour = Palette99::pick(number).to_rgba();
            let width = if name.starts_with("veer") { 3 } else { 1 };
            let style = colour.stroke_width(width);
            chart
                .draw_series(LineSeries::new(line.iter().copied(), style))?
                .label(name.as_str())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .draw()?;
        Ok(())
    }
}

impl Across {
    fn label(self, value: f64) -> String {
        match self {
            Self::Share => {
                let percent = 100.0 - 100.0 / value;
                format!("{} %", (percent * 1e3).round() / 1e3)
            }
            Self::Count => format!("{value:.0}"),
        }
    }
}

/// The smallest and the largest, with some room.
fn limits(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    (low * 0.9, high * 1.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Latencies, Series};

    fn suite(series: &[(&str, f64)]) -> Suite {
        let series = series.iter().map(|(variant, value)| Series {
            variant: (*variant).to_owned(),
            measure: "m".to_owned(),
            unit: "ns".to_owned(),
            values: vec![*value],
        });
        Suite {
            series: series.collect(),
            ..Suite::default()
        }
    }

    #[test]
    fn variants_that_differ_in_a_number_are_points_of_one_line() {
        let suite = suite(&[
            ("veer", 1.0),
            ("veer, 1,000 ports", 2.0),
            ("veer, 10,000 ports", 3.0),
            ("other, 1,000 ports", 9.0),
            ("loopback", 5.0),
        ]);

        let charts = scaling(&suite);

        assert_eq!(charts.len(), 1);
        let lines: Vec<_> = charts[0].lines.iter().collect();
        let line = vec![(1.0, 1.0), (1e3, 2.0), (1e4, 3.0)];
        assert_eq!(
            lines,
            [(&"veer".to_owned(), &line)],
            "a point alone is no line"
        );
    }

    #[test]
    fn a_chart_has_a_line_for_each_variant_and_its_name() {
        let mut suite = suite(&[]);
        for variant in ["veer", "bridge"] {
            suite.latencies.push(Latencies {
                variant: variant.to_owned(),
                measure: "rr".to_owned(),
                microseconds: (1..=SHARES.len()).map(|value| value as f64).collect(),
            });
        }

        let charts = latencies(&suite);
        let svg = charts[0].draw().unwrap();

        assert!(svg.starts_with("<svg") && !svg.contains("href"), "{svg}");
        for wanted in ["veer", "bridge", "99 %"] {
            assert!(svg.contains(wanted), "{wanted}: {svg}");
        }
    }
}
