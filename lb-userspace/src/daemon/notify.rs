//! Telling systemd how the daemon is (sd_notify(3)): one datagram each.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notify {
    /// Served from now on.
    Ready,
    Reloading,
    Stopping,
}

impl Notify {
    /// Tells whoever started the daemon, if it wants to know. That it cannot be told is no reason to
    /// stop.
    pub(super) fn send(self) {
        let Some(socket) = env::var_os("NOTIFY_SOCKET") else {
            return;
        };
        if let Err(error) = self.send_to(socket.as_bytes()) {
            tracing::warn!(%error, "systemd cannot be told");
        }
    }

    fn send_to(self, socket: &[u8]) -> io::Result<()> {
        let address = match socket.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(socket))?,
        };
        UnixDatagram::unbound()?.send_to_addr(self.message().as_bytes(), &address)?;
        Ok(())
    }

    fn message(self) -> String {
        match self {
            Self::Ready => "READY=1".to_owned(),
            // With Type=notify-reload the time tells this reload from an earlier one.
            Self::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_microseconds()),
            Self::Stopping => "STOPPING=1".to_owned(),
        }
    }
}

fn monotonic_microseconds() -> i64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |time| time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_told_on_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();

        Notify::Ready.send_to(path.as_os_str().as_bytes()).unwrap();

        let mut buffer = [0; 64];
        let length = systemd.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }

    #[test]
    fn a_reload_says_when_it_began() {
        let message = Notify::Reloading.message();

        let (_, microseconds) = message.split_once("MONOTONIC_USEC=").unwrap();
        assert!(microseconds.parse::<i64>().unwrap() > 0, "{message}");
    }
}
