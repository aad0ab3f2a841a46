//! The name servers that are compared, each with a container that asks it.

use std::any::Any;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lb_userspace::netns::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use veer_tests::deadline::within;
use veer_tests::engine::{Engine, IMAGE};
use veer_tests::host::Host;

use super::{Measure, NAME};
use crate::cpu;
use crate::proxy::{find, start_pinned};
use crate::report::Suite;
use crate::suites::lab::{Daemon, Site, host};

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(20);

/// Where Docker's resolver and veer's are asked.
const INSIDE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);

/// A name server.
pub(super) struct Resolver {
    pub(super) name: &'static str,
    work: Work,
    pub(super) asker: Asker,
}

enum Work {
    /// It answers all the time.
    Always {
        processes: Vec<u32>,
        /// What ends with it, in this order, and before the place that it serves.
        _alive: Vec<Box<dyn Any>>,
    },
    /// veer, which answers while it is measured: its programs on sockets run for every process of the
    /// machine.
    Veer { site: Arc<Site>, in_kernel: bool },
}

/// A name server at work.
pub(super) struct Answering {
    /// Its processes.
    pub(super) processes: Vec<u32>,
    _veer: Option<Installed>,
}

/// A daemon of which nothing is left when this goes.
struct Installed {
    daemon: Option<Daemon>,
    site: Arc<Site>,
}

impl Drop for Installed {
    fn drop(&mut self) {
        drop(self.daemon.take());
        if let Err(error) = self.site.veer(&["uninstall"]) {
            eprintln!("{error:#}");
        }
    }
}

/// Where a program runs that asks.
pub(super) enum Asker {
    Namespace {
        namespace: Namespace,
        server: SocketAddr,
        resolv_conf: PathBuf,
    },
    Lab(Arc<Site>),
    /// In a container of a lab, and asks nobody: what it sends comes back to it.
    Alone(Arc<Site>),
}

impl Resolver {
    /// Whether `measure` can be taken of it: programs that are not ours need somebody to ask.
    pub(super) fn takes(&self, measure: Measure) -> bool {
        let is_ours = matches!(measure, Measure::Latency | Measure::Cost | Measure::Two);
        is_ours || self.asker.server().is_some()
    }

    /// Whether it must not be there while others are measured.
    pub(super) fn disturbs(&self) -> bool {
        matches!(self.work, Work::Veer { .. })
    }

    /// Has it answer until what is returned goes.
    pub(super) fn answer(&self) -> Result<Answering> {
        let (site, in_kernel) = match &self.work {
            Work::Always { processes, .. } => {
                return Ok(Answering {
                    processes: processes.clone(),
                    _veer: None,
                });
            }
            Work::Veer { site, in_kernel } => (site, *in_kernel),
        };
        let daemon = site.daemon(&format!("[dns]\nkernel = {in_kernel}\n"))?;
        let processes = vec![daemon.id()];
        let served = site.until_served(2, &daemon);
        let installed = Installed {
            daemon: Some(daemon),
            site: Arc::clone(site),
        };
        served?;
        if in_kernel {
            self.until_in_kernel(site)?;
        }
        Ok(Answering {
            processes,
            _veer: Some(installed),
        })
    }

    /// Asks until the kernel answers, which comes after everything is served.
    fn until_in_kernel(&self, site: &Site) -> Result<()> {
        let begun = Instant::now();
        while site.status().is_none_or(|status| status.dns.in_kernel == 0) {
            ensure!(begun.elapsed() < START, "the kernel answers nothing");
            let mut command = self.asker.inside();
            self.asker.run(command.args(["getent", "ahosts", NAME]))?;
        }
        Ok(())
    }
}

impl Answering {
    /// Keeps its processes on `cpu`; on any, if `None`.
    pub(super) fn keep_on(&self, cpu: Option<usize>) -> Result<()> {
        let mut processes = self.processes.iter();
        processes.try_for_each(|process| cpu::keep(*process, cpu))
    }
}

impl Asker {
    /// `None`: itself.
    pub(super) fn server(&self) -> Option<SocketAddr> {
        match self {
            Self::Namespace { server, .. } => Some(*server),
            Self::Lab(_) => Some(INSIDE),
            Self::Alone(_) => None,
        }
    }

    /// A command that sees the server in `/etc/resolv.conf`, up to the program itself.
    pub(super) fn inside(&self) -> Command {
        match self {
            Self::Namespace { resolv_conf, .. } => {
                let bind = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", bind]).arg(resolv_conf);
                command
            }
            Self::Lab(site) | Self::Alone(site) => site.inside("client"),
        }
    }

