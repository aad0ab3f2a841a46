use std::net::Ipv4Addr;

use lb_common::{Addr, Interface, Port, Source, SourceKey, Veth};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::reconcile::{Fact, Run, dangling};

/// The numbers that a consistent state is made of.
#[derive(Clone, Debug)]
struct Recipe {
    /// Id, generation, state.
    endpoints: Vec<(u32, u32, u8)>,
    /// Interface index, which Endpoint, whether attached.
    veths: Vec<(u32, usize, bool)>,
    /// Distance to the table before, and which Endpoints it offers.
    tables: Vec<(u32, Vec<usize>)>,
    /// Which address, Frontend id, which table.
    frontends: Vec<(u8, u32, usize)>,
    /// First port and how many more, which table, list of clients.
    ports: Vec<(u16, u16, usize, u32)>,
    /// Interface index, what programs do there.
    uplinks: Vec<(u32, Option<Role>)>,
    refusals: u32,
}

fn recipes() -> impl Strategy<Value = Recipe> {
    let endpoints = vec((1..12u32, 1..3u32, 0..3u8), 0..10);
    let veths = vec((1..8u32, 0..20usize, any::<bool>()), 0..8);
    let tables = vec((0..3u32, vec(0..20usize, 1..5)), 0..6);
    let frontends = vec((0..6u8, 1..4u32, 0..8usize), 0..6);
    let ports = vec((1..12u16, 0..5u16, 0..8usize, 0..3u32), 0..5);
    let roles = [None, Some(Role::Bridge), Some(Role::Uplink)];
    let uplinks = vec((20..25u32, proptest::sample::select(roles.to_vec())), 0..4);
    (endpoints, veths, tables, frontends, ports, uplinks, 0..2u32).prop_map(
        |(endpoints, veths, tables, frontends, ports, uplinks, refusals)| Recipe {
            endpoints,
            veths,
            tables,
            frontends,
            ports,
            uplinks,
            refusals,
        },
    )
}

impl Recipe {
    fn state(&self) -> State {
        let mut state = State::default();
        state.settings.refusals = self.refusals;
        for &(id, generation, number) in &self.endpoints {
            let endpoint = Endpoint {
                generation,
                ifindex: id,
                state: number,
                ..Default::default()
            };
            state.endpoints.insert(id, endpoint);
        }
        let up: Vec<u32> = state.clone().served().endpoints.into_keys().collect();
        if !up.is_empty() {
            self.add_veths(&up, &mut state);
            self.add_tables(&up, &mut state);
        }
        self.add_frontends(&mut state);
        self.add_ports(&mut state);
        for &(ifindex, role) in &self.uplinks {
            put(&mut state, Fact::Interface(ifindex, Interface::default()));
            state.attached.extend(role.map(|role| (role, ifindex)));
        }
        state
    }

    fn add_ports(&self, state: &mut State) {
        for &(first, more, table, list) in &self.ports {
            state.cells.put(Run {
                protocol: 6,
                first,
                last: first + more,
                cell: first,
            });
            let table = state.slots.iter().nth(table);
            let frontend = Frontend {
                id: 9,
                first_slot: table.map_or(0, |(first, _)| *first),
                slot_count: table.map_or(0, |(_, slots)| slots.len() as u32),
                sources: list,
                ..Default::default()
            };
            let key = FrontendKey::published(Addr::NONE, Port::new(first), 6);
            state.frontends.insert(key, frontend);
            let key = SourceKey {
                prefix_length: 32,
                list,
                ..Default::default()
            };
            put(state, Fact::Source(key, Source::default()));
        }
    }

    fn add_veths(&self, up: &[u32], state: &mut State) {
        for &(ifindex, owner, attached) in &self.veths {
            let veth = Veth {
                endpoint: up[owner % up.len()],
                ..Default::default()
            };
            state.veths.insert(ifindex, veth);
            if attached {
                state.attached.insert((Role::Endpoint, ifindex));
            }
        }
    }

    fn add_tables(&self, up: &[u32], state: &mut State) {
        let mut first = 0;
        for (gap, offered) in &self.tables {
            first += gap;
            let slot = |which: &usize| Slot {
                endpoint: up[which % up.len()],
                ..Default::default()
            };
            state
                .slots
                .insert(first, offered.iter().map(slot).collect());
            first += offered.len() as u32;
        }
    }

    fn add_frontends(&self, state: &mut State) {
        for &(address, id, table) in &self.frontends {
            let key = FrontendKey::vip(Addr::from(Ipv4Addr::new(198, 18, 0, address)), 1);
            let table = state.slots.iter().nth(table);
            let frontend = Frontend {
                id,
                first_slot: table.map_or(0, |(first, _)| *first),
                slot_count: table.map_or(0, |(_, slots)| slots.len() as u32),
                ..Default::default()
            };
            state.frontends.insert(key, frontend);
        }
    }
}

fn put(state: &mut State, fact: Fact) {
    state.facts.insert(fact.place(), fact);
}

