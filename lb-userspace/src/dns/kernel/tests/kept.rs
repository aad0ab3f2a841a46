//! Answers of the host's name servers that the kernel has.

use super::*;
use crate::dns::message::Body;

/// A query for an address of the world, and what its servers said: a name for it, and an address.
fn asked_and_told() -> (Query, Body) {
    let asked = bytes("example.com", A, [1, 0], None);
    let mut told = asked.clone();
    (told[2], told[3], told[7]) = (0x81, 0x80, 2);
    told.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 1, 0, 0, 2, 0xc0, 12]);
    told.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 100, 0, 4, 192, 0, 2, 1]);
    let query = Query::parse(&asked, Transport::Udp).expect("well-formed");
    let body = Body::of(&told, query.question_end()).expect("kept");
    (query, body)
}

fn at(seconds: u64) -> u64 {
    (1_000 + seconds) * 1_000_000_000
}

#[test]
fn what_servers_said_the_kernel_says_with_the_daemons_bytes_until_it_is_about_to_run_out() {
    let (fake, _mirror, _) = published(&Rules::default());
    let kept = Kept::new(fake.clone());
    let (query, body) = asked_and_told();

    kept.put(0, &query, &body, 10);

    for edns in [None, Some(0)] {
        let asked = bytes("Example.com", A, [1, 0], edns);
        let asked = if edns.is_none() {
            asked.to_ascii_lowercase()
        } else {
            bytes("example.com", A, [1, 0], edns)
        };
        let query = Query::parse(&asked, Transport::Udp).expect("well-formed");
        let said = reply(&asked, &fake.memory(COOKIE), at(40));
        assert_eq!(said, Some(body.reply(&query, 60)));
    }
    let asked = bytes("example.com", A, [1, 0], None);
    assert!(reply(&asked, &fake.memory(COOKIE), at(89)).is_some());
    assert_eq!(reply(&asked, &fake.memory(COOKIE), at(90)), None);
}

#[test]
fn it_is_gone_with_the_servers_that_said_it() {
    let (fake, _mirror, _) = published(&Rules::default());
    let kept = Kept::new(fake.clone());
    let (query, body) = asked_and_told();
    let asked = bytes("example.com", A, [1, 0], None);
    kept.put(0, &query, &body, 10);

    kept.keep_only(0);
    assert!(reply(&asked, &fake.memory(COOKIE), at(0)).is_some());
    kept.keep_only(1);
    assert_eq!(reply(&asked, &fake.memory(COOKIE), at(0)), None);
}

#[test]
fn a_container_that_may_not_ask_the_hosts_servers_is_not_told_what_they_said() {
    let rules = Rules {
        single_labels: false,
        ..Rules::default()
    };
    let (fake, _mirror, _) = published(&rules);
    let kept = Kept::new(fake.clone());
    let (query, body) = asked_and_told();

    kept.put(0, &query, &body, 10);

    let asked = bytes("example.com", A, [1, 0], None);
    assert_eq!(reply(&asked, &fake.memory(COOKIE), at(0)), None);
}
