use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode};

use super::super::Records;
use super::super::query::Transport;
use super::*;
use crate::dns::Rules;
use crate::model::{
    Attachment, Container, ContainerId, Elsewhere, EndpointMode, Group, Member, MemberState, Netns,
    Network, NetworkId, Observed, Policy, PortRange, Protocol, Publishing, RunState,
};

const COOKIE: u64 = 7;

/// `web` with both families, and the alias `many` of `members` Members, IPv4 only, in dnsrr mode.
fn records(members: u8) -> Records {
    records_under(&Rules::default(), members)
}

fn records_under(rules: &Rules, members: u8) -> Records {
    let network = NetworkId("front".to_string());
    let attachment = Attachment {
        network: network.clone(),
        endpoint_id: "e".to_string(),
        v4: Some(Ipv4Addr::new(10, 0, 0, 1)),
        v6: Some(Ipv6Addr::LOCALHOST),
        aliases: Vec::new(),
        linked: Vec::new(),
        link: None,
    };
    let web = Container {
        id: ContainerId("0123456789abcdef".to_string()),
        name: "web".to_string(),
        hostname: "web".to_string(),
        state: RunState::Running,
        labels: Default::default(),
        netns: Some(Netns {
            path: "/dev/null".into(),
            cookie: COOKIE,
        }),
        sharers: Vec::new(),
        dns_servers: Vec::new(),
        elsewhere: Elsewhere::Nothing,
        publishing: Publishing {
            exposed: vec![PortRange {
                protocol: Protocol::Tcp,
                first: 8080,
                count: 2,
            }],
            ..Publishing::default()
        },
        attachments: vec![attachment],
    };
    let member = |n: u8| Member {
        container: ContainerId(n.to_string()),
        name: n.to_string(),
        endpoint: n.into(),
        v4: Some(Ipv4Addr::new(10, 0, 1, n)),
        v6: None,
        weight: 1,
        state: MemberState::Active,
    };
    let many = Group {
        network: network.clone(),
        network_name: "front".to_string(),
        zone: lb_common::Zone::default(),
        alias: "many".to_string(),
        policy: Policy {
            endpoint_mode: EndpointMode::Dnsrr,
            ..Policy::default()
        },
        vip_v4: None,
        vip_v6: None,
        frontend_v4: None,
        frontend_v6: None,
        members: (0..members).map(member).collect(),
    };
    let front = Network {
        id: network,
        name: "front".to_string(),
        bridge: "br".to_string(),
        subnets: Vec::new(),
        internal: false,
        labels: Default::default(),
        policy: Default::default(),
    };
    let observed = Observed {
        networks: vec![front],
        containers: vec![web],
        ..Observed::default()
    };
    Records::build(&observed, &[many], rules)
}

fn ask(name: &str, kind: RecordType, edns: Option<Edns>, transport: Transport) -> Query {
    let name = Name::from_ascii(name).expect("a name");
    ask_for(hickory_proto::op::Query::query(name, kind), edns, transport)
}

fn ask_for(question: hickory_proto::op::Query, edns: Option<Edns>, transport: Transport) -> Query {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.edns = edns;
    message.add_query(question);
    let bytes = message.to_vec().expect("an encodable message");
    Query::parse(&bytes, transport).expect("well-formed")
}

fn udp(name: &str, kind: RecordType) -> Query {
    ask(name, kind, None, Transport::Udp)
}

/// The reply to `query`; `None` if it is forwarded.
fn answer(records: &Records, query: &Query) -> Option<Message> {
    match decide(query, records.view(COOKIE)) {
        Decision::Reply(bytes, _) => {
            assert!(bytes.len() <= query.limit().into());
            Some(Message::from_vec(&bytes).expect("our own reply is well-formed"))
        }
        Decision::Forward(_) => None,
    }
}

fn addresses(reply: &Message) -> Vec<IpAddr> {
    reply
        .answers
        .iter()
        .filter_map(|record| record.data.ip_addr())
        .collect()
}

#[test]
fn a_known_name_is_answered_with_the_clients_case_and_the_configured_ttl() {
    let reply = answer(&records(0), &udp("WeB.front.", RecordType::A)).expect("ours");

    assert_eq!(addresses(&reply), [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))]);
    let record = &reply.answers[0];
    assert_eq!(
        (record.name.to_ascii().as_str(), record.ttl),
        ("WeB.front.", 5)
    );
    assert_eq!(reply.queries[0].name().to_ascii(), "WeB.front.");
    assert_eq!((reply.id, reply.message_type), (77, MessageType::Response));
    assert!(reply.recursion_desired && reply.recursion_available && !reply.authoritative);
    assert!(reply.edns.is_none());
}

