//! Takeover without programs on sockets: on containers' loopback interfaces, beside Docker's NAT rules.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};
use lb_userspace::datapath::can_lead_inside;
use lb_userspace::netns::Namespace;
use veer_tests::deadline::{eventually, within};
use veer_tests::dns::A;

use super::asking::{ANSWER, ASKED, ask, dockers, question, read, try_ask};
use super::{on_host, site_with};
use crate::site::Site;
use crate::stage::Host;
use crate::street::ip;

/// Seconds that an answer of veer's may be kept, and one of Docker's.
pub(super) const OURS: u32 = 5;
pub(super) const DOCKERS: u32 = 600;

/// How soon veer knows where Docker's resolver is after a restart of the Engine.
const FOUND: Duration = Duration::from_secs(40);

/// How long nothing has to be heard for nobody to answer.
const SILENCE: Duration = Duration::from_secs(2);

/// For how long an answer over TCP may be kept.
fn kept_over_tcp(inside: &Namespace, name: &str) -> io::Result<BTreeSet<u32>> {
    let query = question(name, A);
    let ask = || -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(ASKED)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let length = u16::try_from(query.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &query].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut reply = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut reply)?;
        Ok(reply)
    };
    Ok(read(&inside.run(ask)??, &query).ttls)
}

/// Whether veer answers over UDP and over TCP. A daemon that gets no processor for a second leaves that to
/// Docker's resolver for a moment, and there may be none.
pub(super) fn is_answered(inside: &Namespace, name: &str) -> bool {
    let ours = BTreeSet::from([OURS]);
    try_ask(inside, ASKED, name, A, SILENCE).is_ok_and(|said| said.ttls == ours)
        && kept_over_tcp(inside, name).is_ok_and(|kept| kept == ours)
}

/// How many programs are on the loopback interface inside.
pub(super) fn programs(inside: &Namespace) -> usize {
    let sides = [TcAttachType::Ingress, TcAttachType::Egress];
    let count = || sides.map(|side| SchedClassifier::query_tcx("lo", side).unwrap().1.len());
    inside.run(count).unwrap().iter().sum()
}

/// A host on which queries are led so.
const LOOPBACK: &str = "[dns]\nlead = \"loopback\"\n";

/// A network with one container, and where that lives.
fn network_with_one(site: &Site) -> (String, String, Namespace) {
    assert!(
        can_lead_inside(),
        "this kernel is older than 6.13: run with `--skip dns::beside`"
    );
    let (net, web) = (site.host.name("beside"), site.host.name("web"));
    site.docker(&format!("network create --subnet 172.27.23.0/24 {net}"));
    site.run(&net, &web, "");
    let inside = site.host.engine.namespace_of(&web);
    (net, web, inside)
}

#[test]
fn names_outlive_a_restart_of_the_engine_whose_resolver_is_elsewhere_then() {
    const ENGINE: &[&str] = &["--live-restore"];
    let mut site = on_host(Host::with_engine(ENGINE), LOOPBACK);
    let (net, web, inside) = network_with_one(&site);
    let answers = |name: &str| is_answered(&inside, name);
    eventually("veer answers", || answers(&web));
    let uplink = site.host.uplink("up");
    let before = dockers(&inside);

    site.host.engine.stop();
    eventually("veer says that there is no Engine", || {
        site.daemon.veer(["status"]).contains("FAILING")
    });
    eventually("veer answers while the Engine is away", || answers(&web));
    // What veer does meanwhile it does by where the resolver was.
    for words in [
        format!("link set {uplink} up"),
        format!("address add 192.0.2.1/24 dev {uplink}"),
        "route add default via 192.0.2.2".to_owned(),
    ] {
        ip(&site.host.namespace, &words);
    }
    eventually("veer knows the new uplink", || {
        site.daemon.veer(["status"]).contains(&uplink)
    });
    site.host.engine.start_again(ENGINE);

    // No longer than the daemon takes to compare everything by itself.
    within(FOUND, "veer answers again", || answers(&web));
    println!(
        "Docker's resolver was at {before}, then at {}",
        dockers(&inside)
    );
    let later = site.host.name("later");
    site.run(&net, &later, "");
    eventually("veer knows the new one", || answers(&later));
}

/// Docker's resolver answers over UDP and TCP, and whoever asks by the C library. Panics if not.
pub(super) fn is_dockers(site: &Site, inside: &Namespace, name: &str) {
    let by_docker = BTreeSet::from([DOCKERS]);
    assert_eq!(ask(inside, ASKED, name, A).ttls, by_docker);
    assert_eq!(kept_over_tcp(inside, name).unwrap(), by_docker);
    let looked_up = site.exec(name, &format!("timeout 10 nslookup {name}"));
    assert_eq!(looked_up.err(), None);
}

#[test]
fn containers_are_answered_by_veer_and_by_docker_as_soon_as_it_is_gone() {
    let mut site = site_with(LOOPBACK);
    let (_, web, inside) = network_with_one(&site);
    let kept_for = || ask(&inside, ASKED, &web, A).ttls;

    eventually("veer answers", || is_answered(&inside, &web));
    let looked_up = site.exec(&web, &format!("timeout 10 nslookup {web}"));
    assert_eq!(looked_up.err(), None);
    let status = site.daemon.veer(["status"]);
    assert!(status.contains("on loopback"), "{status}");
    assert_eq!(programs(&inside), 2);

    site.daemon.killed();
    is_dockers(&site, &inside, &web);
    assert_eq!(programs(&inside), 0);

    site.daemon.returns();
    eventually("veer answers again", || is_answered(&inside, &web));

    site.daemon.uninstalled();
    assert_eq!(kept_for(), BTreeSet::from([DOCKERS]));
    assert_eq!(programs(&inside), 0);
}
