//! A client that asks for the address of a name.

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

use super::histogram::Histogram;
use super::{Course, Done};

/// How long an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// Queries under way at once.
const WINDOW: usize = 32;
/// Bytes of a query's header.
const HEADER: usize = 12;

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// One query after the other.
    One,
    /// Many at once, in as few system calls as there can be.
    Many,
}

/// What a client of a name server is told.
#[derive(Debug, Args)]
pub(super) struct Resolving {
    #[arg(long)]
    way: Way,
    /// Whom to ask; without it the client is sent its own queries, and takes them for answers.
    #[arg(long)]
    to: Option<SocketAddr>,
    #[arg(long)]
    name: String,
    #[command(flatten)]
    course: Course,
}

/// Asks as it is told.
pub(super) fn resolve(told: &Resolving, cpu: Option<usize>) -> Result<Done> {
    let mut client = Client::new(told.to, &told.name)?;
    let course = &told.course;
    let done = course.measure(cpu, |time, latency| client.go_on(told.way, time, latency))?;
    ensure!(done.work > 0, "no query was answered");
    Ok(done)
}

struct Client {
    socket: UdpSocket,
    query: Vec<u8>,
    /// Whether its queries come back to itself.
    is_alone: bool,
    reply: [u8; 512],
}

impl Client {
    /// One that asks `to`, or is alone.
    fn new(to: Option<SocketAddr>, name: &str) -> Result<Self> {
        let here = if to.is_some() {
            Ipv4Addr::UNSPECIFIED
        } else {
            Ipv4Addr::LOCALHOST
        };
        let socket = UdpSocket::bind((here, 0))?;
        let is_alone = to.is_none();
        let to = to.map_or_else(|| socket.local_addr(), Ok)?;
        socket.connect(to).with_context(|| format!("ask {to}"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            query: query(name),
            is_alone,
            reply: [0; 512],
        })
    }

    /// Works for `time`; returns how many queries were answered.
    fn go_on(&mut self, way: Way, time: Duration, latency: &mut Histogram) -> Result<u64> {
        let end = Instant::now() + time;
        let mut work = 0;
        let mut asked = Instant::now();
        while asked < end {
            work += match way {
                Way::One => self.one(asked, latency),
                Way::Many => self.many(asked, latency),
            }?;
            asked = Instant::now();
        }
        Ok(work)
    }

    /// Asks once. What the client does with an answer is no part of how long that took.
    fn one(&mut self, asked: Instant, latency: &mut Histogram) -> Result<u64> {
        self.socket.send(&self.query).context("send a query")?;
        let received = self.socket.recv(&mut self.reply);
        latency.record(asked.elapsed().as_nanos() as u64);
        match received {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            received => {
                let length = received.context("wait for an answer")?;
                self.check(&self.reply[..length])?;
                Ok(1)
            }
        }
    }

    fn check(&self, reply: &[u8]) -> Result<()> {
        if self.is_alone {
            ensure!(reply == self.query, "something else came than was sent");
            return Ok(());
        }
        has_answer(reply, &self.query)
    }

    fn many(&mut self, asked: Instant, latency: &mut Histogram) -> Result<u64> {
        let file = self.socket.as_raw_fd();
        let parts = [[IoSlice::new(&self.query)]; WINDOW];
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(WINDOW, None);
        let nowhere_else = [None; WINDOW];
        let none = MsgFlags::empty();
        let sent = sendmmsg(file, &mut headers, &parts, nowhere_else, [], none);
        let sent = sent.context("send queries")?.count();
        let mut received = 0;
        while received < sent {
            let mut room = [[0_u8; 512]; WINDOW];
            let mut parts: Vec<_> = room
                .iter_mut()
                .map(|room| [IoSliceMut::new(room)])
                .collect();
            let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(WINDOW, None);
            let wanted = &mut parts[..sent - received];
            let some = MsgFlags::MSG_WAITFORONE;
            let messages = recvmmsg(file, &mut headers, wanted.iter_mut(), some, None);
            if let Err(Errno::EAGAIN) = messages {
                break;
            }
            for message in messages.context("wait for answers")? {
                let reply = message.iovs().next().unwrap_or_default();
                self.check(reply)?;
                received += 1;
            }
        }
        latency.record(asked.elapsed().as_nanos() as u64);
        Ok(received as u64)
    }
}

/// A query for the IPv4 address of `name`.
pub(crate) fn query(name: &str) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

fn has_answer(reply: &[u8], query: &[u8]) -> Result<()> {
    ensure!(
        reply.len() > HEADER && reply[..2] == query[..2],
        "an answer to another query came"
    );
    let (code, answers) = (reply[3] & 0xf, u16::from_be_bytes([reply[6], reply[7]]));
    if code != 0 || answers == 0 {
        bail!("the answer has code {code} and {answers} records");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_alone_is_sent_their_own_queries() {
        for way in [Way::One, Way::Many] {
            let mut client = Client::new(None, "web").unwrap();
            let mut latency = Histogram::new();
            let work = client.go_on(way, Duration::from_millis(5), &mut latency);
            assert!(work.unwrap() > 0, "{way:?}");
        }
    }

    #[test]
    fn an_answer_without_an_address_is_none() {
        let asked = query("web");
        assert_eq!(asked.len(), HEADER + 5 + 4);
        let reply = |code: u8, answers: u8| {
            let mut reply = asked.clone();
            (reply[3], reply[7]) = (code, answers);
            has_answer(&reply, &asked)
        };

        assert!(reply(0, 1).is_ok());
        assert!(reply(3, 0).is_err() && reply(0, 0).is_err());
        assert!(has_answer(&asked[..HEADER], &asked).is_err());
    }
}
