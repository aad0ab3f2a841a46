//! The same questions to veer and to Docker's own resolver, in the same container and the same run.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lb_userspace::netns::Namespace;
use veer_tests::deadline::eventually;

use crate::site::Site;
use crate::stage::again;

/// The resolver as containers know it.
const ASKED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);
const ANSWER: Duration = Duration::from_secs(10);

const A: u16 = 1;
const PTR: u16 = 12;
const MX: u16 = 15;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const HTTPS: u16 = 65;

/// What the other name server answers for every name of `example.com`.
const WORLD: [u8; 4] = [192, 0, 2, 80];

/// A reply, as far as clients care.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    code: u8,
    is_authoritative: bool,
    /// Data of each answer, names spelled out.
    answers: BTreeSet<String>,
    ttls: BTreeSet<u32>,
}

impl Said {
    /// The same, whatever the time to live.
    fn at_any_time(mut self) -> Self {
        self.ttls.clear();
        self
    }
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

/// What `server` says to a question from `client`.
fn ask(client: &Namespace, server: SocketAddr, name: &str, kind: u16) -> Said {
    let query = question(name, kind);
    let reply = client.run(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(ANSWER)).unwrap();
        socket.send_to(&query, server).unwrap();
        let mut buffer = [0; 2048];
        let received = socket.recv_from(&mut buffer);
        let (length, from) = received.unwrap_or_else(|error| panic!("{name} {kind}: {error}"));
        assert_eq!(from, server);
        buffer[..length].to_vec()
    });
    read(&reply.unwrap(), &query)
}

fn read(reply: &[u8], query: &[u8]) -> Said {
    assert_eq!(reply[..2], query[..2], "the id");
    assert_eq!(reply[2] & 0x81, 0x81, "QR and RD");
    assert_eq!(reply[3] & 0x80, 0x80, "RA");
    assert_eq!(
        reply[12..query.len()],
        query[12..],
        "the question as it was asked"
    );
    let mut said = Said {
        code: reply[3] & 0x0f,
        is_authoritative: reply[2] & 4 != 0,
        answers: BTreeSet::new(),
        ttls: BTreeSet::new(),
    };
    let mut at = query.len();
    for _ in 0..reply[7] {
        let (_, fixed) = name_at(reply, at);
        let kind = u16::from_be_bytes([reply[fixed], reply[fixed + 1]]);
        let ttl = reply[fixed + 4..].first_chunk().unwrap();
        said.ttls.insert(u32::from_be_bytes(*ttl));
        let length = usize::from(u16::from_be_bytes([reply[fixed + 8], reply[fixed + 9]]));
        let data = fixed + 10;
        said.answers.insert(match kind {
            PTR => name_at(reply, data).0,
            _ => format!("{:?}", &reply[data..data + length]),
        });
        at = data + length;
    }
    said
}

/// The name at this place, and where it ends.
fn name_at(message: &[u8], mut at: usize) -> (String, usize) {
    let mut name = String::new();
    loop {
        match usize::from(message[at]) {
            0 => return (name, at + 1),
            length if length < 64 => {
                name.push_str(std::str::from_utf8(&message[at + 1..][..length]).unwrap());
                name.push('.');
                at += 1 + length;
            }
            high => {
                let to = (high & 0x3f) << 8 | usize::from(message[at + 1]);
                return (name + &name_at(message, to).0, at + 2);
            }
        }
    }
}

/// Where Docker's own resolver listens in a namespace, as its rules there say.
fn dockers(client: &Namespace) -> SocketAddr {
    let mut save = Command::new("iptables-save");
    save.args(["-t", "nat"]);
    let rules = client.run(|| save.output()).unwrap().unwrap();
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    let rule = rules
        .lines()
        .find(|rule| rule.contains("DNAT") && rule.contains("-p udp"));
    let to = rule.and_then(|rule| rule.split_whitespace().last());
    to.unwrap_or_else(|| panic!("no rule of Docker's:\n{rules}"))
        .parse()
        .unwrap()
}

