//! What is tried on strangers' bytes, and what must hold for all of them: shared by the fuzz targets and by the test that
//! replays their corpus.
//!
//! Each function takes whatever bytes there are and panics if something is wrong.

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};
use std::path::{Path, PathBuf};
use tutti_isolate_wasm::grpc::codec::{Codec, value_bytes};
use tutti_proto::{
    compile::{Compiled, compile},
    docs::Docs,
    json,
    json::Unknown,
    paths::{Found, Routes},
    schema::{MessageIndex, Schema},
    stored, wit,
};

/// A size that the fuzzer reaches easily, and the product's own limits on top.
const MESSAGE_BYTES: usize = 4096;

/// A check, and where its corpus is.
pub type Check = fn(&Fixtures, &[u8]);

/// Every check by the name of its target and corpus.
pub const CHECKS: [(&str, Check); 5] =
    [("decode", decode), ("json", json), ("descriptors", descriptors), ("paths", paths), ("frames", frames)];

/// What the checks need beside the bytes; made once.
pub struct Fixtures {
    codec: Codec,
    /// Messages of the schema, of which a byte chooses one.
    messages: Vec<(MessageIndex, MessageDescriptor)>,
    annotated: Compiled,
}

impl Fixtures {
    /// Reads what it needs below the repository's folder.
    pub fn new(repository: &Path) -> Fixtures {
        let of = |path: &str| compile(&[PathBuf::from(repository).join(path)], &[]).unwrap();
        let wide = of("crates/isolate-wasm/tests/wide_guest/wide.proto");
        let schema = Schema::of_service(&wide.pool, "wide.test.Wide").unwrap();
        let messages = (0..).zip(&schema.messages).map(|(index, message)| {
            (MessageIndex(index), wide.pool.get_message_by_name(&message.name).unwrap())
        });
        Fixtures {
            messages: messages.collect(),
            codec: Codec::new(schema),
            annotated: of("crates/proto/tests/protos/annotated.proto"),
        }
    }

    fn chosen<'b>(&self, bytes: &'b [u8]) -> Option<(MessageIndex, &MessageDescriptor, &'b [u8])> {
        let (first, rest) = bytes.split_first()?;
        let (index, described) = &self.messages[usize::from(*first) % self.messages.len()];
        Some((*index, described, rest))
    }
}

/// What decodes is written again, and that is read as the same; its values take no more memory than was allowed.
fn decode(fixtures: &Fixtures, bytes: &[u8]) {
    let Some((message, _, bytes)) = fixtures.chosen(bytes) else { return };
    let most = value_bytes(MESSAGE_BYTES);
    let Ok((value, taken)) = fixtures.codec.decode(message, bytes, most) else { return };
    assert!(taken <= most);
    let written = |value| {
        let mut written = Vec::new();
        fixtures.codec.encode(message, value, usize::MAX, &mut written).unwrap();
        written
    };
    let once = written(&value);
    let (again, _) = fixtures.codec.decode(message, &once, usize::MAX).unwrap();
    assert_eq!(once, written(&again), "written twice, and not the same");
    // A limit is one: nothing longer is written.
    if let Some(less) = once.len().checked_sub(1) {
        assert!(fixtures.codec.encode(message, &value, less, &mut Vec::new()).is_err());
    }
}

/// What JSON is taken is a message of `prost` too, and its JSON says the same again.
fn json(fixtures: &Fixtures, bytes: &[u8]) {
    let Some((_, message, text)) = fixtures.chosen(bytes) else { return };
    for unknown in [Unknown::Refuse, Unknown::Ignore] {
        let Ok(read) = json::to_protobuf(message, text, unknown) else { continue };
        DynamicMessage::decode(message.clone(), read.as_slice()).unwrap();
        let Ok(written) = json::to_json(message, &read) else { continue };
        let again = json::to_protobuf(message, written.as_bytes(), Unknown::Refuse).unwrap();
        assert_eq!(json::to_json(message, &again).unwrap(), written);
    }
    // And the other way: bytes that may be a message, to JSON.
    if let Ok(written) = json::to_json(message, text) {
        json::to_protobuf(message, written.as_bytes(), Unknown::Refuse).unwrap();
    }
}

