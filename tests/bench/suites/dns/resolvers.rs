//! The name servers that are compared, each with a container that asks it.
//!
//! They are on one host: an Engine's, with the rules that Docker has there and in its containers. Docker's own
//! resolver is on another one of the kind, so that it can be asked while veer is there.

use std::any::Any;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lb_userspace::netns::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use veer_tests::deadline::within;
use veer_tests::engine::{Engine, IMAGE};

use super::turns::DOCKER;
use super::{Measure, NAME};
use crate::cpu;
use crate::proxy::{find, start_pinned};
use crate::report::Suite;
use crate::suites::lab::{Daemon, Site, host};

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(20);

/// Where Docker's resolver and veer's are asked.
const INSIDE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);

/// Who asks Docker's resolver and veer's.
const CLIENT: &str = "client";

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
        /// What ends with it, in this order.
        _alive: Vec<Box<dyn Any>>,
    },
    /// veer with this configuration, which answers while it is measured: its programs on sockets run for
    /// every process of the machine.
    Veer(Rc<Town>, Setting),
}

/// How veer answers.
#[derive(Clone, Copy)]
struct Setting {
    in_kernel: bool,
    /// Docker's rules are taken out of containers.
    no_conntrack: bool,
}

/// A host with an Engine. When it goes, so does everything on it.
struct Town {
    // Before the Engine: what is left of veer is removed from its containers.
    site: Site,
    engine: Engine,
    host: Namespace,
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
    town: Rc<Town>,
}

impl Drop for Installed {
    fn drop(&mut self) {
        drop(self.daemon.take());
        if let Err(error) = self.town.site.veer(&["uninstall"]) {
            eprintln!("{error:#}");
        }
    }
}

/// Where a program runs that asks.
pub(super) struct Asker {
    namespace: Namespace,
    /// `None`: nobody is asked, and what is sent comes back.
    pub(super) server: Option<SocketAddr>,
    resolv_conf: PathBuf,
    _folder: TempDir,
}

impl Town {
    fn start() -> Result<Self> {
        if let Some(program) = Engine::lacks() {
            bail!("{program} is not installed: `cargo xtask bench` installs it");
        }
        let host = host()?;
        let town = Self {
            site: Site::on(host.try_clone()?)?,
            engine: Engine::start(host.try_clone()?),
            host,
        };
        town.network("front", "10.61.0.0/24");
        town.container("front", NAME);
        town.container("front", CLIENT);
        Ok(town)
    }

    fn network(&self, name: &str, subnet: &str) {
        let words = ["network", "create", "--subnet", subnet, name];
        self.engine.docker(words);
    }

    fn container(&self, network: &str, name: &str) {
        let words = format!("run -d --name {name} --network {network} {IMAGE} sleep 100000");
        self.engine.docker(words.split(' '));
    }

    /// Docker's own resolver.
    fn docker(self: &Rc<Self>) -> Result<Resolver> {
        Ok(Resolver {
            name: DOCKER,
            asker: self.asker(CLIENT, Some(INSIDE))?,
            work: Work::Always {
                processes: vec![self.engine.pid()],
                _alive: vec![Box::new(Rc::clone(self))],
            },
        })
    }

    /// How many there are that run.
    fn containers(&self) -> usize {
        self.engine.docker(["ps", "-q"]).lines().count()
    }

    /// The container asks `server`.
    fn asker(&self, container: &str, server: Option<SocketAddr>) -> Result<Asker> {
        Asker::new(self.engine.namespace_of(container), server)
    }

    /// The daemon, once it answers as it is set.
    fn veer(self: &Rc<Self>, setting: Setting, asker: &Asker) -> Result<Answering> {
        let Setting {
            in_kernel,
            no_conntrack,
        } = setting;
        let config = format!("[dns]\nkernel = {in_kernel}\nno_conntrack = {no_conntrack}\n");
        let daemon = self.site.following(&self.engine.socket(), &config)?;
        let processes = vec![daemon.id()];
        let served = self.site.until_served(self.containers(), &daemon);
        let installed = Installed {
            daemon: Some(daemon),
            town: Rc::clone(self),
        };
        served?;
        within(START, "veer answers as it is set", || {
            self.answers_in_kernel(asker) == in_kernel && asker.has_rules() != no_conntrack
        });
        Ok(Answering {
            processes,
            _veer: Some(installed),
        })
    }

    /// Whether the kernel has answered when the name was asked for once more, which it does not do at once
    /// after everything is served.
    fn answers_in_kernel(&self, asker: &Asker) -> bool {
        let asked = asker.run(asker.inside().args(["getent", "ahosts", NAME]));
        let status = self.site.status();
        asked.is_ok() && status.is_some_and(|status| status.dns.in_kernel > 0)
    }
}

