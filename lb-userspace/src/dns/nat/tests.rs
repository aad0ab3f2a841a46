use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{self, Command};

use super::*;

/// Docker's rules as iptables takes them, and one of somebody else's.
const CHAINS: &str = "*nat
:DOCKER_OUTPUT - [0:0]
:DOCKER_POSTROUTING - [0:0]
-A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT
-A OUTPUT -d 192.0.2.1/32 -j ACCEPT
-A POSTROUTING -d 127.0.0.11/32 -j DOCKER_POSTROUTING
-A DOCKER_OUTPUT -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:33001
-A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:33002
-A DOCKER_POSTROUTING -s 127.0.0.11/32 -p tcp -m tcp --sport 33001 -j SNAT --to-source :53
-A DOCKER_POSTROUTING -s 127.0.0.11/32 -p udp -m udp --sport 33002 -j SNAT --to-source :53
COMMIT
";

/// The same as Docker makes them with nftables.
const TABLE: &str = "table ip docker-dns {
 chain dns-dnat {
  type nat hook output priority -100; policy accept;
  ip daddr 127.0.0.11 udp dport 53 counter dnat to 127.0.0.11:33002
  ip daddr 127.0.0.11 tcp dport 53 counter dnat to 127.0.0.11:33001
 }
 chain dns-snat {
  type nat hook postrouting priority 100; policy accept;
  ip saddr 127.0.0.11 udp sport 33002 counter snat to :53
 }
}
";

/// A namespace with rules, and where they are written down when they are taken away.
struct Place {
    namespace: Namespace,
    folder: tempfile::TempDir,
    nat: Nat,
}

impl Place {
    fn new(tool: Tool) -> Self {
        let namespace = Namespace::create().unwrap();
        let mut links = namespace.links().unwrap();
        let lo = links.index_of("lo").unwrap();
        links.set_up(lo).unwrap();
        let (program, rules) = match tool {
            Tool::Nftables => ("nft -f -", TABLE),
            Tool::Iptables => ("iptables-nft-restore", CHAINS),
            Tool::Legacy => ("iptables-legacy-restore", CHAINS),
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rules");
        fs::write(&file, rules).unwrap();
        let place = Self {
            namespace,
            nat: Nat::open(folder.path().join("nat")),
            folder,
        };
        place.prints(&format!("{program} < {}", file.display()));
        place
    }

    fn netns(&self) -> Netns {
        let file = self.namespace.as_fd().as_raw_fd();
        Netns {
            path: format!("/proc/{}/fd/{file}", process::id()).into(),
            cookie: self.namespace.cookie().unwrap(),
        }
    }

    fn prints(&self, script: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let output = self.namespace.run(|| command.output()).unwrap().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether the kernel tracks what is sent here.
    fn is_tracked(&self) -> bool {
        let send = || {
            let server = UdpSocket::bind("127.0.0.1:0").unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.send_to(b"x", server.local_addr().unwrap()).unwrap();
            fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap()
        };
        self.namespace.run(send).unwrap().trim() != "0"
    }

    fn find(&self) -> Option<Taken> {
        self.nat.find(&self.netns()).unwrap()
    }
}

#[test]
fn dockers_rules_are_taken_away_and_put_back_whatever_made_them() {
    for tool in [Tool::Nftables, Tool::Iptables, Tool::Legacy] {
        let place = Place::new(tool);
        let found = place.find().unwrap();
        assert_eq!((found.tool, found.udp, found.tcp), (tool, 33_002, 33_001));

        place.nat.take(&found).unwrap();

        assert_eq!(place.find(), None, "{tool:?}");
        assert_eq!(place.nat.all().unwrap(), vec![found.clone()], "{tool:?}");
        assert!(place.nat.put_back(&found).unwrap(), "{tool:?}");
        assert_eq!(place.find().unwrap().rules, found.rules, "{tool:?}");
        assert_eq!(place.nat.all().unwrap(), [], "{tool:?}");
        assert!(place.is_tracked(), "{tool:?}: as before");
    }
}

#[test]
fn without_them_nothing_is_tracked() {
    let place = Place::new(Tool::Nftables);
    let found = place.find().unwrap();

    place.nat.take(&found).unwrap();

    assert!(!place.is_tracked());
}

#[test]
fn rules_of_others_stay() {
    for (tool, save) in [
        (Tool::Iptables, "iptables-nft-save -t nat"),
        (Tool::Legacy, "iptables-legacy-save -t nat"),
    ] {
        let place = Place::new(tool);

        place.nat.take(&place.find().unwrap()).unwrap();

        let saved = place.prints(save);
        assert!(saved.contains("-d 192.0.2.1/32 -j ACCEPT"), "{saved}");
        assert!(!saved.contains("DOCKER"), "{saved}");
    }
}

#[test]
fn what_docker_has_put_back_itself_stays_and_namespaces_that_are_gone_are_forgotten() {
    let [place, gone] = [Tool::Iptables, Tool::Iptables].map(Place::new);
    let found = place.find().unwrap();
    place.nat.take(&found).unwrap();
    let restore = format!(
        "iptables-nft-restore < {}",
        place.folder.path().join("rules").display()
    );
    place.prints(&restore);

    let mut elsewhere = gone.find().unwrap();
    elsewhere.netns.path = "/nowhere".into();
    gone.nat.take(&gone.find().unwrap()).unwrap();

    assert!(!place.nat.put_back(&found).unwrap());
    assert!(!gone.nat.put_back(&elsewhere).unwrap());
    assert_eq!(
        (place.nat.all().unwrap(), gone.nat.all().unwrap()),
        (vec![], vec![])
    );
}

#[test]
fn a_namespace_without_rules_has_nothing_to_take() {
    let namespace = Namespace::create().unwrap();
    let netns = Netns {
        path: format!(
            "/proc/{}/fd/{}",
            process::id(),
            namespace.as_fd().as_raw_fd()
        )
        .into(),
        cookie: namespace.cookie().unwrap(),
    };
    let folder = tempfile::tempdir().unwrap();
    let nat = Nat::open(folder.path().join("nat"));

    assert_eq!(nat.find(&netns).unwrap(), None);
    assert_eq!(nat.put_all_back().unwrap(), 0);
}
