//! Which subnets a Network gets when the topology names none.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::LabError;

/// Where IPv4 subnets are looked for, in this order.
const V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(10, 94, 0, 0),
    Ipv4Addr::new(10, 194, 0, 0),
    Ipv4Addr::new(172, 30, 0, 0),
];

/// Where IPv6 subnets are looked for: "vlb" in a unique local prefix.
const V6: Ipv6Addr = Ipv6Addr::new(0xfd76, 0x6c61, 0x6200, 0, 0, 0, 0, 0);

/// One IPv4 and one IPv6 subnet with room for `inhabitants` and a gateway, apart from all of `taken`.
pub(super) fn choose(inhabitants: usize, taken: &[IpNet]) -> Result<Vec<IpNet>, LabError> {
    let prefix = prefix_for(inhabitants)?;
    let size = 1u32 << (32 - prefix);
    let in_16 = |base: Ipv4Addr| (0..0x1_0000 / size).map(move |n| u32::from(base) + n * size);
    let v4 = V4
        .into_iter()
        .flat_map(in_16)
        .filter_map(|base| Ipv4Net::new(base.into(), prefix).ok())
        .map(IpNet::V4)
        .find(|net| is_free(net, taken));
    let v6 = (0..=u16::MAX)
        .filter_map(|n| {
            let [a, b, c, ..] = V6.segments();
            Ipv6Net::new(Ipv6Addr::new(a, b, c, n, 0, 0, 0, 0), 64).ok()
        })
        .map(IpNet::V6)
        .find(|net| is_free(net, taken));
    match (v4, v6) {
        (Some(v4), Some(v6)) => Ok(vec![v4, v6]),
        (None, _) | (_, None) => Err(LabError::NoSubnet),
    }
}

/// Whether `subnets` have room for `inhabitants` and a gateway.
pub(super) fn fits(subnets: &[IpNet], inhabitants: usize) -> bool {
    subnets.iter().all(|net| match net {
        IpNet::V4(net) => prefix_for(inhabitants).is_ok_and(|needed| net.prefix_len() <= needed),
        IpNet::V6(_) => true,
    })
}

/// Refuses subnets that the host, or another Network of the lab, uses already.
pub(super) fn check_free(
    network: &str,
    subnets: &[IpNet],
    taken: &[IpNet],
) -> Result<(), LabError> {
    for subnet in subnets {
        if let Some(other) = taken.iter().find(|other| overlap(subnet, other)) {
            return Err(LabError::SubnetTaken {
                network: network.to_string(),
                subnet: *subnet,
                other: *other,
            });
        }
    }
    Ok(())
}

fn prefix_for(inhabitants: usize) -> Result<u8, LabError> {
    // Network and broadcast address, and the gateway.
    let addresses = inhabitants + 3;
    [24, 22, 20, 18, 16]
        .into_iter()
        .find(|prefix| addresses <= 1 << (32 - prefix))
        .ok_or(LabError::NoSubnet)
}

fn is_free(net: &IpNet, taken: &[IpNet]) -> bool {
    !taken.iter().any(|other| overlap(net, other))
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(nets: &[&str]) -> Vec<IpNet> {
        nets.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_free_subnets_are_chosen() {
        let cases = [
            (2, nets(&[]), ["10.94.0.0/24", "fd76:6c61:6200::/64"]),
            (
                2,
                nets(&["10.94.0.128/25", "fd76:6c61:6200::/64"]),
                ["10.94.1.0/24", "fd76:6c61:6200:1::/64"],
            ),
            (
                2,
                nets(&["10.0.0.0/8"]),
                ["172.30.0.0/24", "fd76:6c61:6200::/64"],
            ),
            (
                1_000,
                nets(&["10.94.0.0/24"]),
                ["10.94.4.0/22", "fd76:6c61:6200::/64"],
            ),
        ];

        for (inhabitants, taken, expected) in cases {
            assert_eq!(choose(inhabitants, &taken).unwrap(), nets(&expected));
        }
    }

    #[test]
    fn a_host_without_room_says_so() {
        let taken = nets(&["10.0.0.0/8", "172.16.0.0/12"]);

        assert!(matches!(choose(2, &taken), Err(LabError::NoSubnet)));
    }
}
