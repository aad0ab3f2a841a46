//! A Docker Engine of a test's own, inside a namespace that plays the host.
//!
//! Data, sockets, bridges, firewall rules and containerd are private to it, so any number of them
//! live side by side, and beside the machine's own. Images are made here: nothing is downloaded.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lb_userspace::netns::Namespace;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// The image that every Engine has: busybox, with `httpd`, `wget`, `nslookup`, `ping`, `nc`, `sh`.
pub const IMAGE: &str = "veer-test";

/// How long an Engine may take to answer first, on a machine with little to spare.
const START: Duration = Duration::from_secs(60);

/// How long one may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(20);

/// What is linked to busybox in the image.
const APPLETS: &[&str] = &[
    "cat", "hostname", "httpd", "ip", "kill", "mkdir", "nc", "nslookup", "ping", "ping6", "sh",
    "sleep", "timeout", "true", "wget",
];

/// A running Engine. Stopped, with everything that it left, when this goes.
#[derive(Debug)]
pub struct Engine {
    folder: TempDir,
    host: Namespace,
    pid: Pid,
    /// Waits for the process, and gives its end. `None` while the Engine is stopped.
    keeper: Option<JoinHandle<std::io::Result<ExitStatus>>>,
}

impl Engine {
    /// A program without which there is no Engine to be had here.
    pub fn lacks() -> Option<&'static str> {
        let mut needed = ["dockerd", "docker", "busybox", "setpriv", "tar"].into_iter();
        needed.find(|program| !is_installed(program))
    }

    /// An Engine with [`IMAGE`] whose host is `host`. Panics, with what to do, if there is none to
    /// be had.
    pub fn start(host: Namespace) -> Self {
        Self::start_with(host, &[])
    }

    /// The same, started with `arguments`.
    pub fn start_with(host: Namespace, arguments: &[&str]) -> Self {
        if let Some(program) = Self::lacks() {
            panic!("{program} is not installed; `cargo xtask test` installs what the tests need");
        }
        let folder = tempfile::Builder::new().prefix("veer-engine-").tempdir();
        let folder = folder.expect("make a folder for an Engine");
        fs::write(folder.path().join("daemon.json"), "{}").expect("write the Engine's settings");
        let (pid, keeper) = launch(&host, folder.path(), arguments);
        let engine = Self {
            folder,
            host,
            pid,
            keeper: Some(keeper),
        };
        engine.await_answer();
        engine.import_image();
        engine
    }

    /// Stops it as a shutdown of the host does: with its containers, unless it was started with
    /// `--live-restore`. What it keeps on disk stays.
    pub fn stop(&mut self) {
        let Some(keeper) = self.keeper.take() else {
            return;
        };
        let _ = kill(self.pid, Signal::SIGTERM);
        let deadline = Instant::now() + STOP;
        while !keeper.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        if !keeper.is_finished() {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        let _ = keeper.join();
    }

    /// Starts it again after [`Engine::stop`], with what it has on disk. Returns when it answers.
    pub fn start_again(&mut self, arguments: &[&str]) {
        assert!(self.keeper.is_none(), "the Engine runs");
        let (pid, keeper) = launch(&self.host, self.folder.path(), arguments);
        (self.pid, self.keeper) = (pid, Some(keeper));
        self.await_answer();
    }

    /// The file that it reads its settings from.
    pub fn settings(&self) -> PathBuf {
        self.folder.path().join("daemon.json")
    }

    /// The process id of `dockerd`.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// Its API socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// What `docker <arguments>` prints, without the white space around. Panics if it fails.
    pub fn docker<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let output = self.try_docker(arguments);
        assert!(
            output.status.success(),
            "docker: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    /// The outcome of `docker <arguments>`, whatever it is.
    pub fn try_docker<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        self.command().args(arguments).output().expect("run docker")
    }

    /// A `docker` that talks to this Engine.
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        // Settings of the user who runs the tests are none of ours.
        command
            .env_remove("DOCKER_CONTEXT")
            .env("DOCKER_CONFIG", self.folder.path())
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .stdin(Stdio::null());
        command
    }

    /// The process id of a container's first process.
    pub fn pid_of(&self, container: &str) -> i32 {
        let pid = self.docker(["inspect", "-f", "{{.State.Pid}}", container]);
        pid.parse().expect("a process id")
    }

    /// The network namespace of a running container.
    pub fn namespace_of(&self, container: &str) -> Namespace {
        let path = format!("/proc/{}/ns/net", self.pid_of(container));
        Namespace::open(Path::new(&path)).expect("open a container's namespace")
    }

    fn await_answer(&self) {
        let deadline = Instant::now() + START;
        while !self.answers() {
            let running = self
                .keeper
                .as_ref()
                .is_some_and(|keeper| !keeper.is_finished());
            assert!(
                running && Instant::now() < deadline,
                "the Engine does not answer; the end of its log:\n{}",
                self.log_end()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        let ping = || -> std::io::Result<String> {
            let mut socket = UnixStream::connect(self.socket())?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ping().is_ok_and(|answer| answer.starts_with("HTTP/1.0 200") || answer.contains(" 200 "))
    }

    fn import_image(&self) {
        let root = self.folder.path().join("image");
        for folder in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
            fs::create_dir_all(root.join(folder)).expect("make an image's folders");
        }
        let busybox = path_of("busybox").expect("checked before");
        fs::copy(busybox, root.join("bin/busybox")).expect("copy busybox");
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).expect("link an applet");
        }
        let mut tar = Command::new("tar");
        let tar = tar
            .arg("-C")
            .arg(&root)
            .args(["-c", "."])
            .stdout(Stdio::piped());
        let mut tar = tar.spawn().expect("run tar");
        let archive = tar.stdout.take().expect("piped");
        let imported = self
            .command()
            .args(["import", "-", IMAGE])
            .stdin(archive)
            .output();
        let imported = imported.expect("run docker import");
        assert!(tar.wait().expect("tar ends").success(), "tar failed");
        assert!(
            imported.status.success(),
            "docker import: {}",
            String::from_utf8_lossy(&imported.stderr)
        );
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Ends every process that belongs to this Engine and is still there: they carry its folder's
    /// name, which is like no other. What runs in a container has such a process for its parent.
    fn kill_leftovers(&self) {
        let folder = self.folder.path().to_string_lossy().into_owned();
        let is_ours = |pid: &i32| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let program = program.to_string_lossy();
            let ours = program.contains("containerd") || program.contains("dockerd");
            ours && String::from_utf8_lossy(&arguments).contains(&folder)
        };
        let all = processes();
        let ours: Vec<_> = all.iter().copied().filter(is_ours).collect();
        let children = all.into_iter().filter(|pid| ours.contains(&parent(*pid)));
        for pid in children.chain(ours.iter().copied()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    fn unmount_leftovers(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let mut ours: Vec<_> = places
            .filter(|place| Path::new(place).starts_with(self.folder.path()))
            .collect();
        ours.sort_by_key(|place| std::cmp::Reverse(place.len()));
        for place in ours {
            let _ = umount2(place, MntFlags::MNT_DETACH);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the end of the Engine's log:\n{}", self.log_end());
        }
        // Otherwise each container is given ten seconds to end by itself.
        let all = self.try_docker(["ps", "-aq"]);
        let all = String::from_utf8_lossy(&all.stdout).into_owned();
        if !all.trim().is_empty() {
            self.try_docker(["rm", "-f"].into_iter().chain(all.split_whitespace()));
        }
        self.stop();
        self.kill_leftovers();
        self.unmount_leftovers();
    }
}

/// Starts `dockerd` in `host`, with its data in `folder`.
fn launch(
    host: &Namespace,
    folder: &Path,
    arguments: &[&str],
) -> (Pid, JoinHandle<std::io::Result<ExitStatus>>) {
    let mut command = dockerd(folder);
    command.args(arguments);
    keep(host.try_clone().expect("open a namespace again"), command)
}

/// The Engine's command line. It ends with the test's process, even if that is killed.
fn dockerd(folder: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "dockerd"]);
    for (option, place) in [
        ("--config-file", "daemon.json"),
        ("--data-root", "data"),
        ("--exec-root", "exec"),
        ("--pidfile", "pid"),
    ] {
        command.arg(option).arg(folder.join(place));
    }
    let socket = folder.join("docker.sock");
    command
        .arg("--host")
        .arg(format!("unix://{}", socket.display()));
    let log = File::create(folder.join("log")).expect("create the Engine's log");
    let errors = log.try_clone().expect("share the Engine's log");
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    command
}

/// Runs `command` in `host`, from a thread that lives as long as it does: the signal for a parent's
/// death comes when the thread ends that started the child.
fn keep(host: Namespace, mut command: Command) -> (Pid, JoinHandle<std::io::Result<ExitStatus>>) {
    let (sender, receiver) = mpsc::channel();
    let keeper = thread::spawn(move || {
        host.run(move || {
            let mut child: Child = command.spawn()?;
            let _ = sender.send(child.id());
            child.wait()
        })?
    });
    match receiver.recv() {
        Ok(pid) => (Pid::from_raw(pid.cast_signed()), keeper),
        Err(_) => panic!("start dockerd: {:?}", keeper.join()),
    }
}

/// The parent's number; 0 for a process that is gone.
fn parent(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|number| number.trim().parse().ok())
        .unwrap_or_default()
}

fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn is_installed(program: &str) -> bool {
    path_of(program).is_some()
}

fn path_of(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}
