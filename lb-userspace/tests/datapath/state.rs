//! Steps, and the state that they make.

use lb_common::{Endpoint, EndpointState, Resolver, Veth};
use lb_userspace::datapath::{DatapathError, Hook, OBJECT, Object};
use lb_userspace::reconcile::{Role, State, Step, plan};

use crate::adopt::forget_loaded;
use crate::host::{Host, desired};

#[test]
fn the_object_has_every_map_and_program_as_expected() {
    let host = Host::new();

    let loaded = Object::load(OBJECT, &host.options().sizes);

    loaded.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn carrying_out_a_plan_makes_the_state_the_desired_one() {
    let host = Host::new();
    host.add_veth(10);
    host.add_veth(11);
    let desired = desired([10, 11]);

    let datapath = host.serve(&host.options(), &desired);

    let actual = host.run(|| datapath.actual().unwrap());
    assert_eq!(actual, desired);
    assert_eq!(plan(&actual, &desired), []);
}

#[test]
fn what_is_no_longer_desired_is_taken_away() {
    let host = Host::new();
    host.add_veth(10);
    host.add_veth(11);
    let mut datapath = host.serve(&host.options(), &desired([10, 11]));

    host.reconcile(&mut datapath, &State::default());

    let actual = host.run(|| datapath.actual().unwrap());
    assert_eq!(actual.endpoints.len(), 2, "retired ids are remembered");
    assert!(
        actual
            .endpoints
            .values()
            .all(|e| !e.is_up() && e.generation == 2)
    );
    assert_eq!(actual.served(), State::default());
}

#[test]
fn a_step_may_be_carried_out_twice() {
    let host = Host::new();
    host.add_veth(10);
    host.add_veth(11);
    let wanted = desired([10, 11]);
    let (mut datapath, _) = host.open(&host.options()).unwrap();

    host.run(|| {
        let there = plan(&State::default(), &wanted);
        let back = plan(&wanted, &State::default());
        for step in there.iter().chain(&there).chain(&back).chain(&back) {
            datapath.apply(step).unwrap();
        }
    });

    let actual = host.run(|| datapath.actual().unwrap());
    assert_eq!(actual.served(), State::default());
}

#[test]
fn a_full_map_is_named_with_its_size_and_the_key_to_raise() {
    let host = Host::new();
    let mut options = host.options();
    options.sizes.veths = 2;
    options.sizes.endpoints = 16;
    let (mut datapath, _) = host.open(&options).unwrap();
    let mut put = |ifindex| datapath.apply(&Step::PutVeth(ifindex, Veth::default()));
    put(1).unwrap();
    put(2).unwrap();

    let veth = put(3).unwrap_err();
    let endpoint = datapath.apply(&Step::PutEndpoint(16, Endpoint::default()));

    let is = |error: &DatapathError, name, entries, config| {
        matches!(error, DatapathError::MapFull { map, size, key }
            if *map == name && *size == entries && *key == config)
    };
    assert!(is(&veth, "VETHS", 2, "maps.veths"), "{veth}");
    let endpoint = endpoint.unwrap_err();
    assert!(
        is(&endpoint, "ENDPOINTS", 16, "maps.endpoints"),
        "{endpoint}"
    );
}

#[test]
fn the_program_is_before_those_of_others() {
    let host = Host::new();
    host.add_veth(10);
    host.add_veth(11);
    let others = Host::new().options();
    let mut other = host.options();
    // Another one of the same namespace, as far as the kernel can tell.
    other.instance = others.instance;
    other.folder = others.folder;
    let first = host.serve(&other, &desired([10, 11]));
    if first.hook() == Hook::Clsact {
        eprintln!("not tested: this kernel has no tcx, and a filter's place is fixed");
        return;
    }

    let second = host.serve(&host.options(), &desired([10, 11]));

    let order = host.run(|| {
        use aya::programs::{SchedClassifier, TcAttachType};
        let (_, programs) = SchedClassifier::query_tcx("near10", TcAttachType::Ingress).unwrap();
        programs
            .iter()
            .map(|program| program.id())
            .collect::<Vec<_>>()
    });
    let program = |datapath: &lb_userspace::datapath::Datapath| {
        crate::host::pinned(datapath.pinned_at()).programs["endpoint_in"]
    };
    assert_eq!(order, [program(&second), program(&first)]);
}

#[test]
fn a_veth_that_is_gone_cannot_be_attached_to_but_detached_from() {
    let host = Host::new();
    let (mut datapath, _) = host.open(&host.options()).unwrap();

    let attached = host.run(|| datapath.apply(&Step::Attach(Role::Endpoint, 4_711)));
    let detached = host.run(|| datapath.apply(&Step::Detach(Role::Endpoint, 4_711)));

    let error = attached.unwrap_err();
    assert!(
        matches!(error, DatapathError::Attach { ifindex: 4_711, .. }),
        "{error}"
    );
    detached.unwrap();
}

#[test]
fn without_tcx_filters_do_the_same() {
    let host = Host::new();
    host.add_veth(10);
    host.add_veth(11);
    let mut options = host.options();
    options.hook = Some(Hook::Clsact);
    let desired = desired([10, 11]);

    let mut datapath = host.serve(&options, &desired);
    let actual = host.run(|| datapath.actual().unwrap());
    assert_eq!(actual, desired);
    let before = host.iproute2("tc", "filter show dev near10 ingress");
    forget_loaded(datapath.pinned_at());
    drop(datapath);
    let (kept, adopted) = host.open(&options).unwrap();
    datapath = kept;
    let after = host.iproute2("tc", "filter show dev near10 ingress");
    host.run(|| datapath.apply(&Step::Detach(Role::Endpoint, 10)).unwrap());

    assert_eq!(before.matches("handle 0x7665").count(), 1, "{before}");
    assert_eq!(adopted.attached, desired.attached);
    assert_eq!(after.matches("handle 0x7665").count(), 1, "{after}");
    assert_ne!(before, after, "the program is another one");
    let detached = host.iproute2("tc", "filter show dev near10 ingress");
    assert!(!detached.contains("handle 0x7665"), "{detached}");
    let actual = host.run(|| datapath.actual().unwrap());
    assert_eq!(actual.attached, [(Role::Endpoint, 11)].into());
}

#[test]
fn an_endpoint_that_drains_keeps_its_line() {
    let host = Host::new();
    let (mut datapath, _) = host.open(&host.options()).unwrap();
    let active = desired([10, 11]).endpoints[&1];
    let draining = Endpoint {
        state: EndpointState::Draining as u8,
        ..active
    };

    datapath.apply(&Step::PutEndpoint(1, active)).unwrap();
    datapath.apply(&Step::PutEndpoint(1, draining)).unwrap();

    let actual = host.run(|| datapath.actual().unwrap());
    assert_eq!(actual.endpoints, [(1, draining)].into());
}

#[test]
fn resolvers_are_kept_and_the_heart_beats() {
    let host = Host::new();
    let (datapath, _) = host.open(&host.options()).unwrap();
    let resolver = Resolver {
        udp: lb_common::Port::new(4_053),
        ..Resolver::default()
    };

    datapath.set_resolver(7, resolver).unwrap();
    datapath.set_resolver(8, resolver).unwrap();
    datapath.remove_resolver(8).unwrap();
    datapath.remove_resolver(9).unwrap();
    let before = lb_userspace::datapath::now().unwrap();
    datapath.heartbeat().unwrap().beat().unwrap();

    assert_eq!(datapath.resolvers().unwrap(), [(7, resolver)]);
    let beat = datapath.maps().heartbeat.get(0).unwrap();
    assert!((before..=lb_userspace::datapath::now().unwrap()).contains(&beat));
}
