//! `veer config`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::client;
use super::table::{self, Output, Table};
use crate::api::{Api, ConfigReport};
use crate::daemon::{ConfigSource, Overrides};
use crate::model::label;

/// Print the configuration in effect, with defaults and units
///
/// Reads the file, and needs no daemon: what is refused is told with its line and what to write
/// instead. The output is a configuration file that says the same.
#[derive(Args, Debug)]
pub(super) struct Config {
    /// Configuration file; the default may be missing
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print what the running daemon has in effect instead
    #[arg(long, conflicts_with = "config")]
    running: bool,
    /// List the container labels that veer reads instead
    #[arg(long)]
    labels: bool,
    #[command(flatten)]
    output: Output,
}

/// Labels, what they take and what they do.
const LABELS: [[&str; 3]; 6] = [
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
    [
        label::PUBLISH,
        "[address:]port[-last][:target][/protocol][@alias], several with commas",
        "ports of the host for one of the container's Groups",
    ],
    [
        label::PORT,
        "1 to 65535",
        "where the container listens for what is published for its Groups",
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
        let report = if self.running {
            client(socket)?.config().await?
        } else {
            read(self.config)?
        };
        if self.output.json {
            return Ok(table::json(out, &report)?);
        }
        Ok(write!(out, "{}", report.text)?)
    }
}

fn read(path: Option<PathBuf>) -> anyhow::Result<ConfigReport> {
    let source = ConfigSource::new(path, Overrides::default());
    Ok(ConfigReport {
        text: source.load()?.effective(),
        path: source.file().map(|file| file.display().to_string()),
    })
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
