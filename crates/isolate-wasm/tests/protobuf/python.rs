//! Python's protobuf, in one process for all messages.

use crate::host::described;
use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

/// By which descriptors a message is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Truth = 0,
    /// Those with fields that lead back to their own message as bytes.
    Boxed = 1,
}

/// One message to be read.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) by: By,
    pub(crate) message: String,
    pub(crate) bytes: Vec<u8>,
}

/// Each message's canonical form, or nothing if it is none; `None` if there is no Python to ask.
pub(crate) fn ask(questions: Vec<Question>) -> Option<Vec<Option<Vec<u8>>>> {
    let Some(python) = std::env::var_os("TUTTI_TEST_PYTHON") else {
        assert!(std::env::var_os("CI").is_none(), "TUTTI_TEST_PYTHON is to name a Python with protobuf");
        eprintln!("SKIPPED: the comparison with Python; set TUTTI_TEST_PYTHON to a Python with protobuf");
        return None;
    };
    let peer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protobuf/peer.py");
    let mut process =
        Command::new(python).arg(peer).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
    let count = questions.len();
    // Written beside reading, or both sides would wait for the other's pipe.
    let writer = std::thread::spawn(move || {
        let mut all = Vec::new();
        for set in [&described().set, &described().boxed_set] {
            put(set, &mut all);
        }
        for question in questions {
            let mut request = vec![question.by as u8];
            request.extend(question.message.as_bytes());
            request.push(0);
            request.extend(question.bytes);
            put(&request, &mut all);
        }
        input.write_all(&all)
    });
    let mut answers = Vec::new();
    output.read_to_end(&mut answers).unwrap();
    let ended = process.wait().unwrap();
    assert!(ended.success(), "{peer} ended with {ended}");
    writer.join().unwrap().unwrap();
    let mut rest = answers.as_slice();
    let mut read = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let (answer, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        read.push((answer[0] == 1).then(|| answer[1..].to_vec()));
        rest = after;
    }
    assert_eq!(read.len(), count, "Python has not answered everything");
    Some(read)
}

fn put(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}
