//! The same host twice: networks, containers, ports and addresses are alike.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use lb_userspace::netns::Namespace;
use veer_tests::daemon::Daemon;
use veer_tests::deadline::eventually;
use veer_tests::engine::Engine;

use super::cell::{At, Cell, Client, Family, Port};
use super::probe::{self, Outcome, PONG, Seen};
use crate::stage::{Host, again};
use crate::street::{HOST_V4, HOST_V6, OUTSIDE_V4, OUTSIDE_V6, Server, joined};

/// Questions that are asked at once: those that stay without an answer only wait.
const AT_ONCE: usize = 48;

/// Networks: name, number (10.n.0.0/16, fd00:n::/64), and the rest of `docker network create`.
const NETWORKS: [(&str, u8, &str); 4] = [
    ("near", 50, "--ipv6 --subnet fd00:50::/64"),
    ("far", 51, "--ipv6 --subnet fd00:51::/64"),
    ("inner", 52, "--internal --ipv6 --subnet fd00:52::/64"),
    ("single", 53, ""),
];

/// Containers: name, network, and options of `docker run`.
const CONTAINERS: [(&str, &str, &str); 6] = [
    (
        "server",
        "near",
        "-p 8001:80 -p 8001:80/udp \
         -p 127.0.0.1:8002:82 -p 127.0.0.1:8002:82/udp -p [::1]:8002:82 -p [::1]:8002:82/udp \
         -p 8100-8109:9100-9109 -p 8100-8109:9100-9109/udp",
    ),
    ("neighbour", "near", ""),
    ("stranger", "far", ""),
    ("enclosed", "inner", ""),
    ("hidden", "inner", "-p 8003:80 -p 8003:80/udp"),
    ("single", "single", "-p 8004:80 -p 8004:80/udp"),
];

/// Who listens where, each on TCP and UDP.
const SERVERS: [(&str, u16); 6] = [
    ("server", 80),
    ("server", 81),
    ("server", 82),
    ("server", 9_109),
    ("hidden", 80),
    ("single", 80),
];

/// A host, its containers with servers in them, and somebody outside.
#[derive(Debug)]
pub(super) struct Scene {
    _servers: Vec<Server>,
    residents: BTreeMap<&'static str, Namespace>,
    outside: Namespace,
    /// Before the host: what veer loaded is in the host's namespace.
    _daemon: Option<Daemon>,
    host: Host,
}

impl Scene {
    /// A host with an Engine that is started with `arguments`, and with veer or without.
    pub(super) fn new(arguments: &[&str], with_veer: bool) -> Self {
        let (namespace, outside) = joined();
        let mut links = outside.links().unwrap();
        for gateway in [HOST_V4, HOST_V6] {
            links.add_default_route(gateway.parse().unwrap()).unwrap();
        }
        let engine = Engine::start_with(again(&namespace), arguments);
        let host = Host { namespace, engine };
        let daemon =
            with_veer.then(|| Daemon::start(again(&host.namespace), &host.engine.socket()));
        for (name, number, more) in NETWORKS {
            host.docker(&format!(
                "network create --subnet 10.{number}.0.0/16 {more} {name}"
            ));
        }
        let mut residents = BTreeMap::new();
        for (name, network, options) in CONTAINERS {
            host.docker(&format!(
                "run -d --name {name} --network {network} {options} veer-test sleep 100000"
            ));
            residents.insert(name, host.engine.namespace_of(name));
        }
        if let Some(daemon) = &daemon {
            is_served(daemon);
        }
        for space in residents.values().chain([&host.namespace, &outside]) {
            space.run(make_talkative).unwrap();
        }
        let servers =
            SERVERS.map(|(container, port)| Server::start(&residents[container], container, port));
        Self {
            _servers: servers.into(),
            residents,
            outside,
            _daemon: daemon,
            host,
        }
    }

    /// What the Engine calls its release.
    pub(super) fn release(&self) -> String {
        self.host.docker("version --format {{.Server.Version}}")
    }

