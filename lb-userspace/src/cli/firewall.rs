//! `veer firewall`.

use std::io::Write;

use clap::Args;

use super::table::{self, Output, Table};
use super::units;
use crate::api::Api;

/// List the rules about who may reach published ports, and what they have judged
///
/// In the order in which they are asked: the first one that fits decides. `own` are the lists `allow` and
/// `deny` of those who publish, which must let a client in as well.
#[derive(Args, Debug)]
pub(super) struct Firewall {
    #[command(flatten)]
    output: Output,
}

impl Firewall {
    pub(super) async fn run(self, api: &impl Api, out: &mut impl Write) -> anyhow::Result<()> {
        let rows = api.firewall().await?;
        if self.output.json {
            return rows.iter().try_for_each(|row| Ok(table::json(out, row)?));
        }
        let mut table = Table::new(&[
            ">RULE", "ACTION", "SOURCE", "ADDRESS", "PORT", "PROTOCOL", ">CONNS", ">LAST",
        ]);
        for row in rows {
            let any = |text: Option<String>| text.unwrap_or_else(|| "any".to_owned());
            let rule = match row.rule {
                0 => "own".to_owned(),
                rule => rule.to_string(),
            };
            let ago = |seconds| format!("{} ago", units::duration(seconds));
            table.row([
                rule,
                row.action.unwrap_or_else(|| "lists".to_owned()),
                any(row.source),
                any(row.address.map(|address| address.to_string())),
                any(row.ports),
                any(row.protocol),
                row.connections.to_string(),
                row.idle_seconds.map_or_else(|| "never".to_owned(), ago),
            ]);
        }
        Ok(table.write(out)?)
    }
}
