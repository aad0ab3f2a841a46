//! `veer explain`.

use std::io::Write;

use clap::{Args, ValueEnum};

use super::connections;
use super::table::{self, Output};
use crate::api::{Api, ExplainRequest, Explanation, Outcome};

/// Tell what would happen to a new Connection, and why
///
/// Runs the datapath's own decision over the live maps and changes nothing.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  veer explain web tg-net\n  veer explain 10.0.0.5 198.18.0.1:80\n  \
                  veer explain 203.0.113.9 192.0.2.1:8080\n  veer explain host localhost:8080"
)]
pub(super) struct Explain {
    /// Who asks: a container's name, short id or address; `host` for a process of the host, or an address
    /// of the host's that it is bound to; any other address for somebody outside
    #[arg(value_name = "CLIENT")]
    client: String,
    /// What it wants to reach: an alias (containers only) or an address, with `:port` if it matters
    #[arg(value_name = "FRONTEND")]
    frontend: String,
    /// What it sends
    #[arg(long, value_enum, default_value_t = Protocol::Tcp)]
    protocol: Protocol,
    #[command(flatten)]
    output: Output,
}

/// The protocols that are balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Tcp,
    Udp,
    /// Echo request
    Icmp,
}

impl Protocol {
    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

impl Explain {
    pub(super) async fn run(self, api: &impl Api, out: &mut impl Write) -> anyhow::Result<()> {
        let request = ExplainRequest {
            client: self.client,
            frontend: self.frontend,
            protocol: Some(self.protocol.name().to_owned()),
        };
        let explanation = api.explain(&request).await?;
        if self.output.json {
            return Ok(table::json(out, &explanation)?);
        }
        Ok(write(&explanation, out)?)
    }
}

fn write(explanation: &Explanation, out: &mut impl Write) -> std::io::Result<()> {
    for (index, finding) in explanation.findings.iter().enumerate() {
        let mark = if finding.passes { " " } else { "✗" };
        writeln!(
            out,
            "{:>2}.{mark} {:<12} {}",
            index + 1,
            finding.step,
            finding.text
        )?;
    }
    writeln!(out, "\n→ {}", outcome(&explanation.outcome))?;
    if !explanation.connections.is_empty() {
        writeln!(out, "\nConnections that exist already keep their Backend:")?;
        connections::write(&explanation.connections, out)?;
    }
    Ok(())
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Forwarded {
            backend,
            address,
            by_chance,
        } => {
            let odds = if *by_chance {
                " (by chance: the next may differ)"
            } else {
                ""
            };
            format!("the next Connection goes to {backend} at {address}{odds}")
        }
        Outcome::Leaves { source } => format!("leaves the host as {source}"),
        Outcome::Passed { reason, meaning } => format!("not balanced ({reason}): {meaning}"),
        Outcome::Dropped { reason, meaning } => format!("dropped ({reason}): {meaning}"),
    }
}
