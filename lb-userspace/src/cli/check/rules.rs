//! What the facts mean. Pure: no rule looks at the host.

use ipnet::IpNet;

use super::Verdict;
use super::engine::{Engine, Settings};
use super::facts::{Daemon, Facts};
use super::mounts::Mount;
use crate::config::Vips;

/// Oldest kernel that every program is tested on.
const OLDEST: (u32, u32) = (6, 1);
/// First kernel with tcx.
const TCX: (u32, u32) = (6, 6);

/// Capabilities that loading, attaching and entering namespaces need (capability.h).
const NEEDED: [(u32, &str); 4] = [
    (12, "CAP_NET_ADMIN"),
    (21, "CAP_SYS_ADMIN"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

/// Judges everything, in the order in which an operator would mend it.
pub(super) fn judge(facts: &Facts) -> Vec<Verdict> {
    let mut verdicts = vec![
        kernel(&facts.kernel),
        capabilities(facts.capabilities),
        cgroup2(&facts.mounts),
        bpffs(&facts.mounts),
        config(facts),
        daemon(&facts.daemon),
    ];
    verdicts.extend(engine(&facts.engine));
    if let Ok((_, vips)) = &facts.config {
        verdicts.push(pools(facts, vips));
    }
    verdicts.push(bridge_netfilter(facts.bridge_netfilter));
    verdicts.push(strangers(facts));
    verdicts.push(Verdict::ok(
        "rp_filter",
        "does not matter: translated packets never enter the host's stack",
    ));
    verdicts
}

fn kernel(release: &str) -> Verdict {
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let needed = format!("{}.{}", OLDEST.0, OLDEST.1);
    if version < OLDEST {
        let remedy = format!("boot Linux {needed} or later (Debian 12 has 6.1)");
        return Verdict::error("kernel", format!("{release}: older than {needed}"), remedy);
    }
    let hook = if version < TCX { "clsact" } else { "tcx" };
    Verdict::ok("kernel", format!("{release}, programs attach by {hook}"))
}

fn capabilities(set: u64) -> Verdict {
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(bit, _)| set & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        return Verdict::ok("capabilities", "all that are needed");
    }
    let found = format!("missing: {}", missing.join(", "));
    Verdict::error("capabilities", found, "run as root: `sudo veer run`")
}

fn cgroup2(mounts: &[Mount]) -> Verdict {
    match mounts.iter().find(|mount| mount.kind == "cgroup2") {
        Some(mount) => Verdict::ok("cgroup2", format!("mounted at {}", mount.point)),
        None => Verdict::warning(
            "cgroup2",
            "not mounted: DNS stays Docker's, so aliases resolve to Members, not to VIPs",
            "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified",
        ),
    }
}

fn bpffs(mounts: &[Mount]) -> Verdict {
    let is_bpffs = |mount: &&Mount| mount.kind == "bpf" && mount.point == "/sys/fs/bpf";
    match mounts.iter().find(is_bpffs) {
        Some(mount) => Verdict::ok("bpffs", format!("mounted at {}", mount.point)),
        None => Verdict::warning(
            "bpffs",
            "not mounted at /sys/fs/bpf; `veer run` mounts it",
            "mount -t bpf bpf /sys/fs/bpf, and in /etc/fstab: bpf /sys/fs/bpf bpf defaults 0 0",
        ),
    }
}

fn config(facts: &Facts) -> Verdict {
    match &facts.config {
        Ok((Some(path), _)) => Verdict::ok("config", path.display().to_string()),
        Ok((None, _)) => Verdict::ok("config", "no file: defaults only"),
        Err(error) => Verdict::error(
            "config",
            error,
            "mend the file; `veer config` prints it whole",
        ),
    }
}

fn daemon(daemon: &Daemon) -> Verdict {
    match daemon {
        Daemon::Running { pid, version } => Verdict::ok(
            "daemon",
            format!("veer {version} serves this namespace, pid {pid}"),
        ),
        Daemon::Silent(_) => Verdict::ok("daemon", "not running here"),
    }
}

fn engine(engine: &Engine) -> Vec<Verdict> {
    match engine {
        Engine::Absent { socket, error } => vec![Verdict::warning(
            "engine",
            format!("{socket}: {error}"),
            "start Docker, or name its socket with --docker-socket; without, `veer run` shows the lab",
        )],
        Engine::Answering(settings) => docker(settings),
    }
}

fn docker(settings: &Settings) -> Vec<Verdict> {
    let on_off = |on| if on { "on" } else { "off" };
    let version = format!("Docker {}, API {}", settings.version, settings.api_version);
    let mut verdicts = vec![Verdict::ok("engine", version)];
    let live_restore = match settings.live_restore {
        true => "on: containers survive a restart of the Engine",
        false => "off: a restart of the Engine stops every container",
    };
    verdicts.push(Verdict::ok("live-restore", live_restore));
    if settings.swarm {
        verdicts.push(Verdict::warning(
            "swarm",
            "active: overlay networks and services are not served",
            "leave services to Docker; veer serves the bridge networks of this host",
        ));
    }
    match settings.iptables {
        Some(false) => verdicts.push(Verdict::warning(
            "iptables",
            "off: nothing isolates Networks, masquerades or publishes ports",
            "remove iptables=false from the Engine's settings",
        )),
        Some(true) => verdicts.push(Verdict::ok(
            "iptables",
            "on: Docker's rules stay as they are",
        )),
        None => {}
    }
    if let Some(proxy) = settings.userland_proxy {
        verdicts.push(Verdict::ok(
            "userland-proxy",
            format!("{}: does not matter", on_off(proxy)),
        ));
    }
    verdicts
}

/// Addresses of a VIP pool must not be anybody else's.
fn pools(facts: &Facts, vips: &Vips) -> Verdict {
    let pools = [IpNet::V4(vips.ipv4), IpNet::V6(vips.ipv6)];
    let described = format!("{} and {}", vips.ipv4, vips.ipv6);
    let routes = facts.routes.iter().map(|route| {
        (
            route.to,
            format!("the route to {} on {}", route.to, route.interface),
        )
    });
    let networks = match &facts.engine {
        Engine::Answering(settings) => settings.networks.as_slice(),
        Engine::Absent { .. } => &[],
    };
    let subnets = networks.iter().flat_map(|network| {
        let name = |subnet| format!("Docker's network {} ({subnet})", network.name);
        network
            .subnets
            .iter()
            .map(move |subnet| (*subnet, name(subnet)))
    });
    let clash = routes.chain(subnets).find(|(taken, _)| {
        // Halves of everything are how VPNs write a default route.
        taken.prefix_len() > 1 && pools.iter().any(|pool| overlap(pool, taken))
    });
    match clash {
        None => Verdict::ok("vips", format!("{described} are nobody else's")),
        Some((_, whose)) => Verdict::error(
            "vips",
            format!("{described} clash with {whose}"),
            "choose free ranges: `ipv4` and `ipv6` under [vips] in the configuration",
        ),
    }
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

fn bridge_netfilter(on: Option<bool>) -> Verdict {
    match on {
        Some(true) => Verdict::warning(
            "br_netfilter",
            "on: direct packets inside a Network pass the host's iptables",
            "sysctl -w net.bridge.bridge-nf-call-iptables=0, unless a network has icc=false",
        ),
        Some(false) => Verdict::ok("br_netfilter", "off for iptables"),
        None => Verdict::ok("br_netfilter", "not loaded"),
    }
}

fn strangers(facts: &Facts) -> Verdict {
    let Some(first) = facts.strangers.first() else {
        return Verdict::ok("other programs", "none on ports of bridges");
    };
    let others = facts.strangers.len() - 1;
    let mut found = format!("{} on {}", first.program, first.interface);
    if others > 0 {
        found.push_str(&format!(" and {others} more"));
    }
    Verdict::warning(
        "other programs",
        found,
        "veer's program runs first; see that theirs expect packets that are balanced already",
    )
}

#[cfg(test)]
mod tests;
