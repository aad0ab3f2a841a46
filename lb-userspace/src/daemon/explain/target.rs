//! What a client means when it asks for something.

use std::net::{IpAddr, SocketAddr};

use super::super::report::View;
use crate::api::Problem;
use crate::model::Group;
use crate::reconcile::ServedEndpoint;

/// A client on one Network, and what it asks for there.
#[derive(Clone, Debug)]
pub(super) struct Target<'a> {
    pub(super) client: &'a ServedEndpoint,
    pub(super) group: Option<&'a Group>,
    /// `None`: DNS gives no address that veer balances.
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
}

impl<'a> Target<'a> {
    /// Reads `text`: `alias`, `alias:port`, an address, or `address:port` (IPv6 in brackets).
    pub(super) fn find(
        view: &'a View,
        clients: &[&'a ServedEndpoint],
        text: &str,
    ) -> Result<Self, Problem> {
        let (name, port) = split(text)?;
        match name.parse() {
            Ok(address) => Self::address(view, clients, address, port),
            Err(_) => Self::alias(view, clients, name, port),
        }
    }

    fn address(
        view: &'a View,
        clients: &[&'a ServedEndpoint],
        address: IpAddr,
        port: Option<u16>,
    ) -> Result<Self, Problem> {
        let owner = |client: &&'a ServedEndpoint| {
            let mut groups = view.desired.groups.iter();
            groups.find(|group| group.zone == client.zone && vips(group).any(|vip| vip == address))
        };
        let found = clients
            .iter()
            .find_map(|client| Some((*client, owner(client)?)));
        let (client, group) = match (found, clients.first()) {
            (Some((client, group)), _) => (client, Some(group)),
            (None, Some(client)) => (*client, None),
            (None, None) => return Err(Problem::not_found("the client is on no Network")),
        };
        Ok(Self {
            client,
            group,
            address: Some(address),
            port,
        })
    }

    /// Of the client's Networks the first that has the alias, as in DNS.
    fn alias(
        view: &'a View,
        clients: &[&'a ServedEndpoint],
        alias: &str,
        port: Option<u16>,
    ) -> Result<Self, Problem> {
        let alias = alias.to_ascii_lowercase();
        let group_of = |client: &&'a ServedEndpoint| {
            let mut groups = view.desired.groups.iter();
            groups.find(|group| group.zone == client.zone && group.alias == alias)
        };
        let found = clients
            .iter()
            .find_map(|client| Some((*client, group_of(client)?)));
        let Some((client, group)) = found else {
            return Err(Problem::not_found(format!(
                "no Group {alias} on a Network of the client: `veer groups` lists the Groups"
            )));
        };
        Ok(Self {
            client,
            group: Some(group),
            address: vips(group).find(|vip| match vip {
                IpAddr::V4(_) => client.v4.is_some(),
                IpAddr::V6(_) => client.v6.is_some(),
            }),
            port,
        })
    }

    /// The client's own address of the family of `address`.
    pub(super) fn source(&self, address: IpAddr) -> Option<IpAddr> {
        match address {
            IpAddr::V4(_) => self.client.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.client.v6.map(IpAddr::V6),
        }
    }

    /// Id of the Frontend with this address.
    pub(super) fn frontend_id(&self, address: IpAddr) -> Option<u32> {
        let group = self.group?;
        match address {
            IpAddr::V4(_) => group.frontend_v4,
            IpAddr::V6(_) => group.frontend_v6,
        }
    }
}

/// The VIPs of a Group, IPv4 first.
pub(super) fn vips(group: &Group) -> impl Iterator<Item = IpAddr> {
    let v4 = group.vip_v4.map(IpAddr::V4).into_iter();
    v4.chain(group.vip_v6.map(IpAddr::V6))
}

/// A name or address, and the port behind it.
pub(super) fn split(text: &str) -> Result<(&str, Option<u16>), Problem> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text, None));
    }
    let Some((name, port)) = text.rsplit_once(':') else {
        return Ok((text, None));
    };
    let is_known = text.parse::<SocketAddr>().is_ok() || !name.contains(':');
    match port.parse() {
        Ok(port) if is_known => Ok((
            name.trim_start_matches('[').trim_end_matches(']'),
            Some(port),
        )),
        Ok(_) | Err(_) => Err(Problem::bad_request(format!(
            "{text}: write an alias or an address, with :port if it matters ([address]:port for IPv6)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_follow_a_name_and_an_address() {
        assert_eq!(split("tg-net"), Ok(("tg-net", None)));
        assert_eq!(split("tg-net:80"), Ok(("tg-net", Some(80))));
        assert_eq!(split("198.18.0.1:80"), Ok(("198.18.0.1", Some(80))));
        assert_eq!(split("fd76::1"), Ok(("fd76::1", None)));
        assert_eq!(split("[fd76::1]:80"), Ok(("fd76::1", Some(80))));
        assert!(
            split("tg-net:http")
                .unwrap_err()
                .message
                .contains("[address]:port")
        );
    }
}
