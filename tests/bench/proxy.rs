//! Programs that carry connections in userspace: what users run instead.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_userspace::netns::Namespace;
use tempfile::TempDir;
use veer_tests::child::Guarded;
use veer_tests::deadline::within;

use crate::cpu;

/// A program that accepts connections and opens others.
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    /// How it is set, for the report.
    pub(crate) settings: &'static str,
    program: &'static str,
    config: fn(&Order, &Folders) -> String,
    arguments: fn(&Order, &Folders) -> Vec<String>,
}

/// From where to where.
pub(crate) struct Order {
    pub(crate) listen: SocketAddr,
    pub(crate) backends: Vec<SocketAddr>,
}

/// Folders of a proxy.
pub(crate) struct Folders {
    /// Its own.
    own: PathBuf,
    /// Where its package was unpacked; `/` if it is installed.
    root: PathBuf,
}

/// A proxy at work.
pub(crate) struct Running {
    pub(crate) child: Guarded,
    _folder: TempDir,
}

pub(crate) const DOCKER_PROXY: Proxy = Proxy {
    name: "docker-proxy",
    settings: "of Debian's docker.io, one process for the port",
    program: "docker-proxy",
    config: |_, _| String::new(),
    arguments: |order, _| {
        let (host, container) = (order.listen, order.backends[0]);
        let words = format!(
            "-proto tcp -host-ip {} -host-port {} -container-ip {} -container-port {}",
            host.ip(),
            host.port(),
            container.ip(),
            container.port()
        );
        words.split(' ').map(str::to_owned).collect()
    },
};

pub(crate) const NGINX: Proxy = Proxy {
    name: "nginx",
    settings: "stream, one worker, no access log",
    program: "nginx",
    config: |order, folders| {
        let modules = folders
            .root
            .join("usr/lib/nginx/modules/ngx_stream_module.so");
        let (modules, folder) = (modules.display(), folders.own.display());
        let servers = order.backends.iter();
        let servers = servers.map(|backend| format!(" server {backend} max_fails=0;"));
        let (servers, listen) = (servers.collect::<String>(), order.listen);
        format!(
            "load_module {modules};\ndaemon off;\nmaster_process off;\nworker_processes 1;\n\
             pid {folder}/pid;\nerror_log {folder}/error;\nevents {{ worker_connections 4096; }}\n\
             stream {{ upstream members {{{servers} }}\n\
             server {{ listen {listen}; proxy_pass members; tcp_nodelay on; }} }}\n"
        )
    },
    arguments: |_, folders| vec!["-c".to_owned(), folders.config()],
};

pub(crate) const HAPROXY: Proxy = Proxy {
    name: "haproxy",
    settings: "mode tcp, one thread, no log",
    program: "haproxy",
    config: |order, _| {
        let servers = order.backends.iter().enumerate();
        let servers = servers.map(|(number, backend)| format!("  server s{number} {backend}\n"));
        format!(
            "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode tcp\n  timeout connect 5s\n  \
             timeout client 60s\n  timeout server 60s\nlisten members\n  bind {}\n  \
             balance roundrobin\n{}",
            order.listen,
            servers.collect::<String>()
        )
    },
    arguments: |_, folders| vec!["-db".to_owned(), "-f".to_owned(), folders.config()],
};

impl Folders {
    fn config(&self) -> String {
        self.own.join("config").display().to_string()
    }
}

impl Proxy {
    /// Starts it inside a namespace, on the measured CPU. Returns when `client` can connect; `None`
    /// where there is no such program.
    pub(crate) fn start(
        &self,
        inside: &Namespace,
        client: &Namespace,
        order: &Order,
    ) -> Result<Option<Running>> {
        let Some(program) = find(self.program)? else {
            return Ok(None);
        };
        let folder = tempfile::tempdir()?;
        // <root>/usr/sbin/<program>
        let root = program.ancestors().nth(3).unwrap_or(Path::new("/"));
        let folders = Folders {
            own: folder.path().to_path_buf(),
            root: root.to_path_buf(),
        };
        fs::write(folders.config(), (self.config)(order, &folders))?;
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        // docker-proxy tells its parent by descriptor 3 that it listens.
        command
            .args(["-c", "exec \"$0\" \"$@\" 3>/dev/null"])
            .arg(&program)
            .args((self.arguments)(order, &folders))
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let mut child = start_pinned(inside, &mut command)?;
        let mut listens = false;
        within(Duration::from_secs(10), "the proxy listens or ends", || {
            let connect =
                || TcpStream::connect_timeout(&order.listen, Duration::from_secs(1)).is_ok();
            listens = client.run(connect).unwrap_or(false);
            listens || !child.is_running()
        });
        let said = fs::read_to_string(&log).unwrap_or_default();
        ensure!(listens, "it ended at once: {}", said.trim());
        Ok(Some(Running {
            child,
            _folder: folder,
        }))
    }
}

/// Starts a program inside a namespace, on the measured CPU.
pub(crate) fn start_pinned(inside: &Namespace, command: &mut Command) -> Result<Guarded> {
    let start = || -> Result<Guarded> {
        // Inherited: this thread is the program's own.
        cpu::stay_on(cpu::last())?;
        Ok(Guarded::start(command)?)
    };
    inside.run(start)?
}

/// Where a program is, if this machine or the folder of unpacked packages has it.
pub(crate) fn find(program: &str) -> Result<Option<PathBuf>> {
    // Servers are in folders that are not in everybody's PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    let found = Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .output()?;
    if !found.status.success() {
        return Ok(None);
    }
    Ok(Some(PathBuf::from(String::from_utf8(found.stdout)?.trim())))
}
