use super::*;
use crate::dns::query::Transport;

/// A query for the addresses of `a.b`; with EDNS and DO if `edns`.
fn query(edns: bool) -> Query {
    let mut bytes = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns.into()];
    bytes.extend(b"\x01a\x01b\0\0\x01\0\x01");
    if edns {
        bytes.extend([0, 0, 41, 16, 0, 0, 0, 0x80, 0, 0, 0]);
    }
    Query::parse(&bytes, Transport::Udp).expect("well-formed")
}

/// A reply with these counts and records.
fn reply(code: u8, counts: [u8; 3], records: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![9, 9, 0x81, 0x80 | code, 0, 1];
    counts.iter().for_each(|count| bytes.extend([0, *count]));
    bytes.extend(b"\x01a\x01b\0\0\x01\0\x01");
    records.iter().for_each(|record| bytes.extend(*record));
    bytes
}

fn record(kind: u8, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12, 0, kind, 0, 1];
    record.extend(ttl.to_be_bytes());
    record.extend([0, data.len() as u8]);
    record.extend(data);
    record
}

fn a(ttl: u32) -> Vec<u8> {
    record(1, ttl, &[192, 0, 2, 1])
}

fn soa(ttl: u32, minimum: u32) -> Vec<u8> {
    let mut data = vec![0; 2 + 16];
    data.extend(minimum.to_be_bytes());
    record(6, ttl, &data)
}

const OWN_OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0];

fn body(message: &[u8]) -> Option<Body> {
    Body::of(message, query(false).question_end())
}

#[test]
fn records_are_given_again_with_the_time_that_is_left_in_each() {
    let message = reply(0, [2, 0, 0], &[&a(60), &a(300)]);

    let body = body(&message).expect("kept");

    assert_eq!(body.ttl(), 60, "the shortest");
    let mut expected = reply(0, [2, 0, 0], &[&a(7), &a(7)]);
    expected[..2].copy_from_slice(&[1, 2]);
    assert_eq!(body.reply(&query(false), 7), expected);
}

#[test]
fn the_servers_edns_stays_with_it_and_the_client_gets_ours_if_it_speaks_edns() {
    let theirs = [0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 4, 0, 3, 0, 0];
    let message = reply(0, [1, 0, 1], &[&a(60), &theirs]);

    let body = body(&message).expect("kept");

    let plain = body.reply(&query(false), 60);
    assert_eq!(plain[2..], reply(0, [1, 0, 0], &[&a(60)])[2..]);
    let with_edns = body.reply(&query(true), 60);
    assert_eq!(
        with_edns[2..],
        reply(0, [1, 0, 1], &[&a(60), &OWN_OPT])[2..]
    );
}

#[test]
fn absence_is_kept_as_long_as_the_zone_says() {
    let absent = reply(3, [0, 1, 0], &[&soa(900, 60)]);
    let empty = reply(0, [0, 1, 0], &[&soa(30, 60)]);
    let long = reply(3, [0, 1, 0], &[&soa(90_000, 90_000)]);

    let ttl = |message: &[u8]| body(message).map(|body| body.ttl());

    assert_eq!(ttl(&absent), Some(60));
    assert_eq!(ttl(&empty), Some(30));
    assert_eq!(ttl(&long), Some(3_600));
    assert_eq!(ttl(&reply(3, [0, 0, 0], &[])), None, "without a zone");
    assert_eq!(ttl(&reply(0, [0, 0, 0], &[])), None, "without a zone");
}

#[test]
fn what_holds_for_one_exchange_only_is_not_kept() {
    let mut cut = reply(0, [1, 0, 0], &[&a(60)]);
    cut[2] |= 2;
    let signed = reply(0, [1, 0, 1], &[&a(60), &record(250, 0, &[])]);

    for message in [
        cut,
        signed,
        reply(2, [1, 0, 0], &[&a(60)]),
        reply(0, [1, 0, 0], &[&a(0)]),
        reply(0, [1, 0, 0], &[&a(u32::MAX)]),
        reply(0, [2, 0, 0], &[&a(60)]),
        reply(0, [1, 0, 0], &[&a(60), &[0]]),
        reply(0, [255, 255, 255], &[&a(60)]),
    ] {
        assert_eq!(body(&message), None, "{message:?}");
    }
}

mod any_bytes {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn of_a_reply_never_stop_the_server(
            counts: [u8; 3],
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            if let Some(body) = body(&reply(0, counts, &[&bytes])) {
                let reply = body.reply(&query(true), 1);
                prop_assert!(reply.len() <= 512);
            }
        }

        #[test]
        fn in_a_real_reply_never_stop_the_server(at in 21usize..70, byte: u8) {
            let mut message = reply(0, [1, 1, 1], &[&a(60), &soa(60, 60), &OWN_OPT]);
            let length = message.len();
            message[at % length] = byte;

            if let Some(body) = body(&message) {
                prop_assert!(body.ttl() > 0);
                let _ = body.reply(&query(false), 1);
            }
        }
    }
}
