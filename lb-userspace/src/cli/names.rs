//! `veer names`.

use std::io::Write;

use clap::Args;

use super::table::{self, Output, Table};
use crate::api::Api;

/// List the names that containers may ask veer's DNS for
#[derive(Args, Debug)]
pub(super) struct Names {
    /// Only this name
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Only names of this Network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    #[command(flatten)]
    output: Output,
}

impl Names {
    pub(super) async fn run(self, api: &impl Api, out: &mut impl Write) -> anyhow::Result<()> {
        let mut rows = api.names().await?;
        if let Some(name) = self.name {
            rows.retain(|row| row.name.eq_ignore_ascii_case(&name));
        }
        if let Some(network) = self.network {
            rows.retain(|row| row.network == network);
        }
        if self.output.json {
            return rows.iter().try_for_each(|row| Ok(table::json(out, row)?));
        }
        let mut table = Table::new(&["NETWORK", "NAME", "ADDRESSES"]);
        for row in rows {
            table.row([row.network, row.name, table::list(row.addresses)]);
        }
        Ok(table.write(out)?)
    }
}