/// A set that is opened has services that bindings can be made for, or faults that say why not.
fn descriptors(_: &Fixtures, bytes: &[u8]) {
    let Ok(pool) = stored::open(bytes) else { return };
    for service in pool.services() {
        let Ok(schema) = Schema::of_service(&pool, service.full_name()) else { continue };
        let found = schema.service(service.full_name()).unwrap();
        assert!(!wit::generate(&schema, &Docs::of(&pool), found).is_empty());
        let _ = Routes::of(&service);
    }
}

/// `TEMPLATE \n PATH \n QUERY \n BODY`: a template that is taken finds its own path, and what a request gives is a message.
fn paths(fixtures: &Fixtures, bytes: &[u8]) {
    let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
    let mut text = || std::str::from_utf8(parts.next().unwrap_or_default()).ok();
    let (Some(template), Some(path), Some(query)) = (text(), text(), text()) else { return };
    let body = parts.next().unwrap_or_default();
    let pool = with_template(&fixtures.annotated, template, !body.is_empty());
    let service = pool.get_service_by_name("test.annotated.Annotated").unwrap();
    let Ok(routes) = Routes::of(&service) else { return };
    for route in routes.all() {
        let _ = (route.path(), route.to_string(), route.variables().count());
    }
    let Found::Route(found) = routes.find(if body.is_empty() { "GET" } else { "POST" }, path) else { return };
    if let Ok(message) = found.message(Some(query), body) {
        DynamicMessage::decode(service.methods().next().unwrap().input(), message.as_slice()).unwrap();
    }
}

/// The annotated service with another template.
fn with_template(annotated: &Compiled, template: &str, has_body: bool) -> DescriptorPool {
    let pool = &annotated.pool;
    let set = pool.get_message_by_name("google.protobuf.FileDescriptorSet").unwrap();
    let rule = pool.get_message_by_name("google.api.HttpRule").unwrap();
    let option = pool.get_extension_by_name("google.api.http").unwrap();
    let mut rule = DynamicMessage::new(rule);
    rule.set_field_by_name(if has_body { "post" } else { "get" }, Value::String(template.to_owned()));
    if has_body {
        rule.set_field_by_name("body", Value::String("*".to_owned()));
    }
    let mut set = DynamicMessage::decode(set, annotated.set.as_slice()).unwrap();
    let file = last(&mut set, "file");
    let method = last(last(file, "service"), "method");
    let options = method.get_field_by_name_mut("options").unwrap().as_message_mut().unwrap();
    options.set_extension(&option, Value::Message(rule));
    DescriptorPool::decode(prost_reflect::prost::Message::encode_to_vec(&set).as_slice()).unwrap()
}

fn last<'m>(message: &'m mut DynamicMessage, field: &str) -> &'m mut DynamicMessage {
    let held = message.get_field_by_name_mut(field).unwrap();
    held.as_list_mut().unwrap().last_mut().unwrap().as_message_mut().unwrap()
}

/// A body in pieces gives the same messages as in one, and none that is too long.
fn frames(_: &Fixtures, bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    let gzip = first & 1 == 1;
    let piece = usize::from(first >> 1) + 1;
    let read = |piece: usize| {
        let pieces: Vec<Bytes> = body.chunks(piece.max(1)).map(Bytes::copy_from_slice).collect();
        let frames = pieces.into_iter().map(|bytes| Ok(http_body::Frame::data(bytes)));
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(tutti_isolate_wasm::grpc::messages_of(body, gzip, MESSAGE_BYTES))
    };
    let (whole, pieces) = (read(body.len()), read(piece));
    assert_eq!(whole, pieces);
    let (messages, _) = whole;
    assert!(messages.iter().all(|message| message.len() <= MESSAGE_BYTES));
}
