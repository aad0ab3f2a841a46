//! Following an Engine that comes, goes, forgets and babbles.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::timeout;

use super::super::{Options, start};
use super::fake::FakeEngine;
use super::stories::{container, network};
use crate::model::{Observed, RunState};
use crate::provider::{Feed, ProviderHealth};

const PATIENCE: Duration = Duration::from_secs(20);

fn follow(engine: &FakeEngine) -> Feed {
    start(Options {
        socket: engine.socket(),
        ..Options::default()
    })
}

/// The first observation that `is` as wanted.
async fn until(feed: &mut Feed, is: impl Fn(&Observed) -> bool) -> Arc<Observed> {
    let wanted = feed.observed.wait_for(|snapshot| {
        let observed = snapshot.as_ref().map(|snapshot| &snapshot.observed);
        observed.is_some_and(|observed| is(observed))
    });
    let found = timeout(PATIENCE, wanted)
        .await
        .expect("observed in time")
        .unwrap()
        .clone();
    found.unwrap().observed
}

async fn until_following(feed: &mut Feed) {
    let is = |health: &ProviderHealth| matches!(health, ProviderHealth::Following { .. });
    timeout(PATIENCE, feed.health.wait_for(is))
        .await
        .expect("in time")
        .unwrap();
}

/// The error that health tells of, once it does.
async fn failure(feed: &mut Feed) -> String {
    let is = |health: &ProviderHealth| matches!(health, ProviderHealth::Failing { .. });
    let health = timeout(PATIENCE, feed.health.wait_for(is))
        .await
        .expect("in time")
        .unwrap();
    match &*health {
        ProviderHealth::Failing { error, .. } => error.clone(),
        other => panic!("{other:?}"),
    }
}