    /// What such a command prints.
    pub(super) fn run(&self, command: &mut Command) -> Result<Output> {
        match self {
            Self::Namespace { namespace, .. } => Ok(namespace.run(|| command.output())??),
            Self::Lab(site) | Self::Alone(site) => site.run(command),
        }
    }
}

/// Every name server that this machine has; the others are noted as left out.
pub(super) fn start(suite: &mut Suite) -> Result<Vec<Resolver>> {
    let mut resolvers = Vec::new();
    match docker() {
        Ok(Some(resolver)) => resolvers.push(resolver),
        Ok(None) => suite.left_out.push("Docker is not installed".to_owned()),
        Err(error) => suite.left_out.push(format!("Docker: {error:#}")),
    }
    for server in &SERVERS {
        match server.start() {
            Ok(Some(resolver)) => {
                resolvers.push(resolver);
                let setting = format!("{}: {}", server.name, server.settings);
                suite.settings.push(setting);
            }
            Ok(None) => {
                let why = format!("{} is not installed", server.name);
                suite.left_out.push(why);
            }
            Err(error) => suite.left_out.push(format!("{}: {error:#}", server.name)),
        }
    }
    resolvers.push(veer("veer, userspace", false)?);
    let kernel = veer("veer, kernel", true)?;
    let Asker::Lab(site) = &kernel.asker else {
        bail!("veer is asked in a lab");
    };
    resolvers.push(Resolver {
        name: "a datagram to oneself",
        asker: Asker::Alone(Arc::clone(site)),
        work: Work::Always {
            processes: Vec::new(),
            _alive: Vec::new(),
        },
    });
    resolvers.push(kernel);
    Ok(resolvers)
}

/// An Engine of our own, without veer.
fn docker() -> Result<Option<Resolver>> {
    if Engine::lacks().is_some() {
        return Ok(None);
    }
    let engine = Engine::start(host()?);
    engine.docker(["network", "create", "front"]);
    for name in [NAME, "client"] {
        let words = format!("run -d --name {name} --network front {IMAGE} sleep 100000");
        engine.docker(words.split(' '));
    }
    let folder = tempfile::tempdir()?;
    let asker = Asker::Namespace {
        namespace: engine.namespace_of("client"),
        server: INSIDE,
        resolv_conf: resolv_conf(folder.path(), INSIDE)?,
    };
    Ok(Some(Resolver {
        name: "Docker",
        asker,
        work: Work::Always {
            processes: vec![engine.pid()],
            _alive: vec![Box::new(engine), Box::new(folder)],
        },
    }))
}

fn veer(name: &'static str, in_kernel: bool) -> Result<Resolver> {
    let site = Site::new()?;
    let container =
        |name: &str| format!("[[container]]\nname = \"{name}\"\nnetworks = [\"front\"]\n");
    site.lab(&format!(
        "[[network]]\nname = \"front\"\nsubnets = [\"10.61.0.0/24\"]\n{}{}",
        container(NAME),
        container("client")
    ))?;
    let site = Arc::new(site);
    Ok(Resolver {
        name,
        asker: Asker::Lab(Arc::clone(&site)),
        work: Work::Veer { site, in_kernel },
    })
}