/// A name server in a container: it knows every name of `example.com`, and that nothing else exists.
struct NameServer {
    asked: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    fn start(inside: &Namespace) -> Self {
        let socket = inside
            .run(|| UdpSocket::bind("0.0.0.0:53").unwrap())
            .unwrap();
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
    fn count(&self, name: &str) -> usize {
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

/// Two Networks, and a client on both of them with a name server of its own.
struct Stage {
    site: Arc<Site>,
    front: String,
    back: String,
    web: String,
    client: Namespace,
    docker: SocketAddr,
    world: NameServer,
}

impl Stage {
    /// `third` is the third byte of the addresses, and no other test's.
    fn new(third: u8) -> Self {
        let site = Site::shared();
        let name = |prefix: &str| site.host.name(prefix);
        // Docker asks Networks in the order of their names.
        let (front, back) = (name("a-front"), name("b-back"));
        let (web, server, client) = (name("web"), name("server"), name("client"));
        site.docker(&format!(
            "network create --subnet 172.27.{third}.0/25 {front}"
        ));
        site.docker(&format!(
            "network create --subnet 172.27.{third}.128/25 {back}"
        ));
        site.run(&front, &server, &format!("--ip 172.27.{third}.53"));
        let world = NameServer::start(&site.host.engine.namespace_of(&server));
        site.run(&front, &web, "-h its-host --net-alias pair");
        site.docker(&format!("network connect --alias pair {back} {web}"));
        site.run(&front, &client, &format!("--dns 172.27.{third}.53"));
        site.docker(&format!("network connect {back} {client}"));
        let client = site.host.engine.namespace_of(&client);
        let docker = dockers(&client);
        let stage = Self {
            site,
            front,
            back,
            web,
            client,
            docker,
            world,
        };
        eventually("veer knows both Networks", || {
            let full = format!("{}.{}", stage.web, stage.back);
            stage.veer(&full, A) == stage.docker(&full, A).at_any_time()
        });
        stage
    }

    fn veer(&self, name: &str, kind: u16) -> Said {
        ask(&self.client, ASKED, name, kind).at_any_time()
    }

    fn docker(&self, name: &str, kind: u16) -> Said {
        ask(&self.client, self.docker, name, kind)
    }

    /// Both say the same.
    #[track_caller]
    fn agree(&self, name: &str, kind: u16) -> Said {
        let said = self.veer(name, kind);
        assert_eq!(said, self.docker(name, kind).at_any_time(), "{name} {kind}");
        said
    }
}

#[test]
fn names_of_containers_are_answered_as_by_docker() {
    let stage = Stage::new(10);
    let id = stage
        .site
        .docker(&format!("inspect -f {{{{.Id}}}} {}", stage.web));
    let short = id[..12].to_string();
    let (web, front, back) = (&stage.web, &stage.front, &stage.back);

    for name in [web, &short, &"its-host".to_string()] {
        for name in [
            name.clone(),
            name.to_uppercase(),
            format!("{name}.{front}"),
            format!("{name}.{back}"),
        ] {
            let said = stage.agree(&name, A);
            assert_eq!((said.code, said.answers.len()), (0, 1), "{name}");
            let said = stage.agree(&name, AAAA);
            assert_eq!((said.code, said.answers.len()), (0, 0), "{name}");
        }
    }
    assert_eq!(stage.agree(web, MX).code, 0);
    let first = ask(&stage.client, ASKED, web, A);
    assert_eq!(first.ttls, BTreeSet::from([5]));
    assert_eq!(stage.docker(web, A).ttls, BTreeSet::from([600]));
    assert_ne!(
        stage.agree(web, A),
        stage.agree(&format!("{web}.{back}"), A),
        "the first Network answers alone"
    );
}

#[test]
fn addresses_are_named_as_by_docker() {
    let stage = Stage::new(11);
    for network in [&stage.front, &stage.back] {
        let full = format!("{}.{network}", stage.web);
        let address = stage.agree(&full, A).answers.pop_first().unwrap();
        let bytes = address.trim_matches(['[', ']']).split(", ");
        let reverse: Vec<&str> = bytes.collect::<Vec<_>>().into_iter().rev().collect();
        let arpa = format!("{}.in-addr.arpa", reverse.join("."));

        let said = stage.agree(&arpa, PTR);

        assert_eq!(said.answers, BTreeSet::from([format!("{full}.")]));
    }
}

#[test]
fn everything_else_is_asked_of_the_containers_own_server_as_by_docker() {
    let stage = Stage::new(12);
    let upper = format!("{}.{}", stage.web, stage.front.to_uppercase());

    let said = stage.agree("www.example.com", A);
    assert_eq!(said.answers, BTreeSet::from([format!("{WORLD:?}")]));
    for (name, kind) in [
        ("nowhere.invalid", A),
        ("unknown", A),
        ("unknown", MX),
        (upper.as_str(), A),
        ("9.9.9.9.in-addr.arpa", PTR),
        ("_http._tcp.unknown", 33),
    ] {
        assert_eq!(stage.agree(name, kind).code, 3, "{name}");
    }
}

#[test]
fn other_types_of_containers_names_are_told_to_others_by_docker_and_not_by_veer() {
    let stage = Stage::new(13);
    let asked = || stage.world.count(&format!("{}.", stage.web));

    for kind in [TXT, HTTPS] {
        let said = stage.veer(&stage.web, kind);
        assert_eq!((said.code, said.answers.len(), asked()), (0, 0, 0));
    }
    assert_eq!(stage.docker(&stage.web, TXT).code, 3);
    assert_eq!(asked(), 1);
}

#[test]
fn what_changes_is_seen_as_under_docker() {
    let stage = Stage::new(14);
    let (site, web, front) = (&stage.site, &stage.web, &stage.front);
    let agree_soon = |name: &str, answers: usize| {
        eventually("both say the new", || {
            let said = stage.veer(name, A);
            said.answers.len() == answers && said == stage.docker(name, A).at_any_time()
        });
    };

    site.docker(&format!("pause {web}"));
    agree_soon(web, 1);
    site.docker(&format!("unpause {web}"));
    let other = site.host.name("other");
    site.docker(&format!("rename {web} {other}"));
    agree_soon(&other, 1);
    agree_soon(web, 0);
    site.docker(&format!("network disconnect {front} {other}"));
    agree_soon(&format!("{other}.{front}"), 0);
    agree_soon(&other, 1);
}

#[test]
fn an_alias_is_one_address_that_is_balanced_and_all_of_them_in_dnsrr_mode() {
    let stage = Stage::new(15);
    let site = &stage.site;
    let members = [site.host.name("member"), site.host.name("member")];
    for member in &members {
        let options = "--net-alias all --label veer.endpoint-mode=dnsrr";
        site.run(&stage.front, member, options);
    }

    assert_ne!(stage.veer("pair", A), stage.docker("pair", A).at_any_time());
    assert_eq!(stage.veer("pair", A).answers.len(), 1);
    eventually("both Members are there", || {
        stage.veer("all", A).answers.len() == 2
    });
    assert_eq!(stage.agree("all", A).answers.len(), 2);
    assert_eq!(
        stage
            .agree(&format!("all.{}", stage.front), A)
            .answers
            .len(),
        2
    );
}

#[test]
fn containers_that_come_and_go_leave_neither_socket_nor_link_behind() {
    let site = Site::new();
    let net = site.host.name("churn");
    site.docker(&format!("network create --subnet 172.27.20.0/24 {net}"));
    let status = site.daemon.veer(["status"]);
    let pid = status
        .split("pid ")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next();
    let files = format!("/proc/{}/fd", pid.unwrap());
    let open = || std::fs::read_dir(&files).unwrap().count();
    let churn = || {
        for _ in 0..10 {
            let name = site.host.name("brief");
            site.run(&net, &name, "");
            let inside = site.host.engine.namespace_of(&name);
            eventually("veer answers it", || {
                ask(&inside, ASKED, &name, A).ttls == BTreeSet::from([5])
            });
            drop(inside);
            site.docker(&format!("rm -f {name}"));
        }
    };
    churn();
    eventually("nobody is left", || {
        site.daemon.veer(["endpoints"]).lines().count() == 1
    });
    let before = open();

    churn();

    eventually("every file is closed", || open() <= before);
    assert_eq!(
        site.daemon.veer(["names"]).lines().count(),
        1,
        "no name is left"
    );
}

#[test]
fn the_operator_is_told_who_would_answer_what() {
    let stage = Stage::new(19);
    let site = &stage.site;
    let (web, front, back) = (&stage.web, &stage.front, &stage.back);
    let client = site.host.name("asker");
    site.run(front, &client, "--dns 172.27.19.53");
    let inside = site.host.engine.namespace_of(&client);
    eventually("veer answers it, and not Docker", || {
        ask(&inside, ASKED, web, A).ttls == BTreeSet::from([5])
    });
    eventually("the operator is told of it", || {
        site.daemon.veer(["endpoints"]).contains(&client)
    });
    let names = site.daemon.veer(["dns", "names", &client]);
    assert!(names.contains(web.as_str()), "{names}");
    let told = |name: &str, kind: &str| site.daemon.veer(["dns", "query", &client, name, kind]);

    let ours = told(web, "A");
    assert!(
        ours.contains(&format!("{front} is the first that knows")),
        "{ours}"
    );
    assert!(ours.contains("NOERROR, answered by: kernel"), "{ours}");
    let others = told("www.example.com", "A");
    assert!(
        others.contains("its own servers are asked: 172.27.19.53"),
        "{others}"
    );
    assert!(others.contains("answered by: upstream"), "{others}");
    let elsewhere = told(&format!("{web}.{back}"), "A");
    assert!(elsewhere.contains("none of them knows"), "{elsewhere}");

    let counts = site.daemon.veer(["dns"]);
    assert!(counts.contains(front.as_str()), "{counts}");
}

#[test]
fn a_link_is_a_name_of_the_linking_container_alone_as_under_docker() {
    let stage = Stage::new(18);
    let site = &stage.site;
    let linker = site.host.name("linker");
    let options = format!("--link {}:Store --dns 172.27.18.53", stage.web);
    site.run(&stage.front, &linker, &options);
    let inside = site.host.engine.namespace_of(&linker);
    let docker = dockers(&inside);
    let both = |name: &str| {
        (
            ask(&inside, ASKED, name, A).at_any_time(),
            ask(&inside, docker, name, A).at_any_time(),
        )
    };

    eventually("veer has taken over", || {
        both(&stage.web).0 == stage.veer(&stage.web, A)
    });
    for (name, count) in [
        ("Store".to_string(), 1),
        (format!("Store.{}", stage.front), 1),
        ("store".to_string(), 0),
    ] {
        let (veer, docker) = both(&name);
        assert_eq!(veer, docker, "{name}");
        assert_eq!(veer.answers.len(), count, "{name}");
    }
    assert_eq!(
        stage.agree("Store", A).answers.len(),
        0,
        "nobody else has it"
    );
}

#[test]
fn several_questions_over_one_connection_are_answered() {
    let stage = Stage::new(16);
    let client = again(&stage.client);
    let mut stream = client.run(|| TcpStream::connect(ASKED).unwrap()).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();

    for name in [stage.web.as_str(), "unknown", &stage.web] {
        let query = question(name, A);
        let framed = [&(query.len() as u16).to_be_bytes()[..], &query].concat();
        stream.write_all(&framed).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut reply = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut reply).unwrap();

        let answers = read(&reply, &query).answers.len();
        assert_eq!(answers, usize::from(name != "unknown"));
    }
}

#[test]
fn the_kernel_answers_containers() {
    let stage = Stage::new(17);
    let answered = || {
        let status = stage.site.daemon.veer(["status"]);
        let words: Vec<_> = status.split_whitespace().collect();
        let by = words.windows(2).position(|pair| pair == ["by", "kernel,"]);
        words[by.expect("status tells") - 1].parse::<u64>().unwrap()
    };

    let before = answered();
    for _ in 0..10 {
        stage.veer(&stage.web, A);
    }

    // Others ask on the same host at the same time.
    assert!(answered() >= before + 10);
}
