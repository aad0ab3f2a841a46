use std::collections::BTreeMap;

use super::*;
use crate::model::{
    Attachment, Container, ContainerId, Elsewhere, Link, NetworkId, Observed, RunState,
};

fn container(name: &str, networks: &[&str]) -> Container {
    let attachment = |network: &&str| Attachment {
        network: NetworkId((*network).into()),
        endpoint_id: format!("{name}-{network}"),
        v4: None,
        v6: None,
        aliases: Vec::new(),
        linked: Vec::new(),
        link: Some(Link {
            host_ifindex: 7,
            host_name: "veth7".into(),
            container_ifindex: 2,
            container_name: "eth0".into(),
            mac: [0; 6],
            link_local: None,
        }),
    };
    Container {
        id: ContainerId(name.into()),
        name: name.into(),
        hostname: name.into(),
        state: RunState::Running,
        labels: BTreeMap::new(),
        netns: None,
        sharers: Vec::new(),
        dns_servers: Vec::new(),
        elsewhere: Elsewhere::Nothing,
        publishing: Default::default(),
        attachments: networks.iter().map(attachment).collect(),
    }
}

fn attachment(container: &str, network: &str) -> Subject {
    Subject::Attachment {
        container: ContainerId(container.into()),
        network: NetworkId(network.into()),
        name: container.into(),
    }
}

#[test]
fn without_failures_the_observation_is_not_copied() {
    let observed = Observed::default();

    assert_eq!(without(&observed, [Subject::Settings].iter()), None);
}

#[test]
fn a_failing_attachment_loses_its_link_and_nobody_else_does() {
    let observed = Observed {
        containers: vec![
            container("bad", &["one", "two"]),
            container("good", &["one"]),
        ],
        ..Observed::default()
    };

    let rest = without(&observed, [attachment("bad", "one")].iter()).unwrap();

    let links: Vec<_> = rest
        .containers
        .iter()
        .flat_map(|container| &container.attachments)
        .map(|attachment| attachment.link.is_some())
        .collect();
    assert_eq!(links, [false, true, true]);
}

#[test]
fn a_table_that_was_not_written_is_not_published() {
    let mut blocked = Blocked::default();
    let frontend = lb_common::Frontend {
        first_slot: 8,
        slot_count: 2,
        ..Default::default()
    };
    let slots = Step::PutSlots {
        first: 8,
        slots: vec![Default::default(); 2],
    };

    blocked.add(&slots, &State::default());

    assert!(blocked.has(&Step::PutFrontend(FrontendKey::default(), frontend)));
    let other = lb_common::Frontend {
        first_slot: 10,
        ..frontend
    };
    assert!(!blocked.has(&Step::PutFrontend(FrontendKey::default(), other)));
}

#[test]
fn a_table_that_is_still_published_is_not_released() {
    let mut actual = State::default();
    let frontend = lb_common::Frontend {
        first_slot: 8,
        slot_count: 2,
        ..Default::default()
    };
    actual.frontends.insert(FrontendKey::default(), frontend);
    let mut blocked = Blocked::default();

    blocked.add(&Step::RemoveFrontend(FrontendKey::default()), &actual);

    assert!(blocked.has(&Step::ReleaseSlots { first: 8 }));
    assert!(!blocked.has(&Step::ReleaseSlots { first: 9 }));
}
