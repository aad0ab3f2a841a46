//! Networks, subnets, interfaces and addresses: what the programs must know to tell inside from
//! outside.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::{
    Addr, Interface, InterfaceFlags, Link, Mac, Network as Line, NetworkFlags, OpenPort, Port,
    Settings, Subnet, SubnetKey, Zone,
};

use super::endpoints::Placed;
use super::{Networks, Zones};
use crate::config::{Config, Masquerade};
use crate::model::{
    Container, GatewayMode, Host, HostInterface, HostInterfaceKind, Network, NetworkId, Notice,
};
use crate::reconcile::{Fact, Role, State};
use crate::sysctl::Sysctl;

/// What surrounds the Endpoints.
pub(super) struct Surroundings<'a> {
    pub host: &'a Host,
    pub config: &'a Config,
    pub networks: &'a Networks<'a>,
    pub zones: &'a Zones<'a>,
    /// Bridges that are none of veer's.
    pub left: BTreeSet<&'a str>,
    /// Whether Docker's own rules guard and isolate.
    pub beside: bool,
}

impl Surroundings<'_> {
    /// Puts everything into the state, and the guards and the uplinks' programs onto their interfaces.
    pub(super) fn program(&self, placed: &[Placed<'_>], state: &mut State) {
        for (id, zone) in self.zones {
            if let Some(network) = self.networks.get(id) {
                put(state, Fact::Network(*zone, self.line(network)));
                self.put_subnets(network, *zone, state);
            }
        }
        self.host
            .interfaces
            .iter()
            .for_each(|one| self.put_interface(one, state));
        let outside = |address: &IpAddr| !address.is_loopback();
        let locals = self.host.addresses().filter(outside);
        locals.for_each(|address| put(state, Fact::Local(address.into())));
        for placed in placed.iter().filter(|placed| placed.id != 0) {
            self.put_open_ports(placed, state);
            self.put_links(placed, state);
        }
    }

    /// What published ports need, `unheld` of which nobody holds, and forwarding where the Engine's rules do
    /// not see to it.
    pub(super) fn sysctls(
        &self,
        settings: &Settings,
        unheld: &BTreeSet<(u16, u16)>,
    ) -> Vec<Sysctl> {
        let mut sysctls = self.forwarding();
        let masquerade = (settings.masquerade_first, settings.masquerade_last);
        let masquerade = (!sysctls.is_empty()).then_some(masquerade);
        let reserved = unheld.iter().copied().chain(masquerade);
        sysctls.push(Sysctl::Reserved(
            reserved.map(|(first, last)| first..=last).collect(),
        ));
        sysctls
    }

    fn forwarding(&self) -> Vec<Sysctl> {
        let leading = || self.networks.values().filter(|network| !network.internal);
        let mut sysctls = Vec::new();
        if self.beside || leading().next().is_none() {
            return sysctls;
        }
        sysctls.push(Sysctl::Is("ipv4/ip_forward".to_owned(), "1"));
        // Answers from published ports to 127.0.0.1 come in at the loopback interface without a route.
        for key in ["route_localnet", "accept_local"] {
            sysctls.push(Sysctl::Is(format!("ipv4/conf/lo/{key}"), "1"));
        }
        // Rules for what is forwarded are not for containers of one network among themselves.
        for key in ["iptables", "ip6tables"] {
            let key = format!("bridge/bridge-nf-call-{key}");
            sysctls.push(Sysctl::Becomes(key, "1", "0"));
        }
        let has_v6 = |network: &&Network| network.subnets.iter().any(|net| net.addr().is_ipv6());
        if leading().any(has_v6) {
            // A router takes no routes from other routers unless told to: uplinks go on doing so.
            let uplinks = self
                .host
                .interfaces
                .iter()
                .filter(|one| self.is_uplink(one));
            sysctls.extend(
                uplinks.map(|one| {
                    Sysctl::Becomes(format!("ipv6/conf/{}/accept_ra", one.name), "1", "2")
                }),
            );
            sysctls.push(Sysctl::Is("ipv6/conf/all/forwarding".to_owned(), "1"));
        }
        sysctls
    }

    /// The table that masquerades what leaves, and lets in nothing but answers.
    pub(super) fn rules(&self) -> Option<String> {
        if self.beside || self.config.ports.masquerade != Masquerade::Kernel {
            return None;
        }
        let networks = || self.networks.values().filter(|network| !network.internal);
        let leaving: String = networks().flat_map(|network| leaving(network)).collect();
        let entering: String = networks().flat_map(|network| entering(network)).collect();
        Some(format!(
            "table inet veer {{\n\
             chain leaving {{ type nat hook postrouting priority srcnat; policy accept;\n{leaving}}}\n\
             chain entering {{ type filter hook forward priority filter; policy accept;\n{entering}}}\n\
             }}\n"
        ))
    }

    fn line(&self, network: &Network) -> Line {
        let bridge = self.host.bridge(&network.bridge);
        let subnet = |is_v4: bool| {
            let mut subnets = network.subnets.iter();
            subnets.find(|net| net.addr().is_ipv4() == is_v4)
        };
        let first = |net: Option<&IpNet>| net.map_or(Addr::NONE, |net| net.network().into());
        let mask = |net: Option<&IpNet>| net.map_or(Addr::NONE, |net| Addr::mask(bits(net) as u8));
        let (v4, v6) = (subnet(true), subnet(false));
        let policy = &network.policy;
        Line {
            subnet_v4: first(v4),
            subnet_v4_mask: mask(v4),
            subnet_v6: first(v6),
            subnet_v6_mask: mask(v6),
            gateway_v4: gateway(bridge, v4, policy.gateway_v4.map(IpAddr::V4)),
            gateway_v6: gateway(bridge, v6, policy.gateway_v6.map(IpAddr::V6)),
            host_v4: policy.host_v4.map_or(Addr::NONE, Addr::from),
            host_v6: policy.host_v6.map_or(Addr::NONE, Addr::from),
            bridge: bridge.map_or(0, |bridge| bridge.ifindex),
            flags: self.flags(network),
            mac: bridge.map_or(Mac::NONE, |bridge| Mac::new(bridge.mac)),
            _pad: 0,
        }
    }

    fn flags(&self, network: &Network) -> u32 {
        let policy = &network.policy;
        let modes = (policy.mode_v4, policy.mode_v6);
        let masquerades = |mode| {
            let nat = matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected);
            nat && policy.masquerade && self.config.ports.masquerade != Masquerade::Off
        };
        // Beside Docker's rules the way out is theirs, as are those that users put before them.
        let by_kernel = self.beside || self.config.ports.masquerade == Masquerade::Kernel;
        let flags = [
            (true, NetworkFlags::SERVED),
            (network.internal, NetworkFlags::INTERNAL),
            (!policy.icc, NetworkFlags::NO_ICC),
            (masquerades(modes.0), NetworkFlags::MASQUERADE_V4),
            (masquerades(modes.1), NetworkFlags::MASQUERADE_V6),
            (modes.0 == GatewayMode::Routed, NetworkFlags::ROUTED_V4),
            (modes.1 == GatewayMode::Routed, NetworkFlags::ROUTED_V6),
            (
                modes.0 == GatewayMode::NatUnprotected,
                NetworkFlags::UNPROTECTED_V4,
            ),
            (
                modes.1 == GatewayMode::NatUnprotected,
                NetworkFlags::UNPROTECTED_V6,
            ),
            (modes.0 == GatewayMode::Isolated, NetworkFlags::ISOLATED_V4),
            (modes.1 == GatewayMode::Isolated, NetworkFlags::ISOLATED_V6),
            (by_kernel, NetworkFlags::KERNEL_MASQUERADE),
        ];
        let set = flags.into_iter().filter(|(is_set, _)| *is_set);
        set.fold(0, |all, (_, flag)| all | flag)
    }

    fn put_subnets(&self, network: &Network, zone: Zone, state: &mut State) {
        for subnet in &network.subnets {
            let key = SubnetKey {
                prefix_length: bits(subnet),
                address: subnet.network().into(),
            };
            put(state, Fact::Subnet(key, Subnet { zone, _pad: 0 }));
        }
    }

    fn put_interface(&self, one: &HostInterface, state: &mut State) {
        if one.kind == HostInterfaceKind::Loopback {
            // Beside Docker's rules, they and its proxies serve who is bound to a loopback address.
            if !self.beside && !self.networks.is_empty() {
                state.attached.insert((Role::Loopback, one.ifindex));
            }
            return;
        }
        let zone = self.zone_of(one);
        let is_bridge = zone.is_some() || (!self.beside && self.is_unknown(one));
        let uplink = (!is_bridge && self.is_uplink(one)).then(|| uplink(one.kind));
        let uplink = uplink.flatten();
        let flags = [
            (uplink.is_some(), InterfaceFlags::UPLINK),
            (
                one.kind == HostInterfaceKind::Bare,
                InterfaceFlags::NO_ETHERNET,
            ),
            (is_bridge, InterfaceFlags::BRIDGE),
        ];
        let set = flags.into_iter().filter(|(is_set, _)| *is_set);
        let interface = Interface {
            v4: first_address(one, |address| address.is_ipv4()),
            v6: first_address(one, is_global_v6),
            mac: Mac::new(one.mac),
            zone: zone.unwrap_or(0),
            flags: set.fold(0, |all, (_, flag)| all | flag),
        };
        put(state, Fact::Interface(one.ifindex, interface));
        if is_bridge {
            state.attached.insert((Role::Bridge, one.ifindex));
        } else if let Some(role) = uplink {
            state.attached.insert((role, one.ifindex));
        }
    }

    /// Whether the interface is a way to the outside, as it is configured.
    fn is_uplink(&self, one: &HostInterface) -> bool {
        self.config.uplinks.has(&one.name, one.has_default_route)
    }

    /// What the operator should know of the interfaces.
    pub(super) fn notices(&self) -> impl Iterator<Item = Notice> {
        let interfaces = self.host.interfaces.iter();
        interfaces.filter_map(|one| match one.kind {
            HostInterfaceKind::Unread(link) if self.is_uplink(one) => Some(Notice {
                subject: format!("interface {}", one.name),
                message: format!(
                    "not served: its packets have headers of link type {link}, which veer does not \
                     read; published ports are not reached through it, and what containers send \
                     there is not masqueraded"
                ),
            }),
            _ => None,
        })
    }

    fn zone_of(&self, bridge: &HostInterface) -> Option<Zone> {
        let mut networks = self.networks.iter();
        let is = |network: &Network| {
            bridge.kind == HostInterfaceKind::Bridge && network.bridge == bridge.name
        };
        let (id, _) = networks.find(|(_, network)| is(network))?;
        self.zones.get(id).copied()
    }

    /// Whether Docker may have made the bridge. It tells of one only after containers can be on it, at
    /// its start long after: until then nothing passes.
    fn is_unknown(&self, bridge: &HostInterface) -> bool {
        is_of_docker(bridge) && !self.left.contains(bridge.name.as_str())
    }

    /// Indexes of the interfaces that the Network trusts: those that it names, or all that are no
    /// bridges where direct routing is allowed.
    fn trusted(&self, network: &Network) -> impl Iterator<Item = u32> {
        let names = &network.policy.trusted_interfaces;
        let is_trusted = |one: &&HostInterface| match one.kind {
            HostInterfaceKind::Loopback | HostInterfaceKind::Bridge => names.contains(&one.name),
            _ => self.host.allows_direct_routing || names.contains(&one.name),
        };
        let trusted = self.host.interfaces.iter().filter(is_trusted);
        trusted.map(|one| one.ifindex)
    }

    /// Only where somebody may reach containers at their own addresses.
    fn put_open_ports(&self, placed: &Placed<'_>, state: &mut State) {
        let network = placed.served.network;
        let attachment = placed.served.attachment;
        let families = [
            (attachment.v4.map(IpAddr::V4), network.policy.mode_v4),
            (attachment.v6.map(IpAddr::V6), network.policy.mode_v6),
        ];
        for (own, mode) in families {
            let everywhere = (mode == GatewayMode::Routed).then_some(0);
            let from = everywhere.into_iter().chain(self.trusted(network));
            for interface in from {
                for port in own.into_iter().flat_map(|own| published(placed, own)) {
                    put(state, Fact::OpenPort(OpenPort { interface, ..port }));
                }
            }
        }
    }

    /// From a container to those that it is linked to, where containers do not reach each other.
    fn put_links(&self, placed: &Placed<'_>, state: &mut State) {
        if placed.served.network.policy.icc {
            return;
        }
        let from = placed.served;
        for other in &from.linked {
            let pairs = [
                from.attachment
                    .v4
                    .map(IpAddr::V4)
                    .zip(other.v4.map(IpAddr::V4)),
                from.attachment
                    .v6
                    .map(IpAddr::V6)
                    .zip(other.v6.map(IpAddr::V6)),
            ];
            for (from, to) in pairs.into_iter().flatten() {
                for range in other.exposed {
                    for n in 0..range.count {
                        let link = Link {
                            from: from.into(),
                            to: to.into(),
                            port: Port::new(range.first.wrapping_add(n)),
                            zone: placed.zone,
                            protocol: range.protocol.number(),
                            _pad: [0; 3],
                        };
                        put(state, Fact::Link(link));
                    }
                }
            }
        }
    }
}

