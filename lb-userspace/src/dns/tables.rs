//! Docker's rules for 127.0.0.11 as the tools of the packet filter list and read them.

use std::fs;
use std::io::{self, ErrorKind};
use std::process::{Command, Output};

use serde::{Deserialize, Serialize};

use crate::tool::run;

/// Docker's chains in the table `nat`.
const CHAINS: [&str; 2] = ["DOCKER_OUTPUT", "DOCKER_POSTROUTING"];

/// Takes away the chains of iptables over nftables that led to Docker's, if they are empty: without them no
/// packet passes a hook for NAT. iptables makes them again when it needs them.
const EMPTY_CHAINS: &str = "*nat\n-X OUTPUT\n-X POSTROUTING\nCOMMIT\n";

/// Docker's table, where its `firewall-backend` is `nftables`.
const TABLE: &str = "table ip docker-dns";

/// What Docker has made its rules with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Tool {
    Legacy,
    Nftables,
    /// iptables over nftables.
    Iptables,
}

impl Tool {
    /// In the order in which they are asked: the first one loads modules of the kernel, and so is asked
    /// only where it has been used before.
    const ALL: [Self; 3] = [Self::Legacy, Self::Nftables, Self::Iptables];

    /// Docker's rules in the calling thread's namespace, as [`Tool::restore`] takes them.
    fn list(self) -> io::Result<Option<String>> {
        match self {
            Self::Legacy if !has_legacy_table() => Ok(None),
            Self::Nftables => {
                let words: Vec<_> = TABLE.split(' ').collect();
                let output = Command::new("nft").arg("list").args(words).output()?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                Ok(output.status.success().then_some(text))
            }
            Self::Legacy | Self::Iptables => {
                let output = self.iptables("save", &["-t", "nat"], "")?;
                Ok(dockers(&String::from_utf8_lossy(&output.stdout)))
            }
        }
    }

    /// Takes away what [`Tool::list`] gave.
    pub(super) fn remove(self, rules: &str) -> io::Result<()> {
        match self {
            Self::Nftables => self.load(&format!("delete {TABLE}\n")),
            Self::Legacy => self.load(&removal(rules)),
            Self::Iptables => {
                self.load(&removal(rules))?;
                // Refused where somebody has rules in them, and by iptables before 1.8.8: then they stay, and do
                // no harm.
                let _ = self.iptables("restore", &["--noflush"], EMPTY_CHAINS);
                Ok(())
            }
        }
    }

    /// Puts it back.
    pub(super) fn restore(self, rules: &str) -> io::Result<()> {
        match self {
            Self::Nftables => self.load(rules),
            Self::Legacy | Self::Iptables => self.load(&format!("*nat\n{rules}COMMIT\n")),
        }
    }

    fn load(self, text: &str) -> io::Result<()> {
        let output = match self {
            Self::Nftables => run(Command::new("nft").args(["-f", "-"]), text)?,
            Self::Legacy | Self::Iptables => self.iptables("restore", &["--noflush"], text)?,
        };
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!(
            "change Docker's rules for 127.0.0.11: {}",
            said.trim()
        )))
    }

    /// Runs the program that is surely of this kind, or, where only one kind is installed, that one.
    fn iptables(self, verb: &str, words: &[&str], input: &str) -> io::Result<Output> {
        let kind = match self {
            Self::Legacy => "legacy",
            Self::Iptables | Self::Nftables => "nft",
        };
        match run(
            Command::new(format!("iptables-{kind}-{verb}")).args(words),
            input,
        ) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                run(Command::new(format!("iptables-{verb}")).args(words), input)
            }
            result => result,
        }
    }
}

/// Docker's rules in the calling thread's namespace. Tools that are not installed have made none.
pub(super) fn find() -> io::Result<Option<(Tool, String)>> {
    for tool in Tool::ALL {
        match tool.list() {
            Ok(Some(rules)) => return Ok(Some((tool, rules))),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The port of 127.0.0.11 that queries over `protocol` are led to.
pub(super) fn port(rules: &str, protocol: &str) -> Option<u16> {
    let mut lines = rules.lines();
    lines.find_map(|line| {
        let words = || line.split_whitespace();
        let asked = words().any(|word| word == protocol) && words().any(|word| word == "53");
        let to = words().find_map(|word| word.strip_prefix("127.0.0.11:"));
        to.filter(|_| asked)?.parse().ok()
    })
}

/// Whether the table `nat` of the old kind has ever been used in this namespace.
fn has_legacy_table() -> bool {
    let names = fs::read_to_string("/proc/thread-self/net/ip_tables_names");
    names.is_ok_and(|names| names.lines().any(|name| name == "nat"))
}

/// The lines of a saved table that make Docker's chains and lead to them; `None` if there are none.
fn dockers(saved: &str) -> Option<String> {
    let is_dockers = |line: &&str| {
        let mut words = line.trim_start_matches(':').split_whitespace();
        words.any(|word| CHAINS.contains(&word))
    };
    let lines = saved.lines().filter(is_dockers);
    let rules: String = lines.flat_map(|line| [line, "\n"]).collect();
    rules.contains("-A ").then_some(rules)
}

/// What takes those lines back.
fn removal(rules: &str) -> String {
    let mut text = String::from("*nat\n");
    for line in rules.lines() {
        let rule = line.strip_prefix("-A ");
        let leads_there = |rule: &&str| !CHAINS.iter().any(|chain| rule.starts_with(chain));
        if let Some(rule) = rule.filter(leads_there) {
            text.push_str(&format!("-D {rule}\n"));
        }
    }
    for chain in CHAINS {
        text.push_str(&format!("-F {chain}\n-X {chain}\n"));
    }
    text + "COMMIT\n"
}
