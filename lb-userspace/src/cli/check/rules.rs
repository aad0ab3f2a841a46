//! What the facts mean. Pure: no rule looks at the host.

use ipnet::IpNet;

use super::Verdict;
use super::engine::{Engine, Settings};
use super::facts::{Daemon, Facts};
use crate::config::Vips;
use crate::datapath::{Feature, Health};

/// Judges everything, in the order in which an operator would mend it.
pub(super) fn judge(facts: &Facts) -> Vec<Verdict> {
    let mut verdicts: Vec<_> = facts.features.iter().map(feature).collect();
    verdicts.push(config(facts));
    verdicts.push(daemon(&facts.daemon));
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

fn feature(feature: &Feature) -> Verdict {
    let (name, found) = (feature.name, feature.found.as_str());
    match feature.health {
        Health::Good => Verdict::ok(name, found),
        Health::Warning => Verdict::warning(name, found, feature.remedy.as_str()),
        Health::Error => Verdict::error(name, found, feature.remedy.as_str()),
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
            "active: overlay networks, services and their ingress ports are left to Docker",
            "leave services to Docker; veer serves the bridge networks of this host",
        ));
    }
    match settings.iptables {
        Some(false) => verdicts.push(Verdict::ok(
            "mode",
            "replace: the Engine has no rules, veer publishes ports, masquerades and isolates",
        )),
        Some(true) => verdicts.push(Verdict::ok(
            "mode",
            "beside: Docker's rules stay; `veer migrate show` tells how veer does all of it",
        )),
        None => {}
    }
    if let Some(proxy) = settings.userland_proxy {
        let found = format!("{}: does not matter", on_off(proxy));
        verdicts.push(match (settings.iptables, proxy) {
            (Some(false), true) => Verdict::warning(
                "userland-proxy",
                "on: a process for each published port, which nobody uses",
                "`veer migrate apply` turns it off",
            ),
            _ => Verdict::ok("userland-proxy", found),
        });
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
