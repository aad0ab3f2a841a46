//! Containers that come and go, by the thousand: nothing of them stays.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{self, Command};
use std::sync::Arc;

use lb_userspace::datapath::Hook;
use lb_userspace::dns::{Dns, Forwarding, Options, Records, Rules};
use lb_userspace::model::Netns;
use lb_userspace::netns::{Links, Namespace, PairEnd};
use veer_tests::deadline::eventually;
use veer_tests::host::Host;
use veer_tests::station::ANSWER;
use veer_tests::veer::Veer;

use super::site::{OURS, address, observed, question};

/// Says to a process that it is the one in which nothing else runs.
const ALONE: &str = "VEER_TEST_ALONE";

/// Cycles in an everyday run. `VEER_CYCLES=10000` makes it a long one.
const CYCLES: usize = 300;

#[test]
fn containers_that_come_and_go_leave_no_socket_namespace_link_or_record_behind() {
    if env::var_os(ALONE).is_some() {
        for hook in [None, Some(Hook::Clsact)] {
            come_and_go(cycles(), hook);
        }
        return;
    }
    // Open files are counted: those of other tests would be, too.
    let name =
        "dns::churn::containers_that_come_and_go_leave_no_socket_namespace_link_or_record_behind";
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

fn cycles() -> usize {
    env::var("VEER_CYCLES").map_or(CYCLES, |text| text.parse().expect("a number"))
}

fn come_and_go(cycles: usize, hook: Option<Hook>) {
    let host = Host::new();
    let veer = Veer::with_hook(&host, hook);
    let names = veer.datapath().names().unwrap();
    let dns = Dns::start(Options {
        resolv_conf: host_file(),
        forwarding: Forwarding::default(),
        kernel: Some(Arc::new(names)),
        register: None,
        beat: Box::new(|| {}),
    });
    let dns = dns.unwrap();
    let mut links = host.namespace.links().unwrap();
    let interfaces = links.interfaces().unwrap().len();
    cycle(&veer, &dns, &host.namespace, &mut links, 0);
    let files = open_files();

    for index in 1..=cycles {
        cycle(&veer, &dns, &host.namespace, &mut links, index);
    }

    eventually("every namespace is gone, and its veth with it", || {
        links.interfaces().unwrap().len() == interfaces
    });
    assert_eq!(open_files(), files, "every socket and link is closed");
    assert!(dns.served_namespaces().is_empty());
    let answered = dns.kernel_counts().into_iter().map(|(_, c)| c.answered);
    assert_eq!(answered.sum::<u64>(), cycles as u64 + 1, "by the kernel");
    dns.publish(Arc::default());
    let maps = veer.datapath().maps();
    assert!(maps.resolvers.entries().unwrap().is_empty());
    assert!(maps.dns_views.entries().unwrap().is_empty());
    assert!(maps.dns_answers.entries().unwrap().is_empty());
    println!("{cycles} containers came and went, {hook:?}");
}

/// A container starts, asks, and stops: what the daemon does for it, in the daemon's order.
fn cycle(veer: &Veer<'_>, dns: &Dns, host: &Namespace, links: &mut Links, index: usize) {
    let inside = Namespace::create().unwrap();
    let mut own = inside.links().unwrap();
    let lo = own.index_of("lo").unwrap();
    own.set_up(lo).unwrap();
    drop(own);
    let near = format!("v{index}");
    let end = |name, namespace| PairEnd {
        name,
        namespace: Some(namespace),
        mac: None,
        master: None,
    };
    links
        .add_pair(end(&near, host), end("eth0", &inside))
        .unwrap();
    let file = inside.as_fd().as_raw_fd();
    let netns = Netns {
        path: format!("/proc/{}/fd/{file}", process::id()).into(),
        cookie: inside.cookie().unwrap(),
    };
    let records = Records::build(&observed(&netns), &[], &Rules::default());
    dns.publish(Arc::new(records));
    let resolver = dns.take_over(&netns).unwrap();
    let datapath = veer.datapath();
    datapath.set_resolver(netns.cookie, resolver).unwrap();
    let loopback = datapath.answer_inside(&netns).unwrap();

    assert_eq!(asked(&inside, resolver.udp.get()), OURS);

    datapath.remove_resolver(netns.cookie).unwrap();
    drop(loopback);
    dns.release(netns.cookie);
}

/// The address of `web`, from whoever answers at this port of 127.0.0.11.
fn asked(inside: &Namespace, port: u16) -> [u8; 4] {
    let server = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 11), port));
    let ask = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(ANSWER)).unwrap();
        socket.send_to(&question(), server).unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        address(&buffer[..length])
    };
    inside.run(ask).unwrap()
}

/// A list of name servers that is not there.
fn host_file() -> std::path::PathBuf {
    env::temp_dir().join("veer-no-name-servers")
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}
