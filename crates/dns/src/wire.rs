//! One message: bytes become a question, and its answer bytes that fit where they go.
//!
//! It follows RFC 1035 for the form, RFC 2308 for what is not there, RFC 6891 for EDNS, RFC 8482 for questions for
//! everything, and says the same to whoever asks the same.

use hickory_proto::{
    op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{NS, SOA},
    },
    serialize::binary::{BinDecodable as _, BinDecoder},
};
use std::net::IpAddr;
use tutti_plan::names::{Answer, Asked, Data, Names};

/// How long an answer may be kept, in seconds: a lost ingress is out of every answer so much after it is out of ours.
/// Short, since names lead to what lives now; not nothing, since each question costs its asker a round trip.
pub(crate) const TTL_SECONDS: u32 = 5;
/// How long it may be kept who the name servers are, and where a zone starts: that changes with settings alone.
const ZONE_TTL_SECONDS: u32 = 300;
/// Largest answer over UDP, in bytes: what passes everywhere without being cut into fragments.
pub(crate) const UDP_BYTES: u16 = 1232;
/// What is answered over UDP to whoever does not say how much it can take (RFC 1035, 4.2.1).
const PLAIN_UDP_BYTES: u16 = 512;
/// Largest question, in bytes: many times what one with every option has.
pub(crate) const QUESTION_BYTES: usize = 4096;

/// What the start of a zone says. Nobody copies zones from here, so that its number never changes, and the times by which
/// copies are renewed are the customary ones (RIPE 203).
const SERIAL: u32 = 1;
const REFRESH_SECONDS: i32 = 86_400;
const RETRY_SECONDS: i32 = 7_200;
const EXPIRE_SECONDS: i32 = 3_600_000;
/// Whom to write to about a zone: `hostmaster` of it (RFC 2142).
const MAILBOX: &str = "hostmaster";

/// The way a message came, and its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Over UDP.
    Udp,
    /// Over UDP, from a network that asks too much: it is told to come over TCP.
    UdpBrief,
    /// Over TCP.
    Tcp,
}

/// What is said to this message. Nothing is said to what is no question, least of all to an answer.
pub(crate) fn respond(message: &[u8], names: Option<&Names>, way: Way) -> Option<Vec<u8>> {
    let header = Header::read(&mut BinDecoder::new(message)).ok()?;
    if header.metadata.message_type == MessageType::Response {
        return None;
    }
    let Ok(asked) = Message::from_vec(message) else {
        return refusal(header.metadata, ResponseCode::FormErr).to_vec().ok();
    };
    let mut answer = answer(&asked, names);
    if let Some(edns) = &asked.edns {
        let mut own = Edns::new();
        own.set_max_payload(UDP_BYTES).set_dnssec_ok(edns.flags().dnssec_ok);
        answer.edns = Some(own);
    }
    fit(answer, asked.edns.as_ref(), way)
}

/// The bytes of an answer; where they have no room, that there is more.
fn fit(mut answer: Message, asker: Option<&Edns>, way: Way) -> Option<Vec<u8>> {
    let room = match way {
        Way::Tcp => u16::MAX,
        Way::Udp | Way::UdpBrief => {
            asker.map_or(PLAIN_UDP_BYTES, |edns| edns.max_payload().clamp(PLAIN_UDP_BYTES, UDP_BYTES))
        }
    };
    if way != Way::UdpBrief {
        let whole = answer.to_vec().ok()?;
        if whole.len() <= usize::from(room) {
            return Some(whole);
        }
        // Addresses of name servers are a kindness, and missing ones no reason to ask again.
        if !answer.additionals.is_empty() {
            answer.additionals.clear();
            return fit(answer, asker, way);
        }
    }
    answer.answers.clear();
    answer.authorities.clear();
    answer.additionals.clear();
    answer.metadata.truncation = true;
    answer.to_vec().ok()
}

fn refusal(asked: Metadata, code: ResponseCode) -> Message {
    let mut message = Message::response(asked.id, asked.op_code);
    message.metadata = Metadata::response_from_request(&asked);
    message.metadata.response_code = code;
    message
}

