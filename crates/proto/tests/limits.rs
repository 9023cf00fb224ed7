//! What the limits let through, every engine's limits let through; what is past them is refused by name.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail as tests do"
)]

use std::fmt::Write as _;
use tutti_proto::docs::Docs;
use tutti_proto::fault::Fault;
use tutti_proto::schema::Schema;
use tutti_proto::{compile, limits, wit};

fn schema(body: &str) -> Result<Schema, Vec<Fault>> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("api.proto");
    std::fs::write(&path, format!("syntax = \"proto3\"; package com.example;\n{body}")).expect("written");
    let compiled = compile::compile(&[path.as_path()], &[]).unwrap_or_else(|faults| panic!("{faults:?}"));
    Schema::build(&compiled.pool, &compiled.files)
}

/// Makes a component for the service and validates it as an engine does.
fn validates(schema: &Schema) {
    let mut resolve = wit_parser::Resolve::default();
    let mut package = None;
    for file in wit::generate(schema, &Docs::default(), &schema.services[0]).iter().rev() {
        package = Some(resolve.push_source(&file.path, &file.text).expect("parses"));
    }
    let world = *resolve.packages[package.expect("a package")].worlds.values().next().expect("a world");
    let mut module = wit_component::dummy_module(&resolve, world, wit_parser::ManglingAndAbi::Standard32);
    wit_component::embed_component_metadata(&mut module, &resolve, world, Default::default())
        .expect("metadata");
    let component = wit_component::ComponentEncoder::default().module(&module).expect("a module").encode();
    let component = component.expect("a component");
    wasmparser::Validator::new().validate_all(&component).expect("valid");
    tutti_proto::check::check(&component, schema, &schema.services[0], &[]).expect("fits");
}

/// As many messages as the service may hold, each as large as it may be, all streamed both ways: written out in the
/// types, in the streams and in the functions.
#[test]
fn the_largest_service_is_valid() {
    let mut body = String::from("service Large {\n");
    let count = limits::SERVICE_SIZE / limits::VALUE_SIZE;
    for at in 0..count {
        writeln!(body, "rpc Go{at}(stream M{at}) returns (stream M{at});").expect("written");
    }
    body.push_str("}\n");
    for at in 0..count {
        writeln!(body, "message M{at} {{").expect("written");
        for number in 1..=(limits::VALUE_SIZE - 2) / 2 {
            writeln!(body, "optional int32 f{number} = {number};").expect("written");
        }
        body.push_str("}\n");
    }
    validates(&schema(&body).unwrap_or_else(|faults| panic!("{faults:?}")));
}

fn chain(depth: u32) -> String {
    let mut body = String::from("service Deep { rpc Go(M1) returns (M1); }\n");
    for at in 1..depth {
        writeln!(body, "message M{at} {{ map<string, M{}> next = 1; }}", at + 1).expect("written");
    }
    writeln!(body, "message M{depth} {{ int32 x = 1; }}").expect("written");
    body
}

#[test]
fn the_deepest_message_is_valid_and_one_deeper_is_refused() {
    // Each message is a record, a list and a tuple; the last holds a number.
    let deepest = (limits::TYPE_DEPTH - 2) / 3 + 1;
    validates(&schema(&chain(deepest)).unwrap_or_else(|faults| panic!("{faults:?}")));
    let faults = schema(&chain(deepest + 1)).expect_err("too deep");
    assert!(faults[0].to_string().contains("nested 92 deep; the limit is 90"), "{}", faults[0]);
    assert!(faults[0].position.is_some());
}

#[test]
fn messages_that_double_are_refused_before_they_are_written_out() {
    let mut body = String::from("service Wide { rpc Go(M0) returns (M0); }\n");
    for at in 0..60 {
        writeln!(body, "message M{at} {{ M{} a = 1; M{} b = 2; }}", at + 1, at + 1).expect("written");
    }
    body.push_str("message M60 { int32 x = 1; }\n");
    let faults = schema(&body).expect_err("too large");
    assert_eq!(faults.len(), 1);
    assert!(faults[0].to_string().contains("values large; the limit is 10000"), "{}", faults[0]);
}

#[test]
fn a_service_of_many_large_messages_is_refused() {
    let mut body = String::from("service Large { rpc Go(M0) returns (M0); }\nmessage M0 {\n");
    for at in 1..=41 {
        writeln!(body, "repeated bytes b{at} = {at}; M{at}.N m{at} = {};", at + 100).expect("written");
    }
    body.push_str("}\n");
    for at in 1..=41 {
        writeln!(body, "message M{at} {{ message N {{ M{at} back = 1; }} N n = 1;").expect("written");
        for number in 2..2500 {
            writeln!(body, "int32 f{number} = {number};").expect("written");
        }
        body.push_str("}\n");
    }
    let faults = schema(&body).expect_err("too large");
    assert!(faults[0].to_string().contains("the limit is 200000"), "{}", faults[0]);
}
