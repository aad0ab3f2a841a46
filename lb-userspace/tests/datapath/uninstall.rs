//! Taking everything away again, and instances side by side.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{self, Child, Command};
use std::time::{Duration, Instant};

use aya::programs::loaded_links;
use lb_common::LAYOUT;
use lb_userspace::datapath::{Datapath, DatapathError, Hook, Options};
use lb_userspace::model::Netns;
use lb_userspace::netns::{Namespace, unpin};

use crate::host::{Host, desired, iproute2, pinned};

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

/// A container of which there is no more than its namespace.
struct Inside(Namespace);

impl Inside {
    fn new() -> Self {
        Self(Namespace::create().unwrap())
    }

    fn netns(&self, path: PathBuf) -> Netns {
        let cookie = self.0.cookie().unwrap();
        Netns { path, cookie }
    }

    /// Known by a file that this process has open.
    fn opened(&self) -> Netns {
        let file = self.0.as_fd().as_raw_fd();
        self.netns(format!("/proc/{}/fd/{file}", process::id()).into())
    }

    fn tc(&self, args: &str) -> String {
        iproute2(&self.0, "tc", args)
    }

    /// Our filters and those of [`Inside::add_strangers`] on the loopback interface.
    fn filters(&self) -> [usize; 2] {
        let all = ["ingress", "egress"].map(|side| self.tc(&format!("filter show dev lo {side}")));
        [" pref 1 ", " pref 7 "].map(|place| {
            let lines = all.iter().flat_map(|text| text.lines());
            let told = lines.filter(|line| line.contains(" handle ") && line.contains(place));
            told.count()
        })
    }

    /// Somebody else has a filter here. Whose program it is does not matter.
    fn add_strangers(&self, options: &Options) {
        let pins = options.bpffs.join("veer").join(options.instance.name());
        let program = pins.join(format!("v{LAYOUT}/programs/dns_lo"));
        let program = program.display();
        self.tc(&format!(
            "filter add dev lo ingress prio 7 bpf direct-action object-pinned {program}"
        ));
    }

    fn has_qdisc(&self) -> bool {
        self.tc("qdisc show dev lo").contains("clsact")
    }
}

/// The kernel answers in these namespaces, and then the daemon is killed.
fn answers_and_is_killed(host: &Host, options: &Options, netns: &[Netns]) {
    let (datapath, _) = host.open(options).unwrap();
    for netns in netns {
        // What is not dropped takes nothing off.
        std::mem::forget(datapath.answer_inside(netns).unwrap());
    }
}

fn with_filters(host: &Host) -> Options {
    Options {
        hook: Some(Hook::Clsact),
        ..host.options()
    }
}

#[test]
fn uninstall_takes_the_filters_of_a_killed_daemon_out_of_containers_and_no_other() {
    let host = Host::new();
    let options = with_filters(&host);
    let [bare, shared, prepared] = [Inside::new(), Inside::new(), Inside::new()];
    prepared.tc("qdisc add dev lo clsact");
    let netns = [&bare, &shared, &prepared].map(Inside::opened);
    answers_and_is_killed(&host, &options, &netns);
    shared.add_strangers(&options);
    for inside in [&bare, &shared, &prepared] {
        assert_eq!((inside.filters()[0], inside.has_qdisc()), (1, true));
    }

    let done = host.run(|| Datapath::uninstall(&options)).unwrap();

    assert!(done.errors.is_empty(), "{:?}", done.errors);
    assert_eq!(done.filters, 3);
    assert_eq!((bare.filters(), bare.has_qdisc()), ([0, 0], false));
    assert_eq!((shared.filters(), shared.has_qdisc()), ([0, 1], true));
    assert_eq!((prepared.filters(), prepared.has_qdisc()), ([0, 0], true));
    let again = host.run(|| Datapath::uninstall(&options)).unwrap();
    assert_eq!((again.filters, again.errors.len()), (0, 0));
}

#[test]
fn uninstall_of_one_instance_leaves_the_filters_of_another_one() {
    let (one, two) = (Host::new(), Host::new());
    let [first, second] = [Inside::new(), Inside::new()];
    answers_and_is_killed(&one, &with_filters(&one), &[first.opened()]);
    answers_and_is_killed(&two, &with_filters(&two), &[second.opened()]);

    let done = one
        .run(|| Datapath::uninstall(&with_filters(&one)))
        .unwrap();

    assert_eq!((done.filters, done.errors.len()), (1, 0));
    assert_eq!((first.filters()[0], second.filters()[0]), (0, 1));
}

#[test]
fn a_filter_is_found_where_its_namespace_has_lost_its_file_and_forgotten_where_it_is_gone() {
    let host = Host::new();
    let options = with_filters(&host);
    let [lost, gone] = [Inside::new(), Inside::new()];
    let folder = tempfile::tempdir().unwrap();
    let [lost_file, gone_file] = ["lost", "gone"].map(|name| folder.path().join(name));
    lost.0.pin(&lost_file).unwrap();
    gone.0.pin(&gone_file).unwrap();
    let process = Process::inside(&lost.0);
    let netns = [lost.netns(lost_file.clone()), gone.netns(gone_file.clone())];
    answers_and_is_killed(&host, &options, &netns);
    unpin(&lost_file).unwrap();
    unpin(&gone_file).unwrap();
    drop(gone);

    let done = host.run(|| Datapath::uninstall(&options)).unwrap();

    assert!(done.errors.is_empty(), "{:?}", done.errors);
    assert_eq!(done.filters, 1);
    assert_eq!((lost.filters(), lost.has_qdisc()), ([0, 0], false));
    assert!(!options.folder.join("filters").exists());
    drop(process);
}

#[test]
fn a_filter_goes_with_what_it_hung_on_when_the_daemon_ends_also_after_one_that_was_killed() {
    let host = Host::new();
    let options = with_filters(&host);
    let inside = Inside::new();
    answers_and_is_killed(&host, &options, &[inside.opened()]);
    let (datapath, _) = host.open(&options).unwrap();
    let loopback = datapath.answer_inside(&inside.opened()).unwrap();
    assert_eq!(inside.filters(), [1, 0]);

    drop(loopback);

    assert_eq!((inside.filters(), inside.has_qdisc()), ([0, 0], false));
    drop(datapath);
    let done = host.run(|| Datapath::uninstall(&options)).unwrap();
    assert_eq!((done.filters, done.errors.len()), (0, 0));
}

/// A process that does nothing, in a namespace.
struct Process(Child);

impl Process {
    fn inside(namespace: &Namespace) -> Self {
        let start = || Command::new("sleep").arg("1000").spawn().unwrap();
        Self(namespace.run(start).unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
