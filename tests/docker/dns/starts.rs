//! What a container's first instruction is answered.

use std::env;
use std::net::IpAddr;

use veer_tests::deadline::eventually;

use super::site_with;

/// Containers in an everyday run. `VEER_STARTS=1000` makes it a long one.
const STARTS: usize = 10;

#[test]
fn a_name_resolves_in_the_first_instruction_of_every_container() {
    let starts = env::var("VEER_STARTS").map_or(STARTS, |text| text.parse().expect("a number"));
    let site = site_with("");
    let net = site.host.name("starts");
    site.docker(&format!("network create --subnet 172.27.23.0/24 {net}"));
    let members = [site.host.name("one"), site.host.name("two")];
    for member in &members {
        site.run(&net, member, "--net-alias pair");
    }
    let vip = || site.resolve(&members[0], "pair", "A");
    eventually("the alias is one address", || vip().len() == 1);
    let vip = vip();

    let mut by_veer = 0;
    for start in 0..starts {
        let run = format!("run --rm --network {net} veer-test nslookup -type=A pair");
        let output = site.host.engine.try_docker(run.split(' '));
        let said = String::from_utf8_lossy(&output.stdout);
        let found = said
            .lines()
            .filter_map(|line| line.strip_prefix("Address:")?.trim().parse().ok());
        let found: Vec<IpAddr> = found.collect();
        assert!(
            output.status.success() && !found.is_empty(),
            "start {start}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        by_veer += usize::from(found == vip);
    }

    // The others were answered by Docker's resolver, with the Members: the container was faster.
    println!("{by_veer} of {starts} first instructions were answered by veer");
    let one = format!("{}.{net}", members[0]);
    assert_eq!(site.resolve(&members[1], &one, "A").len(), 1);
}