impl Resolver {
    /// Whether `measure` can be taken of it: programs that are not ours need somebody to ask.
    pub(super) fn takes(&self, measure: Measure) -> bool {
        let is_ours = matches!(measure, Measure::Latency(_) | Measure::Cost | Measure::Two);
        is_ours || self.asker.server.is_some()
    }

    /// Whether it must not be there while others are measured.
    pub(super) fn disturbs(&self) -> bool {
        matches!(self.work, Work::Veer(..))
    }

    /// Whether it is veer, and the kernel answers.
    pub(super) fn is_in_kernel(&self) -> bool {
        matches!(&self.work, Work::Veer(_, setting) if setting.in_kernel)
    }

    /// Has it answer until what is returned goes.
    pub(super) fn answer(&self) -> Result<Answering> {
        match &self.work {
            Work::Always { processes, .. } => Ok(Answering {
                processes: processes.clone(),
                _veer: None,
            }),
            Work::Veer(town, setting) => town.veer(*setting, &self.asker),
        }
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
    fn new(namespace: Namespace, server: Option<SocketAddr>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let resolv_conf = folder.path().join("resolv.conf");
        // As in Docker's user-defined networks.
        let server_line = server.map(|server| format!("nameserver {}\n", server.ip()));
        let text = server_line.unwrap_or_default() + "options ndots:0\n";
        fs::write(&resolv_conf, text)?;
        Ok(Self {
            namespace,
            server,
            resolv_conf,
            _folder: folder,
        })
    }

    /// A command that sees the server in `/etc/resolv.conf`, up to the program itself.
    pub(super) fn inside(&self) -> Command {
        let bind = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", bind])
            .arg(&self.resolv_conf);
        command
    }

    /// What such a command prints.
    pub(super) fn run(&self, command: &mut Command) -> Result<Output> {
        Ok(self.namespace.run(|| command.output())??)
    }

    /// Whether Docker's rules for its resolver are there.
    fn has_rules(&self) -> bool {
        let listed = self.run(Command::new("iptables").args(["-t", "nat", "-S"]));
        listed.is_ok_and(|listed| String::from_utf8_lossy(&listed.stdout).contains("DOCKER_OUTPUT"))
    }
}

/// Every name server that this machine has; the others are noted as left out.
pub(super) fn start(suite: &mut Suite) -> Result<Vec<Resolver>> {
    let mut resolvers = vec![Rc::new(Town::start()?).docker()?];
    let town = Rc::new(Town::start()?);
    for (number, server) in SERVERS.iter().enumerate() {
        match server.start(&town, number) {
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
    resolvers.push(alone()?);
    let variants = [
        ("veer, userspace", false, false),
        ("veer, kernel", true, false),
        ("veer, kernel, no_conntrack", true, true),
    ];
    for (name, in_kernel, no_conntrack) in variants {
        let setting = Setting {
            in_kernel,
            no_conntrack,
        };
        resolvers.push(Resolver {
            name,
            asker: town.asker(CLIENT, Some(INSIDE))?,
            work: Work::Veer(Rc::clone(&town), setting),
        });
    }
    Ok(resolvers)
}

/// A client in a namespace without any rules, which is sent what it sends.
fn alone() -> Result<Resolver> {
    Ok(Resolver {
        name: "a datagram to oneself",
        asker: Asker::new(host()?, None)?,
        work: Work::Always {
            processes: Vec::new(),
            _alive: Vec::new(),
        },
    })
}

/// A program that answers at the gateway's address of a network of its own.
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
    fn start(&self, town: &Rc<Town>, number: usize) -> Result<Option<Resolver>> {
        let Some(program) = find(self.program)?.or_else(|| of_podman(self.program)) else {
            return Ok(None);
        };
        let name = self.name;
        let network = 62 + number as u8;
        let address = |host| Ipv4Addr::new(10, network, 0, host);
        let gateway = address(1);
        town.network(name, &format!("{}/24", address(0)));
        town.container(name, name);
        let server = SocketAddr::new(gateway.into(), 53);
        let asker = town.asker(name, Some(server))?;
        let folder = tempfile::tempdir()?;
        let (file, config) = (self.config)(gateway, address(200));
        let settings = folder.path().join("settings");
        fs::create_dir(&settings)?;
        fs::write(settings.join(file), config)?;

        let log = folder.path().join("log");
        let mut command = Command::new(program);
        command
            .args((self.arguments)(&settings))
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?);
        let mut child = start_pinned(&town.host, &mut command)?;
        let mut answers = false;
        let is_over =
            |child: &mut veer_tests::child::Guarded| self.number.is_none() && !child.is_running();
        within(START, "the name server answers or ends", || {
            let asked = asker.namespace.run(|| is_answered(server));
            answers = asked.is_ok_and(|answered| answered.unwrap_or(false));
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
        alive.extend([
            Box::new(child) as Box<dyn Any>,
            Box::new(folder),
            Box::new(Rc::clone(town)),
        ]);
        Ok(Some(Resolver {
            name,
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
