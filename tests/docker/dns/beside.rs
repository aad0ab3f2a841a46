//! Takeover without programs on sockets: on containers' loopback interfaces, beside Docker's NAT rules.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use aya::programs::{SchedClassifier, TcAttachType};
use lb_userspace::datapath::can_lead_inside;
use lb_userspace::netns::Namespace;
use veer_tests::deadline::eventually;
use veer_tests::dns::A;

use super::asking::{ANSWER, ASKED, ask, question, read};
use super::site_with;

/// Seconds that an answer of veer's may be kept, and one of Docker's.
const OURS: u32 = 5;
const DOCKERS: u32 = 600;

/// For how long an answer over TCP may be kept.
fn kept_over_tcp(inside: &Namespace, name: &str) -> BTreeSet<u32> {
    let query = question(name, A);
    let ask = || {
        let mut stream = TcpStream::connect(ASKED).unwrap();
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        let length = u16::try_from(query.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &query].concat()).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut reply = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut reply).unwrap();
        reply
    };
    read(&inside.run(ask).unwrap(), &query).ttls
}

/// How many programs are on the loopback interface inside.
fn programs(inside: &Namespace) -> usize {
    let sides = [TcAttachType::Ingress, TcAttachType::Egress];
    let count = || sides.map(|side| SchedClassifier::query_tcx("lo", side).unwrap().1.len());
    inside.run(count).unwrap().iter().sum()
}

#[test]
fn containers_are_answered_by_veer_and_by_docker_as_soon_as_it_is_gone() {
    assert!(
        can_lead_inside(),
        "this kernel is older than 6.13: run with `--skip dns::beside`"
    );
    let mut site = site_with("[dns]\nlead = \"loopback\"\n");
    let (net, web) = (site.host.name("beside"), site.host.name("web"));
    site.docker(&format!("network create --subnet 172.27.23.0/24 {net}"));
    site.run(&net, &web, "");
    let inside = site.host.engine.namespace_of(&web);
    let kept_for = || ask(&inside, ASKED, &web, A).ttls;
    let is_answered = || kept_for() == BTreeSet::from([OURS]);

    eventually("veer answers", is_answered);
    assert_eq!(kept_over_tcp(&inside, &web), BTreeSet::from([OURS]));
    let looked_up = site.exec(&web, &format!("timeout 10 nslookup {web}"));
    assert_eq!(looked_up.err(), None);
    let status = site.daemon.veer(["status"]);
    assert!(status.contains("on loopback"), "{status}");
    assert_eq!(programs(&inside), 2);

    site.daemon.killed();
    assert_eq!(kept_for(), BTreeSet::from([DOCKERS]));
    assert_eq!(kept_over_tcp(&inside, &web), BTreeSet::from([DOCKERS]));
    let looked_up = site.exec(&web, &format!("timeout 10 nslookup {web}"));
    assert_eq!(looked_up.err(), None);
    assert_eq!(programs(&inside), 0);

    site.daemon.returns();
    eventually("veer answers again", is_answered);

    site.daemon.uninstalled();
    assert_eq!(kept_for(), BTreeSet::from([DOCKERS]));
    assert_eq!(programs(&inside), 0);
}
