//! The same questions to veer and to Docker's own resolver, in the same container and the same run.

mod across;
mod asking;
mod beside;
mod comparison;
mod confined;
mod default;
mod killed;
mod nat;
mod others;
mod server;
mod starts;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use veer_tests::daemon::Daemon;
use veer_tests::deadline::eventually;
use veer_tests::dns::{A, AAAA, HTTPS, MX, PTR, TXT};

use crate::site::Site;
use crate::stage::{Host, again};
use asking::{ANSWER, ASKED, ask, dockers, question, read};
use comparison::Stage;
use server::WORLD;

/// A host of its own, and veer with more in its configuration.
fn site_with(config: &str) -> Site {
    on_host(Host::new(), config)
}

fn on_host(host: Host, config: &str) -> Site {
    let daemon = Daemon::start_with(again(&host.namespace), &host.engine.socket(), config);
    Site { daemon, host }
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

#[test]
fn the_query_log_has_what_the_kernel_the_daemon_and_nobody_said() {
    let site = site_with("[dns]\nquery_log = 1\n");
    let (net, client) = (site.host.name("logged"), site.host.name("client"));
    site.docker(&format!(
        "network create --internal --subnet 172.27.21.0/24 {net}"
    ));
    site.run(&net, &client, "");
    let inside = site.host.engine.namespace_of(&client);
    eventually("veer answers it", || {
        ask(&inside, ASKED, &client, A).ttls == BTreeSet::from([5])
    });
    eventually("the operator is told of it", || {
        site.daemon.veer(["endpoints"]).contains(&client)
    });

    ask(&inside, ASKED, &format!("{client}.{net}").to_uppercase(), A);
    ask(&inside, ASKED, "elsewhere.example.com", MX);

    for (name, kind, network, path) in [
        (client.as_str(), "A", net.as_str(), "kernel NOERROR"),
        ("elsewhere.example.com", "MX", "-", "nobody SERVFAIL"),
    ] {
        let line = format!(" {client} {name} {kind} network={network} {path}\n");
        eventually(&line, || site.daemon.veer(["dns", "log"]).contains(&line));
    }
    let others = site.daemon.veer(["dns", "log", "--container", "nobody"]);
    assert_eq!(others, "");
}
