use super::*;

/// A query for `name` with this type; `tail` follows the question and must be counted by hand.
fn raw(name: &str, kind: u16, additionals: u8, tail: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd, 0x01, 0x10, 0, 1, 0, 0, 0, 0, 0, additionals];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(tail);
    bytes
}

/// An OPT record: payload size, version.
fn opt(size: u16, version: u8) -> Vec<u8> {
    let [high, low] = size.to_be_bytes();
    vec![0, 0, 41, high, low, 0, version, 0x80, 0, 0, 0]
}

fn refused(bytes: &[u8]) -> Option<[u8; 4]> {
    match Query::parse(bytes, Transport::Udp) {
        Err(Rejected::Refused(reply)) => {
            assert_eq!(reply.len(), HEADER, "a refusal has no question");
            reply.first_chunk().copied()
        }
        Err(Rejected::Ignored) | Ok(_) => None,
    }
}

#[test]
fn a_query_keeps_its_bytes_and_its_clients_case() {
    let bytes = raw("Web.Front", 1, 0, &[]);

    let query = Query::parse(&bytes, Transport::Udp).expect("well-formed");

    assert_eq!(query.question(), &bytes[HEADER..]);
    assert_eq!(query.name().to_ascii(), "Web.Front.");
    assert_eq!((query.kind(), query.class()), (RecordType::A, DNSClass::IN));
}

#[test]
fn too_short_messages_and_replies_are_not_answered() {
    let mut reply = raw("web", 1, 0, &[]);
    reply[2] |= 0x80;

    for bytes in [&[][..], &reply[..11], &reply] {
        let parsed = Query::parse(bytes, Transport::Udp);
        assert_eq!(parsed.err(), Some(Rejected::Ignored));
    }
}

#[test]
fn other_operations_are_not_implemented() {
    let mut update = raw("web", 1, 0, &[]);
    update[2] |= 5 << 3;

    let id_and_flags = [0xab, 0xcd, 0x80 | 5 << 3 | 1, 0x80 | 4];
    assert_eq!(refused(&update), Some(id_and_flags));
}

#[test]
fn what_cannot_be_read_is_a_format_error() {
    let good = raw("web", 1, 0, &[]);
    let mut no_question = good.clone();
    no_question[5] = 0;
    let mut many_questions = good.clone();
    many_questions[4] = 0xff;
    let mut with_answers = good.clone();
    with_answers[7] = 2;
    let mut long_label = good.clone();
    long_label[HEADER] = 64;
    let mut compressed = good.clone();
    compressed.splice(HEADER..HEADER + 5, [0xc0, 0x0c]);
    let mut missing_record = good.clone();
    missing_record[11] = 1;
    let two_opts = raw("web", 1, 2, &[opt(4096, 0), opt(4096, 0)].concat());
    let mut too_long = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    too_long.extend([[1, b'x']; 200].concat());
    too_long.extend([0, 0, 1, 0, 1]);

    let format_error = Some([0xab, 0xcd, 0x81, 0x81]);
    assert_eq!(refused(&no_question), format_error);
    assert_eq!(refused(&many_questions), format_error);
    assert_eq!(refused(&with_answers), format_error);
    assert_eq!(refused(&long_label), format_error);
    assert_eq!(refused(&compressed), format_error);
    assert_eq!(refused(&missing_record), format_error);
    assert_eq!(refused(&two_opts), format_error);
    assert_eq!(refused(&too_long).map(|header| header[3]), Some(0x81));
    for cut in HEADER..good.len() {
        assert_eq!(refused(&good[..cut]), format_error, "cut to {cut} bytes");
    }
}

#[test]
fn the_limit_is_the_transports_and_the_clients() {
    let limit =
        |bytes: &[u8], transport| Query::parse(bytes, transport).expect("well-formed").limit();
    let plain = raw("web", 1, 0, &[]);

    assert_eq!(limit(&plain, Transport::Udp), 512);
    assert_eq!(limit(&raw("web", 1, 1, &opt(100, 0)), Transport::Udp), 512);
    assert_eq!(
        limit(&raw("web", 1, 1, &opt(4096, 0)), Transport::Udp),
        4096
    );
    assert_eq!(limit(&plain, Transport::Tcp), 65535);
}

