//! Which port a DNS query is led to, and what the answer's source is called.
//!
//! A container asks 127.0.0.11:53. If the daemon listens on another port of that address in the
//! container's namespace and is alive, the query goes there; in every other case it is left alone,
//! and Docker's own resolver answers.

use lb_common::{Addr, Port, Resolver};

/// The protocols of DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What the decision needs to know of the namespace that a query comes from.
pub trait Asker {
    /// Where the daemon said that it listens in this namespace.
    fn resolver(&self) -> Option<Resolver>;
    /// Nanoseconds since boot at which the daemon last was alive.
    fn heartbeat(&self) -> u64;
    /// Nanoseconds since boot.
    fn now(&self) -> u64;
    /// Whether a socket is bound to 127.0.0.11 and `port` in this namespace.
    fn listens(&self, transport: Transport, port: Port) -> bool;
}

impl Transport {
    /// The transport with this IP protocol number.
    #[inline(always)]
    pub const fn from_protocol(protocol: u32) -> Option<Self> {
        match protocol {
            17 => Some(Self::Udp),
            6 => Some(Self::Tcp),
            _ => None,
        }
    }
}

/// The port to send to in place of `port`; `None` leaves the destination as it is.
///
/// A daemon that was killed has no sockets any more, so that the next query is left alone; one that
/// hangs has sockets and no heartbeat. Where Docker's rules were taken away, such a query is led to
/// Docker's resolver in their place.
#[inline(always)]
pub fn lead(
    destination: &Addr,
    port: Port,
    transport: Option<Transport>,
    asker: &impl Asker,
) -> Option<Port> {
    if !is_ours(destination) || port != Resolver::PORT {
        return None;
    }
    let transport = transport?;
    let resolver = asker.resolver()?;
    let is_alive = asker.now().saturating_sub(asker.heartbeat()) < Resolver::PATIENCE;
    let port = port_of(&resolver, transport);
    if is_alive && asker.listens(transport, port) {
        return Some(port);
    }
    let dockers = dockers_port(&resolver, transport);
    (dockers != Port::NONE && asker.listens(transport, dockers)).then_some(dockers)
}

/// The port that `source` and `port` are shown as; `None` shows them as they are.
#[inline(always)]
pub fn restore(
    source: &Addr,
    port: Port,
    transport: Option<Transport>,
    asker: &impl Asker,
) -> Option<Port> {
    if !is_ours(source) {
        return None;
    }
    let (resolver, transport) = (asker.resolver()?, transport?);
    let dockers = dockers_port(&resolver, transport);
    let is_dockers = dockers != Port::NONE && port == dockers;
    (is_dockers || port == port_of(&resolver, transport)).then_some(Resolver::PORT)
}

#[inline(always)]
fn is_ours(address: &Addr) -> bool {
    address.is_v4() && address.v4_word() == Resolver::ADDRESS
}

#[inline(always)]
fn port_of(resolver: &Resolver, transport: Transport) -> Port {
    match transport {
        Transport::Udp => resolver.udp,
        Transport::Tcp => resolver.tcp,
    }
}

