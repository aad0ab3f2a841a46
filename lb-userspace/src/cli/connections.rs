//! `veer connections`.

use std::io::Write;

use clap::Args;

use super::table::{self, Output, Table};
use super::units;
use crate::api::{Api, ConnectionFilter, ConnectionRow, Side};

/// List tracked Connections, most recent first
#[derive(Args, Debug)]
pub(super) struct Connections {
    /// Only Connections of the Groups with this alias
    #[arg(long, value_name = "ALIAS")]
    group: Option<String>,
    /// Only Connections of this client: a container's name, short id or address
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    /// Only Connections to this Backend: a container's name, short id or address
    #[arg(long, value_name = "BACKEND")]
    backend: Option<String>,
    /// How many at most
    #[arg(long, value_name = "COUNT", default_value_t = ConnectionFilter::LIMIT)]
    limit: usize,
    #[command(flatten)]
    output: Output,
}

impl Connections {
    pub(super) async fn run(self, api: &impl Api, out: &mut impl Write) -> anyhow::Result<()> {
        let filter = ConnectionFilter {
            group: self.group,
            client: self.client,
            backend: self.backend,
            limit: Some(self.limit),
        };
        let mut found = api.connections(&filter).await?;
        found
            .rows
            .sort_by_key(|row| (row.idle_seconds, row.age_seconds));
        if self.output.json {
            return found
                .rows
                .iter()
                .try_for_each(|row| Ok(table::json(out, row)?));
        }
        write(&found.rows, out)?;
        if found.more {
            writeln!(out, "… and more: raise --limit or filter")?;
        }
        Ok(())
    }
}

/// Prints `rows` as a table.
pub(super) fn write(rows: &[ConnectionRow], out: &mut impl Write) -> std::io::Result<()> {
    let mut table = Table::new(&[
        "PROTO", "CLIENT", "FRONTEND", "GROUP", "BACKEND", "PHASE", ">AGE", ">IDLE",
    ]);
    for row in rows {
        table.row([
            row.protocol.clone(),
            side(&row.client),
            side(&row.frontend),
            row.group.clone(),
            side(&row.backend),
            row.phase.name().to_owned(),
            units::duration(row.age_seconds),
            units::duration(row.idle_seconds),
        ]);
    }
    table.write(out)
}

fn side(side: &Side) -> String {
    let address = std::net::SocketAddr::new(side.address, side.port);
    match &side.container {
        Some(name) => format!("{name} {address}"),
        None => address.to_string(),
    }
}
