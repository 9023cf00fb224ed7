use super::{Mismatch, check};
use crate::docs::Docs;
use crate::schema::Schema;
use crate::{compile, wit};

fn schema(source: &str) -> Schema {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("api.proto");
    std::fs::write(&path, source).expect("written");
    let compiled = compile::compile(&[path.as_path()], &[]).unwrap_or_else(|faults| panic!("{faults:?}"));
    Schema::of_service(&compiled.pool, "com.example.Hello").unwrap_or_else(|faults| panic!("{faults:?}"))
}

const API: &str = "syntax = \"proto3\";\npackage com.example;\n\
    service Hello { rpc Say(Request) returns (Reply); rpc Chat(stream Request) returns (stream Reply); }\n\
    message Request { string name = 1; optional Color color = 2; oneof more { int32 number = 3; string text = 4; } }\n\
    message Reply { repeated string lines = 1; }\n\
    enum Color { RED = 0; BLUE = 1; }\n";

/// A component of the generated world with its text changed, and with more in its world.
fn component(change: impl Fn(String) -> String) -> Vec<u8> {
    let schema = schema(API);
    let service = schema.service("com.example.Hello").expect("the service");
    let mut resolve = wit_parser::Resolve::default();
    let mut package = None;
    for file in wit::generate(&schema, &Docs::default(), service).iter().rev() {
        let text = if file.path == "world.wit" { change(file.text.clone()) } else { file.text.clone() };
        package =
            Some(resolve.push_source(&file.path, &text).unwrap_or_else(|error| panic!("{error:#}\n{text}")));
    }
    let world = *resolve.packages[package.expect("a package")].worlds.values().next().expect("a world");
    let mut module = wit_component::dummy_module(&resolve, world, wit_parser::ManglingAndAbi::Standard32);
    wit_component::embed_component_metadata(&mut module, &resolve, world, Default::default())
        .expect("metadata");
    wit_component::ComponentEncoder::default()
        .module(&module)
        .expect("a module")
        .encode()
        .expect("a component")
}

fn mismatches(component: &[u8]) -> Vec<String> {
    let schema = schema(API);
    let service = schema.service("com.example.Hello").expect("the service");
    let found = check(component, &schema, service, &["wasi:cli/environment@0.2"]).expect_err("does not fit");
    found.iter().map(Mismatch::to_string).collect()
}

fn replaced(from: &'static str, to: &'static str) -> Vec<String> {
    mismatches(&component(|text| {
        assert!(text.contains(from), "{text}");
        text.replace(from, to)
    }))
}

#[test]
fn what_was_generated_fits() {
    let schema = schema(API);
    let service = schema.service("com.example.Hello").expect("the service");
    let report = check(&component(|text| text), &schema, service, &[]).expect("fits");
    assert_eq!(report.serves, "com:example/hello");
    assert!(report.imports.iter().any(|name| name == "com:example/hello-streams"), "{report:?}");
    assert!(report.other_exports.is_empty());
}

#[test]
fn a_field_of_another_type_is_named() {
    let found = replaced("name: string", "name: u32");
    assert!(
        found.contains(
            &"say: parameter 2 is record request { name: u32, color: option<color>, more: \
        option<request-more> }, field name is u32, should be string"
                .to_owned()
        ),
        "{found:?}"
    );
}

#[test]
fn each_kind_of_difference_is_named() {
    for (from, to, said) in [
        ("name: string,", "", "field name is missing"),
        ("name: string,", "name: string,\n    extra: bool,", "field extra should not be there"),
        ("name: string,", "nome: string,", "field nome should not be there"),
        (
            "color: option<color>",
            "color: color",
            "field color is enum color { red, blue }, should be option<enum color { red, blue }>",
        ),
        (
            "    red,\n    blue,",
            "    blue,\n    red,",
            "the order of the cases of field color should be red, blue",
        ),
        ("number(s32)", "number(s64)", "field more, case number is s64, should be s32"),
        ("number(s32)", "number", "case number holds nothing, should be s32"),
        ("lines: list<string>", "lines: string", "success, field lines is string, should be list<string>"),
        (
            "say: func(ctx: borrow<context>, request",
            "say: func(c: borrow<context>, request",
            "parameter 1 is named c, should be ctx",
        ),
        ("say: func(ctx: borrow<context>, ", "say: func(", "has 1 parameters, should have 2"),
        ("-> result<reply, status>", "", "say: has no result, should have result<reply, status>"),
        ("say: func(", "speak: func(", "say: the component does not export this function of the service"),
        (
            "say: func(",
            "speak: func(",
            "speak: the component exports this function, which is not a method of the service",
        ),
        (
            "  use hello-streams.{reply-writer, request-reader};",
            "  use hello-streams.{reply-writer as request-reader, request-reader as reply-writer};",
            "should be borrow<com:example/hello-streams.request-reader>",
        ),
    ] {
        let found = replaced(from, to);
        assert!(found.iter().any(|one| one.contains(said)), "{from} -> {to}: {found:#?}");
    }
}

#[test]
fn an_import_that_no_host_offers_is_named() {
    let extra = "world hello-server {\n  import run: func();\n  import other;";
    let found = mismatches(&component(|text| {
        text.replace("world hello-server {", extra)
            .replace("interface hello {", "interface other {\n  go: func();\n}\n\ninterface hello {")
    }));
    assert_eq!(
        found,
        [
            "com:example/other: the component imports this; the host does not offer it",
            "run: the component imports this function; the host does not offer it",
        ]
    );
}

#[test]
fn offers_are_prefixes_that_end_at_a_part() {
    let offered = ["wasi:cli/environment@0.2", "wasi:io/poll"];
    for (name, is) in [
        ("wasi:cli/environment@0.2.6", true),
        ("wasi:cli/environment@0.2", true),
        ("wasi:cli/environment@0.20.0", false),
        ("wasi:cli/environment@0.3.0", false),
        ("wasi:io/poll@0.2.1", true),
        ("wasi:io/pollable@0.2.1", false),
    ] {
        assert_eq!(super::is_offered(name, &offered), is, "{name}");
    }
}

#[test]
fn another_service_is_not_taken_for_it() {
    let found = mismatches(&component(|text| text.replace("package com:example;", "package com:other;")));
    assert_eq!(found[0], "the component does not export com:example/hello; it exports com:other/hello");
}

#[test]
fn what_is_no_component_is_refused_clearly() {
    let module = wat::parse_str("(module)").expect("a module");
    assert!(mismatches(&module)[0].starts_with("this is a core WebAssembly module, not a component"));
    assert_eq!(mismatches(b"#!/bin/sh"), ["this is not a WebAssembly component"]);
    assert_eq!(mismatches(b""), ["this is not a WebAssembly component"]);
    let mut cut = component(|text| text);
    cut.truncate(cut.len() / 2);
    assert!(mismatches(&cut)[0].starts_with("the component is not valid"));
    let empty = wat::parse_str("(component)").expect("a component");
    assert_eq!(mismatches(&empty), ["the component does not export com:example/hello; it exports nothing"]);
}
