//! `veer endpoints`.

use std::io::Write;

use clap::Args;

use super::table::{self, Output, Table};
use super::units;
use crate::api::Api;

/// List the Endpoints: each container's attachment to a Network
///
/// CONNS, PACKETS and BYTES are what the Endpoint has got as a Backend since the datapath was
/// installed; OPEN is how many Connections are established now.
#[derive(Args, Debug)]
pub(super) struct Endpoints {
    /// Only Endpoints of this Network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    #[command(flatten)]
    output: Output,
}

impl Endpoints {
    pub(super) async fn run(self, api: &impl Api, out: &mut impl Write) -> anyhow::Result<()> {
        let mut rows = api.endpoints().await?;
        if let Some(network) = self.network {
            rows.retain(|row| row.network == network);
        }
        if self.output.json {
            return rows.iter().try_for_each(|row| Ok(table::json(out, row)?));
        }
        let mut table = Table::new(&[
            ">ID",
            "CONTAINER",
            "NETWORK",
            "ADDRESSES",
            "INTERFACE",
            "STATE",
            ">CONNS",
            ">OPEN",
            ">PACKETS",
            ">BYTES",
        ]);
        for row in rows {
            table.row([
                row.id.to_string(),
                row.container,
                row.network,
                table::list(row.v4.into_iter().chain(row.v6)),
                row.interface,
                row.state,
                row.connections.to_string(),
                row.established.to_string(),
                row.packets.to_string(),
                units::bytes(row.bytes),
            ]);
        }
        Ok(table.write(out)?)
    }
}
