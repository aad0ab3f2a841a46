//! Takeover through containers' veths: queries go to the host, and nothing of veer's is inside.

use std::collections::BTreeSet;

use lb_userspace::netns::Namespace;
use veer_tests::deadline::eventually;
use veer_tests::dns::A;

use super::asking::{ASKED, ask};
use super::beside::{DOCKERS, is_answered, is_dockers, programs};
use super::site_with;

/// Lines of the sockets inside that are bound to 127.0.0.11: those of Docker, and of whoever else listens.
fn listeners(inside: &Namespace) -> BTreeSet<String> {
    let read = |kind| std::fs::read_to_string(format!("/proc/thread-self/net/{kind}")).unwrap();
    let both = inside.run(|| ["udp", "tcp"].map(read).concat()).unwrap();
    let local = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    let locals = both.lines().filter_map(local);
    locals
        .filter(|local| local.starts_with("0B00007F:"))
        .collect()
}

#[test]
fn containers_are_answered_on_the_host_and_by_docker_as_soon_as_veer_is_gone() {
    let mut site = site_with("[dns]\nlead = \"veth\"\n");
    let [net, internal, web, shut] =
        ["across", "internal", "web", "shut"].map(|prefix| site.host.name(prefix));
    site.docker(&format!("network create --subnet 172.27.24.0/25 {net}"));
    site.docker(&format!(
        "network create --internal --subnet 172.27.24.128/25 {internal}"
    ));
    site.run(&net, &web, "");
    site.run(&internal, &shut, "");
    for name in [&web, &shut] {
        let inside = site.host.engine.namespace_of(name);
        eventually("veer answers", || is_answered(&inside, name));
        let looked_up = site.exec(name, &format!("timeout 10 nslookup {name}"));
        assert_eq!(looked_up.err(), None);
        assert_eq!(programs(&inside), 0);
        assert_eq!(listeners(&inside).len(), 2, "Docker's resolver alone");
    }
    let status = || site.daemon.veer(["status"]);
    assert!(status().contains("through veths"), "{}", status());
    let inside = site.host.engine.namespace_of(&web);
    let kept_for = || ask(&inside, ASKED, &web, A).ttls;
    eventually("the kernel answers", || {
        is_answered(&inside, &web) && !status().contains("; 0 by kernel")
    });

    site.daemon.killed();
    is_dockers(&site, &inside, &web);

    site.daemon.returns();
    eventually("veer answers again", || is_answered(&inside, &web));

    site.daemon.uninstalled();
    assert_eq!(kept_for(), BTreeSet::from([DOCKERS]));
}
