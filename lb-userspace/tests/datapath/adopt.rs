//! What a later veer takes over from a former one.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::thread;

use aya::maps::{Array, MapData};
use aya::programs::{SchedClassifier, TcAttachType};
use lb_userspace::config::Lead;
use lb_userspace::datapath::{DatapathError, Warning, can_lead_inside};
use lb_userspace::model::Netns;
use lb_userspace::netns::Namespace;
use lb_userspace::reconcile::{Role, Step};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::host::{Host, desired, entries, pinned};

#[test]
fn a_later_start_with_the_same_programs_keeps_them() {
    let host = Host::new();
    host.add_veth(10);
    host.add_veth(11);
    let desired = desired([10, 11]);
    let first = host.serve(&host.options(), &desired);
    let root = first.pinned_at().to_owned();
    let before = pinned(&root);
    drop(first);

    let (mut second, adopted) = host.open(&host.options()).unwrap();

    assert!(adopted.found);
    assert_eq!(adopted.warnings, []);
    assert_eq!(adopted.attached, desired.attached);
    assert_eq!(pinned(&root), before);
    assert_eq!(host.run(|| second.actual().unwrap()), desired);
    host.remove_veth(11);
    host.add_veth(11);
    host.reconcile(&mut second, &desired);
    assert_eq!((host.programs_on(10), host.programs_on(11)), (1, 1));
}

#[test]
fn a_map_that_was_made_anew_gets_programs_of_its_own() {
    let host = Host::new();
    let first = host.open(&host.options()).unwrap().0;
    let root = first.pinned_at().to_owned();
    let before = pinned(&root);
    drop(first);
    let layout = root.join(format!("v{}", lb_common::LAYOUT));
    fs::remove_file(layout.join("maps/FRAGMENTS")).unwrap();

    drop(host.open(&host.options()).unwrap());

    let after = pinned(&root);
    assert_ne!(after.maps["FRAGMENTS"], before.maps["FRAGMENTS"]);
    assert!(after.programs.keys().eq(before.programs.keys()));
    for (name, program) in &after.programs {
        assert_ne!(*program, before.programs[name], "{name}");
    }
}

#[test]
fn a_program_that_few_need_is_loaded_when_it_is_attached_and_kept_then() {
    let host = Host::new();
    host.add_veth(10);
    let (mut first, _) = host.open(&host.options()).unwrap();
    let root = first.pinned_at().to_owned();
    let before = pinned(&root);

    let attach = Step::Attach(Role::BareUplink, 10);
    host.run(|| first.apply(&attach).unwrap());

    let after = pinned(&root);
    for name in ["uplink_in_bare", "uplink_out_bare"] {
        assert!(!before.programs.contains_key(name), "{name}");
        assert!(after.programs.contains_key(name), "{name}");
    }
    drop(first);
    let (_second, adopted) = host.open(&host.options()).unwrap();
    assert_eq!(adopted.attached, [(Role::BareUplink, 10)].into());
    assert_eq!(pinned(&root), after);
}

#[test]
fn a_later_start_with_other_programs_keeps_maps_and_links_and_replaces_the_programs() {
    let host = Host::new();
    host.add_veth(10);
    host.add_veth(11);
    let desired = desired([10, 11]);
    let first = host.serve(&host.options(), &desired);
    let root = first.pinned_at().to_owned();
    let before = pinned(&root);
    drop(first);
    forget_loaded(&root);

    let (second, adopted) = host.open(&host.options()).unwrap();

    let after = pinned(&root);
    assert!(adopted.found);
    assert_eq!(adopted.warnings, []);
    assert_eq!(adopted.attached, desired.attached);
    assert_eq!(host.run(|| second.actual().unwrap()), desired);
    assert_eq!(after.maps, before.maps);
    assert_eq!(after.count(), before.count());
    assert_eq!(host.programs_on(10), 1);
    for (name, (link, program)) in &after.links {
        assert_eq!(*link, before.links[name].0, "{name}");
        assert_ne!(*program, before.links[name].1, "{name}");
        let current = name.split('-').next().unwrap();
        assert_eq!(*program, after.programs[current], "{name}");
    }
}

#[test]
fn a_first_start_that_was_cut_short_anywhere_is_completed() {
    let host = Host::new();
    host.add_veth(10);
    host.add_veth(11);
    let desired = desired([10, 11]);
    let complete = host.serve(&host.options(), &desired);
    let layout = complete.pinned_at().join(format!("v{}", lb_common::LAYOUT));
    let made_in_order = ["maps", "programs", "links"];
    let pins = || {
        made_in_order
            .map(|folder| entries(&layout.join(folder)))
            .concat()
    };
    let all = pins().len();
    drop(complete);

    for made in (0..=all).step_by(3) {
        for pin in &pins()[made..] {
            remove(pin);
        }
        if made == 0 {
            remove(&layout.join("links"));
        }
        let healed = host.serve(&host.options(), &desired);

        assert_eq!(pins().len(), all, "after {made} pins");
        assert_eq!(host.run(|| healed.actual().unwrap()), desired);
    }
}

