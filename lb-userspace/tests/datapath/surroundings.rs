//! What the programs know of the host, and the ports of the host.

use std::net::{Ipv4Addr, Ipv6Addr};

use lb_common::{
    Addr, Interface, InterfaceFlags, Link, Network, NetworkFlags, OpenPort, Port, Source,
    SourceAction, SourceKey, Subnet, SubnetKey,
};
use lb_userspace::reconcile::{Fact, Run, State, plan};

use crate::host::Host;

/// One of everything, and two prefixes of one list.
fn facts() -> Vec<Fact> {
    let (v4, v6) = (
        Addr::from(Ipv4Addr::new(10, 1, 0, 0)),
        Addr::from(Ipv6Addr::LOCALHOST),
    );
    let source = |bits: u32, action: SourceAction| {
        let key = SourceKey {
            prefix_length: 32 + 96 + bits,
            list: 7,
            address: v4,
        };
        let source = Source {
            action: action as u8,
            rule: 3,
            ..Source::default()
        };
        Fact::Source(key, source)
    };
    let network = Network {
        subnet_v4: v4,
        flags: NetworkFlags::SERVED,
        ..Network::default()
    };
    let interface = Interface {
        v4,
        flags: InterfaceFlags::UPLINK,
        ..Interface::default()
    };
    let subnet = SubnetKey {
        prefix_length: 112,
        address: v4,
    };
    let open = OpenPort {
        address: v4,
        port: Port::new(80),
        protocol: 6,
        ..OpenPort::default()
    };
    let link = Link {
        from: v4,
        to: v6,
        ..Link::default()
    };
    vec![
        source(8, SourceAction::Allow),
        source(16, SourceAction::Deny),
        Fact::Network(4_095, network),
        Fact::Subnet(
            subnet,
            Subnet {
                zone: 4_095,
                _pad: 0,
            },
        ),
        Fact::Interface(9, interface),
        Fact::Local(v6),
        Fact::OpenPort(open),
        Fact::Link(link),
        Fact::Rule(4_095, u64::MAX),
    ]
}

fn state(facts: &[Fact], runs: &[(u8, u16, u16, u16)]) -> State {
    let run = |&(protocol, first, last, cell): &(u8, u16, u16, u16)| Run {
        protocol,
        first,
        last,
        cell,
    };
    State {
        facts: facts.iter().map(|fact| (fact.place(), *fact)).collect(),
        cells: runs.iter().map(run).collect(),
        ..State::default()
    }
}

#[test]
fn everything_is_read_back_as_it_was_written() {
    let host = Host::new();
    let runs = [
        (6, 1, 1, 1),
        (6, 8_000, 8_999, 8_000),
        (17, 65_535, 65_535, 65_535),
    ];
    let wanted = state(&facts(), &runs);

    let mut datapath = host.serve(&host.options(), &wanted);

    assert_eq!(host.run(|| datapath.actual().unwrap()), wanted);
    let fewer = state(&facts()[2..5], &[(6, 8_500, 8_999, 8_500)]);
    host.reconcile(&mut datapath, &fewer);
    let actual = host.run(|| datapath.actual().unwrap());
    assert_eq!(actual, fewer);
    assert_eq!(plan(&actual, &fewer), []);
}
