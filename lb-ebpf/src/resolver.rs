//! Which port a DNS query is led to, and what the answer's source is called.
//!
//! A container asks 127.0.0.11:53. If the daemon listens on another port of that address in the
//! container's namespace and is alive, the query goes there; in every other case it is left alone,
//! and Docker's own resolver answers.
//!
//! A container on the default bridge alone asks servers of its own. The same holds for those: what is not
//! led to the daemon goes to the server that was asked.

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
    /// Whether the socket is the daemon's own.
    fn is_daemon(&self) -> bool;
    /// Notes which server the socket asked that is led to `port`.
    fn remember(&self, port: Port, server: &Addr);
    /// That server; `None`: it asked 127.0.0.11.
    fn asked(&self, port: Port) -> Option<Addr>;
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

/// The port of 127.0.0.11 to send to instead; `None` leaves the destination as it is.
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
    if port != Resolver::PORT || !destination.is_v4() {
        return None;
    }
    let transport = transport?;
    let resolver = asker.resolver()?;
    let is_ours = is_ours(destination);
    if !is_ours && (!resolver.stands_for(destination.v4_word()) || asker.is_daemon()) {
        return None;
    }
    let port = port_of(&resolver, transport);
    if is_alive(asker.now(), asker.heartbeat()) && asker.listens(transport, port) {
        if !is_ours {
            asker.remember(port, destination);
        }
        return Some(port);
    }
    if !is_ours {
        return None;
    }
    let dockers = dockers_port(&resolver, transport);
    (dockers != Port::NONE && asker.listens(transport, dockers)).then_some(dockers)
}

/// The server whose port 53 `source` and `port` are shown as; `None` shows them as they are.
#[inline(always)]
pub fn restore(
    source: &Addr,
    port: Port,
    transport: Option<Transport>,
    asker: &impl Asker,
) -> Option<Addr> {
    if !is_ours(source) {
        return None;
    }
    let (resolver, transport) = (asker.resolver()?, transport?);
    let dockers = dockers_port(&resolver, transport);
    if dockers != Port::NONE && port == dockers {
        return Some(*source);
    }
    if port != port_of(&resolver, transport) {
        return None;
    }
    let is_alone = resolver.servers[0] == 0;
    let other = if is_alone { None } else { asker.asked(port) };
    Some(other.unwrap_or(*source))
}

/// Whether the daemon answers, given when it was heard of last; nanoseconds since boot.
#[inline(always)]
pub(crate) fn is_alive(now: u64, heartbeat: u64) -> bool {
    now.saturating_sub(heartbeat) < Resolver::PATIENCE
}

#[inline(always)]
fn is_ours(address: &Addr) -> bool {
    address.is_v4() && address.v4_word() == Resolver::ADDRESS
}

#[inline(always)]
pub(crate) fn port_of(resolver: &Resolver, transport: Transport) -> Port {
    match transport {
        Transport::Udp => resolver.udp,
        Transport::Tcp => resolver.tcp,
    }
}

#[inline(always)]
pub(crate) fn dockers_port(resolver: &Resolver, transport: Transport) -> Port {
    match transport {
        Transport::Udp => resolver.docker_udp,
        Transport::Tcp => resolver.docker_tcp,
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
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
        marked: bool,
        remembered: Cell<Option<(Port, Addr)>>,
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
        fn is_daemon(&self) -> bool {
            self.marked
        }
        fn remember(&self, port: Port, server: &Addr) {
            self.remembered.set(Some((port, *server)));
        }
        fn asked(&self, port: Port) -> Option<Addr> {
            let remembered = self.remembered.get();
            remembered
                .filter(|(led, _)| *led == port)
                .map(|(_, server)| server)
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
            marked: false,
            remembered: Cell::new(None),
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
            ..Namespace {
                sockets,
                ..served()
            }
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
        assert_eq!(shown, Some(address(11)));
    }

    #[test]
    fn an_answer_is_shown_as_coming_from_where_the_client_asked() {
        let restored = |source, port, transport| restore(&source, port, transport, &served());

        assert_eq!(
            restored(address(11), UDP, Some(Transport::Udp)),
            Some(address(11))
        );
        assert_eq!(
            restored(address(11), TCP, Some(Transport::Tcp)),
            Some(address(11))
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

        assert_eq!(shown, Some(address(11)));
    }

    #[test]
    fn a_server_of_the_containers_own_is_stood_for_and_shown_as_itself() {
        let own: Addr = Ipv4Addr::new(192, 0, 2, 53).into();
        let with = |sockets| {
            let mut resolver = served().resolver.unwrap();
            resolver.servers = [0, own.v4_word(), 0];
            Namespace {
                resolver: Some(resolver),
                sockets,
                ..served()
            }
        };
        let udp = Some(Transport::Udp);
        let led = |asker: &Namespace, port| lead(&own, port, udp, asker);

        let first = with(true);
        assert_eq!(led(&first, Resolver::PORT), Some(UDP));
        assert_eq!(led(&first, OTHER), None, "only its port 53");
        assert_eq!(led(&served(), Resolver::PORT), None, "somebody else's");
        assert_eq!(led(&with(false), Resolver::PORT), None, "it answers itself");
        let daemon = Namespace {
            marked: true,
            ..with(true)
        };
        assert_eq!(led(&daemon, Resolver::PORT), None, "it would ask itself");
        let nobodys = Addr::from_v4_word(0);
        assert_eq!(lead(&nobodys, Resolver::PORT, udp, &first), None);
    }

    #[test]
    fn who_answers_is_shown_as_the_server_that_was_asked() {
        let own: Addr = Ipv4Addr::new(192, 0, 2, 53).into();
        let mut resolver = served().resolver.unwrap();
        resolver.servers[0] = own.v4_word();
        let asker = Namespace {
            resolver: Some(resolver),
            ..served()
        };
        let udp = Some(Transport::Udp);
        let shown = || restore(&address(11), UDP, udp, &asker);

        assert_eq!(shown(), Some(address(11)));
        let led = lead(&own, Resolver::PORT, udp, &asker);
        assert_eq!((led, shown()), (Some(UDP), Some(own)));
    }
}
