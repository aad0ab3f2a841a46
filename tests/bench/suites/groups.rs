//! A container asks a Group of two Members on the same host.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_userspace::config::Maps;
use lb_userspace::netns::Namespace;
use veer_tests::child::Guarded;
use veer_tests::deadline::within;
use veer_tests::host::Host;
use veer_tests::station::{Family, Station};
use veer_tests::veer::Veer;

use super::target;
use crate::cpu;
use crate::load::Mode;
use crate::measure::{Effort, Path, Place};
use crate::report::{Bound, Suite};
use crate::rounds::rounds;

const PORT: u16 = 7_000;

/// An address that only iptables knows.
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

pub(super) fn suite(effort: Effort) -> Result<Suite> {
    let plain = Site::new();
    let balanced = Site::new();
    let mut veer = Veer::with_sizes(&balanced.host, Maps::default());
    veer.serve(&balanced.stations());
    let vip = veer.group(&balanced.members());
    let translated = Site::new();
    translated.dnat().context("set up the variant iptables")?;

    let mut paths = vec![
        plain.path("loopback", &plain.one.namespace, Ipv4Addr::LOCALHOST.into()),
        plain.path("bridge", &plain.client.namespace, plain.one.v4.into()),
        translated.path("iptables", &translated.client.namespace, VIRTUAL.into()),
        balanced.path("veer", &balanced.client.namespace, vip.address(Family::V4)),
    ];
    let mut suite = Suite {
        name: "groups".to_owned(),
        about: "A container asks a Group of two Members on the same host. `loopback` is the limit: client \
                and server in one namespace; `bridge` asks a Member directly, without balancing."
            .to_owned(),
        left_out: Vec::new(),
        settings: vec![
            "iptables: DNAT with `-m statistic --mode nth`, bridge-nf-call-iptables on, IPv4".to_owned(),
        ],
        series: Vec::new(),
        targets: targets(),
    };
    let sites = [Site::new(), Site::new()];
    let proxies = PROXIES.iter().zip(&sites).map(|(proxy, site)| {
        let started = proxy.start(site);
        (proxy, site, started)
    });
    let proxies: Vec<_> = proxies.collect();
    for (proxy, site, started) in &proxies {
        match started {
            Ok(Some(running)) => {
                suite
                    .settings
                    .push(format!("{}: {}", proxy.name, proxy.settings));
                let mut path = site.path(proxy.name, &site.client.namespace, site.proxy.v4.into());
                path.proxies = vec![running.child.id()];
                // A proxy for UDP is another program.
                path.modes = &[Mode::Rr, Mode::Crr, Mode::Stream];
                paths.push(path);
            }
            Ok(None) => suite
                .left_out
                .push(format!("{} is not installed", proxy.name)),
            Err(error) => suite.left_out.push(format!("{}: {error:#}", proxy.name)),
        }
    }
    suite.series = rounds(&paths, effort)?;
    Ok(suite)
}

fn targets() -> Vec<crate::report::Target> {
    let rr = "request/response per CPU-second";
    let crr = "connect-request-close per CPU-second";
    let stream = "stream per CPU-second";
    let at_least = Bound::AtLeast;
    vec![
        target(rr, "veer", Some("bridge"), at_least(1.07)),
        target("UDP per CPU-second", "veer", Some("bridge"), at_least(1.16)),
        target(rr, "veer", Some("nginx"), at_least(2.3)),
        target(crr, "veer", Some("nginx"), at_least(2.2)),
        target(stream, "veer", Some("nginx"), at_least(2.9)),
        target(rr, "veer", Some("haproxy"), at_least(2.4)),
        target(crr, "veer", Some("haproxy"), at_least(2.2)),
        target(stream, "veer", Some("haproxy"), at_least(3.5)),
    ]
}

/// A host with a bridge, and four containers on it.
struct Site {
    host: Host,
    client: Station,
    one: Station,
    two: Station,
    proxy: Station,
}

impl Site {
    fn new() -> Self {
        let host = Host::new();
        let network = host.network();
        let [client, one, two, proxy] = host.stations(&network, ["client", "one", "two", "proxy"]);
        for station in [&client, &one, &two, &proxy] {
            station.run(many_connections);
        }
        Self {
            host,
            client,
            one,
            two,
            proxy,
        }
    }

    fn stations(&self) -> [&Station; 3] {
        [&self.client, &self.one, &self.two]
    }

    fn members(&self) -> [&Station; 2] {
        [&self.one, &self.two]
    }

