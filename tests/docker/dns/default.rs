//! Names on the default bridge, which Docker does not have.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use veer_tests::deadline::eventually;
use veer_tests::dns::A;

use super::asking::ask;
use super::server::{NameServer, WORLD};
use super::site_with;
use crate::site::Site;

/// Seconds that an answer of veer's may be kept.
const OURS: u32 = 5;

fn address(site: &Site, container: &str) -> IpAddr {
    let format = "{{.NetworkSettings.IPAddress}}";
    let words = ["inspect", "-f", format, container];
    site.host.engine.docker(words).parse().unwrap()
}

#[test]
fn containers_on_the_default_bridge_have_names_if_it_is_asked_for() {
    let mut site = site_with("[dns]\ndefault_bridge = true\n");
    let [server, web, client] = ["server", "web", "client"].map(|prefix| site.host.name(prefix));
    site.run("bridge", &server, "");
    let server = (
        address(&site, &server),
        site.host.engine.namespace_of(&server),
    );
    let world = NameServer::start(&server.1);
    let server = SocketAddr::new(server.0, 53);
    site.web("bridge", &web, "-h its-host");
    site.run("bridge", &client, &format!("--dns {}", server.ip()));
    let inside = site.host.engine.namespace_of(&client);
    let known = |name: &str| site.resolve(&client, name, "A");
    let ours = BTreeSet::from([OURS]);

    eventually("veer answers", || {
        ask(&inside, server, &web, A).ttls == ours
    });
    let short = site.docker(&format!("inspect -f {{{{.Id}}}} {web}"))[..12].to_string();
    for name in [&web, "its-host", &short, &format!("{web}.bridge")] {
        assert_eq!(known(name), [address(&site, &web)], "{name}");
    }
    assert_eq!(
        site.fetch(&client, &web),
        Ok(web.clone()),
        "as programs ask"
    );
    let asked = site.exec(&client, &format!("nslookup {web}")).unwrap();
    assert!(asked.contains(&server.to_string()), "who answers: {asked}");
    let file = site.exec(&client, "cat /etc/resolv.conf").unwrap();
    assert!(
        file.contains(&format!("nameserver {}", server.ip())),
        "{file}"
    );
    assert_eq!(world.count(&format!("{web}.")), 0, "nobody else was asked");

    assert_eq!(known("www.example.com"), [IpAddr::from(WORLD)]);
    assert_eq!(world.count("www.example.com."), 1);
    site.daemon.killed();
    let said = ask(&inside, server, &web, A);
    assert_eq!(
        (said.code, world.count(&format!("{web}."))),
        (3, 1),
        "without veer"
    );
}