#[test]
fn each_type_gets_its_family_and_any_gets_both() {
    let records = records(2);
    let count = |name, kind| {
        let reply = answer(&records, &udp(name, kind)).expect("ours");
        assert_eq!(reply.response_code, ResponseCode::NoError);
        reply.answers.len()
    };

    assert_eq!(count("web.", RecordType::A), 1);
    assert_eq!(count("web.", RecordType::AAAA), 1);
    assert_eq!(count("web.", RecordType::ANY), 2);
    assert_eq!(count("many.", RecordType::A), 2);
    assert_eq!(
        count("many.", RecordType::AAAA),
        0,
        "known in the other family: NODATA"
    );
}

#[test]
fn other_types_of_a_known_name_are_empty_and_stay_here() {
    let records = records(0);

    for kind in [
        RecordType::MX,
        RecordType::TXT,
        RecordType::HTTPS,
        RecordType::SOA,
    ] {
        let reply = answer(&records, &udp("web.", kind)).expect("ours");
        assert_eq!(
            (reply.response_code, reply.answers.len()),
            (ResponseCode::NoError, 0)
        );
    }
}

#[test]
fn an_address_is_answered_with_its_name() {
    let records = records(0);
    let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.";

    for name in ["1.0.0.10.in-addr.arpa.", "1.0.0.10.IN-ADDR.arpa.", v6] {
        let reply = answer(&records, &udp(name, RecordType::PTR)).expect("ours");
        assert_eq!(reply.answers[0].data.to_string(), "web.front.", "{name}");
    }
}

#[test]
fn strangers_names_are_forwarded_whatever_their_type() {
    let records = records(0);

    for (name, kind) in [
        ("example.com.", RecordType::A),
        ("unknown.", RecordType::AAAA),
        (".", RecordType::NS),
        ("254.0.0.10.in-addr.arpa.", RecordType::PTR),
        ("0.0.10.in-addr.arpa.", RecordType::PTR),
        ("_http._tcp.other.", RecordType::SRV),
        ("we\\.b.front.", RecordType::A),
    ] {
        assert_eq!(answer(&records, &udp(name, kind)), None, "{name}");
    }
}

#[test]
fn names_that_are_no_text_are_forwarded() {
    let name = Name::from_labels([&b"we\xffb"[..], b"front"]).expect("a name");
    let question = hickory_proto::op::Query::query(name, RecordType::A);

    let query = ask_for(question, None, Transport::Udp);

    assert_eq!(answer(&records(0), &query), None);
}

#[test]
fn other_classes_are_forwarded() {
    let name = Name::from_ascii("web.").expect("a name");
    let mut question = hickory_proto::op::Query::query(name, RecordType::TXT);
    question.set_query_class(DNSClass::CH);

    let query = ask_for(question, None, Transport::Udp);

    assert_eq!(answer(&records(0), &query), None);
}

#[test]
fn an_asker_without_records_is_told_to_try_again() {
    let query = udp("web.", RecordType::A);

    let Decision::Reply(bytes, _) = decide(&query, records(0).view(COOKIE + 1)) else {
        panic!("a name that may be ours is not forwarded");
    };

    let reply = Message::from_vec(&bytes).expect("our own reply is well-formed");
    assert_eq!(reply.response_code, ResponseCode::ServFail);
}

#[test]
fn a_long_answer_is_cut_for_udp_and_whole_for_tcp_or_a_large_edns_size() {
    let records = records(100);
    let with_edns = |size| {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        ask("many.", RecordType::A, Some(edns), Transport::Udp)
    };

    let cut = answer(&records, &udp("many.", RecordType::A)).expect("ours");
    let larger = answer(&records, &with_edns(1232)).expect("ours");
    let whole = answer(&records, &with_edns(4096)).expect("ours");
    let over_tcp = ask("many.", RecordType::A, None, Transport::Tcp);
    let over_tcp = answer(&records, &over_tcp).expect("ours");

    assert_eq!((cut.truncation, cut.answers.len()), (true, 30));
    assert_eq!((larger.truncation, larger.answers.len()), (true, 75));
    assert_eq!((whole.truncation, whole.answers.len()), (false, 100));
    assert_eq!((over_tcp.truncation, over_tcp.answers.len()), (false, 100));
    assert!(whole.edns.is_some() && over_tcp.edns.is_none());
}

