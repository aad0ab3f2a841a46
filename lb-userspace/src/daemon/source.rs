//! Which provider membership comes from.

use std::time::Duration;

use anyhow::Context as _;
use tokio::net::UnixStream;
use tokio::task::block_in_place;
use tokio::time::timeout;

use crate::api::http;
use crate::config::{Config, ProviderChoice};
use crate::instance::Instance;
use crate::provider::lab::{self, Lab, Topology};
use crate::provider::{Feed, docker};

/// An Engine that answers within this is there.
const PATIENCE: Duration = Duration::from_secs(3);

/// A provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Docker,
    Lab,
}

impl Source {
    /// The one that the configuration names; with `auto`, Docker if its Engine answers now.
    pub(super) async fn choose(config: &Config) -> Self {
        match config.provider {
            ProviderChoice::Docker => Self::Docker,
            ProviderChoice::Lab => Self::Lab,
            ProviderChoice::Auto if engine_answers(config).await => Self::Docker,
            ProviderChoice::Auto => Self::Lab,
        }
    }

    /// The name in tables.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Lab => "lab",
        }
    }

    /// Starts the provider. A lab that is not up is brought up; one that is stays as it is.
    pub(super) fn start(self, config: &Config, instance: &Instance) -> anyhow::Result<Feed> {
        match self {
            Self::Docker => Ok(docker::start(docker::Options {
                socket: config.engine.socket.clone(),
                ..docker::Options::default()
            })),
            Self::Lab => {
                let lab = Lab::open(&instance.folder())?;
                if lab.record()?.is_none() {
                    block_in_place(|| lab.up(&Topology::default())).context("bring the lab up")?;
                }
                Ok(lab::start(lab))
            }
        }
    }
}

async fn engine_answers(config: &Config) -> bool {
    let ping = async {
        let stream = UnixStream::connect(&config.engine.socket).await.ok()?;
        let (success, _) = http::get(stream, "/_ping").await.ok()?;
        success.then_some(())
    };
    matches!(timeout(PATIENCE, ping).await, Ok(Some(())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Engine;

    fn config(provider: ProviderChoice, socket: &std::path::Path) -> Config {
        Config {
            provider,
            engine: Engine {
                socket: socket.to_owned(),
            },
            ..Config::default()
        }
    }

    #[tokio::test]
    async fn without_an_engine_it_is_the_lab_unless_docker_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");

        let auto = Source::choose(&config(ProviderChoice::Auto, &socket)).await;
        let docker = Source::choose(&config(ProviderChoice::Docker, &socket)).await;

        assert_eq!((auto, docker), (Source::Lab, Source::Docker));
    }

    #[tokio::test]
    async fn an_engine_that_answers_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let router = axum::Router::new().route("/_ping", axum::routing::get(async || "OK"));
        tokio::spawn(async move { axum::serve(listener, router).await });

        let auto = Source::choose(&config(ProviderChoice::Auto, &socket)).await;

        assert_eq!(auto, Source::Docker);
    }
}
