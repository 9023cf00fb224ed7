use super::mismatches;
use tutti_proto::compile::compile;

const API: &str = "syntax = \"proto3\";\npackage com.example;\n\
    service HelloWorld { rpc SayHello(HelloRequest) returns (HelloResponse); }\n\
    message HelloRequest { string name = 1; }\nmessage HelloResponse { bool talk_to_me = 1; }\n";

fn descriptors() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.proto");
    std::fs::write(&path, API).unwrap();
    compile(&[path.as_path()], &[]).unwrap().set
}

fn said(component: &[u8], descriptors: &[u8], service: &str) -> Vec<String> {
    mismatches(component, descriptors, service).into_iter().map(|problem| problem.to_string()).collect()
}

#[test]
fn what_is_stored_is_read_as_a_strangers() {
    assert!(said(b"", b"\xff", "com.example.HelloWorld")[0].contains("the descriptors: "));
    let other = mismatches(b"", &descriptors(), "com.example.HeloWorld");
    assert_eq!(other[0].detail, "the descriptors declare no service \"com.example.HeloWorld\"");
    assert_eq!(other[0].hint.as_deref(), Some("did you mean com.example.HelloWorld?"));
    let no_component = said(b"#!/bin/sh", &descriptors(), "com.example.HelloWorld");
    assert!(no_component[0].contains("this is not a WebAssembly component"), "{no_component:?}");
    // An empty component, whose preamble is all of it.
    let empty = said(b"\0asm\x0d\0\x01\0", &descriptors(), "com.example.HelloWorld");
    assert!(empty[0].contains("does not export com:example/hello-world"), "{empty:?}");
}
