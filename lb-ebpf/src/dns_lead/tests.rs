use super::*;
use crate::native::Buffer;

const UDP: Port = Port::new(40_001);
const TCP: Port = Port::new(40_002);
const DOCKERS_UDP: Port = Port::new(50_001);
const DOCKERS_TCP: Port = Port::new(50_002);

const CLIENT: ([u8; 4], u16) = ([127, 0, 0, 1], 33_333);
const NOW: u64 = 10_000_000_000;

/// A namespace in which the daemon listens beside Docker's rules; the fields are what a test changes.
struct Namespace {
    resolver: Option<Resolver>,
    heartbeat: u64,
    connected: bool,
}

impl Inside for Namespace {
    fn resolver(&self) -> Option<Resolver> {
        self.resolver
    }

    fn heartbeat(&self) -> u64 {
        self.heartbeat
    }

    fn is_connected(&self, _: &Ends) -> bool {
        self.connected
    }
}

fn served() -> Namespace {
    Namespace {
        resolver: Some(Resolver {
            udp: UDP,
            tcp: TCP,
            docker_udp: DOCKERS_UDP,
            docker_tcp: DOCKERS_TCP,
            ..Resolver::default()
        }),
        heartbeat: NOW - 100_000_000,
        connected: false,
    }
}

fn resolver(port: Port) -> ([u8; 4], u16) {
    ([127, 0, 0, 11], port.get())
}

/// A frame with nothing after its ports and, of UDP, length and checksum.
fn frame(protocol: u8, from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Buffer {
    let mut bytes = vec![0; 12];
    bytes.extend([
        0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, protocol, 0, 0,
    ]);
    bytes.extend(from.0);
    bytes.extend(to.0);
    bytes.extend(from.1.to_be_bytes());
    bytes.extend(to.1.to_be_bytes());
    bytes.extend([0, 8, 0x12, 0x34]);
    Buffer {
        bytes,
        now: NOW,
        ..Buffer::default()
    }
}

fn led(protocol: u8, to: Port, inside: &Namespace) -> Led {
    dns_lead(&mut frame(protocol, CLIENT, resolver(to)), inside)
}

#[test]
fn a_query_is_marked_for_the_daemons_socket_of_its_transport() {
    let (udp, tcp) = (mark(Transport::Udp, UDP), mark(Transport::Tcp, TCP));

    assert_eq!(led(17, DOCKERS_UDP, &served()), Led::Marked(udp));
    assert_eq!(led(6, DOCKERS_TCP, &served()), Led::Marked(tcp));
    assert_eq!(led(17, Resolver::PORT, &served()), Led::Marked(udp));
    assert_eq!(marked(udp), Some((Transport::Udp, UDP)));
    assert_eq!(marked(tcp), Some((Transport::Tcp, TCP)));
    assert_eq!((marked(0), marked(Resolver::MARK)), (None, None));
}

#[test]
fn what_is_not_for_dockers_resolver_is_left_alone() {
    let other = Port::new(5353);
    let unknown = Namespace {
        resolver: Some(Resolver {
            udp: UDP,
            tcp: TCP,
            ..Resolver::default()
        }),
        ..served()
    };
    let elsewhere = ([127, 0, 0, 12], 53);

    assert_eq!(led(17, other, &served()), Led::Alone);
    assert_eq!(led(17, DOCKERS_TCP, &served()), Led::Alone);
    assert_eq!(led(1, Resolver::PORT, &served()), Led::Alone);
    assert_eq!(led(17, Port::NONE, &unknown), Led::Alone);
    let mut frame = frame(17, CLIENT, elsewhere);
    assert_eq!(dns_lead(&mut frame, &served()), Led::Alone);
}

#[test]
fn fragments_options_and_stumps_are_left_alone() {
    let query = || frame(17, CLIENT, resolver(DOCKERS_UDP));
    for (place, value) in [(14, 0x46), (20, 0x20), (21, 1), (12, 0x86)] {
        let mut changed = query();
        changed.bytes[place] = value;
        assert_eq!(dns_lead(&mut changed, &served()), Led::Alone, "{place}");
    }
    for length in 0..38 {
        let mut short = query();
        short.bytes.truncate(length);
        assert_eq!(dns_lead(&mut short, &served()), Led::Alone, "{length}");
    }
}

#[test]
fn docker_answers_where_veer_does_not_serve_or_is_not_alive() {
    let stranger = Namespace {
        resolver: None,
        ..served()
    };
    let late = Namespace {
        heartbeat: NOW - Resolver::PATIENCE,
        ..served()
    };

    assert_eq!(led(17, DOCKERS_UDP, &stranger), Led::Alone);
    assert_eq!(led(17, DOCKERS_UDP, &late), Led::Alone);
}

#[test]
fn a_stream_stays_with_whom_it_began() {
    let connected = Namespace {
        connected: true,
        ..served()
    };

    assert_eq!(led(6, DOCKERS_TCP, &connected), Led::Alone);
    assert!(matches!(led(17, DOCKERS_UDP, &connected), Led::Marked(_)));
}

#[test]
fn an_answer_over_udp_comes_from_port_53_also_if_the_daemon_is_gone_by_then() {
    let gone = Namespace {
        heartbeat: 0,
        ..served()
    };
    let mut answer = frame(17, resolver(UDP), CLIENT);
    let before = answer.clone();

    assert_eq!(dns_lead(&mut answer, &gone), Led::Shown);

    assert_eq!(answer.bytes[34..36], 53_u16.to_be_bytes());
    let sum = |frame: &Buffer| {
        let words = [34, 40]
            .map(|at| u32::from(u16::from_be_bytes([frame.bytes[at], frame.bytes[at + 1]])));
        words.iter().sum::<u32>() % 0xffff
    };
    assert_eq!(sum(&answer), sum(&before), "the checksum covers the change");
}

#[test]
fn answers_of_others_and_over_tcp_are_left_alone() {
    for (protocol, from) in [(17, DOCKERS_UDP), (6, TCP), (6, DOCKERS_TCP), (17, TCP)] {
        let mut answer = frame(protocol, resolver(from), CLIENT);
        let before = answer.bytes.clone();

        assert_eq!(dns_lead(&mut answer, &served()), Led::Alone);
        assert_eq!(answer.bytes, before);
    }
}
