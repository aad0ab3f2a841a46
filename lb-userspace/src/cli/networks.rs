//! `veer networks`.

use std::io::Write;

use clap::Args;

use super::table::{self, Output, Table};
use crate::api::Api;

/// List the Networks that are served
#[derive(Args, Debug)]
pub(super) struct Networks {
    #[command(flatten)]
    output: Output,
}

impl Networks {
    pub(super) async fn run(self, api: &impl Api, out: &mut impl Write) -> anyhow::Result<()> {
        let rows = api.networks().await?;
        if self.output.json {
            return rows.iter().try_for_each(|row| Ok(table::json(out, row)?));
        }
        let mut table = Table::new(&[
            "NETWORK",
            "ZONE",
            "BRIDGE",
            "SUBNETS",
            "VIP RANGES",
            ">ENDPOINTS",
            ">GROUPS",
            "",
        ]);
        for row in rows {
            let note = if row.internal { "internal" } else { "" };
            table.row([
                row.name,
                row.zone.to_string(),
                row.bridge,
                table::list(row.subnets),
                table::list(row.vip_ranges),
                row.endpoints.to_string(),
                row.groups.to_string(),
                note.to_owned(),
            ]);
        }
        Ok(table.write(out)?)
    }
}
