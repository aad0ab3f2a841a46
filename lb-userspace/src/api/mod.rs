//! What the daemon tells, over a unix socket.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | [`Status`] |
//! | `GET /networks` | list of [`NetworkRow`] |
//! | `GET /endpoints` | list of [`EndpointRow`] |
//! | `GET /groups` | list of [`GroupRow`] |
//! | `GET /frontends` | list of [`FrontendRow`] |
//! | `GET /firewall` | list of [`RuleRow`] |
//! | `GET /names` | list of [`NameRow`] |
//! | `GET /connections?group=&client=&backend=&limit=` | [`ConnectionList`] |
//! | `GET /explain?client=&frontend=&protocol=` | [`Explanation`] |
//! | `GET /dns` | list of [`DnsRow`] |
//! | `GET /dns/log?after=&wait=` | [`DnsLog`] |
//! | `GET /dns/names?container=` | list of [`NameRow`], those that the container may ask for |
//! | `GET /dns/query?container=&name=&kind=` | [`DnsAnswer`] |
//! | `GET /config` | [`ConfigReport`] |
//!
//! Answers are JSON; a refusal is a [`Problem`] with a matching status code. Field names are stable:
//! fields are added, none is renamed or taken away. Try it with
//! `curl --unix-socket /run/veer/<instance>/api.sock http://veer/status`.
//!
//! # Why
//! The daemon and the client implement one trait, [`Api`], so that every verb is tested against a
//! fake, and the server against the same fake through a real socket.

mod client;
mod dns;
mod explain;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod http;
mod problem;
mod rows;
mod server;
mod status;

use std::future::Future;

pub use client::Client;
pub use dns::{DnsAnswer, DnsLog, DnsLogRequest, DnsLogRow, DnsNamesRequest, DnsRequest, DnsRow};
pub use explain::{ExplainRequest, Explanation, Finding, Outcome};
pub use problem::{ApiError, Problem, ProblemKind};
pub use rows::{
    ConfigReport, ConnectionFilter, ConnectionList, ConnectionPhase, ConnectionRow, EndpointRow,
    FrontendRow, GroupRow, MemberRow, NameRow, NetworkRow, RuleRow, Side,
};
pub use server::{ServeError, Server};
pub use status::{
    Collection, Counts, DnsReport, Failure, Latency, MapFill, MemoryReport, PortsReport,
    ProviderReport, ProviderState, ReasonCount, Status,
};

/// The questions that the daemon answers.
pub trait Api: Send + Sync + 'static {
    /// How the daemon and its datapath are.
    fn status(&self) -> impl Future<Output = Result<Status, ApiError>> + Send;
    /// The Networks that are served.
    fn networks(&self) -> impl Future<Output = Result<Vec<NetworkRow>, ApiError>> + Send;
    /// The Endpoints that are served.
    fn endpoints(&self) -> impl Future<Output = Result<Vec<EndpointRow>, ApiError>> + Send;
    /// The Groups, each with its Members.
    fn groups(&self) -> impl Future<Output = Result<Vec<GroupRow>, ApiError>> + Send;
    /// The Frontends.
    fn firewall(&self) -> impl Future<Output = Result<Vec<RuleRow>, ApiError>> + Send;
    fn frontends(&self) -> impl Future<Output = Result<Vec<FrontendRow>, ApiError>> + Send;
    /// The names that DNS answers.
    fn names(&self) -> impl Future<Output = Result<Vec<NameRow>, ApiError>> + Send;
    /// Tracked Connections that match `filter`.
    fn connections(
        &self,
        filter: &ConnectionFilter,
    ) -> impl Future<Output = Result<ConnectionList, ApiError>> + Send;
    /// What would happen to a new Connection.
    fn explain(
        &self,
        request: &ExplainRequest,
    ) -> impl Future<Output = Result<Explanation, ApiError>> + Send;
    /// What DNS has answered.
    fn dns(&self) -> impl Future<Output = Result<Vec<DnsRow>, ApiError>> + Send;
    /// Some of the answers that DNS gave, as the configuration asks for.
    fn dns_log(
        &self,
        request: &DnsLogRequest,
    ) -> impl Future<Output = Result<DnsLog, ApiError>> + Send;
    /// The names that one container may ask for, each from the Network that answers it.
    fn dns_names(
        &self,
        request: &DnsNamesRequest,
    ) -> impl Future<Output = Result<Vec<NameRow>, ApiError>> + Send;
    /// What a container would be answered. Nobody is asked for it.
    fn dns_query(
        &self,
        request: &DnsRequest,
    ) -> impl Future<Output = Result<DnsAnswer, ApiError>> + Send;
    /// The configuration in effect.
    fn config(&self) -> impl Future<Output = Result<ConfigReport, ApiError>> + Send;
}

#[cfg(test)]
mod tests;
