//! An Engine that is made up: canned answers on a unix socket, and whatever can go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

/// What the Engine knows, and how it misbehaves.
#[derive(Default)]
pub(super) struct World {
    /// Inspections, by id.
    pub(super) containers: BTreeMap<String, Value>,
    pub(super) networks: BTreeMap<String, Value>,
    /// Containers whose inspection waits.
    pub(super) locked: BTreeSet<String>,
    /// Subjects about which it answers nonsense.
    pub(super) nonsense: BTreeSet<String>,
    listeners: Vec<UnixStream>,
    is_up: bool,
}

/// The Engine. It can be stopped and started again, with what it knows.
pub(super) struct FakeEngine {
    folder: TempDir,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    world: Mutex<World>,
    changed: Condvar,
    inspections: AtomicUsize,
}

impl FakeEngine {
    /// An Engine that is down.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shared = Arc::default();
        Self { folder, shared }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    pub(super) fn start(&self) {
        self.change(|world| world.is_up = true);
        let listener = UnixListener::bind(self.socket()).unwrap();
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if !shared.lock().is_up {
                    return;
                }
                let (stream, shared) = (stream.unwrap(), Arc::clone(&shared));
                thread::spawn(move || serve(&shared, stream));
            }
        });
    }

    /// Ends every connection, and refuses new ones.
    pub(super) fn stop(&self) {
        self.change(|world| world.is_up = false);
        // The listener waits for a connection: here it is.
        let _ = UnixStream::connect(self.socket());
        fs::remove_file(self.socket()).unwrap();
        self.hang_up();
    }

    /// Ends the streams of events.
    pub(super) fn hang_up(&self) {
        for listener in self.shared.lock().listeners.drain(..) {
            let _ = listener.shutdown(std::net::Shutdown::Both);
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }

    /// Adds or replaces what there is.
    pub(super) fn put(&self, containers: Vec<Value>, networks: Vec<Value>) {
        let by_id = |value: Value| (value["Id"].as_str().unwrap().to_string(), value);
        self.change(|world| {
            world.containers.extend(containers.into_iter().map(by_id));
            world.networks.extend(networks.into_iter().map(by_id));
        });
    }

    pub(super) fn event(&self, typ: &str, action: &str, id: &str, attributes: Value) {
        let event = json!({
            "Type": typ, "Action": action, "scope": "local", "timeNano": 1,
            "Actor": { "ID": id, "Attributes": attributes },
        });
        self.line(&event.to_string());
    }

    /// Sends one line on the streams of events.
    pub(super) fn line(&self, line: &str) {
        let mut world = self.shared.lock();
        for listener in &mut world.listeners {
            let length = line.len() + 1;
            let _ = write!(listener, "{length:x}\r\n{line}\n\r\n");
        }
    }

    pub(super) fn is_listened_to(&self) -> bool {
        !self.shared.lock().listeners.is_empty()
    }

    /// Containers that were inspected so far, each time counted.
    pub(super) fn inspections(&self) -> usize {
        self.shared.inspections.load(Ordering::Relaxed)
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.change(|world| {
            world.is_up = false;
            world.locked.clear();
        });
        let _ = UnixStream::connect(self.socket());
        self.hang_up();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, path: &str) -> Option<String> {
        let path = path.split('?').next().unwrap_or(path);
        let mut parts = path.trim_start_matches('/').split('/').peekable();
        parts.next_if(|part| part.starts_with("v1."));
        let parts: Vec<_> = parts.collect();
        let value = match parts[..] {
            ["version"] => json!({ "Version": "20.10.24", "ApiVersion": "1.41" }),
            ["containers", "json"] => self.lock().containers.values().map(summary).collect(),
            ["networks"] => self.lock().networks.values().cloned().collect(),
            ["containers", id, "json"] => {
                self.inspections.fetch_add(1, Ordering::Relaxed);
                let locked = |world: &mut World| world.locked.contains(id);
                let world = self.changed.wait_while(self.lock(), locked).unwrap();
                return of(id, &world.nonsense, world.containers.get(id));
            }
            ["networks", id] => {
                let world = self.lock();
                return of(id, &world.nonsense, world.networks.get(id));
            }
            _ => return None,
        };
        Some(value.to_string())
    }
}

fn of(id: &str, nonsense: &BTreeSet<String>, value: Option<&Value>) -> Option<String> {
    let value = value?;
    if nonsense.contains(id) {
        return Some("{\"Id\": [".to_string());
    }
    Some(value.to_string())
}

/// What a list says of a container.
fn summary(container: &Value) -> Value {
    json!({
        "Id": container["Id"], "Names": [container["Name"]], "State": container["State"]["Status"],
        "NetworkSettings": { "Networks": container["NetworkSettings"]["Networks"] },
    })
}

fn serve(shared: &Shared, mut stream: UnixStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(request)) = lines.next() else {
        return;
    };
    let _ = lines.find(|line| line.as_ref().is_ok_and(String::is_empty));
    let path = request.split(' ').nth(1).unwrap_or_default();
    if path.contains("/events") {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        if stream.write_all(head.as_bytes()).is_ok() {
            shared.lock().listeners.push(stream);
        }
        return;
    }
    let (status, body) = match shared.answer(path) {
        Some(body) => ("200 OK", body),
        None => (
            "404 Not Found",
            json!({ "message": "no such thing" }).to_string(),
        ),
    };
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
}
