//! Listing Connections, and forgetting those that are over.

use std::net::Ipv4Addr;
use std::time::Duration;

use lb_common::{
    Addr, Affinity, AffinityKey, Connection, ConnectionFlags, EventKind, FlowKey, Port,
};
use lb_userspace::datapath::{Collected, Datapath, Filter, now};
use lb_userspace::reconcile::Step;

use crate::host::{Host, desired};

const SECOND: u64 = 1_000_000_000;
const VIP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// An opened datapath with the Endpoints 1, the client, and 2, the Backend.
fn open(host: &Host) -> Datapath {
    let (mut datapath, _) = host.open(&host.options()).unwrap();
    let desired = desired([10, 11]);
    datapath
        .apply(&Step::PutSettings(desired.settings))
        .unwrap();
    for (id, endpoint) in desired.endpoints {
        datapath.apply(&Step::PutEndpoint(id, endpoint)).unwrap();
    }
    datapath
}

/// Both halves of a Connection from a client's port, last used `idle` seconds ago.
fn connection(port: u16, idle: u64) -> [(FlowKey, Connection); 2] {
    let client = Addr::from(Ipv4Addr::new(10, 0, 0, 1));
    let backend = Addr::from(Ipv4Addr::new(10, 0, 0, 2));
    let key = FlowKey {
        source: client,
        destination: VIP.into(),
        source_port: Port::new(port),
        destination_port: Port::new(80),
        zone: 1,
        protocol: 6,
        ..FlowKey::default()
    };
    let last_seen = now().unwrap() - idle * SECOND;
    let forward = Connection {
        source: client,
        destination: backend,
        source_port: key.source_port,
        destination_port: key.destination_port,
        target: 2,
        generation: 1,
        backend: 2,
        frontend: 1,
        timeout: 20,
        last_seen,
        created: last_seen,
        flags: ConnectionFlags::FORWARD | ConnectionFlags::ESTABLISHED,
        other_zone: key.zone,
        ..Connection::default()
    };
    let reverse = Connection {
        source: VIP.into(),
        destination: client,
        source_port: key.destination_port,
        destination_port: key.source_port,
        target: 1,
        flags: ConnectionFlags::ESTABLISHED,
        ..forward
    };
    [(key, forward), (forward.other_half(&key), reverse)]
}

/// Inserts entries as the kernel would, and counts established Connections as their Backend's load.
fn insert(datapath: &Datapath, halves: &[(FlowKey, Connection)]) {
    let maps = datapath.maps();
    for (key, half) in halves {
        if !half.has(ConnectionFlags::ESTABLISHED) {
            maps.half_open.put(key, half).unwrap();
            continue;
        }
        maps.connections.put(key, half).unwrap();
        if half.has(ConnectionFlags::FORWARD) {
            let load = datapath.load(half.backend);
            maps.loads.put(half.backend, load + 1).unwrap();
        }
    }
}

/// Goes through both tables once, in slices.
fn collect(datapath: &mut Datapath, budget: usize) -> (Collected, usize) {
    let mut sum = Collected::default();
    for slices in 1.. {
        let slice = datapath.collect_slice(budget).unwrap();
        sum.examined += slice.examined;
        sum.idle += slice.idle;
        sum.orphaned += slice.orphaned;
        sum.revived += slice.revived;
        if slice.finished {
            return (sum, slices);
        }
    }
    unreachable!("a table ends")
}

#[test]
fn idle_connections_are_forgotten_and_others_stay() {
    let host = Host::new();
    let mut datapath = open(&host);
    insert(&datapath, &connection(1, 30));
    insert(&datapath, &connection(2, 3));

    let (collected, _) = collect(&mut datapath, 1_000);

    assert_eq!((collected.idle, collected.orphaned), (1, 0));
    assert_eq!(datapath.load(2), 1);
    let left = datapath.connections(&Filter::default(), 10).unwrap();
    assert_eq!(left, [connection(2, 3)[0]].map(|(key, _)| (key, left[0].1)));
    assert_eq!(datapath.maps().connections.entries().unwrap().len(), 2);
}

