//! `veer check`.
//!
//! Facts are gathered at the edge (`facts`, `engine`), judged by pure rules (`rules`), and printed.

mod engine;
mod facts;
mod routes;
mod rules;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::table::{self, Output};

/// Tell whether this host can run veer, and what stands in the way
///
/// Looks at the kernel, cgroup2, bpffs, capabilities, the Docker Engine's settings and conflicts
/// with other software. Needs no running daemon and changes nothing. Exits with 1 if there is an
/// error.
#[derive(Args, Debug)]
pub(super) struct Check {
    /// Configuration file to check against
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Socket of the Docker Engine
    #[arg(long, value_name = "SOCKET", default_value = super::DOCKER_SOCKET)]
    docker_socket: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Level {
    Ok,
    /// It works, but not all of it or not as well as it could.
    Warning,
    /// veer cannot run, or would break something.
    Error,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Verdict {
    level: Level,
    /// What was looked at, such as `bpffs`.
    subject: &'static str,
    found: String,
    /// What to do about it; with `ok` there is nothing to do.
    remedy: Option<String>,
}

impl Verdict {
    fn ok(subject: &'static str, found: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            subject,
            found: found.into(),
            remedy: None,
        }
    }

    fn warning(subject: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            remedy: Some(remedy.into()),
            ..Self::ok(subject, found)
        }
    }

    fn error(subject: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            ..Self::warning(subject, found, remedy)
        }
    }
}

impl Check {
    /// Returns whether veer can run here.
    pub(super) async fn run(self, out: &mut impl Write) -> anyhow::Result<bool> {
        let engine = engine::ask(&self.docker_socket).await;
        let facts = facts::gather(self.config.as_deref(), engine).await;
        let verdicts = rules::judge(&facts);
        print(&verdicts, self.output, out)?;
        Ok(verdicts.iter().all(|verdict| verdict.level < Level::Error))
    }
}

fn print(verdicts: &[Verdict], output: Output, out: &mut impl Write) -> std::io::Result<()> {
    if output.json {
        return verdicts
            .iter()
            .try_for_each(|verdict| table::json(out, verdict));
    }
    for verdict in verdicts {
        let level = verdict.level.name();
        writeln!(out, "{level:<8} {:<16} {}", verdict.subject, verdict.found)?;
        if let Some(remedy) = &verdict.remedy {
            writeln!(out, "{:<25} → {remedy}", "")?;
        }
    }
    let count = |level| {
        verdicts
            .iter()
            .filter(|verdict| verdict.level == level)
            .count()
    };
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    let conclusion = match (errors, warnings) {
        (0, 0) => "veer can run here".to_owned(),
        (0, warnings) => format!("veer can run here, with {warnings} warnings"),
        (errors, _) => format!("veer cannot run here: {errors} errors"),
    };
    writeln!(out, "\n{conclusion}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_is_a_line_and_its_remedy_another() {
        let verdicts = [
            Verdict::ok("kernel", "6.12.0"),
            Verdict::error("bpffs", "not mounted", "mount -t bpf bpf /sys/fs/bpf"),
        ];
        let mut out = Vec::new();

        print(&verdicts, Output::default(), &mut out).unwrap();

        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("ok       kernel           6.12.0"), "{text}");
        assert!(text.contains("→ mount -t bpf bpf /sys/fs/bpf"), "{text}");
        assert!(text.ends_with("veer cannot run here: 1 errors\n"), "{text}");
    }

    #[test]
    fn programs_get_one_object_per_line() {
        let verdicts = [Verdict::warning("swarm", "active", "leave it")];
        let mut out = Vec::new();

        print(&verdicts, Output { json: true }, &mut out).unwrap();

        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["level"], "warning");
        assert_eq!(value["remedy"], "leave it");
    }
}
