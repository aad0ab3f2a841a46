//! `veer config`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::client;
use super::table::{self, Output, Table};
use crate::api::Api;
use crate::model::label;

/// Print the configuration in effect, with defaults and units
#[derive(Args, Debug)]
pub(super) struct Config {
    /// List the container labels that veer reads instead
    #[arg(long)]
    labels: bool,
    #[command(flatten)]
    output: Output,
}

/// Labels, what they take and what they do.
const LABELS: [[&str; 3]; 4] = [
    [
        label::ENDPOINT_MODE,
        "vip, dnsrr",
        "what the container's aliases resolve to: the Group's VIP, or all Members",
    ],
    [
        label::ALGORITHM,
        "round-robin, random, weighted-round-robin, least-connections, maglev",
        "how the container's Groups are balanced",
    ],
    [
        label::WEIGHT,
        "0 to 1000",
        "share of new Connections (weighted-round-robin, maglev); 0: none",
    ],
    [
        label::AFFINITY,
        "30s, 10m, 3h, at most 24h; 0: none",
        "how long a client keeps its Backend for new Connections",
    ],
];

impl Config {
    pub(super) async fn run(
        self,
        socket: Option<PathBuf>,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        if self.labels {
            return Ok(labels(self.output, out)?);
        }
        let report = client(socket)?.config().await?;
        if self.output.json {
            return Ok(table::json(out, &report)?);
        }
        Ok(write!(out, "{}", report.text)?)
    }
}

fn labels(output: Output, out: &mut impl Write) -> std::io::Result<()> {
    let mut table = Table::new(&["LABEL", "VALUES", "MEANING"]);
    for [label, values, meaning] in LABELS {
        if output.json {
            let object =
                serde_json::json!({ "label": label, "values": values, "meaning": meaning });
            table::json(out, &object)?;
        }
        table.row([label.to_owned(), values.to_owned(), meaning.to_owned()]);
    }
    if output.json {
        return Ok(());
    }
    table.write(out)
}