/// The published ports of a container at its own address, from everywhere.
fn published(placed: &Placed<'_>, own: IpAddr) -> impl Iterator<Item = OpenPort> {
    let ports = placed.served.container.publishing.ports.iter();
    let asked = ports.filter(move |ports| ports.host.is_none_or(|h| h.is_ipv4() == own.is_ipv4()));
    let zone = placed.zone;
    asked.flat_map(move |ports| {
        (0..ports.count).map(move |n| OpenPort {
            address: own.into(),
            port: Port::new(ports.port.wrapping_add(n)),
            zone,
            protocol: ports.protocol.number(),
            _pad: [0; 3],
            interface: 0,
        })
    })
}

/// What programs do on an uplink of this kind, if there are such.
fn uplink(kind: HostInterfaceKind) -> Option<Role> {
    match kind {
        HostInterfaceKind::Ethernet | HostInterfaceKind::Bridge => Some(Role::Uplink),
        HostInterfaceKind::Bare => Some(Role::BareUplink),
        HostInterfaceKind::Unread(_) | HostInterfaceKind::Loopback => None,
    }
}

/// The rules that give what leaves the Network an address of the host.
fn leaving(network: &Network) -> Vec<String> {
    let policy = &network.policy;
    let rule = |subnet: &IpNet| {
        let (family, mode, host) = match subnet {
            IpNet::V4(_) => ("ip", policy.mode_v4, policy.host_v4.map(IpAddr::V4)),
            IpNet::V6(_) => ("ip6", policy.mode_v6, policy.host_v6.map(IpAddr::V6)),
        };
        let nat = matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected);
        let by = host.map_or("masquerade".to_owned(), |host| {
            format!("snat {family} to {host}")
        });
        let bridge = &network.bridge;
        (nat && policy.masquerade)
            .then(|| format!("{family} saddr {subnet} oifname != \"{bridge}\" {by}\n"))
    };
    network.subnets.iter().filter_map(rule).collect()
}

