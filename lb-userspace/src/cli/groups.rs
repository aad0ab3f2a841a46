//! `veer groups`.

use std::io::Write;

use clap::Args;

use super::table::{self, Output, Table};
use super::units;
use crate::api::{Api, GroupRow};

/// List the Groups, each with its Members
///
/// CONNS is how many Connections a Member has got since the datapath was installed, OPEN how many
/// are established now; a Member of several Groups counts for all of them together.
#[derive(Args, Debug)]
pub(super) struct Groups {
    /// Only the Groups of this alias
    #[arg(value_name = "ALIAS")]
    alias: Option<String>,
    /// Only Groups of this Network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    #[command(flatten)]
    output: Output,
}

impl Groups {
    pub(super) async fn run(self, api: &impl Api, out: &mut impl Write) -> anyhow::Result<()> {
        let mut rows = api.groups().await?;
        if let Some(alias) = self.alias {
            rows.retain(|row| row.alias.eq_ignore_ascii_case(&alias));
        }
        if let Some(network) = self.network {
            rows.retain(|row| row.network == network);
        }
        if self.output.json {
            return rows.iter().try_for_each(|row| Ok(table::json(out, row)?));
        }
        for (index, row) in rows.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            writeln!(out, "{}", heading(row))?;
            members(row, out)?;
        }
        Ok(())
    }
}

fn heading(row: &GroupRow) -> String {
    let mut text = format!("{} on {}: ", row.alias, row.network);
    if row.vips.is_empty() {
        text.push_str(&row.mode);
    } else {
        text.push_str(&format!("{} {}", row.mode, table::list(&row.vips)));
        text.push_str(&format!(", {}", row.algorithm));
    }
    if row.affinity_seconds > 0 {
        let kept = units::duration(row.affinity_seconds.into());
        text.push_str(&format!(", affinity {kept}"));
    }
    text.push_str(&format!(", {} Connections", row.connections));
    if row.refused > 0 {
        text.push_str(&format!(", {} packets refused", row.refused));
    }
    text
}

fn members(row: &GroupRow, out: &mut impl Write) -> std::io::Result<()> {
    let mut table = Table::new(&[
        "  MEMBER",
        "ADDRESSES",
        "STATE",
        ">WEIGHT",
        ">CONNS",
        ">OPEN",
    ]);
    for member in &row.members {
        table.row([
            format!("  {}", member.container),
            table::list(member.v4.iter().chain(&member.v6)),
            member.state.clone(),
            member.weight.to_string(),
            member.connections.to_string(),
            member.established.to_string(),
        ]);
    }
    table.write(out)
}
