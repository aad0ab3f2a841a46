//! A program in a container, at ports of the host.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use veer_tests::servers::mounts;

use crate::street::Street;

/// How long a program may take to answer first: it may have to make a database.
const START: Duration = Duration::from_secs(90);
/// How often it is asked.
const AGAIN: Duration = Duration::from_millis(100);

/// A container whose first process is a program; its own folder is `/own`.
#[derive(Debug)]
pub(super) struct Served {
    folder: TempDir,
    name: String,
    pub(super) network: String,
    options: String,
    script: String,
}

impl Served {
    /// One that is yet to be started: `script` ends as the program, on a network of its own with this
    /// number, with `options` of `docker run`.
    pub(super) fn new(street: &Street, number: u8, options: &str, script: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("veer-program-").tempdir();
        let folder = folder.unwrap();
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path(), everybody).unwrap();
        let users = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n";
        std::fs::write(folder.path().join("passwd"), users).unwrap();
        std::fs::write(folder.path().join("group"), "root:x:0:\n").unwrap();
        Self {
            folder,
            name: street.host.name("program"),
            network: street.network(number, ""),
            options: options.to_string(),
            script: script.to_string(),
        }
    }

    /// What the container sees as `/own`.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn starts(&self, street: &Street) {
        let own = self.folder().display();
        let words = format!(
            "run -d --name {} --network {} --volume={own}:/own \
             --volume={own}/passwd:/etc/passwd:ro --volume={own}/group:/etc/group:ro {}",
            self.name, self.network, self.options
        );
        let mut words: Vec<String> = words.split_whitespace().map(str::to_string).collect();
        words.extend(mounts());
        words.extend(["veer-test", "sh", "-c", &self.script].map(str::to_string));
        street.host.engine.docker(words);
    }

    /// Waits until `ask` is answered.
    #[track_caller]
    pub(super) fn answers(
        &self,
        street: &Street,
        who: &str,
        ask: impl Fn() -> Result<String, String>,
    ) {
        let deadline = Instant::now() + START;
        while let Err(error) = ask() {
            if Instant::now() > deadline {
                let logs = street.host.engine.try_docker(["logs", &self.name]);
                let said = String::from_utf8_lossy(&logs.stderr);
                panic!("{who} does not answer: {error}\nIt says:\n{said}");
            }
            // Asking is a process each time.
            thread::sleep(AGAIN);
        }
    }

    /// `ask` is answered as it should be; when the container has been restarted, again; and when
    /// another container is in its place.
    #[track_caller]
    pub(super) fn goes_on(&self, street: &Street, ask: impl Fn(&Street) -> Result<String, String>) {
        self.answers(street, "the first one", || ask(street));
        street.docker(&format!("restart -t 5 {}", self.name));
        self.answers(street, "the one that was restarted", || ask(street));
        street.docker(&format!("rm -f {}", self.name));
        self.starts(street);
        self.answers(street, "the one in its place", || ask(street));
    }
}
