//! gRPC services as components, as a developer meets them: from the proto by `tutti new`, `push` and `deploy` to the
//! answers that stock clients get. What a call may do in the sandbox is tested where the sandbox is.

use crate::{
    harness::{Cloud, guest, root, said},
    traffic::{clean, grpc, program, python, run},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The samples' service.
const SERVICE: &str = "com.example.HelloWorld";

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// A file of one of the samples, as the scripts have built it.
fn sample(language: &str, file: &str) -> PathBuf {
    guest(&format!("hello-wasm-grpc-{language}/{file}"))
}

fn push(cloud: &Cloud, language: &str, number: &str) {
    let component = sample(language, &format!("{number}/component.wasm"));
    let version = format!("{SERVICE}@{number}");
    cloud.ok(&["push", text(&sample(language, "hello.proto")), text(&component), &version]);
}

/// Node's stock client.
fn node(cloud: &Cloud, name: &str) -> Value {
    let clients =
        std::env::var_os("TUTTI_TEST_NODE").map_or_else(|| root().join("target/node"), PathBuf::from);
    let modules = clients.join("node_modules");
    assert!(modules.exists(), "{} is missing: make test installs it", modules.display());
    let proto = root().join("samples/hello-wasm-grpc-rust/proto/hello.proto");
    let mut command = clean("node");
    command.env("NODE_PATH", modules).arg(program("grpc_client.js"));
    let out = run(command.args([cloud.http.to_string().as_str(), text(&proto), name]));
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[test]
fn a_component_in_rust_answers_stock_clients_and_splits_by_version() {
    let cloud = Cloud::start();
    push(&cloud, "rust", "1.0");
    cloud.ok(&["deploy", &format!("{SERVICE}@1.0"), "100%"]);
    let report = grpc(&["split", &cloud.http.to_string(), "40"]);
    assert_eq!(report["counts"]["1.0 1.0"], 40, "{report}");
    let said = node(&cloud, "Ada");
    assert_eq!(
        (&said["code"], &said["talk_to_me"], &said["version"]),
        (&0.into(), &true.into(), &"1.0".into())
    );
    assert_eq!(node(&cloud, "")["talk_to_me"], false);
    let refused = node(&cloud, &"x".repeat(2000));
    assert_eq!(refused["code"], 3, "{refused}");

    push(&cloud, "rust", "1.1");
    cloud.ok(&["deploy", &format!("{SERVICE}@1.1"), "50%"]);
    let report = grpc(&["split", &cloud.http.to_string(), "400"]);
    let count = |key: &str| report["counts"][key].as_u64().unwrap_or_default();
    assert_eq!(count("1.0 1.0") + count("1.1 1.1"), 400, "{report}");
    assert!(count("1.0 1.0") >= 150 && count("1.1 1.1") >= 150, "{report}");
    cloud.ok(&["deploy", &format!("{SERVICE}@1.1"), "100%"]);
    assert_eq!(node(&cloud, "")["talk_to_me"], true);
}

#[test]
fn a_component_in_python_answers_stock_clients() {
    let cloud = Cloud::start();
    push(&cloud, "python", "1.0");
    cloud.ok(&["deploy", &format!("{SERVICE}@1.0"), "100%"]);
    let said = node(&cloud, "Ada");
    assert_eq!(
        (&said["code"], &said["talk_to_me"], &said["version"]),
        (&0.into(), &true.into(), &"1.0".into())
    );
    let report = grpc(&["split", &cloud.http.to_string(), "8"]);
    assert_eq!(report["counts"]["1.0 1.0"], 8, "{report}");
}

#[test]
fn a_push_is_refused_for_all_that_does_not_fit() {
    let cloud = Cloud::start();
    let component = sample("rust", "1.0/component.wasm");
    let proto = cloud.scratch().join("hello.proto");
    let source = fs::read_to_string(sample("rust", "hello.proto")).expect("the proto");
    let refused = |source: &str, version: &str| {
        fs::write(&proto, source).expect("a proto");
        let said = cloud.tutti(&["push", text(&proto), text(&component), version]);
        assert_eq!(said.code, 3, "{}\n{}", said.out, said.err);
        said.err
    };
    // Every difference, and where.
    let changed = source
        .replace("string name = 1;", "int32 name = 1;")
        .replace("(HelloResponse);", "(HelloResponse);\n  rpc Other(HelloRequest) returns (HelloResponse);");
    let said = refused(&changed, "com.example.HelloWorld@1.0");
    assert!(
        said.contains("say-hello: parameter 2") && said.contains("other: the component does not export"),
        "{said}"
    );
    // A fault in the proto, with its line.
    let said = refused(&source.replace("HelloRequest)", "Helo)"), "com.example.HelloWorld@1.0");
    assert!(said.contains("hello.proto:7:"), "{said}");
    // The service is the proto's.
    let said = refused(&source, "com.example.HeloWorld@1.0");
    assert!(said.contains("did you mean com.example.HelloWorld?"), "{said}");
    // A component alone says nothing of its messages.
    let alone = cloud.tutti(&["push", text(&component), "com.example.HelloWorld@1.0"]);
    assert_eq!(alone.code, 3);
    assert!(alone.err.contains("tutti push API.proto"), "{}", alone.err);
    let (status, body) = cloud.try_call("GET", "/v1/versions", None).expect("an answer");
    assert_eq!(
        (status, body["items"].as_array().map(Vec::len)),
        (200, Some(0)),
        "nothing was stored: {body}"
    );

    // Immutable, whatever differs.
    push(&cloud, "rust", "1.0");
    push(&cloud, "rust", "1.0");
    let other = sample("rust", "1.1/component.wasm");
    let hello = sample("rust", "hello.proto");
    let said = cloud.tutti(&["push", text(&hello), text(&other), "com.example.HelloWorld@1.0"]);
    assert!(said.code != 0 && said.err.contains("with other bytes"), "{}", said.err);
    let commented = source.replace("message HelloRequest {", "message HelloRequest {\n  string more = 2;");
    let said = refused(&commented, "com.example.HelloWorld@1.0");
    assert!(said.contains("more"), "{said}");
}

/// A command with this machine's tools, and this cloud's configuration.
fn tools(cloud: &Cloud, program: &str) -> Command {
    let binary = crate::harness::binary();
    let folder = binary.parent().expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command
        .env("PATH", format!("{}:{path}", folder.display()))
        .env("XDG_CONFIG_HOME", cloud.scratch().parent().expect("its folder").join("config"))
        .env_remove("TUTTI_TOKEN")
        .env_remove("TUTTI_API")
        .env_remove("RUSTFLAGS")
        // Shared with the samples, of which it has all that a guest is built from.
        .env("CARGO_TARGET_DIR", root().join("target/guests/build"))
        .env("CARGO_NET_OFFLINE", "true")
        .stdin(std::process::Stdio::null());
    command
}

#[test]
fn new_projects_pass_their_tests_and_build_for_every_shape_of_call() {
    let cloud = Cloud::start();
    let folder = cloud.scratch();
    let proto = root().join("crates/cli/src/project/fixtures/shapes.proto");
    let venv = python().parent().and_then(Path::parent).expect("the venv").to_owned();
    for language in ["rust", "python"] {
        let name = format!("shapes-{language}");
        let project = folder.join(&name);
        cloud.ok(&["new", "--lang", language, "--service", "Shapes", text(&proto), text(&project)]);
        if language == "python" {
            // What the project's own Makefile would install is here.
            std::os::unix::fs::symlink(&venv, project.join(".venv")).expect("a link");
            fs::write(venv.join("ready"), "").expect("a mark");
        }
        for target in ["test", "build"] {
            let mut make = tools(&cloud, "make");
            let output = make.arg("-C").arg(&project).arg(target).output().expect("make runs");
            let said = said(output);
            assert_eq!(said.code, 0, "make {target} of {name}\n{}\n{}", said.out, said.err);
        }
        let component = project.join("component.wasm");
        let version = format!("com.example.shapes.v1.Shapes@1.{}", language.len());
        cloud.ok(&["push", text(&proto), text(&component), &version]);
    }
}

#[test]
fn the_guide_works_as_it_stands() {
    let cloud = Cloud::start();
    let folder = cloud.scratch();
    let mut guide = tools(&cloud, text(&python()).to_owned().as_str());
    guide
        .current_dir(&folder)
        .arg(program("guide.py"))
        .arg(root().join("docs/guides/wasm-grpc.md"))
        .arg(format!("localhost:8080={}", cloud.http));
    let said = said(guide.output().expect("python runs"));
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
}
