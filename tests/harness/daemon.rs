//! The real `veer`, as a process of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use lb_userspace::netns::Namespace;
use tempfile::TempDir;

use crate::child::Guarded;
use crate::deadline::within;

/// How long it may take to answer first: the kernel has to verify its programs, on a machine with
/// little to spare.
const START: Duration = Duration::from_secs(120);

/// Small maps: every test has its own.
const MAPS: &str = "[maps]
connections = 65_536
half_open = 16_384
affinity = 1_024
fragments = 1_024
veths = 256
endpoints = 1_024
frontends = 1_024
slots = 16_384
resolvers = 256
";

/// `veer run` in a namespace that plays the host. When this goes, so does everything that it loaded.
#[derive(Debug)]
pub struct Daemon {
    host: Namespace,
    folder: TempDir,
    engine: PathBuf,
    is_confined: bool,
    process: Option<Guarded>,
    starts: usize,
}

impl Daemon {
    /// Serves `host`, following the Engine at `socket`. Returns when its API answers.
    pub fn start(host: Namespace, socket: &Path) -> Self {
        Self::start_with(host, socket, "")
    }

    /// The same with more in the configuration.
    pub fn start_with(host: Namespace, socket: &Path, config: &str) -> Self {
        Self::begin(host, socket, config, false)
    }

    /// The same without CAP_SYS_ADMIN: it enters no namespace.
    pub fn start_confined(host: Namespace, socket: &Path, config: &str) -> Self {
        Self::begin(host, socket, config, true)
    }

    fn begin(host: Namespace, socket: &Path, config: &str, is_confined: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("veer-daemon-").tempdir();
        let mut daemon = Self {
            host,
            folder: folder.unwrap(),
            engine: socket.to_path_buf(),
            is_confined,
            process: None,
            starts: 0,
        };
        fs::write(daemon.config(), format!("{MAPS}{config}")).unwrap();
        daemon.returns();
        daemon
    }

    /// Ends it without asking, as `kill -9` does. What is pinned stays.
    pub fn killed(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// It is started again, and answers.
    pub fn returns(&mut self) {
        self.starts += 1;
        let log = File::create(self.log()).unwrap();
        let mut command = self.command();
        command
            .args(["run", "--provider", "docker"])
            .arg("--config")
            .arg(self.config())
            .arg("--docker-socket")
            .arg(&self.engine)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let start = || Guarded::start(&mut command);
        self.process = Some(self.host.run(start).unwrap().unwrap());
        within(START, "veer's API answers", || {
            let process = self.process.as_mut().expect("just started");
            assert!(process.is_running(), "veer ended:\n{}", self.log_text());
            self.try_veer(["status"]).status.success()
        });
    }

    /// It is ended without asking, and everything that it did is undone. Gives what `veer uninstall` says.
    pub fn uninstalled(&mut self) -> String {
        self.killed();
        self.veer(["uninstall"])
    }

    /// What `veer <words>` prints. Panics, with what it says, when it fails.
    #[track_caller]
    pub fn veer<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> String {
        let output = self.try_veer(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "veer: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The same, however it ends.
    pub fn try_veer<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Output {
        let mut command = self.command();
        command.args(words).stdin(Stdio::null());
        self.host.run(|| command.output()).unwrap().unwrap()
    }

    /// `veer`, with what it may.
    fn command(&self) -> Command {
        if !self.is_confined {
            return Command::new(program());
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"])
            .arg(program());
        command
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("veer.toml")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join(format!("log{}", self.starts))
    }

    fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            for verb in ["status", "groups", "endpoints"] {
                let told = self.try_veer([verb]);
                eprintln!("veer {verb}:\n{}", String::from_utf8_lossy(&told.stdout));
            }
            eprintln!("veer's log:\n{}", self.log_text());
        }
        self.killed();
        let output = self.try_veer(["uninstall"]);
        if !output.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// The program, built from what is being tested. Cargo builds it for this test only when it is told
/// to, and not at all when only the tests' package is tested.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let profile = own
            .ancestors()
            .nth(2)
            .expect("target/<profile>/deps/<test>");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args([
            "build",
            "--quiet",
            "--package",
            "lb-userspace",
            "--bin",
            "veer",
        ]);
        build
            .arg("--target-dir")
            .arg(profile.parent().expect("target"));
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(status.unwrap().success(), "build veer");
        profile.join("veer")
    })
}
