//! What provider `docker` publishes of a real Engine.

use std::time::{Duration, SystemTime};

use lb_userspace::model::RunState;

use crate::stage::{Host, attachment, container, is_complete, network};

#[test]
fn a_container_is_published_with_its_names_addresses_namespace_and_interface() {
    let host = Host::shared();
    let (net, name) = (host.name("net"), host.name("web"));
    host.docker(&format!(
        "network create --subnet 10.201.0.0/16 --ip-range 10.201.5.0/24 --gateway 10.201.0.1 {net}"
    ));
    let following = host.follow();

    host.docker(&format!(
        "run -d --name {name} --network {net} --network-alias tg-net --label veer.weight=3 \
         veer-test sleep 1000"
    ));

    let seen = following.ready(&name);
    let inside = host.engine.namespace_of(&name);
    assert_eq!(seen.netns.unwrap().cookie, inside.cookie().unwrap());
    assert_eq!(seen.labels["veer.weight"], "3");
    let interfaces = inside.interfaces().unwrap();
    let eth0 = interfaces.iter().find(|one| one.name == "eth0").unwrap();
    let attachment = &seen.attachments[0];
    let link = attachment.link.as_ref().unwrap();
    assert_eq!(attachment.aliases, ["tg-net"]);
    assert_eq!(attachment.v4, Some("10.201.5.0".parse().unwrap()));
    assert_eq!((link.container_ifindex, link.mac), (eth0.ifindex, eth0.mac));
    assert_eq!(Some(link.host_ifindex), eth0.peer_ifindex);
}

/// The Engine's inspection would say so only once the process runs. Five, because the test may be
/// the one that is late on a busy machine.
#[test]
fn a_container_is_complete_while_it_is_being_started() {
    let host = Host::shared();
    let net = host.name("net");
    host.docker(&format!("network create {net}"));
    let following = host.follow();
    following.until("the network", |one| network(&one.observed, &net).cloned());

    let in_time = (0..5).any(|_| {
        let name = host.name("web");
        host.docker(&format!(
            "run -d --name {name} --network {net} --network-alias tg-net veer-test sleep 1000"
        ));
        let first = following.ready(&name);
        assert_eq!(first.attachments[0].aliases, ["tg-net"]);
        first.state == RunState::Starting
    });

    assert!(in_time);
}

#[test]
fn addresses_of_both_families_and_several_networks_come_in_the_order_of_dockers_dns() {
    let host = Host::shared();
    let (outer, inner, name) = (host.name("net"), host.name("a"), host.name("web"));
    host.docker(&format!(
        "network create --ipv6 --subnet 10.202.0.0/16 --subnet fd00:202::/64 {outer}"
    ));
    host.docker(&format!(
        "network create --internal --subnet 10.203.0.0/16 {inner}"
    ));
    let following = host.follow();

    host.docker(&format!(
        "create --name {name} --network {inner} veer-test sleep 1000"
    ));
    host.docker(&format!("network connect --alias tg-net {outer} {name}"));
    host.docker(&format!("start {name}"));

    let seen = following.until("both networks", |one| {
        let seen = container(&one.observed, &name).filter(is_complete)?;
        (seen.attachments.len() == 2 && seen.state == RunState::Running).then(|| seen.clone())
    });
    let observed = following.last();
    let [first, second] = &seen.attachments[..] else {
        panic!("{seen:?}");
    };
    assert_eq!(
        first.network,
        network(&observed, &outer).unwrap().id,
        "not internal"
    );
    assert_eq!(first.aliases, ["tg-net"]);
    assert_eq!(first.v6, Some("fd00:202::2".parse().unwrap()));
    let link = first.link.as_ref().unwrap();
    assert!(link.link_local.is_some(), "{link:?}");
    assert_eq!(second.network, network(&observed, &inner).unwrap().id);
    assert_eq!((second.v6, &second.aliases[..]), (None, &[][..]));
    let subnets = &network(&observed, &outer).unwrap().subnets;
    assert_eq!(
        subnets[..],
        [
            "10.202.0.0/16".parse().unwrap(),
            "fd00:202::/64".parse().unwrap()
        ]
    );
    assert!(network(&observed, &inner).unwrap().internal);
}

