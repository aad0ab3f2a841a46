//! The web server of the lab's Members: answers everything with the Member's name.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::Router;
use tokio::net::TcpListener;

/// The address that `text` stands for: `:80` is every address of both families.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').map(str::parse);
    match port {
        Some(Ok(port)) => Ok((Ipv6Addr::UNSPECIFIED, port).into()),
        Some(Err(_)) | None => text
            .parse()
            .map_err(|_| format!("{text:?} is no address to listen on: write :80 or [::1]:80")),
    }
}

/// Answers HTTP on `listen` with `name` and a line end, until the process ends.
pub async fn serve(name: &str, listen: SocketAddr) -> io::Result<()> {
    let listener = bind(listen)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("listen on {listen}: {error}")))?;
    let answer = format!("{name}\n");
    let app = Router::new().fallback(move || std::future::ready(answer.clone()));
    axum::serve(listener, app).await
}

/// A kernel without IPv6 has every IPv4 address to offer.
async fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(listen).await {
        Err(error)
            if listen.ip().is_unspecified() && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, listen.port())).await
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_every_address() {
        assert_eq!(listen_address(":80"), Ok("[::]:80".parse().unwrap()));
        assert_eq!(
            listen_address("127.0.0.1:8080"),
            Ok("127.0.0.1:8080".parse().unwrap())
        );
        assert!(listen_address("80").unwrap_err().contains("write :80"));
    }
}
