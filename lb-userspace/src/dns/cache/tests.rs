use super::*;
use crate::dns::query::Transport;

const TTL: u8 = 100;

/// Id 7, these flags, and the question for the type and the name of one label.
fn query(flags: [u8; 2], label: &str, kind: u8) -> Query {
    Query::parse(&bytes(flags, label, kind, 0), Transport::Udp).expect("well-formed")
}

fn bytes(flags: [u8; 2], label: &str, kind: u8, answers: u8) -> Vec<u8> {
    let mut bytes = vec![0, 7, flags[0], flags[1], 0, 1, 0, answers, 0, 0, 0, 0];
    bytes.push(label.len() as u8);
    bytes.extend(label.as_bytes());
    bytes.extend([0, 0, kind, 0, 1]);
    bytes
}

fn plain(label: &str) -> Query {
    query([1, 0], label, 1)
}

fn answer() -> Vec<u8> {
    let mut bytes = bytes([0x81, 0x80], "name", 1, 1);
    bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, TTL, 0, 4, 192, 0, 2, 1]);
    bytes
}

fn key(query: &Query) -> Key {
    Key::of(query, Source::Host(0)).expect("a question that is kept")
}

/// A cache with the answer for `name`, kept at the moment that is given back.
fn cache() -> (Cache, Instant) {
    let cache = Cache::new(2, Duration::from_secs(50), None);
    let now = Instant::now();
    cache.put(key(&plain("name")), &plain("name"), &answer(), now);
    (cache, now)
}

fn after(seconds: u64) -> (Cache, Kept) {
    let (cache, now) = cache();
    let query = plain("name");
    let kept = cache.get(&key(&query), &query, now + Duration::from_secs(seconds));
    (cache, kept)
}

/// Seconds that the only record of a reply lives for.
fn ttl(reply: &[u8]) -> u8 {
    reply[reply.len() - 7]
}

#[test]
fn an_answer_is_given_with_the_time_that_is_left_and_the_clients_case() {
    let (cache, now) = cache();
    let shouted = plain("NAME");

    let kept = cache.get(
        &key(&shouted),
        &shouted,
        now + Duration::from_millis(39_500),
    );

    let Kept::Fresh { reply, runs_out } = kept else {
        panic!("fresh: {kept:?}");
    };
    assert_eq!((ttl(&reply), runs_out), (60, false));
    assert_eq!(&reply[13..17], b"NAME");
}

#[test]
fn one_client_asks_again_shortly_before_an_answer_runs_out() {
    let (cache, kept) = after(91);
    assert!(matches!(kept, Kept::Fresh { runs_out: true, .. }));

    let query = plain("name");
    let now = Instant::now() + Duration::from_secs(91);
    cache.tried(&key(&query), now);

    let kept = cache.get(&key(&query), &query, now);
    assert!(matches!(
        kept,
        Kept::Fresh {
            runs_out: false,
            ..
        }
    ));
}

#[test]
fn an_answer_that_ran_out_is_there_for_a_while_in_case_nobody_answers() {
    let (_, kept) = after(TTL.into());
    let Kept::Stale { reply, just_tried } = kept else {
        panic!("stale: {kept:?}");
    };
    assert_eq!((ttl(&reply), just_tried), (30, false));

    assert_eq!(after(u64::from(TTL) + 50).1, Kept::Nothing);
}

#[test]
fn flags_types_and_sources_are_told_apart() {
    let (cache, now) = cache();
    let with_ad = query([1, 0x20], "name", 1);
    let other_type = query([1, 0], "name", 28);
    let own = Key::of(&plain("name"), Source::Own(1)).expect("kept");

    for (key, query) in [
        (key(&with_ad), with_ad),
        (key(&other_type), other_type),
        (own, plain("name")),
        (key(&plain("other")), plain("other")),
    ] {
        assert_eq!(cache.get(&key, &query, now), Kept::Nothing);
    }
}

#[test]
fn questions_that_are_about_one_exchange_are_not_kept() {
    for query in [
        query([0, 0], "name", 1),
        query([1, 0x10], "name", 1),
        query([1, 0], "name", 255),
        query([1, 0], "name", 252),
    ] {
        assert_eq!(Key::of(&query, Source::Host(0)), None);
    }
}

#[test]
fn the_answer_that_was_asked_for_longest_ago_makes_room() {
    let (cache, now) = cache();
    for label in ["more", "most"] {
        let query = plain(label);
        let mut message = answer();
        message[13..17].copy_from_slice(label.as_bytes());
        cache.put(key(&query), &query, &message, now);
    }

    let query = plain("name");
    assert_eq!(cache.len(), 2);
    assert_eq!(cache.get(&key(&query), &query, now), Kept::Nothing);
}

#[test]
fn nothing_is_kept_without_room() {
    let cache = Cache::new(0, Duration::ZERO, None);
    let query = plain("name");
    let now = Instant::now();

    cache.put(key(&query), &query, &answer(), now);

    assert_eq!(cache.get(&key(&query), &query, now), Kept::Nothing);
}
