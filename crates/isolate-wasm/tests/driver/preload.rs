//! From an artifact to something that runs.

use crate::fixture::{Host, artifact, guest, manifest};
use std::path::PathBuf;
use tutti_isolate::{Artifact, Driver as _, DriverError};

async fn refusal(host: &Host, artifact: &Artifact) -> String {
    match host.driver.preload(artifact).await {
        Err(DriverError::Unrunnable(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn file(host: &Host, bytes: &[u8]) -> PathBuf {
    let path = host.folder.path().join("artifact.wasm");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn component(host: &Host, text: &str) -> Artifact {
    artifact(file(host, &wat::parse_str(text).unwrap()))
}

#[tokio::test]
async fn what_cannot_run_is_refused_with_what_it_is() {
    let host = Host::new();
    for (bytes, word) in [
        (wat::parse_str("(module)").unwrap(), "plain WebAssembly module"),
        (b"\x7fELF\x02\x01\x01".to_vec(), "program for Linux"),
        (b"#!/bin/sh\n".to_vec(), "script"),
        (b"(component)".to_vec(), "WebAssembly text"),
        (b"hello".to_vec(), "something else than WebAssembly"),
        (Vec::new(), "empty"),
        (b"\0asm\x0d\0\x01\0broken".to_vec(), "not valid WebAssembly"),
        (b"\0asm\x0e\0\x01\0".to_vec(), "version that is not known"),
    ] {
        let text = refusal(&host, &artifact(file(&host, &bytes))).await;
        assert!(text.contains(word), "{text}");
    }
}

#[tokio::test]
async fn a_component_of_another_world_is_told_what_it_lacks() {
    let host = Host::new();
    let text = refusal(&host, &component(&host, "(component)")).await;
    assert!(
        text.contains("does not export \"wasi:http/incoming-handler@0.2.x\"") && text.contains("nothing"),
        "{text}"
    );
    let other = r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#;
    let text = refusal(&host, &component(&host, other)).await;
    assert!(text.contains("\"wasi:cli/run@0.2.0\""), "{text}");
    let needy = r#"(component
        (import "acme:gpu/compute@1.0.0" (instance (export "run" (func))))
        (import "wasi:cli/environment@0.2.0" (instance))
        (import "wasi:keyvalue/store@0.2.0-draft" (instance))
        (import "bare" (func))
        (instance $i)
        (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#;
    let text = refusal(&host, &component(&host, needy)).await;
    let all = r#"does not offer: "acme:gpu/compute@1.0.0", "wasi:keyvalue/store@0.2.0-draft", "bare"; "#;
    assert!(text.contains(all), "{text}");
    let newer = r#"(component
        (import "wasi:random/random@0.2.0" (instance (export "roll-dice" (func (result u64)))))
        (instance $i)
        (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#;
    let text = refusal(&host, &component(&host, newer)).await;
    assert!(text.contains("does not offer") && text.contains("roll-dice"), "{text}");
    let hollow = r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#;
    let text = refusal(&host, &component(&host, hollow)).await;
    assert!(text.contains("not as it should be"), "{text}");
}

#[tokio::test]
async fn an_artifact_of_another_shape_is_refused() {
    let host = Host::new();
    let good = guest("hello_wasm");
    let mut two = good.clone();
    two.layers.push(two.layers[0].clone());
    assert!(refusal(&host, &two).await.contains("its second layer is \"application/wasm\""));
    let mut three = two.clone();
    three.layers.push(two.layers[0].clone());
    assert!(refusal(&host, &three).await.contains("3 layers"));
    let mut tar = good.clone();
    tar.layers[0].media_type = "application/vnd.oci.image.layer.v1.tar".to_owned();
    assert!(refusal(&host, &tar).await.contains("application/wasm"));
    let mut large = good.clone();
    large.layers[0].size = 1 << 30;
    assert!(refusal(&host, &large).await.contains("the most is"));
    let mut gone = good;
    gone.layers[0].path = "/nowhere/at/all".into();
    assert!(matches!(host.driver.preload(&gone).await, Err(DriverError::Host { .. })));
}

#[tokio::test]
async fn a_preloaded_component_starts_at_once_and_a_cached_one_without_compiling() {
    let mut host = Host::new();
    let sample = guest("hello_wasm");
    host.driver.preload(&sample).await.unwrap();
    // Without its bytes it cannot be compiled: what was preloaded is all there is.
    let mut blind = sample;
    blind.layers[0].path = "/nowhere/at/all".into();
    let service = host.start(blind.clone(), manifest()).await;
    assert_eq!(service.text("/").await, "Hello from wasm, version 1.2\n");
    let files = |host: &Host| std::fs::read_dir(host.folder.path().join("cache")).unwrap().count();
    assert_eq!(files(&host), 1);
    host.restart();
    host.driver.preload(&blind).await.unwrap();
    assert_eq!(host.start(blind, manifest()).await.text("/").await, "Hello from wasm, version 1.2\n");
}

#[tokio::test]
async fn a_damaged_cache_is_compiled_anew() {
    let mut host = Host::new();
    let sample = guest("hello_wasm");
    host.driver.preload(&sample).await.unwrap();
    let cache = host.folder.path().join("cache");
    let only = || std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    for damage in
        [|bytes: &mut Vec<u8>| bytes.truncate(1000), |bytes: &mut Vec<u8>| bytes[5000] ^= 1, Vec::clear]
    {
        let path = only();
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        // As another file: the one that is there may be mapped.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        host.restart();
        let service = host.start(sample.clone(), manifest()).await;
        assert_eq!(service.text("/").await, "Hello from wasm, version 1.2\n");
    }
}

#[tokio::test]
async fn a_component_that_cannot_be_instantiated_is_not_started() {
    let host = Host::new();
    let failing = component(&host, &service_with("(start $s) (func $s unreachable)"));
    host.driver.preload(&failing).await.unwrap();
    let error = host.driver.start(&host.spec(failing, manifest())).await.unwrap_err();
    let DriverError::Unrunnable(text) = error else { panic!("{error}") };
    assert!(text.contains("cannot be instantiated") && text.contains("unreachable"), "{text}");
    let endless = component(&host, &service_with("(start $s) (func $s (loop $l (br $l)))"));
    let error = host.driver.start(&host.spec(endless, manifest())).await.unwrap_err();
    assert!(error.to_string().contains("time limit"), "{error}");
}

/// A component of the right world whose module has these parts, and a handler that does nothing.
fn service_with(parts: &str) -> String {
    format!(
        r#"(component
        (import "wasi:http/types@0.2.0" (instance $types
            (export "incoming-request" (type (sub resource)))
            (export "response-outparam" (type (sub resource)))))
        (alias export $types "incoming-request" (type $request))
        (alias export $types "response-outparam" (type $answer))
        (core module $m (func (export "handle") (param i32 i32)) {parts})
        (core instance $i (instantiate $m))
        (type $own-request (own $request))
        (type $own-answer (own $answer))
        (func $handle (param "request" $own-request) (param "response-out" $own-answer)
            (canon lift (core func $i "handle")))
        (instance $handler (export "handle" (func $handle)))
        (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    )
}