/// The rules that keep out what nobody on the Network has asked for.
fn entering(network: &Network) -> Vec<String> {
    let rule = |subnet: &IpNet| {
        let (family, mode) = match subnet {
            IpNet::V4(_) => ("ip", network.policy.mode_v4),
            IpNet::V6(_) => ("ip6", network.policy.mode_v6),
        };
        let bridge = &network.bridge;
        (mode == GatewayMode::Nat).then(|| {
            format!(
                "{family} daddr {subnet} iifname != \"{bridge}\" ct state != {{ established, related }} drop\n"
            )
        })
    };
    network.subnets.iter().filter_map(rule).collect()
}

/// Another container on the same Network that one is linked to.
pub(super) struct Linked<'a> {
    v4: Option<std::net::Ipv4Addr>,
    v6: Option<std::net::Ipv6Addr>,
    exposed: &'a [crate::model::PortRange],
}

/// Whom `container` is linked to on `network`.
pub(super) fn linked<'a>(
    container: &Container,
    network: &NetworkId,
    all: &'a [Container],
) -> Vec<Linked<'a>> {
    let links = &container.publishing.links;
    let is_linked = |other: &&Container| {
        let mut links = links.iter();
        links.any(|link| *link == other.name || *link == other.id.0)
    };
    let others = all.iter().filter(is_linked).filter_map(|other| {
        let mut attachments = other.attachments.iter();
        let attachment = attachments.find(|attachment| attachment.network == *network)?;
        Some(Linked {
            v4: attachment.v4,
            v6: attachment.v6,
            exposed: &other.publishing.exposed,
        })
    });
    others.collect()
}