/// Makes the pinned programs those of another object.
pub(crate) fn forget_loaded(root: &Path) {
    let layout = root.join(format!("v{}", lb_common::LAYOUT));
    let [record] = &entries(&layout.join("loaded"))[..] else {
        panic!("how the programs were loaded is said once");
    };
    fs::rename(record, record.with_file_name("0123456789abcdef")).unwrap();
}

fn remove(pin: &Path) {
    if pin.is_dir() {
        fs::remove_dir(pin).unwrap();
    } else {
        fs::remove_file(pin).unwrap();
    }
}

#[test]
fn pins_of_interfaces_that_are_gone_are_removed() {
    let host = Host::new();
    host.add_veth(10);
    host.add_veth(11);
    drop(host.serve(&host.options(), &desired([10, 11])));
    host.remove_veth(10);
    host.remove_veth(11);
    // Another interface that happens to get the index.
    host.add_veth(11);

    let (datapath, adopted) = host.open(&host.options()).unwrap();

    assert_eq!(adopted.attached, [].into());
    assert_eq!(adopted.removed, [10, 11].into());
    let attached = host.run(|| datapath.actual().unwrap()).attached;
    assert_eq!(attached, [].into());
}

#[test]
fn an_interface_that_gets_the_index_of_a_vanished_one_is_attached_to() {
    let host = Host::new();
    host.add_veth(10);
    host.add_veth(11);
    let wanted = desired([10, 11]);
    let mut datapath = host.serve(&host.options(), &wanted);
    host.remove_veth(10);
    host.add_veth(10);

    let seen = host.run(|| datapath.actual().unwrap());
    host.reconcile(&mut datapath, &wanted);

    assert_eq!(seen.attached, [(Role::Endpoint, 11)].into());
    assert_eq!(host.run(|| datapath.actual().unwrap()), wanted);
    assert_eq!(host.programs_on(10), 1);
}

#[test]
fn another_size_is_told_and_the_map_kept() {
    let host = Host::new();
    let mut options = host.options();
    let first = host.open(&options).unwrap().0;
    let before = pinned(first.pinned_at()).maps;
    drop(first);
    options.sizes.connections *= 2;

    let (second, adopted) = host.open(&options).unwrap();

    assert_eq!(pinned(second.pinned_at()).maps, before);
    let warning = Warning::SizeKept {
        map: "CONNECTIONS",
        kept: 4_096,
        wanted: 8_192,
        key: "maps.connections",
    };
    assert_eq!(adopted.warnings, [warning]);
    assert_eq!(second.maps().connections.capacity(), 4_096);
}

#[test]
fn a_map_of_another_shape_is_refused_and_left_alone() {
    let host = Host::new();
    let options = host.options();
    let first = host.open(&options).unwrap().0;
    let maps = first
        .pinned_at()
        .join(format!("v{}/maps", lb_common::LAYOUT));
    drop(first);
    let pin = maps.join("ENDPOINTS");
    fs::remove_file(&pin).unwrap();
    let stranger = Array::<MapData, u64>::create(256, 0).unwrap();
    stranger.pin(&pin).unwrap();
    let before = pinned_id(&pin);

    let error = host.open(&options).unwrap_err();

    let DatapathError::Layout { map, found, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((*map, found.value_size), ("ENDPOINTS", 8));
    assert_eq!(pinned_id(&pin), before);
}

fn pinned_id(path: &Path) -> u32 {
    aya::maps::MapInfo::from_pin(path).unwrap().id()
}

#[test]
fn a_second_veer_for_the_same_namespace_is_refused() {
    let host = Host::new();
    let _first = host.open(&host.options()).unwrap();

    let error = host.open(&host.options()).unwrap_err();

    let DatapathError::AlreadyServed { pid, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(pid, Some(std::process::id()));
}

#[test]
fn without_a_cgroup_everything_else_works() {
    let host = Host::new();
    let mut options = host.options();
    options.cgroup = Some("/nonexistent".into());

    let (datapath, adopted) = host.open(&options).unwrap();

    let [Warning::NoTakeover { cause }] = adopted.warnings.as_slice() else {
        panic!("{:?}", adopted.warnings);
    };
    assert!(cause.contains("/nonexistent"), "{cause}");
    assert!(pinned(datapath.pinned_at()).links.is_empty());
}

/// Runs `act` in a mount namespace of its own in which no cgroup2 tree is mounted.
fn without_cgroup2<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        while let Some(path) = cgroup2_mounts().pop() {
            umount2(path.as_path(), MntFlags::MNT_DETACH).unwrap();
        }
        act()
    };
    thread::scope(|scope| scope.spawn(inside).join().unwrap())
}

