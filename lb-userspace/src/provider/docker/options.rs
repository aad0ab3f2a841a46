//! What the options of a Docker network mean for who may reach whom.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::model::{GatewayMode, NetworkPolicy};

/// Docker's name of the network that has no names.
pub(super) const DEFAULT_BRIDGE: &str = "bridge";

/// The policy of the network of this name. A value that Docker would refuse counts as not there.
pub(super) fn policy(
    name: &str,
    options: &HashMap<String, String>,
    gateways: impl Iterator<Item = String>,
) -> NetworkPolicy {
    let option = |key: &str| options.get(key).map(String::as_str);
    let bridge = |key: &str| option(&format!("com.docker.network.bridge.{key}"));
    let on = |key: &str| bridge(key).and_then(switch).unwrap_or(true);
    let mode = |key: &str| bridge(key).and_then(GatewayMode::from_name);
    let gateways: Vec<IpAddr> = gateways.filter_map(|text| text.parse().ok()).collect();
    let trusted = bridge("trusted_host_interfaces").unwrap_or_default();
    NetworkPolicy {
        is_default_bridge: name == DEFAULT_BRIDGE,
        gateway_v4: gateways.iter().find_map(|gateway| match gateway {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        }),
        gateway_v6: gateways.iter().find_map(|gateway| match gateway {
            IpAddr::V6(v6) => Some(*v6),
            IpAddr::V4(_) => None,
        }),
        icc: on("enable_icc"),
        mode_v4: mode("gateway_mode_ipv4").unwrap_or_default(),
        mode_v6: mode("gateway_mode_ipv6").unwrap_or_default(),
        masquerade: on("enable_ip_masquerade"),
        host_v4: option("com.docker.network.host_ipv4").and_then(|text| text.parse().ok()),
        host_v6: option("com.docker.network.host_ipv6").and_then(|text| text.parse().ok()),
        trusted_interfaces: trusted
            .split(':')
            .filter(|name| !name.is_empty())
            .map(str::to_string)
            .collect(),
    }
}

/// What Docker takes for true and false.
fn switch(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy_of(options: &[(&str, &str)]) -> NetworkPolicy {
        let options = options.iter();
        let options = options.map(|(key, value)| (key.to_string(), value.to_string()));
        policy("net", &options.collect(), std::iter::empty())
    }

    #[test]
    fn without_options_a_network_is_masqueraded_and_its_containers_reach_each_other() {
        assert_eq!(policy_of(&[]), NetworkPolicy::default());
    }

    #[test]
    fn dockers_option_names_mean_the_same_here() {
        let policy = policy_of(&[
            ("com.docker.network.bridge.enable_icc", "false"),
            ("com.docker.network.bridge.enable_ip_masquerade", "0"),
            ("com.docker.network.bridge.gateway_mode_ipv4", "routed"),
            (
                "com.docker.network.bridge.gateway_mode_ipv6",
                "nat-unprotected",
            ),
            (
                "com.docker.network.bridge.trusted_host_interfaces",
                "wg0:eth1",
            ),
            ("com.docker.network.host_ipv4", "192.0.2.7"),
            ("com.docker.network.host_ipv6", "2001:db8::7"),
        ]);

        let expected = NetworkPolicy {
            icc: false,
            masquerade: false,
            mode_v4: GatewayMode::Routed,
            mode_v6: GatewayMode::NatUnprotected,
            trusted_interfaces: vec!["wg0".to_string(), "eth1".to_string()],
            host_v4: Some("192.0.2.7".parse().unwrap()),
            host_v6: Some("2001:db8::7".parse().unwrap()),
            ..NetworkPolicy::default()
        };
        assert_eq!(policy, expected);
    }

    #[test]
    fn the_default_bridge_is_known_by_its_name_and_gateways_by_their_family() {
        let gateways = ["172.17.0.1", "fd00::1"].map(str::to_string);

        let policy = policy(DEFAULT_BRIDGE, &HashMap::new(), gateways.into_iter());

        assert!(policy.is_default_bridge);
        assert_eq!(policy.gateway_v4, Some("172.17.0.1".parse().unwrap()));
        assert_eq!(policy.gateway_v6, Some("fd00::1".parse().unwrap()));
    }
}
