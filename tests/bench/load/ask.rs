//! The client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::histogram::Histogram;
use super::{Asking, Done, MESSAGE, Mode, WINDOW};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes written at once to a stream.
const CHUNK: usize = 1 << 17;

/// Asks as it is told.
pub(super) fn ask(asking: &Asking, cpu: Option<usize>) -> Result<Done> {
    let mut client = Client::new(asking.mode, asking.to)?;
    let course = &asking.course;
    let done = course.measure(cpu, |time, latency| client.go_on(time, latency))?;
    ensure!(done.work > 0, "nothing was answered at {}", asking.to);
    Ok(done)
}

enum Client {
    Rr(TcpStream),
    Crr(SocketAddr),
    Stream(TcpStream),
    Udp(UdpSocket),
}

impl Client {
    fn new(mode: Mode, to: SocketAddr) -> Result<Self> {
        Ok(match mode {
            Mode::Rr => Self::Rr(connect(to)?),
            Mode::Crr => Self::Crr(to),
            Mode::Stream => Self::Stream(connect(to)?),
            Mode::Udp => {
                let any: SocketAddr = match to {
                    SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                    SocketAddr::V6(_) => ([0u16; 8], 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(to)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                Self::Udp(socket)
            }
        })
    }

    /// Works for `time`; returns how much was done.
    fn go_on(&mut self, time: Duration, latency: &mut Histogram) -> Result<u64> {
        let end = Instant::now() + time;
        let mut work = 0;
        let mut last = Instant::now();
        while last < end {
            work += self.once()?;
            let now = Instant::now();
            latency.record((now - last).as_nanos() as u64);
            last = now;
        }
        Ok(work)
    }

    fn once(&mut self) -> Result<u64> {
        match self {
            Self::Rr(stream) => exchange(stream).map(|()| 1),
            Self::Crr(to) => exchange(&mut connect(*to)?).map(|()| 1),
            Self::Stream(stream) => {
                stream.write_all(&[0; CHUNK]).context("write")?;
                Ok(CHUNK as u64)
            }
            Self::Udp(socket) => {
                let message = [0; MESSAGE];
                for _ in 0..WINDOW {
                    socket.send(&message).context("send")?;
                }
                let mut answer = [0; MESSAGE];
                socket
                    .recv(&mut answer)
                    .context("wait for an acknowledgment")?;
                Ok(WINDOW as u64)
            }
        }
    }
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connect to {to}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    let mut message = [0; MESSAGE];
    stream.write_all(&message).context("ask")?;
    stream.read_exact(&mut message).context("read an answer")
}
