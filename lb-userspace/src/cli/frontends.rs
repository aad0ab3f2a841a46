//! `veer frontends`.

use std::io::Write;

use clap::Args;

use super::table::{self, Output, Table};
use crate::api::Api;

/// List the Frontends: what clients send to, and the Backends behind it
#[derive(Args, Debug)]
pub(super) struct Frontends {
    /// Only Frontends of this Network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    #[command(flatten)]
    output: Output,
}

impl Frontends {
    pub(super) async fn run(self, api: &impl Api, out: &mut impl Write) -> anyhow::Result<()> {
        let mut rows = api.frontends().await?;
        if let Some(network) = self.network {
            rows.retain(|row| row.network == network);
        }
        if self.output.json {
            return rows.iter().try_for_each(|row| Ok(table::json(out, row)?));
        }
        let mut table = Table::new(&[
            "FRONTEND",
            "PORTS",
            "NETWORK",
            "GROUP",
            "ALGORITHM",
            "BACKENDS",
            ">CONNS",
            ">REFUSED",
        ]);
        for row in rows {
            let port = row.port.map_or("all".to_owned(), |port| port.to_string());
            let port = port
                + &row
                    .last_port
                    .map_or(String::new(), |last| format!("-{last}"));
            let protocol = row.protocol.map(|name| format!("/{name}"));
            table.row([
                row.address.to_string(),
                port + &protocol.unwrap_or_default(),
                row.network,
                row.group,
                row.algorithm,
                table::list(row.backends),
                row.connections.to_string(),
                row.refused.to_string(),
            ]);
        }
        Ok(table.write(out)?)
    }
}