    fn path<'a>(&'a self, name: &'static str, client: &'a Namespace, to: IpAddr) -> Path<'a> {
        let place = |station: &'a Station| Place {
            namespace: &station.namespace,
            at: SocketAddr::new(Family::V4.any(), PORT),
        };
        Path {
            name,
            client,
            servers: self.members().map(place).into(),
            to: SocketAddr::new(to, PORT),
            proxies: Vec::new(),
            modes: &Mode::ALL,
        }
    }

    /// Balances by the host's iptables.
    fn dnat(&self) -> Result<()> {
        let set = |name: &str| fs::write(format!("/proc/sys/net/{name}"), "1");
        self.host.namespace.run(|| -> Result<()> {
            set("ipv4/ip_forward")?;
            set("bridge/bridge-nf-call-iptables").context("br_netfilter")?;
            Ok(())
        })??;
        for protocol in ["tcp", "udp"] {
            for (member, every) in [(&self.one, Some("2")), (&self.two, None)] {
                let mut command = Command::new("iptables");
                command.args(["-t", "nat", "-A", "PREROUTING", "-p", protocol]);
                command.args(["-d", &VIRTUAL.to_string()]);
                if let Some(every) = every {
                    command.args([
                        "-m",
                        "statistic",
                        "--mode",
                        "nth",
                        "--every",
                        every,
                        "--packet",
                        "0",
                    ]);
                }
                command.args(["-j", "DNAT", "--to-destination", &member.v4.to_string()]);
                let output = self.host.namespace.run(|| command.output())??;
                let said = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success(), "iptables: {}", said.trim());
            }
        }
        Ok(())
    }
}

/// A client that opens thousands of connections a second runs out of ports otherwise.
fn many_connections() {
    for (name, value) in [
        ("net/ipv4/tcp_tw_reuse", "1"),
        ("net/ipv4/ip_local_port_range", "2048 65000"),
    ] {
        fs::write(format!("/proc/sys/{name}"), value).expect("set a sysctl of a namespace");
    }
}

/// A program that balances in userspace.
struct Proxy {
    name: &'static str,
    settings: &'static str,
    program: &'static str,
    /// What its configuration is, for two Members.
    config: fn(one: SocketAddr, two: SocketAddr, folders: &Folders) -> String,
    arguments: fn(config: &FilePath) -> Vec<String>,
}

/// Folders of a proxy.
struct Folders {
    /// Its own.
    own: PathBuf,
    /// Where its package was unpacked; `/` if it is installed.
    root: PathBuf,
}

/// A proxy at work.
struct Running {
    child: Guarded,
    _folder: tempfile::TempDir,
}

const PROXIES: [Proxy; 2] = [
    Proxy {
        name: "nginx",
        settings: "stream, one worker, no access log",
        program: "nginx",
        config: |one, two, folders| {
            let modules = folders
                .root
                .join("usr/lib/nginx/modules/ngx_stream_module.so");
            let (modules, folder) = (modules.display(), folders.own.display());
            format!(
                "load_module {modules};\ndaemon off;\nmaster_process off;\nworker_processes 1;\n\
                 pid {folder}/pid;\nerror_log {folder}/error;\nevents {{ worker_connections 4096; }}\n\
                 stream {{ upstream members {{ server {one} max_fails=0; server {two} max_fails=0; }}\n\
                 server {{ listen {PORT}; proxy_pass members; tcp_nodelay on; }} }}\n"
            )
        },
        arguments: |config| vec!["-c".to_owned(), config.display().to_string()],
    },
    Proxy {
        name: "haproxy",
        settings: "mode tcp, one thread, no log",
        program: "haproxy",
        config: |one, two, _| {
            format!(
                "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode tcp\n  timeout connect 5s\n  \
                 timeout client 60s\n  timeout server 60s\nlisten members\n  bind :{PORT}\n  \
                 balance roundrobin\n  server one {one}\n  server two {two}\n"
            )
        },
        arguments: |config| {
            vec![
                "-db".to_owned(),
                "-f".to_owned(),
                config.display().to_string(),
            ]
        },
    },
];

impl Proxy {
    /// `None` where there is no such program.
    fn start(&self, site: &Site) -> Result<Option<Running>> {
        let found = Command::new("sh")
            .args(["-c", "command -v \"$0\"", self.program])
            .env("PATH", search_path())
            .output()?;
        if !found.status.success() {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("config");
        let at = |station: &Station| SocketAddr::new(station.v4.into(), PORT);
        let program = PathBuf::from(String::from_utf8(found.stdout)?.trim());
        // <root>/usr/sbin/<program>
        let root = program.ancestors().nth(3).unwrap_or(FilePath::new("/"));
        let folders = Folders {
            own: folder.path().to_path_buf(),
            root: root.to_path_buf(),
        };
        fs::write(
            &config,
            (self.config)(at(&site.one), at(&site.two), &folders),
        )?;
        let mut command = Command::new(&program);
        command.args((self.arguments)(&config));
        let start = || -> Result<Guarded> {
            // Inherited: this thread is the proxy's own.
            cpu::stay_on(cpu::last())?;
            Ok(Guarded::start(&mut command)?)
        };
        let mut child = site.proxy.run(start)?;
        let mut listens = false;
        within(Duration::from_secs(10), "the proxy listens or ends", || {
            let to = SocketAddr::new(site.proxy.v4.into(), PORT);
            listens = site.client.connect(to).is_ok();
            listens || !child.is_running()
        });
        ensure!(listens, "it ended at once");
        Ok(Some(Running {
            child,
            _folder: folder,
        }))
    }
}

/// Where servers are, which is not in everybody's PATH.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}
