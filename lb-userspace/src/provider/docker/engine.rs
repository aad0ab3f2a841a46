//! The Engine's API over its unix socket.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as StdError;
use std::fmt::Write as _;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::errors::Error as ClientError;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, EventMessage};
use bollard::query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt};

use super::facts::{ContainerFacts, Missing, NetworkFacts, Run};
use crate::dns::name_servers;
use crate::model::{ContainerId, NetworkId};

/// How long the Engine may take for an answer. An inspection waits while the container is being
/// started, which takes as long as its mounts and its runtime take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to one Engine, version agreed.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    client: Docker,
    /// Its version and that of the API, for people.
    pub(super) detail: String,
}

/// What the Engine could not be asked, and why.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    #[error(
        "no Engine at {}: {reason}; is Docker running (`systemctl status docker`), and is this its \
         socket (`docker context inspect`)?",
        socket.display()
    )]
    Unreachable { socket: PathBuf, reason: String },
    #[error("ask the Engine for {what}: {reason}")]
    Refused { what: String, reason: String },
    #[error("ask the Engine for {what}: the connection failed: {reason}")]
    Broken { what: String, reason: String },
    #[error("ask the Engine for {what}: no answer within {} s", PATIENCE.as_secs())]
    Silent { what: String },
    #[error("understand the Engine's answer about {what}: {reason}")]
    Unintelligible { what: String, reason: String },
    #[error("follow the Engine's events: {reason}")]
    EventsLost { reason: String },
}

/// A container as the list gives it, which takes no lock in the Engine.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) id: ContainerId,
    pub(super) name: String,
    pub(super) run: Run,
    /// The networks it is connected to, and the identity of each attachment.
    pub(super) endpoints: BTreeMap<NetworkId, String>,
}

impl Engine {
    /// Reaches the Engine and agrees on a version of the API.
    pub(super) async fn connect(socket: &Path) -> Result<Self, EngineError> {
        let unreachable = |error: ClientError| EngineError::Unreachable {
            socket: socket.to_path_buf(),
            reason: chain(&error),
        };
        let path = socket.to_string_lossy();
        let client = Docker::connect_with_unix(&path, PATIENCE.as_secs(), API_DEFAULT_VERSION)
            .map_err(unreachable)?;
        let client = client.negotiate_version().await.map_err(unreachable)?;
        let version = client.version().await.map_err(unreachable)?;
        let detail = format!(
            "Docker Engine {} (API {})",
            version.version.as_deref().unwrap_or("of unknown version"),
            client.client_version()
        );
        Ok(Self { client, detail })
    }

    /// What a container's inspection says; `None`: there is no such container.
    pub(super) async fn container(
        &self,
        id: &ContainerId,
    ) -> Result<Option<ContainerFacts>, EngineError> {
        let what = format!("container {}", id.short());
        let request = self.client.inspect_container(&id.0, None);
        let answer = ask(&what, request).await?;
        let mut facts = understand(&what, answer.map(ContainerFacts::from_inspection))?;
        if let Some(facts) = &mut facts
            && let Some(file) = &facts.resolv_conf
            // It is made when the container is started.
            && let Ok(text) = tokio::fs::read_to_string(file).await
        {
            facts.dns_servers = name_servers(&text);
        }
        Ok(facts)
    }

    /// What a network's inspection says; `None`: there is no such network. Takes no container's lock.
    pub(super) async fn network(
        &self,
        id: &NetworkId,
    ) -> Result<Option<NetworkFacts>, EngineError> {
        let what = format!("network {id}");
        let answer = ask(&what, self.client.inspect_network(&id.0, None)).await?;
        understand(&what, answer.map(NetworkFacts::from_inspection))
    }

    /// Every container, running or not.
    pub(super) async fn containers(&self) -> Result<Vec<Listed>, EngineError> {
        let all = ListContainersOptionsBuilder::new().all(true).build();
        let answer = ask("the containers", self.client.list_containers(Some(all))).await?;
        let containers = answer.unwrap_or_default().into_iter();
        Ok(containers.filter_map(Listed::from_summary).collect())
    }

    /// Every network.
    pub(super) async fn networks(&self) -> Result<Vec<NetworkId>, EngineError> {
        let answer = ask("the networks", self.client.list_networks(None)).await?;
        let networks = answer.unwrap_or_default().into_iter();
        Ok(networks
            .filter_map(|network| network.id.map(NetworkId))
            .collect())
    }

