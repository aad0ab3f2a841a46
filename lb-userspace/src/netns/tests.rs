use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::model::HostInterfaceKind;

/// Two namespaces with a veth pair: `near` in the first, `far` in the second.
fn pair() -> (Namespace, Namespace) {
    let (first, second) = (Namespace::create().unwrap(), Namespace::create().unwrap());
    let mut links = first.links().unwrap();
    let end = |name, namespace| PairEnd {
        name,
        mac: None,
        namespace,
        master: None,
    };
    links
        .add_pair(
            PairEnd {
                mac: Some([2, 0, 0, 0, 0, 7]),
                ..end("near", None)
            },
            end("far", Some(&second)),
        )
        .unwrap();
    let far = second.links().unwrap().index_of("far").unwrap();
    second.links().unwrap().set_up(far).unwrap();
    (first, second)
}

fn find(namespace: &Namespace, name: &str) -> Interface {
    let interfaces = namespace.interfaces().unwrap();
    let found = interfaces.iter().find(|interface| interface.name == name);
    found.unwrap_or_else(|| panic!("{interfaces:?}")).clone()
}

fn ip(namespace: &Namespace, words: &str) {
    let mut ip = Command::new("ip");
    let status = namespace.run(|| ip.args(words.split(' ')).status());
    assert!(status.unwrap().unwrap().success(), "ip {words}");
}

fn open_files() -> usize {
    fs::read_dir("/proc/thread-self/fd").unwrap().count()
}

#[test]
fn a_visit_sees_the_namespace_and_leaves_the_caller_where_it_was() {
    let namespace = Namespace::create().unwrap();
    let before = Namespace::current().unwrap().cookie().unwrap();

    let inside = namespace
        .run(|| Namespace::current().unwrap().cookie().unwrap())
        .unwrap();

    assert_eq!(inside, namespace.cookie().unwrap());
    assert_ne!(inside, before);
    assert_eq!(Namespace::current().unwrap().cookie().unwrap(), before);
}

#[test]
fn a_pair_says_which_namespace_its_other_end_is_in() {
    let (first, second) = pair();
    let stranger = Namespace::create().unwrap();

    let near = find(&first, "near");

    let mut links = first.links().unwrap();
    assert!(near.peer_netns_id.is_some());
    assert_eq!(links.number_of(&second).unwrap(), near.peer_netns_id);
    assert_eq!(links.number_of(&stranger).unwrap(), None);
    assert_eq!(links.cookie().unwrap(), first.cookie().unwrap());
}

#[test]
fn a_panic_inside_is_a_panic_of_the_caller() {
    let namespace = Namespace::create().unwrap();

    let outcome = panic::catch_unwind(|| namespace.run(|| panic!("inside")));

    assert!(outcome.is_err());
}

#[test]
fn a_socket_opened_inside_stays_inside() {
    let namespace = Namespace::create().unwrap();
    let lo = find(&namespace, "lo").ifindex;
    namespace.links().unwrap().set_up(lo).unwrap();

    let listener = namespace
        .run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
        .unwrap();

    assert_eq!(cookie_of(&listener).unwrap(), namespace.cookie().unwrap());
}

#[test]
fn a_pinned_namespace_outlives_its_maker_and_goes_when_unpinned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    let namespace = Namespace::create().unwrap();
    let cookie = namespace.cookie().unwrap();

    namespace.pin(&path).unwrap();
    drop(namespace);

    assert_eq!(Namespace::open(&path).unwrap().cookie().unwrap(), cookie);
    unpin(&path).unwrap();
    unpin(&path).unwrap();
    assert!(!path.exists());
}

#[test]
fn interfaces_tell_their_kind_peer_and_addresses() {
    let (first, second) = pair();
    let near = find(&first, "near");
    let address = "10.1.2.3/24".parse().unwrap();
    first
        .links()
        .unwrap()
        .add_address(near.ifindex, address)
        .unwrap();

    let (near, far) = (find(&first, "near"), find(&second, "far"));

    assert_eq!(near.kind, InterfaceKind::Veth);
    assert_eq!(near.mac, [2, 0, 0, 0, 0, 7]);
    assert_eq!(near.peer_ifindex, Some(far.ifindex));
    assert_eq!(far.peer_ifindex, Some(near.ifindex));
    assert!(near.peer_netns_id.is_some());
    assert!(near.addresses.contains(&address));
    assert_eq!(find(&first, "lo").kind, InterfaceKind::Loopback);
}

