use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use tutti_plan::names::{NameServer, NamesView};

fn names(addresses: u32) -> Names {
    let servers = [NameServer {
        name: "ns1.apps.test".into(),
        addresses: vec!["192.0.2.53".parse().unwrap(), "2001:db8::53".parse().unwrap()],
    }];
    let hosts = ["web.example.com.apps.test".to_owned()].into();
    let first = u32::from(Ipv4Addr::new(192, 0, 2, 1));
    let addresses: Vec<IpAddr> = (0..addresses).map(|n| IpAddr::V4((first + n).into())).collect();
    let zones = ["apps.test".to_owned()];
    Names::new(NamesView { zones: &zones, hosts: &hosts, servers: &servers, addresses: &addresses })
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.edns = Some(edns);
    message
}

fn told(asked: &Message, names: &Names, way: Way) -> (Message, usize) {
    let bytes = respond(&asked.to_vec().unwrap(), Some(names), way).unwrap();
    (Message::from_vec(&bytes).unwrap(), bytes.len())
}

fn ask(name: &str, kind: RecordType) -> Message {
    told(&question(name, kind), &names(2), Way::Udp).0
}

#[test]
fn what_is_there_is_told_with_authority_and_in_the_askers_letters() {
    let answer = ask("wEb.Example.com.APPS.test.", RecordType::A);
    assert!(answer.metadata.authoritative && !answer.metadata.recursion_available);
    assert!(answer.metadata.recursion_desired && !answer.metadata.truncation);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert_eq!(answer.queries[0].name.to_ascii(), "wEb.Example.com.APPS.test.");
    let addresses: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    assert_eq!(addresses, ["192.0.2.1", "192.0.2.2"]);
    assert!(answer.answers.iter().all(|record| record.ttl == TTL_SECONDS));
    assert!(answer.edns.is_none(), "who sends no OPT gets none");
}

#[test]
fn what_is_not_there_comes_with_the_start_of_its_zone() {
    for (name, kind, code) in [
        ("no.example.com.apps.test.", RecordType::A, ResponseCode::NXDomain),
        ("web.example.com.apps.test.", RecordType::TXT, ResponseCode::NoError),
        ("web.example.com.apps.test.", RecordType::AAAA, ResponseCode::NoError),
        ("com.apps.test.", RecordType::A, ResponseCode::NoError),
        ("a\\.b.apps.test.", RecordType::A, ResponseCode::NXDomain),
    ] {
        let answer = ask(name, kind);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (code, 0), "{name} {kind}");
        let [start] = answer.authorities.as_slice() else { panic!("{name} {kind}: {answer}") };
        assert_eq!((start.record_type(), start.name.to_ascii()), (RecordType::SOA, "apps.test.".into()));
        // The lesser of the two says how long it is remembered that there is nothing.
        let RData::SOA(soa) = &start.data else { panic!("{start}") };
        assert_eq!((start.ttl, soa.minimum), (TTL_SECONDS, TTL_SECONDS));
    }
}

#[test]
fn the_apex_tells_its_start_and_its_servers_with_their_addresses() {
    let start = ask("apps.test.", RecordType::SOA);
    assert_eq!(start.answers.len(), 1);
    assert!(start.answers[0].data.to_string().starts_with("ns1.apps.test. hostmaster.apps.test. 1 "));
    let servers = ask("apps.test.", RecordType::NS);
    assert_eq!(servers.answers[0].data.to_string(), "ns1.apps.test.");
    assert_eq!(servers.additionals.len(), 2);
}

