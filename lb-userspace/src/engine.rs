//! The Engine's process: how it was started, which its API does not say.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// Where the Engine writes its process id and reads its settings, unless told otherwise.
const PID_FILE: &str = "/run/docker.pid";
const SETTINGS: &str = "/etc/docker/daemon.json";

/// How the Engine was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    arguments: Vec<String>,
    /// Content of its settings.
    settings: serde_json::Value,
}

/// What an Engine does about containers' packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// It makes rules for its networks.
    pub has_rules: bool,
    /// Everybody may reach published ports at containers' own addresses.
    pub allows_direct_routing: bool,
}

impl Habits {
    /// Those of the Engine at `socket`. While none runs there, they are as they were `known`, or else as
    /// its settings say.
    pub fn at(socket: &Path, known: Option<Self>) -> Self {
        Self::of(Process::find(socket), known)
    }

    fn of(engine: Option<Process>, known: Option<Self>) -> Self {
        let has = |engine: Process| Self {
            has_rules: engine.switch("iptables"),
            allows_direct_routing: engine.is_asked_for("allow-direct-routing"),
        };
        let told = engine.map(has).or(known);
        told.unwrap_or_else(|| has(Process::to_be()))
    }
}

impl Process {
    /// The process that listens at `socket`, or the one that its file names. `None` if neither is an
    /// Engine.
    pub fn find(socket: &Path) -> Option<Self> {
        let pids = [listener(socket), written()];
        let arguments = pids.into_iter().flatten().find_map(arguments)?;
        let settings = settings(&settings_path(&arguments));
        Some(Self {
            arguments,
            settings,
        })
    }

    /// As it will be started if its command line says nothing.
    fn to_be() -> Self {
        Self {
            arguments: Vec::new(),
            settings: settings(Path::new(SETTINGS)),
        }
    }

    /// A switch that is on unless told otherwise. The Engine refuses to start if both places name it.
    pub fn switch(&self, name: &str) -> bool {
        let off = format!("--{name}=false");
        let in_file = self.settings.get(name).and_then(serde_json::Value::as_bool);
        !self.arguments.contains(&off) && in_file.unwrap_or(true)
    }

    /// A switch that is off unless told otherwise.
    fn is_asked_for(&self, name: &str) -> bool {
        let (bare, on) = (format!("--{name}"), format!("--{name}=true"));
        let mut arguments = self.arguments.iter();
        let in_file = self.settings.get(name).and_then(serde_json::Value::as_bool);
        arguments.any(|word| *word == bare || *word == on) || in_file.unwrap_or(false)
    }

    /// Whether its command line names the switch.
    pub fn has_argument(&self, name: &str) -> bool {
        let (bare, valued) = (format!("--{name}"), format!("--{name}="));
        let mut arguments = self.arguments.iter();
        arguments.any(|word| *word == bare || word.starts_with(&valued))
    }

    /// The file that it reads its settings from.
    pub fn settings_path(&self) -> PathBuf {
        settings_path(&self.arguments)
    }
}

fn settings_path(arguments: &[String]) -> PathBuf {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--config-file" {
            return words
                .next()
                .map_or_else(|| PathBuf::from(SETTINGS), PathBuf::from);
        }
        if let Some(path) = word.strip_prefix("--config-file=") {
            return PathBuf::from(path);
        }
    }
    PathBuf::from(SETTINGS)
}

fn settings(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_default()).unwrap_or_default()
}

/// Who made the socket: the Engine itself, unless the service manager made it for it.
fn listener(socket: &Path) -> Option<i32> {
    let stream = UnixStream::connect(socket).ok()?;
    getsockopt(&stream, PeerCredentials)
        .ok()
        .map(|peer| peer.pid())
}

fn written() -> Option<i32> {
    fs::read_to_string(PID_FILE).ok()?.trim().parse().ok()
}

/// The command line of this process, if it is an Engine.
fn arguments(pid: i32) -> Option<Vec<String>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    let words: Vec<String> = words
        .map(|word| String::from_utf8_lossy(word).into())
        .collect();
    let program = Path::new(words.first()?).file_name()?;
    (program == "dockerd").then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(arguments: &[&str], settings: serde_json::Value) -> Process {
        Process {
            arguments: arguments.iter().map(|word| word.to_string()).collect(),
            settings,
        }
    }

    #[test]
    fn a_switch_is_on_unless_the_command_line_or_the_file_says_otherwise() {
        let settings = serde_json::json!({ "userland-proxy": false });
        let process = process(&["dockerd", "--iptables=false"], settings);

        assert!(!process.switch("iptables"));
        assert!(!process.switch("userland-proxy"));
        assert!(process.switch("ip-masq"));
    }

    #[test]
    fn the_file_of_settings_is_the_one_that_the_command_line_names() {
        let path = |arguments: &[&str]| process(arguments, serde_json::Value::Null).settings_path();

        assert_eq!(path(&["dockerd"]), Path::new(SETTINGS));
        assert_eq!(path(&["dockerd", "--config-file=/a"]), Path::new("/a"));
        assert_eq!(path(&["dockerd", "--config-file", "/b"]), Path::new("/b"));
    }

    #[test]
    fn direct_routing_is_off_unless_it_is_asked_for() {
        let name = "allow-direct-routing";
        let off = process(
            &["dockerd", "--allow-direct-routing=false"],
            serde_json::json!({}),
        );
        assert!(
            !off.is_asked_for(name)
                && !process(&["dockerd"], serde_json::json!({})).is_asked_for(name)
        );
        for arguments in [["--allow-direct-routing"], ["--allow-direct-routing=true"]] {
            assert!(process(&arguments, serde_json::json!({})).is_asked_for(name));
        }
        assert!(process(&["dockerd"], serde_json::json!({ name: true })).is_asked_for(name));
    }

    #[test]
    fn a_socket_that_no_engine_listens_at_has_no_engine() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();

        let own = listener(&socket).unwrap();

        assert_eq!(own.cast_unsigned(), std::process::id());
        assert_eq!(arguments(own), None);
    }

    #[test]
    fn of_an_engine_that_has_ended_what_was_known_holds() {
        let known = Habits {
            has_rules: false,
            allows_direct_routing: true,
        };
        let running = process(&["dockerd"], serde_json::json!({}));
        let expected = Habits {
            has_rules: true,
            allows_direct_routing: false,
        };

        assert_eq!(Habits::of(None, Some(known)), known);
        assert_eq!(Habits::of(Some(running.clone()), Some(known)), expected);
        assert_eq!(Habits::of(Some(running), None), expected);
    }
}
