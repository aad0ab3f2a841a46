//! Taking everything away again, and instances side by side.

use std::fs;
use std::time::{Duration, Instant};

use aya::programs::loaded_links;
use lb_userspace::datapath::{Datapath, DatapathError, Hook};

use crate::host::{Host, desired, pinned};

#[test]
fn uninstall_leaves_nothing() {
    let host = Host::new();
    host.add_veth(10);
    host.add_veth(11);
    let options = host.options();
    let datapath = host.serve(&options, &desired([10, 11]));
    let pins = pinned(datapath.pinned_at());
    let pinned_before = pins.count();
    let links = pins.links;
    let root = datapath.pinned_at().to_owned();
    fs::create_dir(root.join("v0")).unwrap();
    drop(datapath);

    let done = host.run(|| Datapath::uninstall(&options)).unwrap();

    assert!(done.errors.is_empty(), "{:?}", done.errors);
    assert_eq!(done.pins, pinned_before);
    assert!(!root.exists());
    let numbers: Vec<u32> = links.values().map(|(link, _)| *link).collect();
    wait_until("the links are gone", || {
        let mut live = loaded_links().filter_map(Result::ok);
        !live.any(|link| numbers.contains(&link.id()))
    });
}

#[test]
fn uninstall_takes_filters_off_as_well() {
    let host = Host::new();
    host.add_veth(10);
    host.add_veth(11);
    let mut options = host.options();
    options.hook = Some(Hook::Clsact);
    drop(host.serve(&options, &desired([10, 11])));

    let done = host.run(|| Datapath::uninstall(&options)).unwrap();

    assert!(done.errors.is_empty(), "{:?}", done.errors);
    let filters = host.iproute2("tc", "filter show dev near10 ingress");
    assert!(!filters.contains("endpoint_in"), "{filters}");
}

#[test]
fn uninstall_where_nothing_is_installed_is_no_error() {
    let host = Host::new();

    let done = host.run(|| Datapath::uninstall(&host.options())).unwrap();

    assert!(done.errors.is_empty(), "{:?}", done.errors);
    assert_eq!(done.pins, 0);
}

#[test]
fn nothing_is_taken_from_under_a_daemon() {
    let host = Host::new();
    let (datapath, _) = host.open(&host.options()).unwrap();
    let before = pinned(datapath.pinned_at());

    let error = host
        .run(|| Datapath::uninstall(&host.options()))
        .unwrap_err();

    assert!(
        matches!(error, DatapathError::AlreadyServed { .. }),
        "{error}"
    );
    assert_eq!(pinned(datapath.pinned_at()), before);
}

#[test]
fn instances_side_by_side_do_not_meet() {
    let (one, two) = (Host::new(), Host::new());
    for host in [&one, &two] {
        host.add_veth(10);
        host.add_veth(11);
    }
    let mut options = two.options();
    options.bpffs = one.options().bpffs;
    let desired = desired([10, 11]);
    let first = one.serve(&one.options(), &desired);

    let mut second = two.serve(&options, &desired);
    two.reconcile(&mut second, &Default::default());
    let there = pinned(second.pinned_at());
    drop(second);
    let done = two.run(|| Datapath::uninstall(&options)).unwrap();

    assert!(done.errors.is_empty(), "{:?}", done.errors);
    assert_eq!(one.run(|| first.actual().unwrap()), desired);
    let here = pinned(first.pinned_at());
    assert!(
        here.maps
            .values()
            .all(|map| !there.maps.values().any(|other| other == map))
    );
    assert_eq!(here.count(), there.count() + 2, "two veths");
    assert_eq!((one.programs_on(10), two.programs_on(10)), (1, 0));
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}
