//! A namespace that plays a host, with the program in it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lb_userspace::instance::Instance;
use lb_userspace::netns::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked at.
const TICK: Duration = Duration::from_millis(20);

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

const VEER: &str = env!("CARGO_BIN_EXE_veer");

/// A host of the test's own. Everything that veer makes in it goes with it.
pub(crate) struct Host {
    namespace: Namespace,
    instance: Instance,
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Host {
    pub(crate) fn new() -> Self {
        assert!(geteuid().is_root(), "this test needs root");
        let namespace = Namespace::create().unwrap();
        let mut links = namespace.links().unwrap();
        let loopback = links.index_of("lo").unwrap();
        links.set_up(loopback).unwrap();
        Self {
            instance: Instance::of(namespace.cookie().unwrap()),
            namespace,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Runs `veer` with these words.
    pub(crate) fn veer(&self, words: &str) -> Ended {
        self.run(Command::new(VEER).args(words.split_whitespace()))
    }

    /// Runs `veer` as a user without any right.
    pub(crate) fn veer_as_nobody(&self, words: &str) -> Ended {
        // A copy, because the way to the program may be closed to that user; made by another
        // process, because a test that forks meanwhile would keep our copy open for writing, and
        // such a file cannot be run.
        let program = self.folder.path().join("veer");
        let copied = Command::new("cp").arg(VEER).arg(&program).status().unwrap();
        assert!(
            copied.success(),
            "cp {VEER} {}: {copied}",
            program.display()
        );
        fs::set_permissions(self.folder.path(), Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(program);
        command
            .args(words.split_whitespace())
            .uid(NOBODY)
            .gid(NOBODY);
        self.run(&mut command)
    }

    fn run(&self, command: &mut Command) -> Ended {
        self.namespace
            .run(|| command.output())
            .unwrap()
            .unwrap()
            .into()
    }

    /// The rows that a verb prints with `--json`.
    #[track_caller]
    pub(crate) fn rows(&self, words: &str) -> Vec<serde_json::Value> {
        let ended = self.veer(words);
        assert_eq!(ended.code, 0, "veer {words}: {}", ended.stderr);
        let rows = ended.stdout.lines().map(serde_json::from_str);
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// A lab of one client and this many Members of `tg-net`.
    #[track_caller]
    pub(crate) fn lab_up(&self, members: u32) {
        let topology = format!(
            "[[network]]\nname = \"lab\"\n\
             [[container]]\nname = \"client\"\nnetworks = [\"lab\"]\n\
             [[container]]\nname = \"member\"\nnetworks = [\"lab\"]\ncount = {members}\n\
             aliases = [\"tg-net\"]\n\
             command = [\"veer\", \"lab\", \"serve\", \"--name\", \"{{name}}\"]\n"
        );
        let file = self.file("lab.toml", &topology);
        let up = self.veer(&format!("lab up --file {file}"));
        assert_eq!(up.code, 0, "{}", up.stderr);
    }

    /// Asks `host` for a page, from the lab's client, by whatever resolves names on this system.
    pub(crate) fn get(&self, host: &str) -> Ended {
        let script = format!(
            "exec 3<>/dev/tcp/{host}/80 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && tail -n 1 <&3"
        );
        let words = [
            "lab", "exec", "client", "--", "timeout", "10", "bash", "-c", &script,
        ];
        self.run(Command::new(VEER).args(words))
    }

    /// The page, which is the name of the Member that answered.
    #[track_caller]
    pub(crate) fn fetch(&self, host: &str) -> String {
        let ended = self.get(host);
        assert_eq!(ended.code, 0, "{host}: {}", ended.stderr);
        ended.stdout.trim_end().to_owned()
    }

    /// The client's namespace.
    pub(crate) fn client(&self) -> Namespace {
        Namespace::open(&self.state_folder().join("lab/netns/client")).unwrap()
    }

    #[track_caller]
    pub(crate) fn start_daemon(&self) -> Daemon {
        self.start_daemon_with("--provider lab")
    }

    /// A daemon that answers already, and that serves what there is.
    #[track_caller]
    pub(crate) fn start_daemon_with(&self, words: &str) -> Daemon {
        let log = self.folder.path().join("daemon.log");
        let mut command = Command::new(VEER);
        command.arg("run").args(words.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&log).unwrap());
        let child = self.namespace.run(|| command.spawn()).unwrap().unwrap();
        let mut daemon = Daemon { child, log };
        let is_lab = self.state_folder().join("lab").exists() || words.contains("lab");
        self.eventually("the daemon serves", || {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", daemon.log());
            let status = self.veer("status --json");
            status.code == 0 && (!is_lab || serves(&status.stdout))
        });
        daemon
    }

    /// Writes a file and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub(crate) fn state_folder(&self) -> PathBuf {
        self.instance.folder()
    }

    /// Where the datapath is pinned.
    pub(crate) fn pins(&self) -> PathBuf {
        PathBuf::from("/sys/fs/bpf/veer").join(self.instance.name())
    }

    #[track_caller]
    pub(crate) fn eventually(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            thread::sleep(TICK);
        }
    }
}

/// Whether a status tells that every namespace of a lab is served.
fn serves(status: &str) -> bool {
    let status: serde_json::Value = serde_json::from_str(status).unwrap();
    let (dns, counts) = (&status["dns"], &status["counts"]);
    counts["containers"].as_u64() > Some(0) && dns["taken_over"] == dns["wanted"]
}

impl Drop for Host {
    fn drop(&mut self) {
        self.veer("lab down");
        self.veer("uninstall");
        // What is left are the lock and empty folders.
        let _ = fs::remove_dir_all(self.state_folder());
    }
}

/// A daemon, ended with the test at the latest.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As `systemctl stop` does.
    #[track_caller]
    pub(crate) fn terminate(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// As `systemctl reload` does.
    pub(crate) fn reload(&self) {
        self.signal(Signal::SIGHUP);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
