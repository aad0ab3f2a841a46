//! Tables for people, JSON for programs.

use std::io::{self, Write};

use clap::Args;
use comfy_table::{CellAlignment, ContentArrangement, presets};
use serde::Serialize;

/// Widest table: what does not fit is wrapped inside its column.
const WIDTH: u16 = 100;

/// How rows are printed.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(super) struct Output {
    /// Print one JSON object per line instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

/// Rows under headings. A heading that begins with `>` is a column of numbers, aligned right.
#[derive(Debug)]
pub(super) struct Table {
    inner: comfy_table::Table,
}

impl Table {
    /// A table without rows.
    pub(super) fn new(headings: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(WIDTH)
            .set_header(
                headings
                    .iter()
                    .map(|heading| heading.trim_start_matches('>')),
            );
        for (column, heading) in inner.column_iter_mut().zip(headings) {
            column.set_padding((0, 2));
            if heading.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { inner }
    }

    /// Adds a row with as many cells as there are headings.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.inner.add_row(cells);
    }

    /// Prints headings and rows, each line without trailing blanks.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for line in self.inner.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Prints `value` as one line of JSON.
pub(super) fn json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

/// The items, separated by commas, or `-` if there are none.
pub(super) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        return "-".to_owned();
    }
    items.join(", ")
}

/// The value, or `-` if there is none.
pub(super) fn option<T: ToString>(value: Option<T>) -> String {
    list(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_borders_and_no_trailing_blanks_and_fits_100_columns() {
        let mut table = Table::new(&["NAME", ">COUNT"]);
        table.row(["a".repeat(150), "7".to_owned()]);
        table.row(["short".to_owned(), "1234".to_owned()]);

        let mut out = Vec::new();
        table.write(&mut out).unwrap();

        let text = String::from_utf8(out).unwrap();
        assert!(
            text.lines()
                .all(|line| line.len() <= 100 && line == line.trim_end()),
            "{text}"
        );
        assert!(!text.contains(['|', '+']), "{text}");
        assert!(
            text.lines()
                .any(|line| line.starts_with("short") && line.ends_with("1234"))
        );
    }

    #[test]
    fn an_empty_list_is_a_dash() {
        assert_eq!(list(Vec::<String>::new()), "-");
        assert_eq!(list([1, 2]), "1, 2");
        assert_eq!(option(Some("x")), "x");
    }
}
