//! The daemon's side of the socket.

use std::fs::{self, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use nix::unistd::Group;
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::{
    Api, ApiError, ConnectionFilter, DnsLogRequest, DnsNamesRequest, DnsRequest, ExplainRequest,
    Problem, ProblemKind,
};

/// The group whose members may ask, if it exists.
const GROUP: &str = "veer";

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{attempt} {}: {source}", .path.display())]
pub struct ServeError {
    attempt: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Answers on one socket until it is dropped, which also removes the socket.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on `path` with mode 0660, owned by root and group `veer` where that exists. What an
    /// earlier daemon left there is replaced. Must be called within a tokio runtime.
    pub fn start<A: Api>(path: &Path, api: Arc<A>) -> Result<Self, ServeError> {
        let listener = listen(path)?;
        let router = router(api);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the API socket stopped");
            }
        });
        Ok(Self {
            path: path.to_owned(),
            task,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // Whoever asks next should read "no daemon answers", which a left-over socket says as well.
        drop(fs::remove_file(&self.path));
    }
}

fn listen(path: &Path) -> Result<UnixListener, ServeError> {
    let fail = |attempt| {
        let path = path.to_owned();
        move |source| ServeError {
            attempt,
            path,
            source,
        }
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fail("create the folder of"))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(fail("replace the old socket")(error));
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(fail("listen on"))?;
    if let Ok(Some(group)) = Group::from_name(GROUP) {
        chown(path, None, Some(group.gid.as_raw())).map_err(fail("give group `veer` to"))?;
    }
    fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(fail("set mode 0660 on"))?;
    Ok(listener)
}

fn router<A: Api>(api: Arc<A>) -> Router {
    Router::new()
        .route(
            "/status",
            get(answer(|api: Arc<A>| async move { api.status().await })),
        )
        .route(
            "/networks",
            get(answer(|api: Arc<A>| async move { api.networks().await })),
        )
        .route(
            "/endpoints",
            get(answer(|api: Arc<A>| async move { api.endpoints().await })),
        )
        .route(
            "/groups",
            get(answer(|api: Arc<A>| async move { api.groups().await })),
        )
        .route(
            "/firewall",
            get(answer(|api: Arc<A>| async move { api.firewall().await })),
        )
        .route(
            "/frontends",
            get(answer(|api: Arc<A>| async move { api.frontends().await })),
        )
        .route(
            "/names",
            get(answer(|api: Arc<A>| async move { api.names().await })),
        )
        .route(
            "/config",
            get(answer(|api: Arc<A>| async move { api.config().await })),
        )
        .route(
            "/dns",
            get(answer(|api: Arc<A>| async move { api.dns().await })),
        )
        .route("/dns/log", get(dns_log::<A>))
        .route("/dns/names", get(dns_names::<A>))
        .route("/dns/query", get(dns_query::<A>))
        .route("/connections", get(connections::<A>))
        .route("/explain", get(explain::<A>))
        .fallback(unknown)
        .with_state(api)
}

/// A handler for a question without parameters.
fn answer<A, F, T, R>(
    ask: F,
) -> impl Fn(State<Arc<A>>) -> std::pin::Pin<Box<dyn Future<Output = Answer> + Send>> + Clone
where
    A: Api,
    F: Fn(Arc<A>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<T, ApiError>> + Send + 'static,
    T: Serialize,
{
    move |State(api)| {
        let asked = ask(api);
        Box::pin(async move { Answer::of(asked.await) })
    }
}

async fn connections<A: Api>(
    State(api): State<Arc<A>>,
    filter: Result<Query<ConnectionFilter>, QueryRejection>,
) -> Answer {
    match filter {
        Ok(Query(filter)) => Answer::of(api.connections(&filter).await),
        Err(error) => Problem::bad_request(error.body_text()).into(),
    }
}

async fn explain<A: Api>(
    State(api): State<Arc<A>>,
    request: Result<Query<ExplainRequest>, QueryRejection>,
) -> Answer {
    match request {
        Ok(Query(request)) => Answer::of(api.explain(&request).await),
        Err(error) => Problem::bad_request(error.body_text()).into(),
    }
}

async fn dns_log<A: Api>(
    State(api): State<Arc<A>>,
    request: Result<Query<DnsLogRequest>, QueryRejection>,
) -> Answer {
    match request {
        Ok(Query(request)) => Answer::of(api.dns_log(&request).await),
        Err(error) => Problem::bad_request(error.body_text()).into(),
    }
}

async fn dns_names<A: Api>(
    State(api): State<Arc<A>>,
    request: Result<Query<DnsNamesRequest>, QueryRejection>,
) -> Answer {
    match request {
        Ok(Query(request)) => Answer::of(api.dns_names(&request).await),
        Err(error) => Problem::bad_request(error.body_text()).into(),
    }
}

async fn dns_query<A: Api>(
    State(api): State<Arc<A>>,
    request: Result<Query<DnsRequest>, QueryRejection>,
) -> Answer {
    match request {
        Ok(Query(request)) => Answer::of(api.dns_query(&request).await),
        Err(error) => Problem::bad_request(error.body_text()).into(),
    }
}

async fn unknown() -> Answer {
    Problem::not_found("no such request; the API's are /status, /networks, /endpoints, /groups, /firewall, /frontends, /names, /connections, /explain, /dns, /dns/log, /dns/names, /dns/query and /config").into()
}

/// What goes back: JSON either way.
struct Answer(Response);

impl Answer {
    fn of<T: Serialize>(result: Result<T, ApiError>) -> Self {
        match result {
            Ok(value) => Self(Json(value).into_response()),
            Err(ApiError::Refused(problem)) => problem.into(),
            Err(error) => Problem::failed(error.to_string()).into(),
        }
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let code = match problem.kind {
            ProblemKind::BadRequest => StatusCode::BAD_REQUEST,
            ProblemKind::NotFound => StatusCode::NOT_FOUND,
            ProblemKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self((code, Json(problem)).into_response())
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        self.0
    }
}