/// Where the cgroup2 tree is mounted, as the calling thread sees it.
fn cgroup2_mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let fields = mounts.lines().map(|line| line.split(' '));
    let fields = fields.map(|mut fields| (fields.nth(1), fields.next()));
    let cgroups = fields.filter(|(_, kind)| *kind == Some("cgroup2"));
    cgroups
        .filter_map(|(path, _)| path.map(PathBuf::from))
        .collect()
}

#[test]
fn where_the_cgroup2_tree_is_mounted_nowhere_its_root_is_used_all_the_same() {
    let host = Host::new();
    let mut options = host.options();
    options.cgroup = None;

    let (warnings, after) = without_cgroup2(|| {
        let (datapath, adopted) = host.open(&options).unwrap();
        let links = pinned(datapath.pinned_at()).links;
        assert!(links.contains_key("socket_connect4"), "{links:?}");
        (adopted.warnings, cgroup2_mounts())
    });

    assert_eq!((warnings, after), (Vec::new(), Vec::new()));
    assert!(!options.folder.join("cgroup2").exists());
}

#[test]
fn where_programs_on_sockets_cannot_be_used_queries_are_led_inside() {
    let host = Host::new();
    let mut options = host.options();
    options.cgroup = Some("/nonexistent".into());
    options.lead = Lead::Auto;

    let (datapath, adopted) = host.open(&options).unwrap();

    if !can_lead_inside() {
        assert!(!datapath.leads_inside());
        return;
    }
    assert!(datapath.leads_inside());
    let [Warning::LedInside { cause }] = adopted.warnings.as_slice() else {
        panic!("{:?}", adopted.warnings);
    };
    assert!(cause.contains("/nonexistent"), "{cause}");
    let elsewhere = Namespace::create().unwrap();
    let netns = Netns {
        path: format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            elsewhere.as_fd().as_raw_fd()
        )
        .into(),
        cookie: elsewhere.cookie().unwrap(),
    };
    let on_lo = |side| {
        let query = || SchedClassifier::query_tcx("lo", side).unwrap().1;
        let programs = elsewhere.run(query).unwrap();
        let names = programs.iter().filter_map(|it| it.name_as_str());
        names.map(str::to_owned).collect::<Vec<_>>()
    };

    let led = datapath.lead_inside(&netns).unwrap();
    let during = [TcAttachType::Ingress, TcAttachType::Egress].map(on_lo);
    drop(led);
    let after = [TcAttachType::Ingress, TcAttachType::Egress].map(on_lo);

    assert_eq!(during, [["dns_hand"], ["dns_lead"]]);
    assert_eq!(after, [const { Vec::<String>::new() }; 2]);
}

#[test]
fn programs_of_another_layout_go_when_ours_come() {
    let host = Host::new();
    host.add_veth(10);
    host.add_veth(11);
    let desired = desired([10, 11]);
    let first = host.serve(&host.options(), &desired);
    let root = first.pinned_at().to_owned();
    let ours = root.join(format!("v{}", lb_common::LAYOUT));
    let other = root.join("v0");
    drop(first);
    fs::rename(&ours, &other).unwrap();

    let (mut second, adopted) = host.open(&host.options()).unwrap();
    let still_served = host.programs_on(10);
    host.reconcile(&mut second, &desired);

    assert!(!adopted.found);
    let path = other.clone();
    assert_eq!(adopted.warnings, [Warning::OtherLayout { path }]);
    assert_eq!((still_served, host.programs_on(10)), (1, 1));
    assert_eq!(entries(&other.join("links")), [] as [&Path; 0]);
    assert!(!entries(&other.join("maps")).is_empty());
}

#[test]
fn veths_count_as_changed_when_they_change_and_when_a_later_veer_takes_over() {
    let host = Host::new();
    host.add_veth(10);
    host.add_veth(11);
    let mut first = host.open(&host.options()).unwrap().0;
    let map = format!("v{}/maps/VETH_CHANGES", lb_common::LAYOUT);
    let path = first.pinned_at().join(map);
    let changes = || {
        let pinned = aya::maps::Map::Array(MapData::from_pin(&path).unwrap());
        let array: Array<_, u64> = pinned.try_into().unwrap();
        array.get(&0, 0).unwrap()
    };

    let mut seen = vec![changes()];
    host.reconcile(&mut first, &desired([10, 11]));
    seen.push(changes());
    host.reconcile(&mut first, &desired([10, 11]));
    assert_eq!(changes(), seen[1], "nothing has changed");
    host.reconcile(&mut first, &lb_userspace::reconcile::State::default());
    seen.push(changes());
    drop(first);
    let (_second, _) = host.open(&host.options()).unwrap();
    seen.push(changes());

    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
}
