//! What is told of a namespace that was found, before anybody has looked into it.

use super::super::inside::{Inside, Sandbox};
use super::super::news::What;
use super::stories::{Story, bridge, container, end, id, network, network_id};

#[test]
fn a_namespace_that_was_found_is_told_of_before_it_is_known_whose_it_is() {
    let mut story = Story::default();
    story.network(network(1, &[]));
    story.inspected(container(7, "created", &[1]));
    story.heard(What::Connected(network_id(1), id(7)));
    story.network(network(1, &[7]));
    let bridge = bridge(&story);
    let pair = [end(10, 11, None, Some(3)), end(11, 10, None, None)];
    let [near, far] = pair;
    story.view.host.replace(vec![bridge, near, far]);
    assert!(story.view.glimpsed(vec![sandbox(5), sandbox(6)]));
    assert_eq!(story.observed().arriving, [], "nothing leads to either");

    assert_eq!(story.view.link_moved(11, 5), Some(10));
    story.view.link_gone(11);
    let arriving = story.observed().arriving;

    let told: Vec<_> = arriving.iter().map(|it| it.netns.cookie).collect();
    assert_eq!((told, &arriving[0].container), (vec![5], &id(7)));
    assert_eq!(arriving[0].networks, [network_id(1)]);
    let inside = Inside::sample(5, vec![end(11, 10, None, None)]);
    story.view.looked(&id(7), Ok(inside));
    let observed = story.observed();
    let netns = observed.containers[0].netns.as_ref().unwrap();
    assert_eq!((observed.arriving.len(), netns.cookie), (0, 5));
}

#[test]
fn a_namespace_that_may_be_of_one_with_names_of_others_is_not_told_of() {
    let mut story = Story::default();
    let mut foreign = network(2, &[8]);
    foreign["Driver"] = "macvlan".into();
    story.network(foreign);
    story.network(network(1, &[]));
    for container in [7, 8] {
        story.heard(What::Connected(network_id(1), id(container)));
    }
    story.network(network(1, &[7, 8]));
    let bridge = bridge(&story);
    let near = end(10, 11, Some(5), Some(3));
    story.view.host.replace(vec![bridge, near]);

    story.view.glimpsed(vec![sandbox(5)]);

    assert_eq!(story.observed().arriving, []);
}

/// A namespace of which no more is known than that it is there, as of [`Inside::sample`].
fn sandbox(number: i32) -> Sandbox {
    let netns = Inside::sample(number, Vec::new()).netns;
    Sandbox { netns, number }
}