#[test]
fn what_is_seen_of_a_namespace_from_outside_is_what_is_seen_inside() {
    let (first, second) = pair();
    let far = find(&second, "far").ifindex;
    let address = "10.9.0.2/24".parse().unwrap();
    second.links().unwrap().add_address(far, address).unwrap();
    let mut links = first.links().unwrap();

    let number = links.number_of(&second).unwrap().unwrap();
    let outside = links.interfaces_of(number).unwrap();

    let seen = |all: &[Interface]| {
        let seen = all.iter().map(|one| {
            let Interface {
                mac, peer_ifindex, ..
            } = *one;
            (
                one.ifindex,
                one.name.clone(),
                mac,
                peer_ifindex,
                one.addresses.clone(),
            )
        });
        seen.collect::<Vec<_>>()
    };
    assert!(find(&second, "far").addresses.contains(&address));
    assert_eq!(seen(&outside), seen(&second.interfaces().unwrap()));
    let own = links.interfaces().unwrap();
    assert_eq!(own, first.interfaces().unwrap(), "as before");
}

#[test]
fn the_cookie_is_the_same_whether_asked_outside_or_inside() {
    let namespace = Namespace::create().unwrap();

    let inside = namespace.run(|| current_cookie().unwrap()).unwrap();

    assert_eq!(namespace.cookie().unwrap(), inside);
}

#[test]
fn a_port_tells_its_bridge() {
    let (first, _second) = pair();
    let bridge = first.links().unwrap().add_bridge("br").unwrap();
    let third = Namespace::create().unwrap();
    let port = PairEnd {
        name: "port",
        mac: None,
        namespace: None,
        master: Some(bridge),
    };
    let far = PairEnd {
        name: "eth0",
        namespace: Some(&third),
        master: None,
        ..port
    };
    first.links().unwrap().add_pair(port, far).unwrap();

    let port = find(&first, "port");
    assert_eq!((port.master, port.is_up), (Some(bridge), true));
    assert_eq!(find(&first, "br").kind, InterfaceKind::Bridge);
}

#[test]
fn a_route_is_added_once_and_removed_once_in_both_families() {
    let (first, _second) = pair();
    let near = find(&first, "near").ifindex;
    let slices = ["198.18.0.0/22", "fd76:6565:7200::/64"].map(|to| to.parse().unwrap());
    let there = || {
        let routes = first.routes().unwrap();
        slices.map(|to| {
            let ifindex = Some(near);
            routes
                .iter()
                .filter(|route| **route == Route { to, ifindex })
                .count()
        })
    };

    for to in slices {
        first.add_route(near, to).unwrap();
        first.add_route(near, to).unwrap();
    }
    assert_eq!(there(), [1, 1]);

    for to in slices {
        first.remove_route(near, to).unwrap();
        first.remove_route(near, to).unwrap();
    }
    assert_eq!(there(), [0, 0]);
}

#[test]
fn a_route_over_an_interface_that_is_down_or_gone_says_so() {
    let (first, _second) = pair();
    let near = find(&first, "near").ifindex;
    let to = "198.18.0.0/22".parse().unwrap();
    first.links().unwrap().set_down(near).unwrap();

    let down = first.add_route(near, to).unwrap_err();
    first.links().unwrap().remove(near).unwrap();
    let gone = first.add_route(near, to).unwrap_err();

    assert_eq!(down.kind(), io::ErrorKind::NetworkDown);
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    let said = format!("add route 198.18.0.0/22 to interface {near}: ");
    assert!(gone.to_string().starts_with(&said), "{gone}");
}

#[test]
fn visits_leave_no_file_open() {
    const VISITS: u32 = 200;
    // Other tests of this process open and close files too.
    unshare(CloneFlags::CLONE_FILES).unwrap();
    let (first, _second) = pair();
    first.interfaces().unwrap();
    let files = open_files();

    for _ in 0..VISITS {
        first.interfaces().unwrap();
        first.cookie().unwrap();
    }

    assert_eq!(open_files(), files);
}