#[test]
fn a_network_is_connected_and_disconnected_while_the_container_runs() {
    let host = Host::shared();
    let (one, two, name) = (host.name("net"), host.name("net"), host.name("web"));
    host.docker(&format!("network create {one}"));
    host.docker(&format!("network create {two}"));
    host.docker(&format!(
        "run -d --name {name} --network {one} veer-test sleep 1000"
    ));
    let following = host.follow();
    following.ready(&name);

    host.docker(&format!("network connect --alias blue {two} {name}"));
    let first = following.until("it is connected", |seen| {
        let attachment = attachment(&seen.observed, &name, &two)?;
        let told = attachment.aliases == ["blue"] && attachment.link.is_some();
        told.then(|| attachment.clone())
    });
    let moment = SystemTime::now();
    host.docker(&format!("network disconnect {two} {name}"));
    following.after(moment, "it is disconnected", |seen| {
        let container = container(&seen.observed, &name)?;
        (container.attachments.len() == 1).then_some(())
    });
    let moment = SystemTime::now();
    host.docker(&format!("network connect --alias green {two} {name}"));
    let second = following.after(moment, "it is connected again", |seen| {
        let attachment = attachment(&seen.observed, &name, &two)?;
        let told = attachment.aliases == ["green"] && attachment.link.is_some();
        told.then(|| attachment.clone())
    });

    assert_ne!(first.endpoint_id, second.endpoint_id);
    let host_end = |link: Option<lb_userspace::model::Link>| link.unwrap().host_ifindex;
    assert_ne!(host_end(first.link), host_end(second.link));
}

#[test]
fn a_container_that_is_told_to_stop_is_stopping_before_it_is_gone() {
    let host = Host::shared();
    let (net, name) = (host.name("net"), host.name("web"));
    host.docker(&format!("network create {net}"));
    // A shell that is process 1 and has no handler ignores the signal: Docker waits, then kills.
    host.docker(&format!(
        "run -d --name {name} --network {net} --stop-signal SIGQUIT veer-test sleep 1000"
    ));
    let following = host.follow();
    following.ready(&name);
    let state = |seen: &crate::stage::Published| {
        container(&seen.observed, &name).map(|container| container.state)
    };

    host.docker(&format!("kill --signal SIGHUP {name}"));
    host.docker(&format!("pause {name}"));
    following.until("it is paused, not stopping", |seen| {
        (state(seen) == Some(RunState::Paused)).then_some(())
    });
    host.docker(&format!("unpause {name}"));
    let moment = SystemTime::now();
    following.after(moment, "it runs on", |seen| {
        (state(seen) == Some(RunState::Running)).then_some(())
    });
    host.docker(&format!("stop --time 1 {name}"));
    let stopping = following.after(moment, "it is stopping", |seen| {
        (state(seen) == Some(RunState::Stopping)).then_some(seen.at)
    });
    let gone = following.after(stopping, "it is gone", |seen| {
        state(seen).is_none().then_some(seen.at)
    });
    host.docker(&format!("start {name}"));
    following.after(gone, "it runs again", |seen| {
        (state(seen) == Some(RunState::Running)).then_some(())
    });

    let drained = gone.duration_since(stopping).unwrap();
    assert!(drained > Duration::from_millis(900), "{drained:?}");
}

#[test]
fn a_rename_is_followed_and_sharers_belong_to_the_one_whose_namespace_they_share() {
    let host = Host::shared();
    let (net, old, new, side) = (
        host.name("net"),
        host.name("web"),
        host.name("web"),
        host.name("side"),
    );
    host.docker(&format!("network create {net}"));
    host.docker(&format!(
        "run -d --name {old} --hostname front --network {net} --network-alias front \
         --network-alias Blue veer-test sleep 1000"
    ));
    host.docker(&format!(
        "run -d --name {side} --net container:{old} veer-test sleep 1000"
    ));
    let following = host.follow();
    let seen = following.ready(&old);

    host.docker(&format!("rename {old} {new}"));

    let renamed = following.ready(&new);
    assert_eq!((&seen.id, &renamed.sharers[..]), (&renamed.id, &[side][..]));
    assert_eq!(
        renamed.attachments[0].aliases,
        ["Blue"],
        "names of its own are no aliases"
    );
    assert_eq!(renamed.hostname, "front");
}

