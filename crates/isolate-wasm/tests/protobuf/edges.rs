//! Messages at the edge of what is one, and what each side says of them: where they differ, why.

use crate::{
    differential::{decoded, hex},
    host::{Echoed, Host, RUST, methods},
    python::{self, By, Question},
    write::{self, END_GROUP, GROUP, LENGTH},
};

/// A message, and who takes it.
struct Edge {
    what: &'static str,
    method: &'static str,
    bytes: Vec<u8>,
    here: bool,
    prost: bool,
    python: bool,
}

/// All three agree.
fn agreed(what: &'static str, method: &'static str, bytes: Vec<u8>, taken: bool) -> Edge {
    Edge { what, method, bytes, here: taken, prost: taken, python: taken }
}

fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(Vec::new(), |inner, _| {
        let mut around = Vec::new();
        write::tag(2, LENGTH, 1, &mut around);
        write::delimited(&inner, 1, &mut around);
        around
    })
}

fn groups(depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..depth {
        write::tag(99, GROUP, 1, &mut bytes);
    }
    for _ in 0..depth {
        write::tag(99, END_GROUP, 1, &mut bytes);
    }
    bytes
}

fn edges() -> Vec<Edge> {
    let ten = |last| [&[0x28][..], &[0xff; 9], &[last]].concat();
    vec![
        agreed("nothing at all", "Scalars", vec![], true),
        agreed("field number 0", "Scalars", vec![0x00, 0x00], false),
        agreed("wire type 6", "Scalars", vec![0x0e, 0x00], false),
        agreed("wire type 7 of an unknown field", "Scalars", vec![0x9f, 0x06, 0x00], false),
        agreed("a tag of more than 32 bits", "Scalars", vec![0xf8, 0xff, 0xff, 0xff, 0x1f, 0x00], false),
        agreed("a tag alone", "Scalars", vec![0x18], false),
        agreed("a varint that is cut off", "Scalars", vec![0x18, 0x80], false),
        agreed("a varint of eleven bytes", "Scalars", [&[0x18][..], &[0x80; 10], &[0]].concat(), false),
        agreed("a fixed32 that is cut off", "Scalars", vec![0x15, 0, 0, 0], false),
        agreed("a length beyond the end", "Scalars", vec![0x72, 0x05, b'a'], false),
        agreed("a length of 2^63", "Scalars", [&[0x72][..], &[0x80; 9], &[0x01]].concat(), false),
        agreed("a string that is not UTF-8", "Scalars", vec![0x72, 0x01, 0xff], false),
        agreed("a surrogate in a string", "Scalars", vec![0x72, 0x03, 0xed, 0xa0, 0x80], false),
        agreed("a varint of ten bytes, canonical", "Scalars", ten(0x01), true),
        agreed("an enum's number that nobody knows", "Scalars", vec![0x80, 0x01, 0x05], true),
        agreed("a packed element that is cut off", "Lists", vec![0x1a, 0x01, 0x80], false),
        agreed("packed fixed64s of seven bytes", "Lists", [&[0x52, 0x07][..], &[0; 7]].concat(), false),
        agreed("an entry without key and value", "Maps", vec![0x6a, 0x00], true),
        agreed("an entry that is cut off", "Maps", vec![0x6a, 0x02, 0x0a, 0x05], false),
        agreed("an unknown group", "Scalars", groups(3), true),
        agreed("unknown groups, 150 deep", "Scalars", groups(150), false),
        agreed(
            "a fault in a member that another replaces",
            "Oneofs",
            vec![0x42, 0x01, 0x0a, 0x20, 0x01],
            false,
        ),
        agreed("a group without an end", "Scalars", vec![0x9b, 0x06], false),
        agreed("the end of a group without a beginning", "Scalars", vec![0x9c, 0x06], false),
        agreed("a group that ends as another", "Scalars", vec![0x9b, 0x06, 0xa4, 0x06], false),
        agreed("a message without what it requires", "Old", vec![], false),
        agreed(
            "an inner message without what it requires",
            "Old",
            // name, level, note.inner[0] without its number.
            vec![0x0a, 0x00, 0x10, 0x03, 0x1a, 0x02, 0x12, 0x00],
            false,
        ),
        agreed("messages within themselves, 99 deep", "Recursive", nested(99), true),
        // Protobuf's own parsers skip what does not fit: a field's type may have changed.
        Edge {
            prost: false,
            ..agreed("a string where a number belongs", "Scalars", vec![0x1a, 0x01, b'1'], true)
        },
        Edge { prost: false, ..agreed("a group where a number belongs", "Scalars", vec![0x1b, 0x1c], true) },
        // The encoding page says that bits that do not fit are dropped, and is silent on the tenth byte.
        Edge { prost: false, ..agreed("bits beyond the 64th", "Scalars", ten(0x7f), true) },
        // Both are varints as the encoding page has them; Python's reads at most five bytes of either.
        Edge {
            python: false,
            ..agreed("a tag of six bytes", "Scalars", vec![0x98, 0x80, 0x80, 0x80, 0x80, 0x00, 0x01], true)
        },
        Edge {
            python: false,
            ..agreed(
                "a length of six bytes",
                "Scalars",
                vec![0x72, 0x81, 0x80, 0x80, 0x80, 0x80, 0x00, b'a'],
                true,
            )
        },
        // A component's strings are UTF-8; the older syntax did not ask for it.
        Edge {
            python: true,
            ..agreed(
                "a proto2 string that is not UTF-8",
                "Old",
                vec![0x0a, 0x01, 0xff, 0x10, 0x03, 0x1a, 0x00],
                false,
            )
        },
        // What leads back to itself goes through as bytes, and whoever decodes them finds the fault.
        Edge {
            prost: false,
            python: false,
            ..agreed("a fault within a message within itself", "Recursive", vec![0x12, 0x01, 0x08], true)
        },
        Edge {
            prost: false,
            python: false,
            ..agreed("messages within themselves, 150 deep", "Recursive", nested(150), true)
        },
        // An entry whose value is an enum's unknown number is skipped whole; what else is unknown in one is skipped alone.
        agreed("an entry with an unknown field", "Maps", vec![0x6a, 0x02, 0x38, 0x01], true),
    ]
}

#[tokio::test]
async fn messages_at_the_edge_are_taken_or_refused_as_listed() {
    let host = Host::start(RUST).await;
    let methods = methods();
    let edges = edges();
    let (mut questions, mut wrong) = (Vec::new(), Vec::new());
    for edge in &edges {
        let (_, of) = methods.iter().find(|(name, _)| name == edge.method).unwrap();
        let here = matches!(host.echo(edge.method, &edge.bytes).await, Echoed::Back(_));
        let prost = decoded(of, &edge.bytes).is_ok();
        if (here, prost) != (edge.here, edge.prost) {
            wrong.push(format!("{}: here {here}, prost {prost}: {}", edge.what, hex(&edge.bytes)));
        }
        let (message, bytes) = (of.full_name().to_owned(), edge.bytes.clone());
        questions.push(Question { by: By::Truth, message, bytes });
    }
    for (edge, answer) in edges.iter().zip(python::ask(questions).into_iter().flatten()) {
        if answer.is_some() != edge.python {
            wrong.push(format!("{}: Python {}: {}", edge.what, answer.is_some(), hex(&edge.bytes)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
