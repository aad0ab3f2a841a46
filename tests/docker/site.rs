//! A host with an Engine and the real `veer`, and requests from its containers.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lb_userspace::netns::Namespace;
use nix::sys::socket::{Shutdown, shutdown};
use veer_tests::daemon::Daemon;
use veer_tests::deadline::eventually;

use crate::stage::{Host, again};

/// How long a request may take. A connection that is lost shows as a SYN that is sent again after 1 s,
/// so this leaves room for it to be seen as slow, not as failed.
const ANSWER: Duration = Duration::from_secs(10);

/// A host, its Engine, and veer.
#[derive(Debug)]
pub(crate) struct Site {
    /// Before the host: what veer loaded is in the host's namespace.
    pub(crate) daemon: Daemon,
    pub(crate) host: Host,
}

impl Site {
    pub(crate) fn new() -> Self {
        let host = Host::new();
        let daemon = Daemon::start(again(&host.namespace), &host.engine.socket());
        Self { daemon, host }
    }

    /// The one that tests share which only look at networks of their own.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Site>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(site) = shared.upgrade() {
            return site;
        }
        let site = Arc::new(Self::new());
        *shared = Arc::downgrade(&site);
        site
    }

    pub(crate) fn docker(&self, arguments: &str) -> String {
        self.host.docker(arguments)
    }

    /// A container on `network` that does nothing, with `options` of `docker run`.
    pub(crate) fn run(&self, network: &str, name: &str, options: &str) {
        self.docker(&format!(
            "run -d --name {name} --network {network} {options} veer-test sleep 100000"
        ));
    }

    /// A container whose web server answers with its name. Returns when the server does.
    pub(crate) fn web(&self, network: &str, name: &str, options: &str) {
        let script = format!(
            "mkdir -p /www && echo {name} > /www/index.html && exec httpd -f -p 80 -h /www"
        );
        let run = format!("run -d --name {name} --network {network} {options} veer-test sh -c");
        let words = run.split_whitespace().chain([script.as_str()]);
        self.host.engine.docker(words);
        eventually("its web server answers", || {
            let words = ["exec", name, "wget", "-qO-", "http://127.0.0.1/"];
            self.host.engine.try_docker(words).status.success()
        });
    }

    /// What a program in a container prints, or what it says when it fails.
    pub(crate) fn exec(&self, container: &str, words: &str) -> Result<String, String> {
        let all = ["exec", container]
            .into_iter()
            .chain(words.split_whitespace());
        let output = self.host.engine.try_docker(all);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(format!("{words} in {container}: {}", text(&output.stderr)))
    }

    /// Who answers `wget http://<name>/` in a container. (Its `-T` crashes in some static builds.)
    pub(crate) fn fetch(&self, client: &str, name: &str) -> Result<String, String> {
        self.exec(client, &format!("timeout 10 wget -qO- http://{name}/"))
    }

    /// Who answers `count` such requests, and how often.
    pub(crate) fn fetch_all(&self, client: &str, name: &str, count: usize) -> Tally {
        let mut tally = Tally::new();
        for _ in 0..count {
            let answer = self.fetch(client, name).unwrap();
            *tally.entry(answer).or_default() += 1;
        }
        tally
    }

    /// The addresses that busybox's `nslookup` finds in a container, of the type `A` or `AAAA`.
    pub(crate) fn resolve(&self, client: &str, name: &str, record: &str) -> Vec<IpAddr> {
        let found = self.exec(client, &format!("nslookup -type={record} {name}"));
        let found = found.unwrap_or_default();
        // The server's own address comes first, with its port.
        found
            .lines()
            .filter_map(|line| line.strip_prefix("Address:")?.trim().parse().ok())
            .collect()
    }

    /// A fast server in a container: it answers each connection with the container's name.
    pub(crate) fn serves(&self, container: &str, any: IpAddr) -> Server {
        Server::start(&self.host.engine.namespace_of(container), any, container)
    }
}

/// Who answered, and how often.
pub(crate) type Tally = BTreeMap<String, usize>;

/// A tally from what is to be.
pub(crate) fn tally<const N: usize>(all: [(&str, usize); N]) -> Tally {
    all.map(|(name, count)| (name.to_string(), count)).into()
}

/// Connects from inside `client`: who answers.
pub(crate) fn ask(client: &Namespace, to: SocketAddr) -> std::io::Result<String> {
    client.run(|| ask_here(to))?
}

/// The same from the namespace of the calling thread.
pub(crate) fn ask_here(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A server in a thread of its own.
#[derive(Debug)]
pub(crate) struct Server {
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(inside: &Namespace, any: IpAddr, name: &str) -> Self {
        let listener = inside.run(|| TcpListener::bind((any, 80))).unwrap();
        let listener = Arc::new(listener.unwrap());
        let (accepting, name) = (Arc::clone(&listener), name.to_string());
        let thread = thread::spawn(move || {
            loop {
                match accepting.accept() {
                    // A client that has gone is its own affair, before it is accepted and after.
                    Ok((mut client, _)) => {
                        let _ = client.write_all(name.as_bytes());
                    }
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                    Err(_shut_down) => return,
                }
            }
        });
        Self {
            listener,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ends the wait for the next client.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