    /// What comes of each question, in order.
    pub(super) fn measure(&self, cells: &[Cell]) -> Vec<Outcome> {
        let next = AtomicUsize::new(0);
        let outcomes = Mutex::new(vec![None; cells.len()]);
        let ask_on = || loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(cell) = cells.get(index) else {
                return;
            };
            let outcome = self.ask(*cell);
            outcomes.lock().unwrap()[index] = Some(outcome);
        };
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(ask_on);
            }
        });
        let outcomes = outcomes.into_inner().unwrap();
        outcomes.into_iter().map(Option::unwrap).collect()
    }

    fn ask(&self, cell: Cell) -> Outcome {
        let to = destination(cell);
        let space = match cell.client {
            Client::Outside => &self.outside,
            Client::Host => &self.host.namespace,
            Client::Neighbour => &self.residents["neighbour"],
            Client::Stranger => &self.residents["stranger"],
            Client::Itself => &self.residents["server"],
            Client::Enclosed => &self.residents["enclosed"],
        };
        match space.run(|| probe::ask(cell.protocol, to)).unwrap() {
            Outcome::Answer(answer) => Outcome::Answer(seen(cell, &answer)),
            Outcome::Refused => Outcome::Refused,
            Outcome::NoRoute => Outcome::NoRoute,
            Outcome::Silence => Outcome::Silence,
            Outcome::Mute => Outcome::Mute,
        }
    }
}

/// Errors are sent for each packet that deserves one, and everybody may ping.
fn make_talkative() {
    for (name, value) in [
        ("ipv4/icmp_ratelimit", "0"),
        ("ipv6/icmp/ratelimit", "0"),
        ("ipv4/ping_group_range", "0 2147483647"),
    ] {
        std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
    }
}

fn is_served(daemon: &Daemon) {
    eventually("veer serves every container", || {
        let endpoints = daemon.veer(["endpoints", "--json"]);
        let mut names = CONTAINERS.iter().map(|(name, ..)| format!("\"{name}\""));
        names.all(|name| endpoints.contains(&name))
    });
    eventually("veer has published the last port", || {
        daemon.veer(["frontends", "--json"]).contains("8004")
    });
}

fn server_of(port: Port) -> &'static str {
    match port {
        Port::Ipv4Only => "single",
        Port::Internal => "hidden",
        _ => "server",
    }
}

fn destination(cell: Cell) -> SocketAddr {
    let network_of = |client| match client {
        Client::Stranger => 51,
        Client::Enclosed => 52,
        _ => 50,
    };
    let is_v4 = cell.family == Family::V4;
    let in_network = |number: u8, last: u8| {
        let text = if is_v4 {
            format!("10.{number}.0.{last}")
        } else {
            format!("fd00:{number}::{last}")
        };
        text.parse::<IpAddr>().unwrap()
    };
    let text = |v4: &str, v6: &str| if is_v4 { v4 } else { v6 }.parse().unwrap();
    let address = match (cell.at, cell.port) {
        (At::Uplink, _) => text(HOST_V4, HOST_V6),
        (At::Localhost, _) => text("127.0.0.1", "::1"),
        (At::Gateway, _) => in_network(network_of(cell.client), 1),
        (At::Container, Port::Internal) => in_network(52, 3),
        (At::Container, Port::Ipv4Only) => in_network(53, 2),
        (At::Container, _) => in_network(50, 2),
    };
    let (host_port, container_port) = match cell.port {
        Port::Published => (8_001, 80),
        Port::Unpublished => (81, 81),
        Port::Loopback => (8_002, 82),
        Port::Range => (8_109, 9_109),
        Port::Internal => (8_003, 80),
        Port::Ipv4Only => (8_004, 80),
        Port::Echo => (0, 0),
    };
    let port = if cell.at == At::Container {
        container_port
    } else {
        host_port
    };
    SocketAddr::new(address, port)
}

/// Whom the server that was meant says it saw.
fn seen(cell: Cell, answer: &str) -> Seen {
    if answer == PONG {
        return Seen::Anybody;
    }
    let (server, client) = answer.split_once(' ').unwrap();
    assert_eq!(
        server,
        server_of(cell.port),
        "{cell}: somebody else answers"
    );
    let client: IpAddr = client.parse().unwrap();
    let own = match cell.client {
        Client::Outside => [OUTSIDE_V4, OUTSIDE_V6],
        Client::Host => [HOST_V4, HOST_V6],
        Client::Neighbour => ["10.50.0.3", "fd00:50::3"],
        Client::Stranger => ["10.51.0.2", "fd00:51::2"],
        Client::Itself => ["10.50.0.2", "fd00:50::2"],
        Client::Enclosed => ["10.52.0.2", "fd00:52::2"],
    };
    let gateway = match cell.port {
        Port::Ipv4Only => ["10.53.0.1", "fd00:53::1"],
        Port::Internal => ["10.52.0.1", "fd00:52::1"],
        _ => ["10.50.0.1", "fd00:50::1"],
    };
    let is_one_of = |both: [&str; 2]| both.contains(&client.to_string().as_str());
    if is_one_of(own) {
        Seen::Client
    } else if is_one_of(gateway) {
        Seen::Gateway
    } else if client == destination(cell).ip() {
        Seen::Asked
    } else {
        Seen::Other(client)
    }
}
