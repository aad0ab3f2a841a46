//! The host's name servers, from its `resolv.conf`.

use std::fs::{self, Metadata};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::net::if_::if_nametoindex;
use tracing::warn;

/// How many name servers are asked at most, as by the C library.
const SERVERS: usize = 3;

/// The resolver that containers ask. Asking it on behalf of one would be a loop.
const OURS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The name servers in a file, read again when the file has changed.
#[derive(Debug)]
pub(super) struct ResolvConf {
    path: PathBuf,
    /// What the file looked like when it was read; `None` before, and while it cannot be read.
    version: Option<Version>,
    servers: Vec<SocketAddr>,
    edition: u64,
}

/// A file that is written or replaced differs in one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl ResolvConf {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            version: None,
            servers: Vec::new(),
            edition: 0,
        }
    }

    /// The name servers, in the file's order. None while the file cannot be read.
    pub(super) fn servers(&mut self) -> &[SocketAddr] {
        let version = fs::metadata(&self.path).ok().as_ref().map(Version::of);
        if version.is_none() || version != self.version {
            let before = std::mem::take(&mut self.servers);
            self.read();
            self.edition += u64::from(self.servers != before);
            self.version = version;
        }
        &self.servers
    }

    /// Another number for each list of servers that [`Self::servers`] has given.
    pub(super) fn edition(&self) -> u64 {
        self.edition
    }

    fn read(&mut self) {
        match fs::read(&self.path) {
            Ok(bytes) => self.servers = listed(&String::from_utf8_lossy(&bytes)),
            Err(error) => {
                self.servers.clear();
                // Said once, not for each query.
                if self.version.is_some() {
                    warn!(path = %self.path.display(), %error, "cannot read the host's name servers");
                }
            }
        }
    }
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Those of a container's own servers that are asked, in order.
pub(super) fn own_servers(addresses: &[IpAddr]) -> Vec<SocketAddr> {
    let others = addresses.iter().filter(|address| !is_ours(address));
    let servers = others.map(|&address| SocketAddr::new(address, 53));
    servers.take(SERVERS).collect()
}

/// The addresses of the name servers that a `resolv.conf` lists and that are asked, in order.
pub fn name_servers(text: &str) -> Vec<IpAddr> {
    let servers = listed(text).into_iter();
    servers.map(|server| server.ip()).collect()
}

/// The `nameserver` lines of a `resolv.conf` that are asked, in order.
fn listed(text: &str) -> Vec<SocketAddr> {
    let words = text.lines().map(str::split_whitespace);
    let values = words.filter_map(|mut words| match (words.next(), words.next()) {
        (Some("nameserver"), Some(value)) => Some(value),
        _ => None,
    });
    values.filter_map(name_server).take(SERVERS).collect()
}

/// `10.0.0.1`, `fd00::1` or `fe80::1%eth0`; `None` for what cannot be asked.
fn name_server(text: &str) -> Option<SocketAddr> {
    let (address, zone) = text.split_once('%').unwrap_or((text, ""));
    let address: IpAddr = address.parse().ok()?;
    if is_ours(&address) {
        return None;
    }
    match address {
        IpAddr::V6(address) if !zone.is_empty() => {
            let by_number = zone.parse().ok();
            let scope = by_number.or_else(|| if_nametoindex(zone).ok())?;
            Some(SocketAddrV6::new(address, 53, 0, scope).into())
        }
        address => Some(SocketAddr::new(address, 53)),
    }
}

fn is_ours(address: &IpAddr) -> bool {
    address.to_canonical() == OURS
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn texts(servers: &[SocketAddr]) -> Vec<String> {
        servers.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn name_servers_are_read_in_order_and_at_most_three() {
        let text = "# nameserver 9.9.9.9\n\
                    search example.com\n\
                    nameserver 127.0.0.53\n\
                    \tnameserver   fd00::1  # comment\n\
                    nameserver not-an-address\n\
                    nameserver\n\
                    nameserver fe80::1%lo\n\
                    nameserver 10.0.0.4\n\
                    options rotate\n";

        let expected = ["127.0.0.53:53", "[fd00::1]:53", "[fe80::1%1]:53"];
        assert_eq!(texts(&listed(text)), expected);
    }

    #[test]
    fn our_own_address_is_never_asked() {
        let text = "nameserver 127.0.0.11\nnameserver ::ffff:127.0.0.11\nnameserver 10.0.0.1\n";
        let own = ["127.0.0.11", "10.0.0.2"].map(|text| text.parse().expect("an address"));

        assert_eq!(texts(&listed(text)), ["10.0.0.1:53"]);
        assert_eq!(texts(&own_servers(&own)), ["10.0.0.2:53"]);
    }

    #[test]
    fn a_changed_or_replaced_file_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("resolv.conf");
        let mut file = ResolvConf::new(path.clone());

        assert_eq!(file.servers(), []);
        fs::write(&path, "nameserver 10.0.0.1\n").expect("write");
        assert_eq!(texts(file.servers()), ["10.0.0.1:53"]);
        let mut appending = fs::File::options().append(true).open(&path).expect("open");
        appending
            .write_all(b"nameserver 10.0.0.2\n")
            .expect("append");
        assert_eq!(texts(file.servers()), ["10.0.0.1:53", "10.0.0.2:53"]);
        let other = folder.path().join("other");
        fs::write(&other, "nameserver 10.0.0.3\n").expect("write");
        fs::rename(&other, &path).expect("rename");
        assert_eq!(texts(file.servers()), ["10.0.0.3:53"]);
        fs::remove_file(&path).expect("remove");
        assert_eq!(file.servers(), []);
    }
}
