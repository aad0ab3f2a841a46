//! A name server of somebody else.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lb_userspace::netns::Namespace;

use super::asking::name_at;

/// What the other name server answers for every name of `example.com`.
pub(super) const WORLD: [u8; 4] = [192, 0, 2, 80];

/// A name server in a container: it knows every name of `example.com`, and that nothing else exists.
pub(super) struct NameServer {
    asked: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    pub(super) fn start(inside: &Namespace) -> Self {
        Self::start_at(inside, "0.0.0.0:53")
    }

    pub(super) fn start_at(inside: &Namespace, bind: &str) -> Self {
        let socket = inside.run(|| UdpSocket::bind(bind).unwrap()).unwrap();
        let tick = Duration::from_millis(50);
        socket.set_read_timeout(Some(tick)).unwrap();
        let (asked, is_over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        Self {
            asked: Arc::clone(&asked),
            is_over: Arc::clone(&is_over),
            thread: Some(thread::spawn(move || serve(&socket, &asked, &is_over))),
        }
    }

    /// How often a name was asked for.
    pub(super) fn count(&self, name: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|other| *other == name).count()
    }
}

fn serve(socket: &UdpSocket, asked: &Mutex<Vec<String>>, is_over: &AtomicBool) {
    let mut buffer = [0; 512];
    while !is_over.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let mut reply = buffer[..length].to_vec();
        let (name, end) = name_at(&reply, 12);
        let name = name.to_ascii_lowercase();
        asked.lock().unwrap().push(name.clone());
        reply.truncate(end + 4);
        (reply[2], reply[3], reply[11]) = (0x81, 0x83, 0);
        if name.ends_with("example.com.") {
            (reply[3], reply[7]) = (0x80, 1);
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 100, 0, 4]);
            reply.extend(WORLD);
        }
        // A client that is gone by now is no fault of the server.
        let _ = socket.send_to(&reply, client);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