#[test]
fn members_come_in_random_order() {
    let records = records(8);
    let first = || {
        let reply = answer(&records, &udp("many.", RecordType::A)).expect("ours");
        addresses(&reply)[0]
    };

    let seen: std::collections::BTreeSet<IpAddr> = (0..400).map(|_| first()).collect();

    // That one of eight stays away 400 times has a chance of 8 * (7/8)^400 < 1e-22.
    assert_eq!(seen.len(), 8);
}

#[test]
fn an_unknown_version_of_edns_is_named_as_the_error() {
    let mut edns = Edns::new();
    edns.set_version(1);

    let query = ask("web.", RecordType::A, Some(edns), Transport::Udp);
    let reply = answer(&records(0), &query).expect("ours");

    // BADVERS; the decoder takes it for BADSIG, which has the same number.
    assert_eq!(u16::from(reply.response_code), 16);
    assert_eq!(reply.answers.len(), 0);
}

#[test]
fn questions_about_our_names_are_told_outside_only_if_the_operator_says_so() {
    let rules = Rules {
        leak: true,
        ..Rules::default()
    };
    let records = records_under(&rules, 0);
    let is_ours = |kind| answer(&records, &udp("web.", kind)).is_some();

    assert!(!is_ours(RecordType::TXT) && !is_ours(RecordType::HTTPS));
    assert!(is_ours(RecordType::A) && is_ours(RecordType::AAAA));
    assert!(is_ours(RecordType::MX), "so that mailers use the address");
}

#[test]
fn unknown_names_without_a_dot_stay_here_if_the_operator_says_so() {
    let rules = Rules {
        single_labels: false,
        ..Rules::default()
    };
    let records = records_under(&rules, 0);

    for kind in [RecordType::A, RecordType::AAAA] {
        let reply = answer(&records, &udp("wpad.", kind)).expect("not forwarded");
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert_eq!(reply.answers, []);
    }
    for query in [udp("wpad.", RecordType::MX), udp("a.b.", RecordType::A)] {
        assert_eq!(answer(&records, &query), None);
    }
}

#[test]
fn a_known_port_of_a_name_is_a_service() {
    let records = records(0);
    let asked = udp("_8081._tcp.web.front.", RecordType::SRV);

    let reply = answer(&records, &asked).expect("ours");

    let RData::SRV(service) = &reply.answers[0].data else {
        panic!("a service: {reply:?}");
    };
    assert_eq!(
        (service.port, service.target.to_ascii()),
        (8081, "web.front.".to_string())
    );
    let unknown = answer(&records, &udp("_8082._tcp.web.", RecordType::SRV));
    assert_eq!(unknown.expect("ours").answers, []);
    let stranger = answer(&records, &udp("_8081._tcp.unknown.", RecordType::SRV));
    assert_eq!(stranger, None);
}

#[test]
fn addresses_are_written_as_the_library_would_encode_them() {
    let v4 = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let edns = |wants_signatures| {
        let mut edns = Edns::new();
        edns.set_dnssec_ok(wants_signatures);
        Some(edns)
    };

    for edns in [None, edns(false), edns(true)] {
        for (name, kind, addresses) in [
            ("web.", RecordType::A, &[v4][..]),
            ("WeB.front.", RecordType::AAAA, &[v6, v6]),
            ("web.", RecordType::ANY, &[v6, v4]),
            ("web.", RecordType::MX, &[]),
        ] {
            let query = ask(name, kind, edns.clone(), Transport::Udp);

            let written = written(&query, addresses, 5).expect("short enough");

            let records = addresses.iter().copied().map(data);
            assert_eq!(written, encoded(&query, records, 5), "{name} {kind}");
        }
    }
}

#[test]
fn flags_of_the_query_are_repeated_or_not_however_the_reply_is_made() {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii("web.").expect("a name");
    message.add_query(hickory_proto::op::Query::query(name, RecordType::A));
    message.metadata.checking_disabled = true;
    message.metadata.authentic_data = true;
    let bytes = message.to_vec().expect("an encodable message");
    let query = Query::parse(&bytes, Transport::Udp).expect("well-formed");
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);

    let written = written(&query, &[address], 5).expect("short enough");

    assert_eq!(written, encoded(&query, [data(address)], 5));
    // QR; RA and CD.
    assert_eq!(written[2..4], [0x80, 0x90]);
}