fn names(observed: &Observed) -> Vec<&str> {
    observed
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .collect()
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_waited_for_and_said_so() {
    let engine = FakeEngine::new();
    engine.put(vec![container(7, "running", &[1])], vec![network(1, &[7])]);
    let mut feed = follow(&engine);
    let error = failure(&mut feed).await;
    assert!(
        error.contains("docker.sock") && error.contains("systemctl status docker"),
        "{error}"
    );
    assert!(
        feed.observed.borrow().is_none(),
        "nothing is known, which is not nothing"
    );

    engine.start();

    until(&mut feed, |observed| names(observed) == ["web7"]).await;
    until_following(&mut feed).await;
    let health = feed.health.borrow().clone();
    assert!(
        format!("{health:?}").contains("Docker Engine 20.10.24 (API 1.41)"),
        "{health:?}"
    );
}

#[tokio::test]
async fn a_lost_engine_leaves_the_last_observation_and_is_compared_when_it_is_back() {
    let engine = FakeEngine::new();
    engine.put(
        vec![container(7, "running", &[1]), container(8, "running", &[1])],
        vec![network(1, &[7, 8])],
    );
    engine.start();
    let mut feed = follow(&engine);
    until(&mut feed, |observed| names(observed) == ["web7", "web8"]).await;

    engine.stop();
    failure(&mut feed).await;
    let kept = until(&mut feed, |_| true).await;
    assert_eq!(names(&kept), ["web7", "web8"]);
    engine.change(|world| drop(world.containers.pop_first()));
    engine.put(
        vec![container(9, "running", &[1])],
        vec![network(1, &[8, 9])],
    );
    engine.start();

    until(&mut feed, |observed| names(observed) == ["web8", "web9"]).await;
    until_following(&mut feed).await;
}

#[tokio::test]
async fn what_no_event_told_is_found_by_comparing() {
    let engine = FakeEngine::new();
    engine.put(vec![container(7, "running", &[1])], vec![network(1, &[7])]);
    engine.start();
    let mut feed = start(Options {
        resync: Duration::from_millis(200),
        socket: engine.socket(),
    });
    until(&mut feed, |observed| names(observed) == ["web7"]).await;

    engine.put(
        vec![container(7, "exited", &[1]), container(8, "running", &[1])],
        vec![network(1, &[8])],
    );

    until(&mut feed, |observed| names(observed) == ["web8"]).await;
    let inspections = engine.inspections();
    engine.put(
        vec![container(9, "running", &[1])],
        vec![network(1, &[8, 9])],
    );
    until(&mut feed, |observed| names(observed) == ["web8", "web9"]).await;
    assert!(
        engine.inspections() <= inspections + 2,
        "what has not changed is not read again"
    );
}

#[tokio::test]
async fn an_event_that_cannot_be_read_makes_everything_be_read_again() {
    let engine = FakeEngine::new();
    engine.put(vec![container(7, "running", &[1])], vec![network(1, &[7])]);
    engine.start();
    let mut feed = follow(&engine);
    until(&mut feed, |observed| names(observed) == ["web7"]).await;

    engine.put(
        vec![container(8, "running", &[1])],
        vec![network(1, &[7, 8])],
    );
    engine.line("{\"Type\": 3}");

    until(&mut feed, |observed| names(observed) == ["web7", "web8"]).await;
}

#[tokio::test]
async fn one_answer_that_cannot_be_read_costs_no_other_container() {
    let engine = FakeEngine::new();
    engine.put(
        vec![container(7, "running", &[1]), container(8, "running", &[1])],
        vec![network(1, &[7, 8])],
    );
    let seven = container(7, "running", &[1])["Id"]
        .as_str()
        .unwrap()
        .to_string();
    engine.change(|world| world.nonsense.extend([seven.clone()]));
    engine.start();
    let mut feed = follow(&engine);

    let observed = until(&mut feed, |observed| names(observed) == ["web8"]).await;
    let notice = &observed.notices[0];
    assert_eq!(notice.subject, format!("container {}", &seven[..12]));
    engine.change(|world| world.nonsense.clear());
    engine.event("container", "rename", &seven, json!({}));

    let observed = until(&mut feed, |observed| names(observed) == ["web7", "web8"]).await;
    assert_eq!(observed.notices, []);
}

#[tokio::test]
async fn a_container_whose_inspection_is_locked_is_observed_from_what_was_read_before() {
    let engine = FakeEngine::new();
    engine.put(vec![], vec![network(1, &[])]);
    engine.start();
    let mut feed = follow(&engine);
    until_following(&mut feed).await;
    let created = container(7, "created", &[1]);
    let (id, net) = (created["Id"].as_str().unwrap().to_string(), network(1, &[]));
    let inspections = engine.inspections();
    engine.put(vec![created.clone()], vec![]);
    engine.event("container", "create", &id, json!({}));
    let deadline = Instant::now() + PATIENCE;
    while engine.inspections() == inspections {
        assert!(
            Instant::now() < deadline,
            "it is inspected when it is created"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    engine.change(|world| world.locked.extend([id.clone()]));
    engine.put(vec![], vec![network(1, &[7])]);
    engine.event(
        "network",
        "connect",
        net["Id"].as_str().unwrap(),
        json!({ "container": id }),
    );

    let observed = until(&mut feed, |observed| names(observed) == ["web7"]).await;
    let seen = &observed.containers[0];
    assert_eq!(seen.state, RunState::Starting);
    assert_eq!(seen.attachments[0].aliases, ["tg-net"]);
    engine.put(vec![container(7, "running", &[1])], vec![]);
    engine.change(|world| world.locked.clear());
    engine.event("container", "start", &id, json!({}));
    let running = |observed: &Observed| {
        observed
            .containers
            .iter()
            .any(|container| container.state == RunState::Running)
    };
    until(&mut feed, running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_containers_are_observed_within_moments() {
    let engine = FakeEngine::new();
    let numbers: Vec<u32> = (1..=1000).collect();
    engine.put(
        numbers
            .iter()
            .map(|number| container(*number, "running", &[1]))
            .collect(),
        vec![network(1, &numbers)],
    );
    engine.start();

    let begun = Instant::now();
    let mut feed = follow(&engine);
    until(&mut feed, |observed| observed.containers.len() == 1000).await;

    // One second is the promise for an optimised build on an idle machine of two cores.
    let took = begun.elapsed();
    println!("1,000 containers observed after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(engine.inspections(), 1000, "each once");
    assert!(engine.is_listened_to());
}