fn answer(asked: &Message, names: Option<&Names>) -> Message {
    let refused = |code| {
        let mut message = refusal(asked.metadata, code);
        message.queries.clone_from(&asked.queries);
        message
    };
    if asked.metadata.op_code != OpCode::Query {
        return refused(ResponseCode::NotImp);
    }
    if asked.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refused(ResponseCode::BADVERS);
    }
    let [query] = asked.queries.as_slice() else { return refused(ResponseCode::FormErr) };
    let is_copied = matches!(query.query_type, RecordType::AXFR | RecordType::IXFR);
    if !matches!(query.query_class, DNSClass::IN | DNSClass::ANY) || is_copied {
        return refused(ResponseCode::Refused);
    }
    // Nobody has said yet what there is: another server may know.
    let Some(names) = names else { return refused(ResponseCode::ServFail) };
    let mut message = refused(ResponseCode::NoError);
    message.metadata.authoritative = true;
    match names.answer(&plain(&query.name), kind(query), asked.metadata.id) {
        Answer::Refused => return refused(ResponseCode::Refused),
        Answer::NoSuchName(zone) => {
            message.metadata.response_code = ResponseCode::NXDomain;
            message.authorities.extend(start(zone, names.primary(), TTL_SECONDS));
        }
        Answer::Nothing(zone) => message.authorities.extend(start(zone, names.primary(), TTL_SECONDS)),
        Answer::Found { records, beside } => {
            message.answers.extend(records.iter().filter_map(|data| record(&query.name, data)));
            let beside = beside.into_iter().filter_map(|(name, address)| {
                let name = Name::from_ascii(format!("{name}.")).ok()?;
                record(&name, &Data::Address(address))
            });
            message.additionals.extend(beside);
        }
    }
    message
}

/// The name as ours are written. What cannot stand in one of ours becomes a sign that does not either.
fn plain(name: &Name) -> String {
    let mut text = String::with_capacity(usize::from(name.num_labels()) * 8);
    for label in name {
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => char::from(*byte),
            b'A'..=b'Z' => char::from(byte.to_ascii_lowercase()),
            _ => '?',
        }));
    }
    text
}

fn kind(query: &Query) -> Asked {
    match query.query_type {
        RecordType::A => Asked::A,
        RecordType::AAAA => Asked::Aaaa,
        RecordType::NS => Asked::Ns,
        RecordType::SOA => Asked::Soa,
        RecordType::ANY => Asked::Any,
        _ => Asked::Other,
    }
}

fn record(name: &Name, data: &Data<'_>) -> Option<Record> {
    Some(match data {
        Data::Address(IpAddr::V4(address)) => {
            Record::from_rdata(name.clone(), TTL_SECONDS, RData::A((*address).into()))
        }
        Data::Address(IpAddr::V6(address)) => {
            Record::from_rdata(name.clone(), TTL_SECONDS, RData::AAAA((*address).into()))
        }
        Data::Server(server) => {
            let server = Name::from_ascii(format!("{server}.")).ok()?;
            Record::from_rdata(name.clone(), ZONE_TTL_SECONDS, RData::NS(NS(server)))
        }
        Data::Start(primary) => starting(name.clone(), primary, ZONE_TTL_SECONDS)?,
    })
}

/// Where a zone starts, as it stands beside what is not there: it lasts as long as that does (RFC 2308, 5).
fn start(zone: &str, primary: &str, ttl: u32) -> Option<Record> {
    starting(Name::from_ascii(format!("{zone}.")).ok()?, primary, ttl)
}

fn starting(zone: Name, primary: &str, ttl: u32) -> Option<Record> {
    let primary = Name::from_ascii(format!("{primary}.")).ok()?;
    // The longest names have no room for a label more.
    let mailbox = zone.prepend_label(MAILBOX).unwrap_or_else(|_| zone.clone());
    let (refresh, retry, expire) = (REFRESH_SECONDS, RETRY_SECONDS, EXPIRE_SECONDS);
    let soa = SOA::new(primary, mailbox, SERIAL, refresh, retry, expire, TTL_SECONDS);
    Some(Record::from_rdata(zone, ttl, RData::SOA(soa)))
}

#[cfg(test)]
mod tests;
