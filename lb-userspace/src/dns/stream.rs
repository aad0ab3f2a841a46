//! One TCP connection: many queries, each with its length in front, answered as they get ready
//! (RFC 7766 §6.2.1.1).

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::container::{Asker, LONGEST_QUERY, Next};
use super::query::{Transport, framed};

/// How long a connection may be silent, in either direction.
const IDLE: Duration = Duration::from_secs(10);

/// Queries of one connection in flight; more are read when one of them is answered.
const PIPELINE: usize = 16;

/// Serves `stream` until the client ends it, is idle or breaks the protocol.
pub(super) async fn converse(mut stream: TcpStream, asker: &Asker) {
    // A client that went away is nobody's error.
    let _ = answer_all(&mut stream, asker).await;
}

async fn answer_all(stream: &mut TcpStream, asker: &Asker) -> io::Result<()> {
    let mut received = Vec::new();
    let mut later = FuturesUnordered::new();
    let mut is_open = true;
    while is_open || !later.is_empty() {
        tokio::select! {
            length = stream.read_buf(&mut received), if is_open && later.len() < PIPELINE => {
                is_open = length? > 0;
                while let Some(message) = next_message(&mut received)? {
                    match asker.take(&message, Transport::Tcp) {
                        Next::Nothing => return Ok(()),
                        Next::Reply(reply) => send(stream, &reply).await?,
                        Next::Later(pending) => later.push(asker.finish(pending)),
                    }
                }
            }
            Some(reply) = later.next() => send(stream, &reply).await?,
            () = sleep(IDLE), if later.is_empty() => return Ok(()),
        }
    }
    Ok(())
}

/// Takes the first whole message off `received`. An error if its length is none that a query has:
/// what follows could not be told apart from rubbish.
fn next_message(received: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let Some(&[high, low]) = received.first_chunk() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == 0 || length > LONGEST_QUERY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if received.len() < 2 + length {
        return Ok(None);
    }
    let message = received[2..2 + length].to_vec();
    received.drain(..2 + length);
    Ok(Some(message))
}

async fn send(stream: &mut TcpStream, reply: &[u8]) -> io::Result<()> {
    let reply = framed(reply);
    timeout(IDLE, stream.write_all(&reply)).await?
}
