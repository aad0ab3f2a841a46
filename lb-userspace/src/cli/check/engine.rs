//! What the Docker Engine says about itself.
//!
//! # Why
//! Three plain requests without a version in their path: they work with every Engine, also with one
//! that the provider would refuse, which is when an operator needs this most.

use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::api::http;
use crate::engine::Process;

/// An Engine that answers within this is there.
const PATIENCE: Duration = Duration::from_secs(5);

/// The Engine, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Absent { socket: String, error: String },
    Answering(Settings),
}

/// What matters of an Engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) version: String,
    pub(super) api_version: String,
    pub(super) live_restore: bool,
    pub(super) swarm: bool,
    /// None: its process cannot be found.
    pub(super) iptables: Option<bool>,
    pub(super) userland_proxy: Option<bool>,
    pub(super) networks: Vec<DockerNetwork>,
}

/// A network of the Engine, of any driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DockerNetwork {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) subnets: Vec<IpNet>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
    api_version: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Info {
    live_restore_enabled: bool,
    swarm: Swarm,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Swarm {
    local_node_state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    name: String,
    driver: String,
    #[serde(default, rename = "IPAM")]
    ipam: Ipam,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Ipam {
    config: Option<Vec<Pool>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Pool {
    subnet: String,
}

/// Asks the Engine at `socket`.
pub(super) async fn ask(socket: &Path) -> Engine {
    match timeout(PATIENCE, settings(socket)).await {
        Ok(Ok(settings)) => Engine::Answering(settings),
        Ok(Err(error)) => absent(socket, error.to_string()),
        Err(_) => absent(socket, format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

fn absent(socket: &Path, error: String) -> Engine {
    Engine::Absent {
        socket: socket.display().to_string(),
        error,
    }
}

async fn settings(socket: &Path) -> Result<Settings, http::Broken> {
    let version: Version = get(socket, "/version").await?;
    let info: Info = get(socket, "/info").await?;
    let networks: Vec<Network> = get(socket, "/networks").await?;
    let process = Process::find(socket);
    let switch = |name| process.as_ref().map(|process| process.switch(name));
    Ok(Settings {
        version: version.version,
        api_version: version.api_version,
        live_restore: info.live_restore_enabled,
        swarm: info.swarm.local_node_state == "active",
        iptables: switch("iptables"),
        userland_proxy: switch("userland-proxy"),
        networks: networks.into_iter().map(DockerNetwork::from).collect(),
    })
}

async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, http::Broken> {
    let stream = UnixStream::connect(socket).await?;
    let (success, body) = http::get(stream, path).await?;
    if !success {
        return Err(format!("{path}: {}", String::from_utf8_lossy(&body)).into());
    }
    Ok(serde_json::from_slice(&body)?)
}

impl From<Network> for DockerNetwork {
    fn from(network: Network) -> Self {
        let pools = network.ipam.config.unwrap_or_default();
        Self {
            name: network.name,
            driver: network.driver,
            subnets: pools
                .iter()
                .filter_map(|pool| pool.subnet.parse().ok())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_own_words_are_read() {
        let info: Info = serde_json::from_str(
            r#"{"LiveRestoreEnabled":true,"Swarm":{"LocalNodeState":"active"},"Other":1}"#,
        )
        .unwrap();
        let network: Network = serde_json::from_str(
            r#"{"Name":"app","Driver":"bridge","IPAM":{"Config":[{"Subnet":"172.18.0.0/16"}]}}"#,
        )
        .unwrap();
        let host: Network =
            serde_json::from_str(r#"{"Name":"host","Driver":"host","IPAM":{"Config":null}}"#)
                .unwrap();

        assert!(info.live_restore_enabled && info.swarm.local_node_state == "active");
        let subnets = DockerNetwork::from(network).subnets;
        assert_eq!(subnets, ["172.18.0.0/16".parse().unwrap()]);
        assert_eq!(DockerNetwork::from(host).subnets, []);
    }

    #[tokio::test]
    async fn a_missing_socket_is_an_absent_engine() {
        let folder = tempfile::tempdir().unwrap();

        let engine = ask(&folder.path().join("docker.sock")).await;

        assert!(matches!(engine, Engine::Absent { .. }), "{engine:?}");
    }
}