#[test]
fn what_is_not_served_is_told() {
    let host = Host::shared();
    let (macvlan, with_host, without, on_default) = (
        host.name("macvlan"),
        host.name("host"),
        host.name("none"),
        host.name("default"),
    );
    let parent = host.uplink("mac");
    host.docker(&format!(
        "network create -d macvlan -o parent={parent} {macvlan}"
    ));
    host.docker(&format!(
        "run -d --name {with_host} --net host veer-test sleep 1000"
    ));
    host.docker(&format!(
        "run -d --name {without} --net none veer-test sleep 1000"
    ));
    host.docker(&format!("run -d --name {on_default} veer-test sleep 1000"));

    let following = host.follow();

    for (subject, word) in [
        (format!("network {macvlan}"), "macvlan"),
        (format!("container {with_host}"), "--net host"),
        (format!("container {without}"), "--net none"),
    ] {
        following.until(&subject, |seen| {
            let mut notices = seen.observed.notices.iter();
            notices
                .any(|notice| notice.subject == subject && notice.message.contains(word))
                .then_some(())
        });
    }
    let observed = following.last();
    for name in [&with_host, &without] {
        assert_eq!(container(&observed, name), None);
    }
    assert!(container(&observed, &on_default).is_some(), "for its ports");
}

#[test]
fn what_is_there_already_is_complete_in_the_first_observation() {
    let host = Host::shared();
    let (net, name) = (host.name("net"), host.name("web"));
    host.docker(&format!("network create {net}"));
    host.docker(&format!(
        "run -d --name {name} --network {net} veer-test sleep 1000"
    ));

    let following = host.follow();

    let first = following.until("the first", |one| Some(one.observed.clone()));
    assert!(
        container(&first, &name).is_some_and(|seen| is_complete(&seen)),
        "{first:#?}"
    );
}

#[test]
fn a_network_is_known_as_long_as_it_exists() {
    let host = Host::shared();
    let net = host.name("net");
    let following = host.follow();

    host.docker(&format!(
        "network create --label team=blue -o com.docker.network.bridge.name={net}br {net}"
    ));
    let seen = following.until("it is there", |one| network(&one.observed, &net).cloned());
    host.docker(&format!("network rm {net}"));
    let moment = SystemTime::now();
    following.after(moment, "it is gone", |one| {
        network(&one.observed, &net).is_none().then_some(())
    });

    assert_eq!(
        (seen.bridge, seen.labels["team"].as_str()),
        (format!("{net}br"), "blue")
    );
}

#[test]
fn an_interface_that_goes_is_believed_gone_whatever_the_engine_says() {
    let host = Host::shared();
    let (net, name) = (host.name("net"), host.name("web"));
    host.docker(&format!("network create {net}"));
    host.docker(&format!(
        "run -d --name {name} --network {net} veer-test sleep 1000"
    ));
    let following = host.follow();
    let seen = following.ready(&name);
    let link = seen.attachments[0].link.as_ref().unwrap();

    let moment = SystemTime::now();
    let mut links = host.namespace.links().unwrap();
    links.remove(link.host_ifindex).unwrap();

    following.after(moment, "it has no interface", |seen| {
        let attachment = attachment(&seen.observed, &name, &net)?;
        attachment.link.is_none().then_some(())
    });
}

/// Counted from the Engine's event. Not asserted tightly: the machine that runs tests runs other
/// things too.
#[test]
fn a_connection_at_runtime_is_published_within_moments_of_its_event() {
    let host = Host::shared();
    let (one, two, name) = (host.name("net"), host.name("net"), host.name("web"));
    host.docker(&format!("network create {one}"));
    host.docker(&format!("network create {two}"));
    host.docker(&format!(
        "run -d --name {name} --network {one} veer-test sleep 1000"
    ));
    let following = host.follow();
    following.ready(&name);

    let mut delays = Vec::new();
    for _ in 0..20 {
        let moment = SystemTime::now();
        host.docker(&format!("network connect {two} {name}"));
        // Of no cause where a look for another reason has found it before its event came.
        delays.extend(following.after(moment, "it is connected", |seen| {
            attachment(&seen.observed, &name, &two)?.link.as_ref()?;
            let since = |caused_at| seen.at.duration_since(caused_at).ok();
            Some(seen.caused_at.and_then(since))
        }));
        let moment = SystemTime::now();
        host.docker(&format!("network disconnect {two} {name}"));
        following.after(moment, "it is disconnected", |seen| {
            attachment(&seen.observed, &name, &two)
                .is_none()
                .then_some(())
        });
    }

    delays.sort();
    println!("from the event to the observation: {delays:?}");
    assert!(delays.len() > 10, "most are found by their events");
    assert!(
        delays[delays.len() / 2] < Duration::from_millis(100),
        "{delays:?}"
    );
}
