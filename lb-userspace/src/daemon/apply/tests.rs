use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use lb_common::{Endpoint, EndpointState, Frontend, FrontendKey, Slot, Veth};

use super::*;
use crate::daemon::failures::Subject;
use crate::model::{ContainerId, MemberState, NetworkId};
use crate::reconcile::{Role, ServedEndpoint, ServedInterface, dangling, plan};

/// A datapath that refuses some Steps.
struct Refusing(fn(&Step) -> bool);

impl Writes for Refusing {
    type Error = &'static str;

    fn write(&mut self, step: &Step) -> Result<(), Self::Error> {
        if (self.0)(step) {
            Err("no room")
        } else {
            Ok(())
        }
    }
}

/// A state with these Endpoints, all of them behind each of these VIPs; the table of VIP n begins at
/// `tables + 100 n`.
fn state(endpoints: &[u32], vips: &[u8], tables: u32) -> State {
    let mut state = State::default();
    for id in endpoints {
        let endpoint = Endpoint {
            ifindex: *id,
            generation: 1,
            state: EndpointState::Active as u8,
            ..Endpoint::default()
        };
        let veth = Veth {
            endpoint: *id,
            ..Veth::default()
        };
        state.endpoints.insert(*id, endpoint);
        state.veths.insert(*id, veth);
        state.attached.insert((Role::Endpoint, *id));
    }
    for vip in vips {
        let first = tables + 100 * u32::from(*vip);
        let slot = |id: &u32| Slot {
            endpoint: *id,
            ..Slot::default()
        };
        state
            .slots
            .insert(first, endpoints.iter().map(slot).collect());
        state
            .frontends
            .insert(key(*vip), frontend(*vip, first, endpoints.len()));
    }
    state
}

fn key(vip: u8) -> FrontendKey {
    FrontendKey::vip(Ipv4Addr::new(198, 18, 0, vip).into(), 1)
}

fn frontend(vip: u8, first_slot: u32, slots: usize) -> Frontend {
    Frontend {
        id: vip.into(),
        first_slot,
        slot_count: slots as u32,
        ..Frontend::default()
    }
}

fn desired(state: State) -> Desired {
    let served = |id: &u32| ServedEndpoint {
        id: *id,
        generation: 1,
        container: ContainerId(format!("id{id}")),
        container_name: format!("c{id}"),
        network: NetworkId("net".into()),
        network_name: "app".into(),
        zone: 1,
        state: MemberState::Active,
        v4: None,
        v6: None,
        interface: Some(ServedInterface {
            ifindex: *id,
            name: format!("veth{id}"),
            mac: [0; 6],
        }),
        groups: Vec::new(),
    };
    Desired {
        endpoints: state.endpoints.keys().map(served).collect(),
        state,
        ..Desired::default()
    }
}

fn run(actual: &mut State, desired: &Desired, refuse: fn(&Step) -> bool) -> (Ended, Failures) {
    let mut failures = Failures::default();
    let steps = plan(actual, &desired.state);
    let mut writes = Refusing(refuse);
    let now = Instant::now();
    let ended = carry_out(&steps, &mut writes, actual, desired, &mut failures, now);
    (ended, failures)
}

fn failing(failures: &Failures) -> Vec<String> {
    let report = failures.report(Instant::now());
    report.into_iter().map(|failure| failure.subject).collect()
}

#[test]
fn a_plan_without_failures_ends_as_desired() {
    let mut actual = state(&[1, 2], &[1], 0);
    let desired = desired(state(&[1, 3], &[1, 2], 10));

    let (ended, failures) = run(&mut actual, &desired, |_| false);

    assert_eq!((ended, failing(&failures)), (Ended::Done, vec![]));
    assert_eq!(plan(&actual, &desired.state), []);
}

#[test]
fn whatever_kind_of_step_fails_nothing_is_left_dangling() {
    let refusals: [fn(&Step) -> bool; 8] = [
        |step| matches!(step, Step::PutEndpoint(..)),
        |step| matches!(step, Step::PutVeth(..)),
        |step| matches!(step, Step::Attach(..)),
        |step| matches!(step, Step::PutSlots { .. }),
        |step| matches!(step, Step::PutFrontend(..)),
        |step| matches!(step, Step::RemoveFrontend(_)),
        |step| matches!(step, Step::Detach(..)),
        |step| matches!(step, Step::RemoveVeth(_)),
    ];
    for (index, refuse) in refusals.into_iter().enumerate() {
        let before = state(&[1, 2], &[1, 3], 0);
        let mut actual = before.clone();
        // The members stay, so that tables which cannot be replaced remain good.
        let mut after = state(&[1, 2, 4], &[1, 2], 10);
        if index >= 5 {
            after = state(&[1], &[], 0);
        }

        let (_, failures) = run(&mut actual, &desired(after), refuse);

        assert!(
            !failing(&failures).is_empty(),
            "refusal {index}: nothing failed"
        );
        let owners = |found: &crate::reconcile::Dangling| {
            // An Endpoint that is gone is down at once, whoever still names it.
            index < 5 || !format!("{found:?}").contains("endpoint")
        };
        let found: Vec<_> = dangling(&actual).into_iter().filter(owners).collect();
        assert_eq!(found, [], "refusal {index}");
    }
}

#[test]
fn a_group_that_finds_no_room_does_not_hold_up_the_others() {
    let mut actual = State::default();
    let desired = desired(state(&[1], &[1, 2, 3], 0));

    let (ended, failures) = run(
        &mut actual,
        &desired,
        |step| matches!(step, Step::PutFrontend(key, _) if *key == super::tests::key(2)),
    );

    assert_eq!(ended, Ended::Done);
    assert_eq!(failing(&failures), ["frontend 198.18.0.2"]);
    let served: BTreeSet<_> = actual.frontends.keys().copied().collect();
    assert_eq!(served, BTreeSet::from([key(1), key(3)]));
}

#[test]
fn an_attachment_that_cannot_be_put_in_asks_for_another_plan() {
    let mut actual = State::default();
    let desired = desired(state(&[1, 2], &[1], 0));

    let (ended, failures) = run(&mut actual, &desired, |step| {
        *step == Step::Attach(Role::Endpoint, 2)
    });

    assert_eq!(ended, Ended::PlanAgain);
    let subject = Subject::Attachment {
        container: ContainerId("id2".into()),
        network: NetworkId("net".into()),
        name: "c2".into(),
    };
    assert!(failures.is_paused(&subject, Instant::now()));
}
