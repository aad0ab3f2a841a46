//! The same answers through a real socket as without one.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::net::UnixStream;

use super::fake::Host;
use super::*;

/// A server of [`Host`] on a socket of its own, and its client.
fn served() -> (TempDir, Server, Client) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("instance/api.sock");
    let server = Server::start(&socket, Arc::new(Host)).unwrap();
    (folder, server, Client::new(socket))
}

#[tokio::test]
async fn every_answer_arrives_as_it_was_given() {
    let (_folder, _server, client) = served();
    let all = ConnectionFilter::default();
    let one = ConnectionFilter {
        limit: Some(1),
        client: Some("a b&c".into()),
        ..ConnectionFilter::default()
    };

    assert_eq!(client.status().await.unwrap(), Host.status().await.unwrap());
    assert_eq!(
        client.networks().await.unwrap(),
        Host.networks().await.unwrap()
    );
    assert_eq!(
        client.endpoints().await.unwrap(),
        Host.endpoints().await.unwrap()
    );
    assert_eq!(client.groups().await.unwrap(), Host.groups().await.unwrap());
    assert_eq!(
        client.frontends().await.unwrap(),
        Host.frontends().await.unwrap()
    );
    assert_eq!(
        client.firewall().await.unwrap(),
        Host.firewall().await.unwrap()
    );
    assert_eq!(client.names().await.unwrap(), Host.names().await.unwrap());
    assert_eq!(client.config().await.unwrap(), Host.config().await.unwrap());
    assert_eq!(client.dns().await.unwrap(), Host.dns().await.unwrap());
    let web = DnsNamesRequest {
        container: "web".into(),
    };
    let names = Host.dns_names(&web).await.unwrap();
    assert_eq!(client.dns_names(&web).await.unwrap(), names);
    let latest = DnsLogRequest { after: 0, wait: 1 };
    let log = Host.dns_log(&latest).await.unwrap();
    assert_eq!(client.dns_log(&latest).await.unwrap(), log);
    let question = DnsRequest {
        container: "web".into(),
        name: "a b&c".into(),
        kind: None,
    };
    let told = Host.dns_query(&question).await.unwrap();
    assert_eq!(client.dns_query(&question).await.unwrap(), told);
    for filter in [all, one] {
        let expected = Host.connections(&filter).await.unwrap();
        assert_eq!(client.connections(&filter).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_refusal_arrives_with_its_kind_and_message() {
    let (_folder, _server, client) = served();
    let request = ExplainRequest {
        client: "nobody".into(),
        frontend: "tg-net".into(),
        protocol: None,
    };

    let error = client.explain(&request).await.unwrap_err();

    let ApiError::Refused(problem) = error else {
        panic!("{error}");
    };
    assert_eq!(problem, Problem::not_found("no container nobody"));
}

#[tokio::test]
async fn a_question_that_nobody_knows_is_refused_with_those_that_are_known() {
    let (_folder, _server, client) = served();

    for path in ["/nonsense", "/connections?colour=blue"] {
        let stream = UnixStream::connect(client.socket()).await.unwrap();
        let (success, body) = http::get(stream, path).await.unwrap();

        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert!(!success, "{path}");
        assert_ne!(problem.kind, ProblemKind::Failed, "{path}");
    }
}

#[tokio::test]
async fn the_socket_is_closed_to_strangers_and_goes_with_the_server() {
    let (_folder, server, client) = served();
    let mode = std::fs::metadata(client.socket())
        .unwrap()
        .permissions()
        .mode();

    drop(server);

    assert_eq!(mode & 0o777, 0o660);
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ApiError::NoDaemon { .. }), "{error}");
    assert!(error.to_string().contains("veer run"), "{error}");
}

#[tokio::test]
async fn a_socket_that_a_killed_daemon_left_behind_is_replaced() {
    let (folder, server, client) = served();
    let left_over = folder.path().join("old.sock");
    drop(std::os::unix::net::UnixListener::bind(&left_over).unwrap());

    let second = Server::start(&left_over, Arc::new(Host)).unwrap();

    assert!(Client::new(&left_over).status().await.is_ok());
    assert!(client.status().await.is_ok());
    drop((server, second));
}