#[tokio::test]
async fn a_watch_tells_when_an_interface_comes_and_goes() {
    let (first, _second) = pair();
    let near = find(&first, "near").ifindex;
    let runtime = tokio::runtime::Handle::current();
    let mut watch = first
        .run(|| {
            let _guard = runtime.enter();
            watch_links().unwrap()
        })
        .unwrap();

    let bridge = first.links().unwrap().add_bridge("br").unwrap();
    first.links().unwrap().remove(near).unwrap();

    let (mut came, mut gone) = (false, false);
    while !(came && gone) {
        let change = tokio::time::timeout(Duration::from_secs(10), watch.next());
        match change.await.expect("news within 10 s").unwrap() {
            LinkChange::Changed(interface) => came |= interface.ifindex == bridge,
            LinkChange::Gone { ifindex, .. } => gone |= ifindex == near,
            LinkChange::Missed => panic!("nothing was missed"),
        }
    }
}

#[tokio::test]
async fn a_watch_tells_where_an_interface_was_moved_to() {
    let (first, second) = pair();
    let third = Namespace::create().unwrap();
    let runtime = tokio::runtime::Handle::current();
    let watch = || {
        let _guard = runtime.enter();
        watch_links().unwrap()
    };
    let mut watch = second.run(watch).unwrap();
    let far = find(&second, "far").ifindex;

    let to = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        third.as_fd().as_raw_fd()
    );
    let words = ["link", "set", "far", "netns", &to];
    let moved = second.run(|| Command::new("ip").args(words).status());
    assert!(moved.unwrap().unwrap().success());

    let number = loop {
        let change = tokio::time::timeout(Duration::from_secs(10), watch.next());
        match change.await.expect("news within 10 s").unwrap() {
            LinkChange::Gone {
                ifindex, moved_to, ..
            } if ifindex == far => break moved_to,
            LinkChange::Gone { .. } | LinkChange::Changed(_) => {}
            LinkChange::Missed => panic!("nothing was missed"),
        }
    };
    assert!(number.is_some());
    assert_eq!(number, second.links().unwrap().number_of(&third).unwrap());
    drop(first);
}

#[tokio::test]
async fn what_a_bridge_tells_of_its_ports_is_not_taken_for_news_of_the_interfaces() {
    let host = Namespace::create().unwrap();
    let runtime = tokio::runtime::Handle::current();
    let watch = host.run(|| {
        let _guard = runtime.enter();
        watch_links().unwrap()
    });
    let mut watch = watch.unwrap();
    let mut links = host.links().unwrap();
    let bridge = links.add_bridge("br").unwrap();
    let end = |name, master| PairEnd {
        name,
        mac: None,
        namespace: None,
        master,
    };
    links
        .add_pair(end("port", Some(bridge)), end("far", None))
        .unwrap();
    let port = links.index_of("port").unwrap();
    links.set_up(port).unwrap();

    links.remove(bridge).unwrap();

    loop {
        let change = tokio::time::timeout(Duration::from_secs(10), watch.next());
        match change.await.expect("news within 10 s").unwrap() {
            LinkChange::Gone { ifindex, .. } if ifindex == bridge => return,
            LinkChange::Gone { ifindex, .. } => assert_ne!(ifindex, port, "it is still there"),
            LinkChange::Changed(changed) if changed.ifindex == port => {
                assert_eq!(changed.kind, InterfaceKind::Veth);
            }
            LinkChange::Changed(_) => {}
            LinkChange::Missed => panic!("nothing was missed"),
        }
    }
}

#[test]
fn the_host_is_read_with_its_addresses_and_its_ways_out() {
    let (first, second) = pair();
    let near = find(&first, "near").ifindex;
    let mut links = first.links().unwrap();
    let bridge = links.add_bridge("br0").unwrap();
    for (ifindex, address) in [
        (near, "192.0.2.1/24"),
        (near, "2001:db8::1/64"),
        (bridge, "10.0.0.1/16"),
    ] {
        links
            .add_address(ifindex, address.parse().unwrap())
            .unwrap();
        links.set_up(ifindex).unwrap();
    }
    let far = find(&second, "far").ifindex;
    second.links().unwrap().set_up(far).unwrap();
    first.add_route(near, "0.0.0.0/0".parse().unwrap()).unwrap();

    let host = first.host().unwrap();

    let near = host
        .interfaces
        .iter()
        .find(|one| one.name == "near")
        .unwrap();
    assert!(near.has_default_route && near.kind == HostInterfaceKind::Ethernet);
    assert_eq!(near.mac, [2, 0, 0, 0, 0, 7]);
    let wanted: Vec<ipnet::IpNet> = ["192.0.2.1/24", "2001:db8::1/64"]
        .map(|a| a.parse().unwrap())
        .into();
    assert_eq!(near.addresses[..2], wanted, "global ones first");
    let bridge = host.bridge("br0").unwrap();
    assert!(!bridge.has_default_route);
}