#[test]
fn what_is_not_for_us_is_refused_without_authority() {
    for (name, kind) in [
        ("example.org.", RecordType::A),
        (".", RecordType::NS),
        ("apps.test.", RecordType::AXFR),
        ("apps.test.", RecordType::IXFR),
    ] {
        let answer = ask(name, kind);
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name} {kind}");
        assert!(!answer.metadata.authoritative && answer.authorities.is_empty());
    }
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(told(&chaos, &names(1), Way::Udp).0.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn what_is_wrong_is_said_to_be_and_answers_are_never_answered() {
    let mut update = question("apps.test.", RecordType::SOA);
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(told(&update, &names(1), Way::Udp).0.metadata.response_code, ResponseCode::NotImp);
    let mut two = question("apps.test.", RecordType::A);
    two.queries.push(Query::query(Name::from_ascii("apps.test.").unwrap(), RecordType::AAAA));
    assert_eq!(told(&two, &names(1), Way::Udp).0.metadata.response_code, ResponseCode::FormErr);
    let none = Message::new(7, MessageType::Query, OpCode::Query);
    assert_eq!(told(&none, &names(1), Way::Tcp).0.metadata.response_code, ResponseCode::FormErr);
    let mut later = with_edns(question("apps.test.", RecordType::A), 1232);
    later.edns.as_mut().unwrap().set_version(1);
    let (answer, _) = told(&later, &names(1), Way::Udp);
    // The number has two names, of which the library reads it as the other.
    assert_eq!(u16::from(answer.metadata.response_code), 16);
    assert_eq!(answer.edns.unwrap().version(), 0);

    let mut cut = question("apps.test.", RecordType::A).to_vec().unwrap();
    cut.truncate(cut.len() - 2);
    let answer = Message::from_vec(&respond(&cut, None, Way::Udp).unwrap()).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    assert_eq!(respond(&cut[..11], None, Way::Udp), None);
    let mut reply = question("apps.test.", RecordType::A);
    reply.metadata.message_type = MessageType::Response;
    assert_eq!(respond(&reply.to_vec().unwrap(), None, Way::Udp), None);
}

#[test]
fn before_anything_is_known_the_asker_is_sent_to_another_server() {
    let asked = question("apps.test.", RecordType::A).to_vec().unwrap();
    let answer = Message::from_vec(&respond(&asked, None, Way::Udp).unwrap()).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn over_udp_no_more_is_sent_than_the_asker_can_take_and_over_tcp_all() {
    let (many, asked) = (names(100), question("web.example.com.apps.test.", RecordType::A));
    for (asked, room) in [
        (asked.clone(), 512),
        (with_edns(asked.clone(), 100), 512),
        (with_edns(asked.clone(), 900), 900),
        (with_edns(asked.clone(), 65_000), 1232),
    ] {
        let (answer, length) = told(&asked, &many, Way::Udp);
        assert!(answer.metadata.truncation && answer.answers.is_empty(), "{room}");
        assert!(length <= room);
        assert_eq!(answer.edns.is_some(), asked.edns.is_some());
        assert_eq!(told(&asked, &many, Way::Tcp).0.answers.len(), 100);
    }
    let (answer, length) = told(&with_edns(asked.clone(), 1232), &names(60), Way::Udp);
    assert!(!answer.metadata.truncation && length > 900);
    assert_eq!(answer.answers.len(), 60);
}

#[test]
fn who_asks_too_much_is_sent_as_many_bytes_as_it_sent() {
    for asked in
        [question("apps.test.", RecordType::NS), with_edns(question("no.apps.test.", RecordType::A), 4096)]
    {
        let (answer, length) = told(&asked, &names(50), Way::UdpBrief);
        assert!(answer.metadata.truncation && answer.answers.is_empty() && answer.authorities.is_empty());
        assert_eq!(length, asked.to_vec().unwrap().len());
    }
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer_that_can_be_read_or_none(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for way in [Way::Udp, Way::UdpBrief, Way::Tcp] {
            if let Some(answer) = respond(&bytes, Some(&names(3)), way) {
                let answer = Message::from_vec(&answer).unwrap();
                prop_assert_eq!(answer.metadata.id, u16::from_be_bytes([bytes[0], bytes[1]]));
                prop_assert_eq!(answer.metadata.message_type, MessageType::Response);
            }
        }
    }

    #[test]
    fn a_question_with_any_change_is_answered_within_its_room(at in 0usize..60, to in any::<u8>(), payload in any::<u16>()) {
        let mut bytes = with_edns(question("web.example.com.apps.test.", RecordType::A), payload).to_vec().unwrap();
        let at = at % bytes.len();
        bytes[at] = to;
        if let Some(answer) = respond(&bytes, Some(&names(90)), Way::Udp) {
            prop_assert!(answer.len() <= usize::from(UDP_BYTES));
        }
    }
}
