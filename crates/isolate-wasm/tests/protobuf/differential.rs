//! Thousands of messages through the guest, and what `prost` and Python make of them.
//!
//! Three kinds. A *tidy* message, as protobuf's own writers make it, comes back byte for byte. An *odd* one, which the
//! encoding page allows all the same, comes back as the same message. A *broken* one, with a few bytes changed, is refused
//! if and only if the others refuse it, but for what [`explained`] lists.

use crate::{
    canonical,
    generate::{Generated, Generator},
    host::{Echoed, Host, PYTHON, RUST, described, methods},
    mutate::mutate,
    python::{self, By, Question},
    quirks::Quirks,
    seed::Seed,
};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use std::collections::BTreeMap;

/// Messages of each kind in a run that nobody asked for more.
const MESSAGES: usize = 2500;
/// So many times fewer go through the guest in Python, whose interpreter begins anew with each.
const PYTHON_SHARE: usize = 10;

/// Messages of each kind in this run.
pub(crate) fn messages() -> usize {
    let given = std::env::var("TUTTI_MESSAGES").ok();
    given.map_or(MESSAGES, |number| number.parse().expect("TUTTI_MESSAGES is a number"))
}

/// One message that has been through the guest.
struct Sent {
    method: String,
    of: MessageDescriptor,
    message: Generated,
    echoed: Echoed,
}

impl Sent {
    fn reply(&self) -> &[u8] {
        match &self.echoed {
            Echoed::Back(bytes) => bytes,
            Echoed::Refused(why) => panic!("{}: refused, {why}: {}", self.method, hex(&self.message.sent)),
        }
    }

    fn question(&self, by: By, bytes: &[u8]) -> Question {
        Question { by, message: self.of.full_name().to_owned(), bytes: bytes.to_vec() }
    }
}

async fn send(seed: &mut Seed, make: impl Fn(&mut Seed, &MessageDescriptor) -> Generated) -> Vec<Sent> {
    send_through(RUST, messages(), seed, make).await
}

async fn send_through(
    guest: &str,
    messages: usize,
    seed: &mut Seed,
    make: impl Fn(&mut Seed, &MessageDescriptor) -> Generated,
) -> Vec<Sent> {
    let host = Host::start(guest).await;
    let methods = methods();
    let mut sent = Vec::new();
    for number in 0..messages {
        let (method, of) = methods[number % methods.len()].clone();
        let message = make(seed, &of);
        let echoed = host.echo(&method, &message.sent).await;
        sent.push(Sent { method, of, message, echoed });
    }
    sent
}

