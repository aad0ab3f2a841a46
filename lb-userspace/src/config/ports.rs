//! What is reachable from outside, and how containers reach it.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use lb_common::Algorithm;

use super::GroupName;
use crate::model::Protocol;

/// Who does what Docker's rules do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As the Engine was started: with its own rules beside them, without in their place.
    #[default]
    Auto,
    /// veer does everything: the Engine has no rules.
    Replace,
    /// The Engine has its rules, and veer is faster than they are.
    Beside,
}

impl Mode {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Replace, Self::Beside];

    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Replace => "replace",
            Self::Beside => "beside",
        }
    }
}

/// Who gives what leaves a Network an address of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Masquerade {
    /// The programs.
    #[default]
    Ebpf,
    /// A table of veer's in nftables, for hosts that need the kernel's connection tracking.
    Kernel,
    /// Nobody.
    Off,
}

impl Masquerade {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Ebpf, Self::Kernel, Self::Off];

    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Kernel => "kernel",
            Self::Off => "off",
        }
    }
}

/// Published ports and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    pub mode: Mode,
    pub masquerade: Masquerade,
    /// Source ports of what leaves; nothing else on the host may use them.
    pub masquerade_ports: RangeInclusive<u16>,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            masquerade: Masquerade::default(),
            masquerade_ports: 61_000..=65_535,
        }
    }
}

/// Ways to the outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplinks {
    /// Names of interfaces, a `*` at the end for any ending; none: those with a default route.
    pub interfaces: Vec<String>,
}

impl Uplinks {
    /// Whether the interface of this name is an uplink.
    pub fn has(&self, name: &str, has_default_route: bool) -> bool {
        if self.interfaces.is_empty() {
            return has_default_route;
        }
        let is = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        };
        self.interfaces.iter().any(is)
    }
}

/// A Group that is reached at addresses of the host: `[[publish]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishConfig {
    /// `None`: every address of the host.
    pub address: Option<IpAddr>,
    pub ports: RangeInclusive<u16>,
    pub protocol: Protocol,
    pub group: GroupName,
    /// Of the Members, for the first port; `None`: what each Member's `veer.port` says, and the port
    /// that was asked for where it says nothing.
    pub target_port: Option<u16>,
    /// `None`: that of the Group.
    pub algorithm: Option<Algorithm>,
    /// Who may connect; empty: everybody.
    pub allow: Vec<IpNet>,
    /// Who may not, even if allowed.
    pub deny: Vec<IpNet>,
}

/// One rule about who may reach published ports: `[[firewall]]`. The first rule that fits decides;
/// where none does, the connection is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallRule {
    pub allows: bool,
    /// `None`: everybody.
    pub source: Option<IpNet>,
    /// Address of the host that was asked for; `None`: every one.
    pub address: Option<IpAddr>,
    /// Port of the host; `None`: every one.
    pub ports: Option<RangeInclusive<u16>>,
    /// `None`: every one.
    pub protocol: Option<Protocol>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uplinks_are_those_with_a_default_route_unless_named() {
        let uplinks = |names: &[&str]| Uplinks {
            interfaces: names.iter().map(|name| name.to_string()).collect(),
        };

        assert!(uplinks(&[]).has("eth0", true) && !uplinks(&[]).has("eth1", false));
        assert!(uplinks(&["eth1"]).has("eth1", false) && !uplinks(&["eth1"]).has("eth0", true));
        assert!(uplinks(&["wg*"]).has("wg12", false) && !uplinks(&["wg"]).has("wg12", false));
    }
}