#[test]
fn a_failure_repeats_id_question_and_recursion_and_claims_no_authority() {
    let bytes = raw("WeB", 1, 0, &[]);
    let query = Query::parse(&bytes, Transport::Udp).expect("well-formed");

    let reply = query.failure(ResponseCode::ServFail);

    // QR and RD; RA, the client's CD, and the code.
    assert_eq!(reply[..4], [0xab, 0xcd, 0x81, 0x92]);
    assert_eq!(reply[4..HEADER], [0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(reply[HEADER..], bytes[HEADER..]);
}

#[test]
fn edns_is_answered_with_edns() {
    let query = Query::parse(&raw("web", 1, 1, &opt(4096, 0)), Transport::Udp);
    let reply = query.expect("well-formed").failure(ResponseCode::ServFail);

    let [.., kind, high, low, code, version, flags, _, _, _] = reply[..] else {
        panic!("an OPT record has eleven bytes");
    };
    assert_eq!((kind, u16::from_be_bytes([high, low])), (41, OWN_LIMIT));
    assert_eq!(
        (code, version, flags),
        (0, 0, 0x80),
        "the DO bit comes back"
    );
}

/// A reply to `asked` with this code, as a name server builds it.
fn reply_to(asked: &[u8], code: u8) -> Vec<u8> {
    let mut reply = asked.to_vec();
    reply[2] |= 0x80;
    reply[3] = 0x80 | code;
    reply
}

#[test]
fn a_name_servers_reply_gets_the_clients_id_and_case() {
    let bytes = raw("Example.com", 1, 0, &[]);
    let query = Query::parse(&bytes, Transport::Udp).expect("well-formed");
    let sent = sent(&query);
    let reply = reply_to(&sent.bytes().to_ascii_lowercase(), 3);

    let accepted = query.accept(&sent, reply);

    let expected = Came::Reply {
        message: reply_to(&bytes, 3),
        echoed: false,
    };
    assert_eq!(accepted, Some(expected));
}

#[test]
fn a_name_is_sent_in_another_case_and_nothing_else_of_it_changes() {
    let bytes = raw("ExamPle.com", 1, 0, &[]);
    let query = Query::parse(&bytes, Transport::Udp).expect("well-formed");
    let mut turn = 0;

    let sent = query.sent(0xabcd, || {
        turn += 1;
        turn % 2 == 0
    });

    assert_eq!(sent.bytes(), raw("EXaMPLe.CoM", 1, 0, &[]));
    let came = query.accept(&sent, reply_to(sent.bytes(), 0));
    assert!(matches!(came, Some(Came::Reply { echoed: true, .. })));
}

#[test]
fn what_does_not_match_the_query_is_not_its_reply() {
    let query = Query::parse(&raw("example.com", 1, 0, &[]), Transport::Udp).expect("well-formed");
    let sent = sent(&query);
    let asked = sent.bytes().to_vec();
    let mut other_id = reply_to(&asked, 0);
    other_id[1] ^= 1;
    let mut other_type = reply_to(&raw("example.com", 28, 0, &[]), 0);
    other_type[..2].copy_from_slice(&asked[..2]);

    assert_eq!(query.accept(&sent, other_id), None, "another id");
    assert_eq!(query.accept(&sent, asked.clone()), None, "a query");
    assert_eq!(query.accept(&sent, other_type), None, "another type");
    assert_eq!(
        query.accept(&sent, reply_to(&asked[..20], 0)),
        None,
        "cut off"
    );
    assert_eq!(query.accept(&sent, Vec::new()), None, "nothing");
}

#[test]
fn servers_that_cannot_or_will_not_answer_are_told_apart() {
    let query = Query::parse(&raw("example.com", 1, 0, &[]), Transport::Udp).expect("well-formed");
    let sent = sent(&query);
    let asked = sent.bytes();

    for message in [
        reply_to(asked, 2),
        reply_to(asked, 5),
        reply_to(&asked[..HEADER], 5),
    ] {
        assert_eq!(query.accept(&sent, message), Some(Came::Refusal));
    }
}

#[test]
fn a_name_servers_reply_that_is_too_long_is_cut_to_the_question() {
    let bytes = raw("example.com", 1, 0, &[]);
    let query = Query::parse(&bytes, Transport::Udp).expect("well-formed");
    let mut long = reply_to(&bytes, 0);
    long[7] = 40;
    long.resize(513, 0);

    let accepted = query.fit(long);

    assert_eq!(accepted.len(), bytes.len());
    assert_eq!(accepted[2] & 0x02, 0x02, "TC");
    assert_eq!(accepted[4..HEADER], [0, 1, 0, 0, 0, 0, 0, 0]);
}

fn sent(query: &Query) -> Sent {
    query.sent(7, || false)
}

mod any_bytes {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_stop_the_server(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Query::parse(&bytes, Transport::Udp);
        }

        #[test]
        fn from_a_name_server_never_stop_the_server(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let query = Query::parse(&raw("web", 1, 0, &[]), Transport::Udp);
            let query = query.expect("well-formed");
            let _ = query.accept(&sent(&query), bytes);
        }

        #[test]
        fn in_a_real_query_never_stop_the_server(at in 0usize..30, byte: u8, cut in 0usize..60) {
            let mut bytes = raw("some.name.front", 1, 1, &opt(1232, 0));
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(cut);

            if let Ok(query) = Query::parse(&bytes, Transport::Udp) {
                let reply = query.failure(ResponseCode::NXDomain);
                prop_assert_eq!(&reply[..2], &bytes[..2]);
                prop_assert!(reply.len() <= query.limit().into());
            }
        }
    }
}