#[test]
fn half_open_connections_are_forgotten_likewise() {
    let host = Host::new();
    let mut datapath = open(&host);
    for (port, idle) in [(1, 30), (2, 3)] {
        let halves = connection(port, idle).map(|(key, mut half)| {
            half.flags &= !ConnectionFlags::ESTABLISHED;
            (key, half)
        });
        insert(&datapath, &halves);
    }

    let (collected, _) = collect(&mut datapath, 1_000);

    assert_eq!((collected.idle, collected.orphaned), (1, 0));
    assert_eq!(datapath.maps().half_open.entries().unwrap().len(), 2);
    assert_eq!(datapath.load(2), 0);
}

#[test]
fn a_forgotten_connection_is_told_as_an_event() {
    let host = Host::new();
    let mut datapath = open(&host);
    let halves = connection(1, 30);
    insert(&datapath, &halves);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut events = {
        let _inside = runtime.enter();
        datapath.events().unwrap()
    };

    collect(&mut datapath, 1_000);
    let event = runtime.block_on(async {
        let next = tokio::time::timeout(Duration::from_secs(10), events.next());
        next.await.expect("an event within 10 s").unwrap()
    });

    assert_eq!(EventKind::from_u8(event.kind), Some(EventKind::Closed));
    assert_eq!((event.flow, event.backend), (halves[0].0, 2));
}

#[test]
fn a_connection_with_one_direction_in_use_stays() {
    let host = Host::new();
    let mut datapath = open(&host);
    let ([quiet, _], [_, busy]) = (connection(1, 30), connection(1, 1));
    insert(&datapath, &[quiet, busy]);

    let (collected, _) = collect(&mut datapath, 1_000);

    assert_eq!((collected.idle, collected.orphaned), (0, 0));
    assert_eq!(datapath.maps().connections.entries().unwrap().len(), 2);
}

#[test]
fn connections_of_a_retired_endpoint_are_forgotten_and_its_id_is_free() {
    let host = Host::new();
    let mut datapath = open(&host);
    insert(&datapath, &connection(1, 0));
    assert_eq!(datapath.held().unwrap().endpoints, [1, 2].into());
    let mut retired = datapath.maps().endpoints.get(2).unwrap();
    retired.generation += 1;
    retired.state = 0;
    let step = Step::RetireEndpoint(2, retired);
    datapath.apply(&step).unwrap();

    let (collected, _) = collect(&mut datapath, 1_000);

    assert_eq!((collected.idle, collected.orphaned), (0, 1));
    assert_eq!(datapath.held().unwrap().endpoints, [].into());
}

#[test]
fn a_frontend_that_a_client_is_remembered_for_is_not_free() {
    let host = Host::new();
    let datapath = open(&host);
    let key = AffinityKey {
        client: Addr::from(Ipv4Addr::new(10, 0, 0, 9)),
        frontend: 7,
    };
    let value = Affinity {
        last_used: now().unwrap(),
        ..Affinity::default()
    };
    let before = datapath.held().unwrap().frontends;
    datapath.maps().affinity.put(&key, &value).unwrap();

    let held = datapath.held().unwrap().frontends;

    assert_eq!((before, held), ([].into(), [7].into()));
}

#[test]
fn many_connections_are_gone_through_in_slices() {
    let host = Host::new();
    let mut datapath = open(&host);
    for port in 1..=1_500 {
        insert(
            &datapath,
            &connection(port, if port % 3 == 0 { 60 } else { 0 }),
        );
    }

    let (collected, slices) = collect(&mut datapath, 100);

    assert_eq!((collected.idle, collected.revived), (500, 0));
    assert!(collected.examined <= 3_000, "{collected:?}");
    assert!(slices >= 20, "{slices} slices");
    let left = datapath
        .connections(&Filter::default(), usize::MAX)
        .unwrap();
    assert_eq!(left.len(), 1_000);
}

#[test]
fn a_listing_is_limited_and_filtered() {
    let host = Host::new();
    let datapath = open(&host);
    for port in 1..=50 {
        insert(&datapath, &connection(port, 0));
    }

    let some = datapath.connections(&Filter::default(), 7).unwrap();
    let others = Filter {
        backend: Some(3),
        ..Filter::default()
    };
    let half_open = Filter {
        established: Some(false),
        ..Filter::default()
    };

    assert_eq!(some.len(), 7);
    assert_eq!(datapath.connections(&others, 7).unwrap(), []);
    assert_eq!(datapath.connections(&half_open, 7).unwrap(), []);
}
