//! The client's side of the socket.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::http::{self, Broken};
use super::{
    Api, ApiError, ConfigReport, ConnectionFilter, ConnectionList, DnsAnswer, DnsLog,
    DnsLogRequest, DnsNamesRequest, DnsRequest, DnsRow, EndpointRow, ExplainRequest, Explanation,
    FrontendRow, GroupRow, NameRow, NetworkRow, Problem, RuleRow, Status,
};

/// Asks the daemon that listens on one socket. Each question is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon at `socket`. Nothing is opened until something is asked.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The socket that is asked.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.unreachable(path, error))?;
        let (success, body) = http::get(stream, path)
            .await
            .map_err(|source| self.broken(path, source))?;
        if success {
            return serde_json::from_slice(&body).map_err(|error| self.broken(path, error.into()));
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(problem.into()),
            Err(error) => Err(self.broken(path, error.into())),
        }
    }

    async fn get_with<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, ApiError> {
        let query =
            serde_urlencoded::to_string(query).map_err(|error| self.broken(path, error.into()))?;
        self.get(&format!("{path}?{query}")).await
    }

    fn unreachable(&self, path: &str, error: std::io::Error) -> ApiError {
        let socket = self.socket.clone();
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ApiError::NoDaemon { socket },
            ErrorKind::PermissionDenied => ApiError::Denied { socket },
            _ => self.broken(path, error.into()),
        }
    }

    fn broken(&self, path: &str, source: Broken) -> ApiError {
        let what = path.split('?').next().unwrap_or(path);
        ApiError::Broken {
            socket: self.socket.clone(),
            what: what.trim_start_matches('/').to_owned(),
            source,
        }
    }
}

impl Api for Client {
    async fn status(&self) -> Result<Status, ApiError> {
        self.get("/status").await
    }

    async fn networks(&self) -> Result<Vec<NetworkRow>, ApiError> {
        self.get("/networks").await
    }

    async fn endpoints(&self) -> Result<Vec<EndpointRow>, ApiError> {
        self.get("/endpoints").await
    }

    async fn groups(&self) -> Result<Vec<GroupRow>, ApiError> {
        self.get("/groups").await
    }

    async fn firewall(&self) -> Result<Vec<RuleRow>, ApiError> {
        self.get("/firewall").await
    }

    async fn frontends(&self) -> Result<Vec<FrontendRow>, ApiError> {
        self.get("/frontends").await
    }

    async fn names(&self) -> Result<Vec<NameRow>, ApiError> {
        self.get("/names").await
    }

    async fn connections(&self, filter: &ConnectionFilter) -> Result<ConnectionList, ApiError> {
        self.get_with("/connections", filter).await
    }

    async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ApiError> {
        self.get_with("/explain", request).await
    }

    async fn dns(&self) -> Result<Vec<DnsRow>, ApiError> {
        self.get("/dns").await
    }

    async fn dns_log(&self, request: &DnsLogRequest) -> Result<DnsLog, ApiError> {
        self.get_with("/dns/log", request).await
    }

    async fn dns_names(&self, request: &DnsNamesRequest) -> Result<Vec<NameRow>, ApiError> {
        self.get_with("/dns/names", request).await
    }

    async fn dns_query(&self, request: &DnsRequest) -> Result<DnsAnswer, ApiError> {
        self.get_with("/dns/query", request).await
    }

    async fn config(&self) -> Result<ConfigReport, ApiError> {
        self.get("/config").await
    }
}
