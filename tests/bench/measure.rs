//! One measurement: a client, its servers, and whatever stands between them, all on one core.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lb_userspace::netns::Namespace;

use crate::cpu;
use crate::load::{Done, Mode};

/// A way from a client to a server.
#[derive(Debug)]
pub(crate) struct Path<'a> {
    pub(crate) name: &'static str,
    pub(crate) client: &'a Namespace,
    /// Where requests may arrive.
    pub(crate) servers: Vec<Place<'a>>,
    /// What the client asks.
    pub(crate) to: SocketAddr,
    /// Processes in between.
    pub(crate) proxies: Vec<u32>,
    /// What it is measured with.
    pub(crate) modes: &'static [Mode],
}

/// An address inside a namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) at: SocketAddr,
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
    pub(crate) warm_up: Duration,
}

impl Effort {
    /// Whether it is only to be seen that everything works.
    pub(crate) fn is_quick(self) -> bool {
        self.time < Duration::from_millis(500)
    }
}

/// A server, killed when it goes out of use.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Only fails for one that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets a client ask its way for a while.
pub(crate) fn measure(path: &Path<'_>, mode: Mode, effort: Effort) -> Result<Done> {
    let servers = path.servers.iter().map(|place| serve(place, mode));
    let servers = servers.collect::<Result<Vec<_>>>()?;
    let with = servers.iter().map(|server| server.0.id());
    let with: Vec<_> = with.chain(path.proxies.iter().copied()).collect();
    let with: Vec<_> = with.iter().map(u32::to_string).collect();

    let mut command = load()?;
    command
        .args(["ask", "--mode", word(mode), "--to", &path.to.to_string()])
        .args(["--time", &effort.time.as_millis().to_string()])
        .args(["--warm-up", &effort.warm_up.as_millis().to_string()])
        .args(["--with", &with.join(",")]);
    let output = path.client.run(|| command.output())?;
    let output = output.context("start a client")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} over {}: {}", mode.name(), path.name, said.trim());
    }
    serde_json::from_slice(&output.stdout).context("read what a client did")
}

fn serve(place: &Place<'_>, mode: Mode) -> Result<Server> {
    let mut command = load()?;
    command
        .args(["serve", "--mode", word(mode), "--listen"])
        .arg(place.at.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let child = place.namespace.run(|| command.spawn())?;
    let mut server = Server(child.context("start a server")?);
    let stdout = server.0.stdout.take().context("read from a server")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    ensure!(
        line == "ready\n",
        "the server at {} did not start",
        place.at
    );
    Ok(server)
}

/// This very program, as its own load tool, on the measured CPU.
fn load() -> Result<Command> {
    load_on(Some(cpu::last()))
}

/// The same on another CPU; `None`: on any.
pub(crate) fn load_on(cpu: Option<usize>) -> Result<Command> {
    let program = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    command.arg("load");
    if let Some(cpu) = cpu {
        command.args(["--cpu", &cpu.to_string()]);
    }
    Ok(command)
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Rr => "rr",
        Mode::Crr => "crr",
        Mode::Stream => "stream",
        Mode::Udp => "udp",
    }
}
