//! `veer lab`.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::table::{self, Output, Table};
use super::{Exit, instance};
use crate::provider::lab::{self, LabContainer, Shown, ShownContainer, Topology};

/// Make, show and enter the lab: containers without Docker
///
/// The lab is a handful of network namespaces on bridges that veer makes itself: by default a client
/// and three Members of alias `tg-net`. `veer run` brings it up where no Docker Engine answers.
#[derive(Args, Debug)]
pub(super) struct Lab {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make the lab, or change it to what the topology says
    Up {
        /// Topology in TOML; without one, a client and three Members of `tg-net`
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Remove everything that `up` has made
    Down,
    /// Show the lab's Networks and containers
    Show {
        #[command(flatten)]
        output: Output,
    },
    /// Run a command in a container of the lab
    ///
    /// Exits as the command does.
    Exec {
        /// Name of the container
        #[arg(value_name = "CONTAINER")]
        container: String,
        /// The command and its arguments, after `--` if they have options
        #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
        command: Vec<String>,
    },
    /// Answer HTTP with a name: what the lab's Members run
    Serve {
        /// What to answer
        #[arg(long)]
        name: String,
        /// Where to listen; `:80` is every address
        #[arg(long, value_name = "ADDRESS", default_value = ":80", value_parser = lab::listen_address)]
        listen: SocketAddr,
    },
}

impl Lab {
    pub(super) async fn run(self, out: &mut impl Write) -> anyhow::Result<Exit> {
        if let Action::Serve { name, listen } = self.action {
            lab::serve(&name, listen).await?;
            return Ok(Exit::Ok);
        }
        let lab = lab::Lab::open(&instance()?.folder())?;
        match self.action {
            Action::Up { file } => {
                let topology = file.as_deref().map(Topology::load).transpose()?;
                lab.up(&topology.unwrap_or_default())?;
                show(&lab.show()?, Output::default(), out)?;
            }
            Action::Down => lab.down()?,
            Action::Show { output } => show(&lab.show()?, output, out)?,
            Action::Exec { container, command } => {
                out.flush()?;
                let status = lab.exec(&container, &command)?;
                // As shells do: a signal shows as 128 and its number.
                let signal = status.signal().map(|signal| 128 + signal);
                let code = status
                    .code()
                    .or(signal)
                    .and_then(|code| u8::try_from(code).ok());
                return Ok(Exit::Command(
                    code.context("the command ended in no known way")?,
                ));
            }
            Action::Serve { .. } => {}
        }
        Ok(Exit::Ok)
    }
}

fn show(shown: &Shown, output: Output, out: &mut impl Write) -> std::io::Result<()> {
    if output.json {
        return table::json(out, shown);
    }
    for network in &shown.networks {
        let note = if network.internal { ", internal" } else { "" };
        let subnets = table::list(&network.subnets);
        writeln!(
            out,
            "network {}: {subnets} on {}{note}",
            network.name, network.bridge
        )?;
    }
    let mut table = Table::new(&["CONTAINER", "ADDRESSES", "ALIASES", "COMMAND", "STATE"]);
    for ShownContainer {
        container, state, ..
    } in &shown.containers
    {
        table.row([
            container.name.clone(),
            addresses(container),
            table::list(container.attachments.iter().flat_map(|a| &a.aliases)),
            container.command.join(" "),
            (*state).to_owned(),
        ]);
    }
    writeln!(out)?;
    table.write(out)
}

fn addresses(container: &LabContainer) -> String {
    let attachments = container.attachments.iter();
    table::list(attachments.flat_map(|attachment| {
        let v4 = attachment.v4.map(|address| address.to_string());
        v4.into_iter()
            .chain(attachment.v6.map(|address| address.to_string()))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::lab::{LabAttachment, LabNetwork};

    #[test]
    fn a_lab_is_shown_with_its_networks_and_containers() {
        let attachment = LabAttachment {
            endpoint_id: "e".into(),
            network: "lab".into(),
            aliases: vec!["tg-net".into()],
            v4: Some([10, 0, 0, 2].into()),
            v6: Some("fd00::2".parse().unwrap()),
            mac: [2, 0, 0, 0, 0, 1],
            host_name: "vl1".into(),
            container_name: "eth0".into(),
        };
        let shown = Shown {
            networks: vec![LabNetwork {
                id: "n".into(),
                name: "lab".into(),
                bridge: "vlb-1".into(),
                subnets: vec!["10.0.0.0/24".parse().unwrap()],
                internal: true,
                labels: Default::default(),
            }],
            containers: vec![ShownContainer {
                container: LabContainer {
                    id: "c".into(),
                    name: "member-1".into(),
                    command: vec!["veer".into()],
                    labels: Default::default(),
                    attachments: vec![attachment],
                },
                pid: None,
                state: "ended",
            }],
        };
        let mut out = Vec::new();

        show(&shown, Output::default(), &mut out).unwrap();

        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("network lab: 10.0.0.0/24 on vlb-1, internal\n"),
            "{text}"
        );
        let row: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(
            row,
            [
                "member-1",
                "10.0.0.2,",
                "fd00::2",
                "tg-net",
                "veer",
                "ended"
            ]
        );
    }
}