/// A program that answers at the gateway's address.
struct Server {
    name: &'static str,
    settings: &'static str,
    program: &'static str,
    /// What its configuration is, and the name of that file.
    config: fn(gateway: Ipv4Addr, web: Ipv4Addr) -> (&'static str, String),
    arguments: fn(folder: &Path) -> Vec<String>,
    /// The file with its number, if it goes into the background.
    number: Option<&'static str>,
}

const SERVERS: [Server; 3] = [
    Server {
        name: "dnsmasq",
        settings: "one host-record, no upstream server, no log",
        program: "dnsmasq",
        config: |gateway, web| {
            let config = format!(
                "no-resolv\nno-hosts\nbind-interfaces\nlisten-address={gateway}\nuser=root\n\
                 pid-file\nlocal=/{NAME}/\nhost-record={NAME},{web}\n"
            );
            ("config", config)
        },
        arguments: |folder| {
            vec![
                "--keep-in-foreground".to_owned(),
                format!("--conf-file={}", folder.join("config").display()),
            ]
        },
        number: None,
    },
    Server {
        name: "unbound",
        settings: "one local zone, one thread, no log",
        program: "unbound",
        config: |gateway, web| {
            let config = format!(
                "server:\n interface: {gateway}\n access-control: 0.0.0.0/0 allow\n do-daemonize: no\n \
                 num-threads: 1\n username: \"\"\n chroot: \"\"\n directory: \"/tmp\"\n pidfile: \"\"\n \
                 use-syslog: no\n local-zone: \"{NAME}.\" static\n local-data: \"{NAME}. A {web}\"\n\
                 remote-control:\n control-enable: no\n"
            );
            ("config", config)
        },
        arguments: |folder| {
            vec![
                "-d".to_owned(),
                "-c".to_owned(),
                folder.join("config").display().to_string(),
            ]
        },
        number: None,
    },
    Server {
        name: "aardvark-dns",
        settings: "one network",
        program: "aardvark-dns",
        config: |gateway, web| {
            (
                "front",
                format!("{gateway}\n0123456789abcdef {web}  {NAME}\n"),
            )
        },
        arguments: |folder| {
            let folder = folder.display().to_string();
            ["--config", &folder, "--port", "53", "run"]
                .map(str::to_owned)
                .into()
        },
        number: Some("aardvark.pid"),
    },
];

/// A process in the background, which ends with this.
struct Background(Pid);

impl Drop for Background {
    fn drop(&mut self) {
        // Only fails for one that has ended.
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

impl Server {
    /// `None` where there is no such program.
    fn start(&self) -> Result<Option<Resolver>> {
        let Some(program) = find(self.program)?.or_else(|| of_podman(self.program)) else {
            return Ok(None);
        };
        let host = Host::new();
        let network = host.network();
        let [web, client] = host.stations(&network, [NAME, "client"]);
        let gateway = Ipv4Addr::new(10, 77, network.number, 1);
        let server = SocketAddr::new(gateway.into(), 53);
        let folder = tempfile::tempdir()?;
        let (file, config) = (self.config)(gateway, web.v4);
        let settings = folder.path().join("settings");
        fs::create_dir(&settings)?;
        fs::write(settings.join(file), config)?;

        let log = folder.path().join("log");
        let mut command = Command::new(program);
        command
            .args((self.arguments)(&settings))
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?);
        let mut child = start_pinned(&host.namespace, &mut command)?;
        let mut answers = false;
        let is_over =
            |child: &mut veer_tests::child::Guarded| self.number.is_none() && !child.is_running();
        within(START, "the name server answers or ends", || {
            answers = client.run(|| is_answered(server)).unwrap_or(false);
            answers || is_over(&mut child)
        });
        let said = fs::read_to_string(&log).unwrap_or_default();
        ensure!(answers, "it ended at once: {}", said.trim());
        let mut alive: Vec<Box<dyn Any>> = Vec::new();
        let process = match self.number {
            None => child.id(),
            Some(file) => {
                let number = fs::read_to_string(settings.join(file))?;
                let number: u32 = number.trim().parse().context("read its number")?;
                alive.push(Box::new(Background(Pid::from_raw(number.cast_signed()))));
                number
            }
        };
        let asker = Asker::Namespace {
            namespace: client.namespace,
            server,
            resolv_conf: resolv_conf(folder.path(), server)?,
        };
        alive.extend([
            Box::new(child) as Box<dyn Any>,
            Box::new(web),
            Box::new(host),
            Box::new(folder),
        ]);
        Ok(Some(Resolver {
            name: self.name,
            asker,
            work: Work::Always {
                processes: vec![process],
                _alive: alive,
            },
        }))
    }
}

/// Whether a query gets any answer.
fn is_answered(server: SocketAddr) -> Result<bool> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    socket.send(&crate::load::query(NAME))?;
    Ok(socket.recv(&mut [0; 512]).is_ok())
}

/// Podman's helpers are in a folder beside those that PATH names.
fn of_podman(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path)
        .filter_map(|folder| Some(folder.parent()?.join("lib/podman").join(program)));
    places.find(|place| place.is_file())
}

/// A `resolv.conf` that names `server`, as in Docker's user-defined networks.
fn resolv_conf(folder: &Path, server: SocketAddr) -> Result<PathBuf> {
    let path = folder.join("resolv.conf");
    let text = format!("nameserver {}\noptions ndots:0\n", server.ip());
    fs::write(&path, text)?;
    Ok(path)
}
