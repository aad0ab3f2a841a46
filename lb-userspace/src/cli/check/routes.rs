//! The host's routes, as the kernel prints them.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// One route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) to: IpNet,
    pub(super) interface: String,
}

/// Reads `/proc/net/route`: addresses are native words in hexadecimal.
pub(super) fn parse_v4(text: &str) -> Vec<Route> {
    let parse = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let word = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok();
        let address = Ipv4Addr::from(word(1)?.to_ne_bytes());
        let mask = Ipv4Addr::from(word(7)?.to_ne_bytes());
        Some(Route {
            to: Ipv4Net::with_netmask(address, mask).ok()?.into(),
            interface: (*fields.first()?).to_owned(),
        })
    };
    text.lines().skip(1).filter_map(parse).collect()
}

/// Reads `/proc/net/ipv6_route`: addresses are 32 hexadecimal digits in network order.
pub(super) fn parse_v6(text: &str) -> Vec<Route> {
    let parse = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let address = u128::from_str_radix(fields.first()?, 16).ok()?;
        let bits = u8::from_str_radix(fields.get(1)?, 16).ok()?;
        Some(Route {
            to: Ipv6Net::new(Ipv6Addr::from(address), bits).ok()?.into(),
            interface: (*fields.get(9)?).to_owned(),
        })
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_routes_are_read() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    br0\t0000120A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";

        let routes = parse_v4(text);

        let found: Vec<_> = routes
            .iter()
            .map(|r| (r.to.to_string(), r.interface.as_str()))
            .collect();
        assert_eq!(
            found,
            [("0.0.0.0/0".into(), "eth0"), ("10.18.0.0/16".into(), "br0")]
        );
    }

    #[test]
    fn ipv6_routes_are_read() {
        let text = "fd760000000000000000000000000000 10 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 00000100 00000001 00000000 00000001     br0\n";

        let routes = parse_v6(text);

        assert_eq!(routes[0].to.to_string(), "fd76::/16");
        assert_eq!(routes[0].interface, "br0");
    }
}
