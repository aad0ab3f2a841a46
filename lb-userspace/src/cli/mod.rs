//! The verbs. Doc comments are the help texts.

mod check;
mod config;
mod connections;
mod dns;
mod endpoints;
mod exit;
mod explain;
mod firewall;
mod frontends;
mod groups;
mod lab;
mod migrate;
mod names;
mod networks;
mod run;
mod status;
mod table;
mod uninstall;
mod units;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::api::Client;
use crate::instance::Instance;
use crate::priority;

pub use exit::Exit;

/// Where the Engine listens unless the configuration says otherwise.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// eBPF load balancing between containers of a Docker host
#[derive(Debug, Parser)]
#[command(
    name = "veer",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 64 configuration refused, \
                  69 no daemon answers."
)]
pub struct Cli {
    /// Socket of the daemon to ask; the default is that of this network namespace
    #[arg(long, global = true, value_name = "SOCKET")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Check(check::Check),
    Config(config::Config),
    Connections(connections::Connections),
    Dns(dns::Dns),
    Endpoints(endpoints::Endpoints),
    Explain(explain::Explain),
    Firewall(firewall::Firewall),
    Frontends(frontends::Frontends),
    Groups(groups::Groups),
    Lab(lab::Lab),
    Migrate(migrate::Migrate),
    Names(names::Names),
    Networks(networks::Networks),
    Run(run::Run),
    Status(status::Status),
    Uninstall(uninstall::Uninstall),
}

impl Cli {
    /// What is to be done before there are other threads.
    pub fn prepare(&self) {
        if let Verb::Run(_) = self.verb {
            // The daemon tells if it is not.
            let _ = priority::raise();
        }
    }

    /// Does what was asked for and prints to `out`.
    pub async fn run(self, out: &mut impl Write) -> anyhow::Result<Exit> {
        let socket = self.socket;
        match self.verb {
            Verb::Check(verb) => {
                let usable = verb.run(out).await?;
                return Ok(if usable { Exit::Ok } else { Exit::Failure });
            }
            Verb::Lab(verb) => return verb.run(out).await,
            Verb::Migrate(verb) => verb.run(out)?,
            Verb::Config(verb) => verb.run(socket, out).await?,
            Verb::Connections(verb) => verb.run(&client(socket)?, out).await?,
            Verb::Dns(verb) => verb.run(&client(socket)?, out).await?,
            Verb::Endpoints(verb) => verb.run(&client(socket)?, out).await?,
            Verb::Explain(verb) => verb.run(&client(socket)?, out).await?,
            Verb::Firewall(verb) => verb.run(&client(socket)?, out).await?,
            Verb::Frontends(verb) => verb.run(&client(socket)?, out).await?,
            Verb::Groups(verb) => verb.run(&client(socket)?, out).await?,
            Verb::Names(verb) => verb.run(&client(socket)?, out).await?,
            Verb::Run(verb) => verb.run(socket).await?,
            Verb::Uninstall(verb) => verb.run(out)?,
            Verb::Networks(verb) => verb.run(&client(socket)?, out).await?,
            Verb::Status(verb) => verb.run(&client(socket)?, out).await?,
        }
        Ok(Exit::Ok)
    }
}

/// A client of the daemon at `socket`, by default of the one that serves this namespace.
fn client(socket: Option<PathBuf>) -> anyhow::Result<Client> {
    let socket = match socket {
        Some(socket) => socket,
        None => instance()?.socket(),
    };
    Ok(Client::new(socket))
}

fn instance() -> anyhow::Result<Instance> {
    Instance::here().context("find this network namespace")
}

#[cfg(test)]
mod tests;