fn put(state: &mut State, fact: Fact) {
    state.facts.insert(fact.place(), fact);
}

/// Leading bits over all 128.
pub(super) fn bits(net: &IpNet) -> u32 {
    let family = if net.addr().is_ipv4() { 96 } else { 0 };
    family + u32::from(net.prefix_len())
}

/// The bridge's own address in the subnet, or what the Engine says it is.
fn gateway(bridge: Option<&HostInterface>, subnet: Option<&IpNet>, told: Option<IpAddr>) -> Addr {
    let own = bridge.zip(subnet).and_then(|(bridge, subnet)| {
        let mut addresses = bridge.addresses.iter().map(IpNet::addr);
        addresses.find(|address| subnet.contains(address))
    });
    own.or(told).map_or(Addr::NONE, Addr::from)
}

fn first_address(interface: &HostInterface, fits: impl Fn(&IpAddr) -> bool) -> Addr {
    let mut addresses = interface.addresses.iter().map(IpNet::addr);
    addresses
        .find(|address| fits(address))
        .map_or(Addr::NONE, Addr::from)
}

fn is_global_v6(address: &IpAddr) -> bool {
    match address {
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    }
}

/// Whether the Engine gives such names to bridges.
fn is_of_docker(interface: &HostInterface) -> bool {
    let hexadecimal =
        |digits: &str| digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    interface.kind == HostInterfaceKind::Bridge
        && (interface.name == "docker0"
            || interface.name.strip_prefix("br-").is_some_and(hexadecimal))
}

#[cfg(test)]
mod tests;