#[tokio::test(flavor = "multi_thread")]
async fn news_of_the_host_come_for_what_it_sends_from_alone() {
    let first = Namespace::create().unwrap();
    // Else the kernel gives out addresses in its own time.
    let without = || fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    first.run(without).unwrap().unwrap();
    let runtime = tokio::runtime::Handle::current();
    let watch = first.run(|| {
        let _guard = runtime.enter();
        watch_host().unwrap()
    });
    let mut watch = watch.unwrap();
    let mut links = first.links().unwrap();
    let bridge = links.add_bridge("br0").unwrap();
    let told = tokio::time::timeout(Duration::from_secs(10), watch.changed()).await;
    assert!(told.is_ok(), "a new bridge is news");

    // As the Engine does it: a pair is a bridge's port before it is up. The bridge takes over the lowest
    // address of its ports, which is news of the bridge.
    ip(
        &first,
        "link add one address 02:00:00:00:00:01 type veth peer name in1",
    );
    ip(&first, "link set one master br0");
    assert!(watch.has_news().unwrap(), "a bridge's own address is news");
    watch.has_seen(&first.host().unwrap());
    ip(
        &first,
        "link add two address 02:00:00:00:00:02 type veth peer name in2",
    );
    ip(&first, "link set two master br0");
    ip(&first, "link set two up");
    assert!(!watch.has_news().unwrap(), "a container is not");
    ip(&first, "link del two");
    assert!(!watch.has_news().unwrap(), "nor that it goes");

    ip(&first, "link add up0 type veth peer name in3");
    ip(&first, "link set up0 up");
    assert!(watch.has_news().unwrap(), "one that is no port is");
    watch.has_seen(&first.host().unwrap());
    assert!(!watch.has_news().unwrap());

    links
        .add_address(bridge, "10.0.0.1/16".parse().unwrap())
        .unwrap();
    assert!(watch.has_news().unwrap(), "an address is news");
    ip(&first, "link del up0");
    assert!(watch.has_news().unwrap(), "so is one that goes");
}

#[test]
fn a_tour_visits_every_namespace_and_comes_home_in_between() {
    let home = Namespace::current().unwrap().cookie().unwrap();
    let namespaces: Vec<_> = (0..20).map(|_| Namespace::create().unwrap()).collect();

    let seen = for_each(&namespaces, |namespace| {
        let inside = namespace.run(|| current_cookie().unwrap()).unwrap();
        (inside, current_cookie().unwrap())
    });

    let expected = namespaces.iter().map(|it| (it.cookie().unwrap(), home));
    assert!(seen.into_iter().eq(expected));
}

#[test]
fn a_visit_within_a_visit_of_a_tour_comes_back_to_the_outer_one() {
    let (outer, inner) = (Namespace::create().unwrap(), Namespace::create().unwrap());

    let seen = for_each(&[()], |()| {
        let visit = || {
            let inside = inner.run(|| current_cookie().unwrap()).unwrap();
            (inside, current_cookie().unwrap())
        };
        outer.run(visit).unwrap()
    });

    let expected = (inner.cookie().unwrap(), outer.cookie().unwrap());
    assert_eq!(seen, [expected]);
}

#[test]
fn a_namespace_that_cannot_be_entered_does_not_end_a_tour() {
    let home = Namespace::current().unwrap().cookie().unwrap();
    let good = Namespace::create().unwrap();
    let bad = Namespace {
        file: File::open("/dev/null").unwrap().into(),
    };
    let items = [&bad, &good, &bad, &good];

    let seen = for_each(&items, |namespace| {
        let inside = namespace.run(|| current_cookie().unwrap()).ok();
        (inside, current_cookie().unwrap())
    });

    let cookie = good.cookie().unwrap();
    assert_eq!(seen, [(None, home), (Some(cookie), home)].repeat(2));
}
