//! `veer dns`.

use std::io::Write;

use clap::{Args, Subcommand};

use super::table::{self, Output, Table};
use crate::api::{Api, DnsAnswer, DnsLogRequest, DnsLogRow, DnsNamesRequest, DnsRequest};

/// Seconds that the daemon waits for more before it says that there is nothing.
const FOLLOWED: u64 = 30;

/// Tell what DNS has answered, or would answer
///
/// Without a verb: how often, by Network, by who answered, and by what was said.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Dns {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Names(Names),
    Query(Query),
    Log(Log),
}

/// Show some of the answers that were given: one in `query_log` of the configuration
#[derive(Args, Debug)]
struct Log {
    /// Go on with those that are given from now on, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Only what this container asked: its name
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// List the names that one container may ask for, each from the Network that answers it
#[derive(Args, Debug)]
struct Names {
    /// Name or short id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Only names of this Network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Tell what a container would be answered, by whom, and why; nobody is asked for it
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  veer dns query web db\n  veer dns query web 10.0.0.5 PTR")]
struct Query {
    /// Who asks: name or short id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// What is asked for; for PTR an address will do
    #[arg(value_name = "NAME")]
    name: String,
    /// The type of records
    #[arg(value_name = "TYPE", default_value = "A")]
    kind: String,
    #[command(flatten)]
    output: Output,
}

impl Dns {
    pub(super) async fn run(self, api: &impl Api, out: &mut impl Write) -> anyhow::Result<()> {
        match self.verb {
            None => counts(self.output, api, out).await,
            Some(Verb::Names(verb)) => verb.run(api, out).await,
            Some(Verb::Query(verb)) => verb.run(api, out).await,
            Some(Verb::Log(verb)) => verb.run(api, out).await,
        }
    }
}

async fn counts(output: Output, api: &impl Api, out: &mut impl Write) -> anyhow::Result<()> {
    let rows = api.dns().await?;
    if output.json {
        return rows.iter().try_for_each(|row| Ok(table::json(out, row)?));
    }
    let mut table = Table::new(&["NETWORK", "ANSWERED BY", "OUTCOME", ">COUNT"]);
    for row in rows {
        let network = table::option(row.network);
        table.row([network, row.path, row.outcome, row.count.to_string()]);
    }
    Ok(table.write(out)?)
}

impl Names {
    async fn run(self, api: &impl Api, out: &mut impl Write) -> anyhow::Result<()> {
        let container = self.container;
        let mut rows = api.dns_names(&DnsNamesRequest { container }).await?;
        if let Some(network) = self.network {
            rows.retain(|row| row.network == network);
        }
        if self.output.json {
            return rows.iter().try_for_each(|row| Ok(table::json(out, row)?));
        }
        let mut table = Table::new(&["NAME", "NETWORK", "ADDRESSES"]);
        for row in rows {
            table.row([row.name, row.network, table::list(row.addresses)]);
        }
        Ok(table.write(out)?)
    }
}

impl Query {
    async fn run(self, api: &impl Api, out: &mut impl Write) -> anyhow::Result<()> {
        let request = DnsRequest {
            container: self.container,
            name: self.name,
            kind: Some(self.kind),
        };
        let answer = api.dns_query(&request).await?;
        if self.output.json {
            return Ok(table::json(out, &answer)?);
        }
        Ok(write(&answer, out)?)
    }
}

impl Log {
    async fn run(self, api: &impl Api, out: &mut impl Write) -> anyhow::Result<()> {
        let mut request = DnsLogRequest::default();
        loop {
            let log = api.dns_log(&request).await?;
            for row in log.rows.iter().filter(|row| self.wants(row)) {
                if self.output.json {
                    table::json(out, row)?;
                } else {
                    writeln!(out, "{}", line(row))?;
                }
            }
            out.flush()?;
            if !self.follow {
                return Ok(());
            }
            request = DnsLogRequest {
                after: log.latest,
                wait: FOLLOWED,
            };
        }
    }

    fn wants(&self, row: &DnsLogRow) -> bool {
        let container = self.container.as_ref();
        container.is_none_or(|name| row.container.as_ref() == Some(name))
    }
}

/// The time of day, who asked, for what, and who said what.
fn line(row: &DnsLogRow) -> String {
    let (seconds, milliseconds) = (row.at / 1_000, row.at % 1_000);
    let (hours, minutes) = (seconds / 3_600 % 24, seconds / 60 % 60);
    let network = row.network.as_deref().unwrap_or("-");
    let container = row.container.as_deref().unwrap_or("-");
    format!(
        "{hours:02}:{minutes:02}:{:02}.{milliseconds:03} {container} {} {} network={network} {} {}",
        seconds % 60,
        row.name,
        row.kind,
        row.path,
        row.outcome,
    )
}

fn write(answer: &DnsAnswer, out: &mut impl Write) -> std::io::Result<()> {
    for (index, reason) in answer.reasons.iter().enumerate() {
        writeln!(out, "{:>2}.  {reason}", index + 1)?;
    }
    let outcome = answer.outcome.as_deref().unwrap_or("what they say");
    writeln!(out, "\n{outcome}, answered by: {}", answer.path)?;
    answer
        .records
        .iter()
        .try_for_each(|record| writeln!(out, "{record}"))
}
