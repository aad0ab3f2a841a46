//! One HTTP request over a unix socket.

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Whatever went wrong after the socket was open.
pub(crate) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Sends `GET path` and returns whether the answer is a success, and its body.
pub(crate) async fn get(stream: UnixStream, path: &str) -> Result<(bool, Bytes), Broken> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path)
        .header(HOST, "veer")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let success = response.status().is_success();
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok((success, body))
}
