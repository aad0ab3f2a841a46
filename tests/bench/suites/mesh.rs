//! The way of a packet through Docker Swarm's ingress mesh, built as Docker builds it.
//!
//! host: DNAT to the ingress sandbox → bridge docker_gwbridge → sandbox: mark, IPVS, source NAT →
//! bridge of the overlay network in a namespace of its own → container.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context as _, Result};
use lb_userspace::netns::{Links, Namespace, PairEnd};

use super::ports::{PORT, Site};
use crate::rules;

/// The container's address on the overlay network.
const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 4);
/// The sandbox on docker_gwbridge.
const SANDBOX: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 2);

/// What is between a host and a container of a service.
pub(super) struct Mesh {
    pub(super) container: Namespace,
    _sandbox: Namespace,
    _overlay: Namespace,
}

impl Mesh {
    pub(super) fn behind(site: &Site) -> Result<Self> {
        let [sandbox, overlay, container] = [
            Namespace::create()?,
            Namespace::create()?,
            Namespace::create()?,
        ];
        let host = &site.host.namespace;
        let mut links = host.links()?;
        let bridge = bridge(&mut links, "docker_gwbridge", Some("172.18.0.1/16"))?;
        pair(
            &mut links,
            bridge,
            "gwv0",
            (&sandbox, "eth1", "172.18.0.2/16"),
        )?;
        let mut links = overlay.links()?;
        let bridge = self::bridge(&mut links, "br0", Some("10.0.0.1/24"))?;
        pair(&mut links, bridge, "v0", (&sandbox, "eth0", "10.0.0.2/24"))?;
        pair(
            &mut links,
            bridge,
            "v1",
            (&container, "eth0", "10.0.0.4/24"),
        )?;
        sandbox.links()?.add_default_route("172.18.0.1".parse()?)?;
        let forward = || fs::write("/proc/sys/net/ipv4/ip_forward", "1");
        sandbox.run(forward)??;

        rules::load(host, "iptables-restore", &[], &host_rules())?;
        balance(&sandbox)?;
        rules::load(&sandbox, "iptables-restore", &[], &sandbox_rules())?;
        Ok(Self {
            container,
            _sandbox: sandbox,
            _overlay: overlay,
        })
    }
}

fn bridge(links: &mut Links, name: &str, address: Option<&str>) -> Result<u32> {
    let bridge = links.add_bridge(name)?;
    if let Some(address) = address {
        links.add_address(bridge, address.parse()?)?;
    }
    Ok(bridge)
}

/// A veth pair from a bridge into a namespace.
fn pair(
    links: &mut Links,
    bridge: u32,
    near: &str,
    (inside, name, address): (&Namespace, &str, &str),
) -> Result<()> {
    let near_end = PairEnd {
        name: near,
        mac: None,
        namespace: None,
        master: Some(bridge),
    };
    let far_end = PairEnd {
        name,
        mac: None,
        namespace: Some(inside),
        master: None,
    };
    links.add_pair(near_end, far_end)?;
    let mut links = inside.links()?;
    let device = links.index_of(name)?;
    links.add_address(device, address.parse()?)?;
    Ok(links.set_up(device)?)
}

/// IPVS by the mark that a published port gives, to the one container.
fn balance(sandbox: &Namespace) -> Result<()> {
    // The sysctl appears with the module; without it there is no IPVS, which ipvsadm says.
    let _ = Command::new("modprobe").arg("ip_vs").status();
    let add = format!("-A -f 256 -s rr\n-a -f 256 -r {CONTAINER}:0 -m\n");
    rules::load(sandbox, "ipvsadm", &["-R"], &add)?;
    let track = || fs::write("/proc/sys/net/ipv4/vs/conntrack", "1");
    sandbox.run(track)?.context("set net.ipv4.vs.conntrack")
}

fn host_rules() -> String {
    let dnat = format!("-A DOCKER-INGRESS -p udp -m udp --dport {PORT} -j");
    let gateway = "docker_gwbridge";
    format!(
        "*nat\n:DOCKER - [0:0]\n:DOCKER-INGRESS - [0:0]\n\
         -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER-INGRESS\n\
         -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
         -A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER-INGRESS\n\
         -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER\n\
         -A POSTROUTING -o {gateway} -m addrtype --src-type LOCAL -j MASQUERADE\n\
         -A POSTROUTING -s 172.18.0.0/16 ! -o {gateway} -j MASQUERADE\n\
         -A DOCKER -i {gateway} -j RETURN\n\
         {dnat} DNAT --to-destination {SANDBOX}:{PORT}\n-A DOCKER-INGRESS -j RETURN\nCOMMIT\n\
         *filter\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\n:DOCKER-INGRESS - [0:0]\n:DOCKER-USER - [0:0]\n\
         :DOCKER-ISOLATION-STAGE-1 - [0:0]\n:DOCKER-ISOLATION-STAGE-2 - [0:0]\n\
         -A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-INGRESS\n-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n\
         -A FORWARD -o {gateway} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A FORWARD -o {gateway} -j DOCKER\n-A FORWARD -i {gateway} ! -o {gateway} -j ACCEPT\n\
         -A FORWARD -i {gateway} -o {gateway} -j DROP\n\
         {dnat} ACCEPT\n\
         -A DOCKER-INGRESS -p udp -m state --state RELATED,ESTABLISHED -m udp --sport {PORT} -j ACCEPT\n\
         -A DOCKER-INGRESS -j RETURN\n\
         -A DOCKER-ISOLATION-STAGE-1 -i {gateway} ! -o {gateway} -j DOCKER-ISOLATION-STAGE-2\n\
         -A DOCKER-ISOLATION-STAGE-1 -j RETURN\n\
         -A DOCKER-ISOLATION-STAGE-2 -o {gateway} -j DROP\n-A DOCKER-ISOLATION-STAGE-2 -j RETURN\n\
         -A DOCKER-USER -j RETURN\nCOMMIT\n"
    )
}

fn sandbox_rules() -> String {
    format!(
        "*mangle\n-A PREROUTING -p udp -m udp --dport {PORT} -j MARK --set-xmark 0x100/0xffffffff\nCOMMIT\n\
         *nat\n-A POSTROUTING -d 10.0.0.0/24 -m ipvs --ipvs -j SNAT --to-source 10.0.0.2\nCOMMIT\n"
    )
}

/// IPVS on the host itself, by the address of the port.
pub(super) fn ipvs(site: &Site) -> Result<()> {
    let _ = Command::new("modprobe").arg("ip_vs").status();
    let (host, web) = (super::ports::HOST, site.web.v4);
    let add = format!("-A -u {host}:{PORT} -s rr\n-a -u {host}:{PORT} -r {web}:{PORT} -m\n");
    rules::load(&site.host.namespace, "ipvsadm", &["-R"], &add)
}
