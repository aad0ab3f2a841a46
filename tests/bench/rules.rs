//! The firewall rules that Docker writes for published ports, as text for the programs that load them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;
use lb_userspace::netns::Namespace;

/// A container whose ports are published under the same numbers, all of them TCP, and the last of them
/// UDP too.
pub(crate) struct Published<'a> {
    pub(crate) bridge: &'a str,
    pub(crate) subnet: Ipv4Net,
    pub(crate) container: Ipv4Addr,
    pub(crate) ports: RangeInclusive<u16>,
}

impl Published<'_> {
    /// Protocol and number of each.
    fn each(&self) -> impl Iterator<Item = (&'static str, u16)> {
        let tcp = self.ports.clone().map(|port| ("tcp", port));
        tcp.chain([("udp", *self.ports.end())])
    }

    /// What Docker 20.10 to 27 has in iptables, for `iptables-restore`.
    pub(crate) fn iptables(&self) -> String {
        let (bridge, subnet, container) = (self.bridge, self.subnet, self.container);
        let mut nat = format!(
            "*nat\n:DOCKER - [0:0]\n\
             -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
             -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER\n\
             -A POSTROUTING -s {subnet} ! -o {bridge} -j MASQUERADE\n\
             -A DOCKER -i {bridge} -j RETURN\n"
        );
        let mut filter = format!(
            "*filter\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\n:DOCKER-USER - [0:0]\n\
             :DOCKER-ISOLATION-STAGE-1 - [0:0]\n:DOCKER-ISOLATION-STAGE-2 - [0:0]\n\
             -A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n\
             -A FORWARD -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
             -A FORWARD -o {bridge} -j DOCKER\n\
             -A FORWARD -i {bridge} ! -o {bridge} -j ACCEPT\n\
             -A FORWARD -i {bridge} -o {bridge} -j ACCEPT\n\
             -A DOCKER-ISOLATION-STAGE-1 -i {bridge} ! -o {bridge} -j DOCKER-ISOLATION-STAGE-2\n\
             -A DOCKER-ISOLATION-STAGE-1 -j RETURN\n\
             -A DOCKER-ISOLATION-STAGE-2 -o {bridge} -j DROP\n\
             -A DOCKER-ISOLATION-STAGE-2 -j RETURN\n-A DOCKER-USER -j RETURN\n"
        );
        for (protocol, port) in self.each() {
            let of = format!("-p {protocol} -m {protocol} --dport {port}");
            let _ = write!(
                nat,
                "-A POSTROUTING -s {container}/32 -d {container}/32 {of} -j MASQUERADE\n\
                 -A DOCKER ! -i {bridge} {of} -j DNAT --to-destination {container}:{port}\n"
            );
            let _ = writeln!(
                filter,
                "-A DOCKER -d {container}/32 ! -i {bridge} -o {bridge} {of} -j ACCEPT"
            );
        }
        format!("{nat}COMMIT\n{filter}COMMIT\n")
    }

    /// What Docker 29 has with `--firewall-backend=nftables`, for `nft -f`.
    pub(crate) fn nftables(&self) -> String {
        let (bridge, subnet, container) = (self.bridge, self.subnet, self.container);
        let (mut dnat, mut accept) = (String::new(), String::new());
        for (protocol, port) in self.each() {
            let _ = writeln!(
                dnat,
                "iifname != \"{bridge}\" {protocol} dport {port} counter dnat to {container}:{port}"
            );
            let _ = writeln!(
                accept,
                "ip daddr {container} {protocol} dport {port} counter accept"
            );
        }
        let jumps = |name: &str, chain: &str| {
            format!(
                "map {name} {{ type ifname : verdict; elements = {{ \"{bridge}\" : jump {chain} }} }}\n"
            )
        };
        let maps = [
            ("filter-forward-in-jumps", "filter-forward-in"),
            ("filter-forward-out-jumps", "filter-forward-out"),
            ("nat-postrouting-in-jumps", "nat-postrouting-in"),
            ("nat-postrouting-out-jumps", "nat-postrouting-out"),
        ];
        let maps: String = maps.map(|(name, chain)| jumps(name, chain)).concat();
        let base = |name: &str, hook: &str, rules: &str| {
            format!("chain {name} {{ type {hook}; policy accept;\n{rules}\n}}\n")
        };
        let local = "fib daddr type local counter jump nat-prerouting-and-output";
        let bases = [
            base(
                "filter-FORWARD",
                "filter hook forward priority filter",
                "oifname vmap @filter-forward-in-jumps\niifname vmap @filter-forward-out-jumps",
            ),
            base(
                "nat-OUTPUT",
                "nat hook output priority -100",
                &format!("ip daddr != 127.0.0.0/8 {local}"),
            ),
            base(
                "nat-POSTROUTING",
                "nat hook postrouting priority srcnat",
                "iifname vmap @nat-postrouting-out-jumps\noifname vmap @nat-postrouting-in-jumps",
            ),
            base(
                "nat-PREROUTING",
                "nat hook prerouting priority dstnat",
                local,
            ),
            base(
                "raw-PREROUTING",
                "filter hook prerouting priority raw",
                &format!("ip daddr {container} iifname != \"{bridge}\" counter drop"),
            ),
        ];
        format!(
            "table ip docker-bridges {{\n\
             chain nat-prerouting-and-output {{\n{dnat}}}\n\
             chain filter-forward-in {{\nct state established,related counter accept\n\
             iifname \"{bridge}\" counter accept\n{accept}counter drop\n}}\n\
             chain filter-forward-out {{\nct state established,related counter accept\ncounter accept\n}}\n\
             chain nat-postrouting-in {{ }}\n\
             chain nat-postrouting-out {{\noifname != \"{bridge}\" ip saddr {subnet} counter masquerade\n}}\n\
             {maps}{}}}\n",
            bases.concat()
        )
    }
}

/// Gives `text` to a program that reads rules, inside a namespace.
pub(crate) fn load(
    inside: &Namespace,
    program: &str,
    arguments: &[&str],
    text: &str,
) -> Result<()> {
    let run = || -> Result<()> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("start {program}"))?;
        if let Some(mut input) = child.stdin.take() {
            input
                .write_all(text.as_bytes())
                .with_context(|| format!("write to {program}"))?;
        }
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program}: {}", said.trim());
        Ok(())
    };
    inside.run(run)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_its_rules_and_the_last_one_has_them_for_udp_too() {
        let published = Published {
            bridge: "br1",
            subnet: "10.77.1.0/24".parse().unwrap(),
            container: "10.77.1.11".parse().unwrap(),
            ports: 101..=200,
        };

        let (iptables, nftables) = (published.iptables(), published.nftables());

        assert_eq!(iptables.matches("-j DNAT").count(), 101);
        assert_eq!(nftables.matches(" dnat to ").count(), 101);
        assert!(
            iptables.contains("-p udp -m udp --dport 200 -j DNAT --to-destination 10.77.1.11:200")
        );
        assert!(nftables.contains("udp dport 200 counter dnat to 10.77.1.11:200\n"));
    }
}