fn carried_out(mut state: State, steps: &[Step]) -> State {
    steps.iter().for_each(|step| state.apply(step));
    state
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_plan_may_be_stopped_after_any_step(actual in recipes(), desired in recipes()) {
        let (mut state, desired) = (actual.state(), desired.state().served());
        prop_assert_eq!(dangling(&state), []);

        for step in plan(&state.clone(), &desired) {
            state.apply(&step);

            prop_assert_eq!(dangling(&state), [], "after {:?}", step);
        }
    }

    #[test]
    fn a_plan_ends_at_what_is_desired(actual in recipes(), desired in recipes()) {
        let (actual, desired) = (actual.state(), desired.state().served());

        let end = carried_out(actual.clone(), &plan(&actual, &desired));

        prop_assert_eq!(plan(&end, &desired), []);
        for (id, before) in &actual.endpoints {
            if before.is_up() && !desired.endpoints.contains_key(id) {
                prop_assert_eq!(end.endpoints[id].state, EndpointState::Down as u8);
                prop_assert_eq!(end.endpoints[id].generation, before.generation + 1);
            }
        }
        prop_assert_eq!(end.served(), desired);
    }

    #[test]
    fn a_plan_that_was_stopped_is_taken_up_again(
        actual in recipes(), desired in recipes(), other in recipes(), stop in 0..20usize
    ) {
        let (actual, desired) = (actual.state(), desired.state().served());
        let steps = plan(&actual, &desired);
        let stopped = carried_out(actual, &steps[..stop.min(steps.len())]);
        let other = other.state().served();

        let end = carried_out(stopped.clone(), &plan(&stopped, &other));

        prop_assert_eq!(end.served(), other);
    }

    #[test]
    fn a_table_that_is_published_is_never_written(actual in recipes(), desired in recipes()) {
        let (mut state, desired) = (actual.state(), desired.state().served());

        for step in plan(&state.clone(), &desired) {
            if let Step::PutSlots { first, slots } = &step {
                let range = *first..*first + slots.len() as u32;
                let published = state.frontends.values().filter(|f| f.slot_count > 0);
                for frontend in published {
                    let end = frontend.first_slot + frontend.slot_count;
                    prop_assert!(end <= range.start || frontend.first_slot >= range.end);
                }
            }
            state.apply(&step);
        }
    }
}

#[test]
fn an_endpoint_is_there_before_a_frontend_offers_it_and_goes_after() {
    let with = |endpoint: u32, first: u32| {
        let recipe = Recipe {
            endpoints: vec![(endpoint, 1, EndpointState::Active as u8)],
            veths: vec![(endpoint, 0, true)],
            tables: vec![(first, vec![0])],
            frontends: vec![(1, 1, 0)],
            ports: Vec::new(),
            uplinks: Vec::new(),
            refusals: 0,
        };
        recipe.state()
    };

    let steps = plan(&with(1, 0), &with(2, 5));

    let names: Vec<_> = steps.iter().map(name).collect();
    let expected = [
        "PutEndpoint",
        "PutVeth",
        "Attach",
        "PutSlots",
        "PutFrontend",
        "ReleaseSlots",
        "Detach",
        "RemoveVeth",
        "RetireEndpoint",
    ];
    assert_eq!(names, expected);
}

fn name(step: &Step) -> String {
    let text = format!("{step:?}");
    text.split(|c: char| !c.is_alphanumeric())
        .next()
        .map(str::to_string)
        .unwrap_or_default()
}

/// A state with guards, published ports and an uplink; `port` makes it another one.
fn published(port: u16) -> State {
    let recipe = Recipe {
        endpoints: vec![(1, 1, EndpointState::Active as u8)],
        veths: Vec::new(),
        tables: vec![(0, vec![0])],
        frontends: Vec::new(),
        ports: vec![(port, 2, 0, 0)],
        uplinks: vec![(20, Some(Role::Bridge)), (21, Some(Role::Uplink))],
        refusals: 0,
    };
    recipe.state()
}

#[test]
fn guards_come_first_and_the_way_in_comes_last() {
    let steps = plan(&State::default(), &published(80));

    let position = |wanted: &dyn Fn(&Step) -> bool| steps.iter().position(wanted).unwrap();
    let guard = position(&|step| matches!(step, Step::Attach(Role::Bridge, _)));
    let endpoint = position(&|step| matches!(step, Step::PutEndpoint(..)));
    let ports = position(&|step| matches!(step, Step::PutPorts(_)));
    let uplink = position(&|step| matches!(step, Step::Attach(Role::Uplink, _)));
    assert!(guard < endpoint && endpoint < ports && ports < uplink);
}

#[test]
fn the_way_in_goes_first_and_guards_go_last() {
    let steps = plan(&published(80), &State::default());

    let position = |wanted: &dyn Fn(&Step) -> bool| steps.iter().position(wanted).unwrap();
    let ports = position(&|step| matches!(step, Step::PutPorts(_)));
    let frontend = position(&|step| matches!(step, Step::RemoveFrontend(_)));
    let endpoint = position(&|step| matches!(step, Step::RetireEndpoint(..)));
    let guard = position(&|step| matches!(step, Step::Detach(Role::Bridge, _)));
    assert!(ports < frontend && frontend < endpoint && endpoint < guard);
}

#[test]
fn ports_that_stay_published_are_never_nobodys() {
    let (mut state, desired) = (published(80), published(81));

    for step in plan(&state.clone(), &desired) {
        state.apply(&step);
        for port in [81, 82] {
            let cell = state.cells.cell(6, port);
            let key = FrontendKey::published(Addr::NONE, Port::new(cell), 6);
            assert!(state.frontends.contains_key(&key), "{port} after {step:?}");
        }
    }
}