/// The seed, printed: a run that fails names it.
fn seed() -> Seed {
    let seed = Seed::of_environment();
    println!("TUTTI_SEED={seed}");
    Seed::new(seed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tidy_messages_come_back_byte_for_byte() {
    let sent = send(&mut seed(), |seed, of| Generator::tidy(seed).message(of)).await;
    for one in &sent {
        let there = &one.message.sent;
        assert!(decoded(&one.of, there).is_ok(), "{}: prost does not take it: {}", one.method, hex(there));
        assert!(one.reply() == there, "{}\nsent {}\n got {}", one.method, hex(there), hex(one.reply()));
    }
    // Python writes them the same way, but for the order of a map's entries, which is its own: the encoding page leaves it open.
    let questions = sent.iter().map(|one| one.question(By::Truth, &one.message.sent)).collect();
    for (one, canonical) in sent.iter().zip(python::ask(questions).into_iter().flatten()) {
        let (there, canonical) = (&one.message.sent, canonical.expect("Python does not take a tidy message"));
        let text = |bytes| canonical::text(&decoded(&one.of, bytes).unwrap());
        let same = canonical == *there || has_map(&one.of) && text(&canonical) == text(there);
        assert!(same, "{}\n   sent {}\nPython {}", one.method, hex(there), hex(&canonical));
    }
}

/// Python's types are others than Rust's: every number of floating point is a double, integers have no size, and options and
/// variants are objects. All the same every message comes back byte for byte: there is no type that componentize-py cannot
/// take or give. NaNs are generated with their usual bits only; others may change on their way through a double.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tidy_messages_come_back_byte_for_byte_from_python_too() {
    let messages = messages().div_ceil(PYTHON_SHARE);
    let sent =
        send_through(PYTHON, messages, &mut seed(), |seed, of| Generator::tidy(seed).message(of)).await;
    for one in &sent {
        let there = &one.message.sent;
        assert!(one.reply() == there, "{}\nsent {}\n got {}", one.method, hex(there), hex(one.reply()));
    }
    println!("{} messages through the guest in Python", sent.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_messages_come_back_as_the_same_message() {
    let sent = send(&mut seed(), |seed, of| Generator::odd(seed).message(of)).await;
    for one in &sent {
        let meant = canonical::text(&decoded(&one.of, &one.message.meant).unwrap());
        let got = canonical::text(&decoded(&one.of, one.reply()).unwrap());
        assert!(got == meant, "{}\n sent {}\nmeant {meant}\n  got {got}", one.method, hex(&one.message.sent));
    }
    let questions = sent
        .iter()
        .flat_map(|one| [one.question(By::Truth, &one.message.meant), one.question(By::Truth, one.reply())]);
    let Some(answers) = python::ask(questions.collect()) else { return };
    for (one, answers) in sent.iter().zip(answers.chunks(2)) {
        let (meant, got) = (answers[0].as_ref().unwrap(), answers[1].as_ref().unwrap());
        let same = got == meant;
        assert!(
            same,
            "{}\n sent {}\nmeant {}\n  got {}",
            one.method,
            hex(&one.message.sent),
            hex(meant),
            hex(got)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_messages_are_refused_when_others_refuse_them() {
    let sent = send(&mut seed(), |seed, of| {
        let whole = match seed.below(2) {
            0 => Generator::tidy(seed).message(of).sent,
            _ => Generator::odd(seed).message(of).meant,
        };
        let broken = mutate(&whole, seed);
        Generated { meant: broken.clone(), sent: broken }
    })
    .await;
    let questions = sent.iter().flat_map(|one| {
        let reply = if let Echoed::Back(reply) = &one.echoed { reply.as_ref() } else { &[] };
        [
            one.question(By::Boxed, &one.message.sent),
            one.question(By::Truth, &one.message.sent),
            one.question(By::Truth, reply),
        ]
    });
    let mut answers = python::ask(questions.collect()).map(|answers| answers.into_iter());
    let (mut refused, mut differences) = (0, BTreeMap::new());
    for one in &sent {
        let python: Option<Vec<_>> = answers.as_mut().map(|answers| answers.take(3).collect());
        refused += usize::from(matches!(one.echoed, Echoed::Refused(_)));
        if let Some(why) = explained(one, python.as_ref().map(|python| python[0].is_some())) {
            *differences.entry(why).or_insert(0) += 1;
        } else if let Echoed::Back(reply) = &one.echoed
            && let Some(why) = same_message(one, reply, python.as_deref())
        {
            *differences.entry(why).or_insert(0) += 1;
        }
    }
    println!("{refused} of {} refused; differences: {differences:#?}", sent.len());
    assert!(refused * 10 > sent.len(), "only {refused} of {} were refused: they are not broken", sent.len());
    assert!(refused * 10 < sent.len() * 9, "{refused} of {} were refused: they are too broken", sent.len());
}

/// What both sides make of a message that both take, unless an enum's unknown number is in it: that is skipped here, and
/// kept by the others where the syntax is proto3. Says what only Python makes something else of.
fn same_message(one: &Sent, reply: &[u8], python: Option<&[Option<Vec<u8>>]>) -> Option<&'static str> {
    let truth = decoded(&one.of, &one.message.sent).ok()?;
    if canonical::has_unknown_number(&truth) || Quirks::of(&one.of, &one.message.sent).mistyped_map {
        return None;
    }
    let text = |bytes| canonical::text(&decoded(&one.of, bytes).unwrap());
    let (meant, got) = (canonical::text(&truth), text(reply));
    assert!(got == meant, "{}\n sent {}\nmeant {meant}\n  got {got}", one.method, hex(&one.message.sent));
    let [_, Some(of_sent), Some(of_reply)] = python? else { return None };
    // What is boxed goes back as it came, tags of ten bytes included.
    if Quirks::of(&one.of, reply).long_prefix {
        return Some("a tag or a length may be written with up to ten bytes; Python takes five");
    }
    assert!(text(of_reply) == meant, "{}: Python reads the reply {} as another", one.method, hex(reply));
    if text(of_sent) == meant {
        return None;
    }
    assert!(has_map(&one.of), "{}: Python reads {} as another", one.method, hex(&one.message.sent));
    Some(
        "a map's entry with an unknown field in it is an entry here and for prost; Python sets it aside whole",
    )
}

fn has_map(of: &MessageDescriptor) -> bool {
    crate::boxed::reached(of).iter().any(MessageDescriptor::is_map_entry)
}

/// Why this message is taken here and refused by another, or the other way round; nothing if all agree.
///
/// # Panics
/// If there is no reason for it.
fn explained(one: &Sent, python: Option<bool>) -> Option<&'static str> {
    let boxed = described().boxed.get_message_by_name(one.of.full_name()).unwrap();
    let prost = decoded(&boxed, &one.message.sent);
    let refusal = if let Echoed::Refused(why) = &one.echoed { why.as_str() } else { "" };
    let here = refusal.is_empty();
    if here == prost.is_ok() && python.is_none_or(|python| python == here) {
        return None;
    }
    let long_prefix = python == Some(false) && Quirks::of(&one.of, &one.message.sent).long_prefix;
    if long_prefix && here == prost.is_ok() {
        return Some("a tag or a length may be written with up to ten bytes; Python takes five");
    }
    // Python has its reason then, and prost may have another.
    let python = python.filter(|_| !long_prefix);
    let unknown_number = prost.as_ref().is_ok_and(canonical::has_unknown_number);
    let prost = prost.err().unwrap_or_default();
    if python.is_none_or(|python| python == here) && Quirks::of(&one.of, &one.message.sent).mistyped_map {
        return Some(
            "a map's field of another wire type is skipped; prost-reflect reads an entry wherever it stands",
        );
    }
    let why = match (here, prost.as_str(), python) {
        (true, why, None | Some(true)) if why.contains("invalid wire type") => {
            "a known field of another wire type is skipped, as by protobuf's own parsers; prost refuses it"
        }
        (true, why, None | Some(true)) if why.contains("invalid varint") => {
            "bits of a varint's tenth byte that do not fit are dropped; prost refuses them"
        }
        (false, why, Some(true)) if refusal.contains("UTF-8") && one.method == "Old" && !why.is_empty() => {
            "a string that is not UTF-8 is refused in proto2 too; Python takes it"
        }
        (false, "", None | Some(false)) if unknown_number && refusal.contains("required") => {
            "an enum of proto2 whose number nobody knows is not there; prost keeps the number"
        }
        _ => panic!(
            "{}: {}\n  here {}\n prost {}\nPython {python:?}",
            one.method,
            hex(&one.message.sent),
            if here { "taken" } else { refusal },
            if prost.is_empty() { "taken" } else { &prost },
        ),
    };
    Some(why)
}

/// A message, or why it is none.
pub(crate) fn decoded(of: &MessageDescriptor, bytes: &[u8]) -> Result<DynamicMessage, String> {
    let message = DynamicMessage::decode(of.clone(), bytes).map_err(|error| error.to_string())?;
    if canonical::lacks_required(&message) {
        Err("a required field is missing".to_owned())
    } else {
        Ok(message)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
