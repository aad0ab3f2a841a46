//! The server.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use anyhow::{Context as _, Result};

use super::{MESSAGE, Mode, WINDOW};

/// Answers at `listen` for ever, one client at a time.
pub(super) fn serve(mode: Mode, listen: SocketAddr) -> Result<()> {
    let attempt = || format!("listen at {listen}");
    if mode == Mode::Udp {
        let socket = UdpSocket::bind(listen).with_context(attempt)?;
        println!("ready");
        return count_datagrams(&socket);
    }
    let listener = TcpListener::bind(listen).with_context(attempt)?;
    println!("ready");
    loop {
        let (stream, _) = listener.accept().context("accept a connection")?;
        stream.set_nodelay(true)?;
        match answer(mode, stream) {
            Ok(()) => {}
            // The client went away in the middle, as clients do at the end of their time.
            Err(error) if is_over(error.kind()) => {}
            Err(error) => return Err(error).context("answer a client"),
        }
    }
}

fn is_over(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
    )
}

fn answer(mode: Mode, mut stream: TcpStream) -> std::io::Result<()> {
    let mut message = [0; MESSAGE];
    match mode {
        Mode::Rr => loop {
            stream.read_exact(&mut message)?;
            stream.write_all(&message)?;
        },
        Mode::Crr => {
            stream.read_exact(&mut message)?;
            stream.write_all(&message)?;
            // The client closes first, and so has the waiting that follows.
            stream.read(&mut message).map(|_| ())
        }
        Mode::Stream | Mode::Udp => {
            let mut room = vec![0; 1 << 18];
            while stream.read(&mut room)? > 0 {}
            Ok(())
        }
    }
}

fn count_datagrams(socket: &UdpSocket) -> Result<()> {
    let mut message = [0; MESSAGE];
    let mut count = 0;
    loop {
        let (_, from) = socket.recv_from(&mut message).context("receive")?;
        count += 1;
        if count % WINDOW == 0 {
            socket.send_to(&message[..1], from).context("acknowledge")?;
        }
    }
}
