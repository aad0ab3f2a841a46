//! Questions from a container, and what is said to them.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use lb_userspace::netns::Namespace;
use veer_tests::dns::{PTR, query, wire};

/// The resolver as containers know it.
pub(super) const ASKED: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// A reply, as far as clients care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) code: u8,
    pub(super) is_authoritative: bool,
    /// Data of each answer, names spelled out.
    pub(super) answers: BTreeSet<String>,
    pub(super) ttls: BTreeSet<u32>,
}

impl Said {
    /// The same, whatever the time to live.
    pub(super) fn at_any_time(mut self) -> Self {
        self.ttls.clear();
        self
    }
}

pub(super) fn question(name: &str, kind: u16) -> Vec<u8> {
    query([1, 0], &wire(name), kind, 0, &[])
}

/// What `server` says to a question from `client`.
pub(super) fn ask(client: &Namespace, server: SocketAddr, name: &str, kind: u16) -> Said {
    let said = try_ask(client, server, name, kind, ANSWER);
    said.unwrap_or_else(|error| panic!("{name} {kind}: {error}"))
}

/// The same, if anything is said within `limit`.
pub(super) fn try_ask(
    client: &Namespace,
    server: SocketAddr,
    name: &str,
    kind: u16,
    limit: Duration,
) -> io::Result<Said> {
    let query = question(name, kind);
    let asked = || -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(limit))?;
        socket.send_to(&query, server)?;
        let mut buffer = [0; 2048];
        let (length, from) = socket.recv_from(&mut buffer)?;
        assert_eq!(from, server);
        Ok(buffer[..length].to_vec())
    };
    Ok(read(&client.run(asked)??, &query))
}

pub(super) fn read(reply: &[u8], query: &[u8]) -> Said {
    assert_eq!(reply[..2], query[..2], "the id");
    assert_eq!(reply[2] & 0x81, 0x81, "QR and RD");
    assert_eq!(reply[3] & 0x80, 0x80, "RA");
    assert_eq!(
        reply[12..query.len()],
        query[12..],
        "the question as it was asked"
    );
    let mut said = Said {
        code: reply[3] & 0x0f,
        is_authoritative: reply[2] & 4 != 0,
        answers: BTreeSet::new(),
        ttls: BTreeSet::new(),
    };
    let mut at = query.len();
    for _ in 0..reply[7] {
        let (_, fixed) = name_at(reply, at);
        let kind = u16::from_be_bytes([reply[fixed], reply[fixed + 1]]);
        let ttl = reply[fixed + 4..].first_chunk().unwrap();
        said.ttls.insert(u32::from_be_bytes(*ttl));
        let length = usize::from(u16::from_be_bytes([reply[fixed + 8], reply[fixed + 9]]));
        let data = fixed + 10;
        said.answers.insert(match kind {
            PTR => name_at(reply, data).0,
            _ => format!("{:?}", &reply[data..data + length]),
        });
        at = data + length;
    }
    said
}

/// The name at this place, and where it ends.
pub(super) fn name_at(message: &[u8], mut at: usize) -> (String, usize) {
    let mut name = String::new();
    loop {
        match usize::from(message[at]) {
            0 => return (name, at + 1),
            length if length < 64 => {
                name.push_str(std::str::from_utf8(&message[at + 1..][..length]).unwrap());
                name.push('.');
                at += 1 + length;
            }
            high => {
                let to = (high & 0x3f) << 8 | usize::from(message[at + 1]);
                return (name + &name_at(message, to).0, at + 2);
            }
        }
    }
}

/// Where Docker's own resolver listens in a namespace, as its rules there say.
pub(super) fn dockers(client: &Namespace) -> SocketAddr {
    let mut save = Command::new("iptables-save");
    save.args(["-t", "nat"]);
    let rules = client.run(|| save.output()).unwrap().unwrap();
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    let rule = rules
        .lines()
        .find(|rule| rule.contains("DNAT") && rule.contains("-p udp"));
    let to = rule.and_then(|rule| rule.split_whitespace().last());
    to.unwrap_or_else(|| panic!("no rule of Docker's:\n{rules}"))
        .parse()
        .unwrap()
}
