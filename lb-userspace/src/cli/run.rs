//! `veer run`.

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat, ProviderChoice};
use crate::daemon;

/// Serve this network namespace: the daemon
///
/// Follows Docker where its Engine answers; elsewhere it brings the lab up and serves that. Loads
/// the kernel programs or adopts those that are there, and runs until SIGTERM or SIGINT. SIGHUP
/// reads the configuration again. What the kernel does goes on when the daemon stops; `veer
/// uninstall` removes it.
#[derive(Args, Debug)]
pub(super) struct Run {
    /// Configuration file; the default may be missing
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where membership comes from
    #[arg(long, value_enum)]
    provider: Option<Provider>,
    /// Socket of the Docker Engine
    #[arg(long, value_name = "SOCKET")]
    docker_socket: Option<PathBuf>,
    /// What log lines look like
    #[arg(long, value_enum)]
    log_format: Option<Format>,
    /// Level, or a filter such as `info,lb_userspace::dns=debug`
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Print what to try next on the lab, also where nobody looks
    #[arg(long)]
    hints: bool,
    /// Log every packet that a container sends, at level debug: slow, for debugging alone
    #[arg(long)]
    log_packets: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Provider {
    /// Docker if its Engine answers, else the lab
    Auto,
    /// Docker; if its Engine does not answer, wait for it
    Docker,
    /// The lab
    Lab,
}

impl From<Provider> for ProviderChoice {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::Auto => Self::Auto,
            Provider::Docker => Self::Docker,
            Provider::Lab => Self::Lab,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

impl Run {
    pub(super) async fn run(self, socket: Option<PathBuf>) -> anyhow::Result<()> {
        let hints = self.hints || stdout().is_terminal();
        let overrides = daemon::Overrides {
            provider: self.provider.map(ProviderChoice::from),
            engine_socket: self.docker_socket,
            log_format: self.log_format.map(LogFormat::from),
            log_level: self.log_level,
        };
        let source = daemon::ConfigSource::new(self.config, overrides);
        let config = source.load()?;
        log(&config, self.log_packets)?;
        daemon::run(daemon::Options {
            config,
            source,
            socket,
            hints,
            log_packets: self.log_packets,
        })
        .await
    }
}

/// Logs to stderr, as the configuration says; with `packets`, what the programs say besides.
fn log(config: &Config, packets: bool) -> anyhow::Result<()> {
    let mut filter = EnvFilter::try_new(&config.log.level)
        .with_context(|| format!("read log level {:?}", config.log.level))?;
    if packets {
        filter = filter.add_directive("veer_ebpf=debug".parse()?);
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let result = match config.log.format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    result.map_err(|error| anyhow::anyhow!("start logging: {error}"))
}