    /// What happens to containers and networks, from `since` on. The Engine keeps the last 256
    /// events, and leaves out some for a reader that is slow.
    pub(super) fn events(
        &self,
        since: SystemTime,
    ) -> impl Stream<Item = Result<EventMessage, EngineError>> + Send + Unpin + use<> {
        let filters = HashMap::from([
            ("type", vec!["container", "network"]),
            ("event", EVENTS.to_vec()),
        ]);
        let options = EventsOptionsBuilder::new()
            .since(&timestamp(since))
            .filters(&filters)
            .build();
        let lost = |error: ClientError| EngineError::EventsLost {
            reason: chain(&error),
        };
        Box::pin(
            self.client
                .events(Some(options))
                .map(move |event| event.map_err(lost)),
        )
    }
}

/// The events that change something for us; a health check alone makes several others each time.
const EVENTS: &[&str] = &[
    "create",
    "start",
    "kill",
    "die",
    "stop",
    "restart",
    "pause",
    "unpause",
    "rename",
    "destroy",
    "connect",
    "disconnect",
    "remove",
];

impl Listed {
    fn from_summary(summary: ContainerSummary) -> Option<Self> {
        use ContainerSummaryStateEnum as State;
        let run = match summary.state? {
            State::RUNNING | State::STOPPING => Run::Running,
            State::PAUSED => Run::Paused,
            State::EMPTY
            | State::CREATED
            | State::RESTARTING
            | State::EXITED
            | State::REMOVING
            | State::DEAD => Run::Idle,
        };
        let networks = summary
            .network_settings
            .and_then(|settings| settings.networks);
        let connected = networks
            .unwrap_or_default()
            .into_values()
            .filter_map(|endpoint| {
                let id = endpoint.endpoint_id.filter(|id| !id.is_empty())?;
                Some((NetworkId(endpoint.network_id?), id))
            });
        // A container that others link to has more names, with a slash inside.
        let mut names = summary.names.unwrap_or_default().into_iter();
        let own = names.find(|name| !name.trim_start_matches('/').contains('/'));
        Some(Self {
            id: ContainerId(summary.id?),
            name: own.unwrap_or_default().trim_start_matches('/').to_string(),
            run,
            endpoints: connected.collect(),
        })
    }

    /// Whether `facts` may be out of date.
    pub(super) fn differs(&self, facts: &ContainerFacts) -> bool {
        let known: BTreeMap<_, _> = facts
            .endpoints
            .values()
            .filter_map(|endpoint| {
                Some((endpoint.network.as_ref()?, endpoint.endpoint_id.as_ref()?))
            })
            .collect();
        self.name != facts.name || self.run != facts.run || !self.endpoints.iter().eq(known)
    }
}

/// The answer to one request; `None`: the Engine knows no such thing.
async fn ask<T>(
    what: &str,
    request: impl Future<Output = Result<T, ClientError>>,
) -> Result<Option<T>, EngineError> {
    let what = || what.to_string();
    let Ok(answer) = tokio::time::timeout(PATIENCE, request).await else {
        return Err(EngineError::Silent { what: what() });
    };
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ClientError::DockerResponseServerError {
            status_code: 404, ..
        }) => Ok(None),
        Err(error @ (ClientError::JsonDataError { .. } | ClientError::JsonSerdeError { .. })) => {
            Err(EngineError::Unintelligible {
                what: what(),
                reason: chain(&error),
            })
        }
        Err(ClientError::DockerResponseServerError { message, .. }) => Err(EngineError::Refused {
            what: what(),
            reason: message,
        }),
        Err(error) => Err(EngineError::Broken {
            what: what(),
            reason: chain(&error),
        }),
    }
}

fn understand<T>(what: &str, facts: Option<Result<T, Missing>>) -> Result<Option<T>, EngineError> {
    facts
        .transpose()
        .map_err(|missing| EngineError::Unintelligible {
            what: what.to_string(),
            reason: missing.to_string(),
        })
}

impl EngineError {
    /// Whether the Engine answered, only not in a way that can be used: others may still be read.
    pub(super) fn is_about_one_answer(&self) -> bool {
        match self {
            Self::Unintelligible { .. } | Self::Refused { .. } | Self::Silent { .. } => true,
            Self::Unreachable { .. } | Self::Broken { .. } | Self::EventsLost { .. } => false,
        }
    }
}

/// Seconds and nanoseconds since 1970, as the Engine reads them.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}

/// An error and its causes, each said once.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        next = cause.source();
    }
    text
}