#[inline(always)]
fn dockers_port(resolver: &Resolver, transport: Transport) -> Port {
    match transport {
        Transport::Udp => resolver.docker_udp,
        Transport::Tcp => resolver.docker_tcp,
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    const UDP: Port = Port::new(40_001);
    const TCP: Port = Port::new(40_002);
    const OTHER: Port = Port::new(40_003);
    const DOCKER: Port = Port::new(40_004);

    /// A namespace in which the daemon listens; the fields are what a test changes.
    struct Namespace {
        resolver: Option<Resolver>,
        heartbeat: u64,
        sockets: bool,
    }

    impl Asker for Namespace {
        fn resolver(&self) -> Option<Resolver> {
            self.resolver
        }
        fn heartbeat(&self) -> u64 {
            self.heartbeat
        }
        fn now(&self) -> u64 {
            10_000_000_000
        }
        fn listens(&self, transport: Transport, port: Port) -> bool {
            let ours = matches!(
                (transport, port),
                (Transport::Udp, UDP) | (Transport::Tcp, TCP)
            );
            (self.sockets && ours) || (port == DOCKER && transport == Transport::Udp)
        }
    }

    fn served() -> Namespace {
        Namespace {
            resolver: Some(Resolver {
                udp: UDP,
                tcp: TCP,
                ..Resolver::default()
            }),
            heartbeat: 9_900_000_000,
            sockets: true,
        }
    }

    fn address(last: u8) -> Addr {
        Ipv4Addr::new(127, 0, 0, last).into()
    }

    fn led(asker: &Namespace) -> Option<Port> {
        lead(&address(11), Resolver::PORT, Some(Transport::Udp), asker)
    }

    #[test]
    fn a_query_is_led_to_the_daemons_socket_of_its_transport() {
        let ours = address(11);

        assert_eq!(
            lead(&ours, Resolver::PORT, Some(Transport::Udp), &served()),
            Some(UDP)
        );
        assert_eq!(
            lead(&ours, Resolver::PORT, Some(Transport::Tcp), &served()),
            Some(TCP)
        );
    }

    #[test]
    fn everything_else_keeps_its_destination() {
        let udp = Some(Transport::Udp);

        assert_eq!(lead(&address(1), Resolver::PORT, udp, &served()), None);
        assert_eq!(lead(&address(11), OTHER, udp, &served()), None);
        assert_eq!(lead(&address(11), Resolver::PORT, None, &served()), None);
    }

    #[test]
    fn a_namespace_that_is_not_served_is_left_alone() {
        assert_eq!(
            led(&Namespace {
                resolver: None,
                ..served()
            }),
            None
        );
    }

    #[test]
    fn a_daemon_without_sockets_or_heartbeat_leaves_queries_alone() {
        let late = 10_000_000_000 - Resolver::PATIENCE;

        assert_eq!(
            led(&Namespace {
                sockets: false,
                ..served()
            }),
            None
        );
        assert_eq!(
            led(&Namespace {
                heartbeat: late,
                ..served()
            }),
            None
        );
        assert_eq!(
            led(&Namespace {
                heartbeat: late + 1,
                ..served()
            }),
            Some(UDP)
        );
        assert_eq!(
            led(&Namespace {
                heartbeat: 10_000_000_001,
                ..served()
            }),
            Some(UDP)
        );
    }

    #[test]
    fn without_dockers_rules_a_query_goes_to_dockers_resolver_when_veer_is_not_there() {
        let with = |docker_udp, docker_tcp| Resolver {
            docker_udp,
            docker_tcp,
            ..served().resolver.unwrap()
        };
        let without_rules = |sockets, heartbeat| Namespace {
            resolver: Some(with(DOCKER, OTHER)),
            heartbeat,
            sockets,
        };

        assert_eq!(led(&without_rules(true, 9_900_000_000)), Some(UDP));
        assert_eq!(led(&without_rules(false, 9_900_000_000)), Some(DOCKER));
        assert_eq!(led(&without_rules(true, 0)), Some(DOCKER));
        let nobody_there = lead(
            &address(11),
            Resolver::PORT,
            Some(Transport::Tcp),
            &without_rules(false, 0),
        );
        assert_eq!(nobody_there, None, "it was started again, with rules");
        let shown = restore(
            &address(11),
            DOCKER,
            Some(Transport::Udp),
            &without_rules(true, 0),
        );
        assert_eq!(shown, Some(Resolver::PORT));
    }

    #[test]
    fn an_answer_is_shown_as_coming_from_where_the_client_asked() {
        let restored = |source, port, transport| restore(&source, port, transport, &served());

        assert_eq!(
            restored(address(11), UDP, Some(Transport::Udp)),
            Some(Resolver::PORT)
        );
        assert_eq!(
            restored(address(11), TCP, Some(Transport::Tcp)),
            Some(Resolver::PORT)
        );
        assert_eq!(restored(address(11), TCP, Some(Transport::Udp)), None);
        assert_eq!(restored(address(11), OTHER, Some(Transport::Udp)), None);
        assert_eq!(restored(address(1), UDP, Some(Transport::Udp)), None);
    }

    #[test]
    fn an_answer_is_shown_so_even_if_the_daemon_is_gone_by_then() {
        let gone = Namespace {
            heartbeat: 0,
            sockets: false,
            ..served()
        };

        let shown = restore(&address(11), UDP, Some(Transport::Udp), &gone);

        assert_eq!(shown, Some(Resolver::PORT));
    }
}
