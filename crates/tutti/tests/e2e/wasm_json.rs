//! A gRPC service that is a component, called by clients that know nothing of it: curl with JSON, and a stock gRPC client
//! with reflection alone.

use crate::{
    harness::{Cloud, guest, root},
    traffic::{clean, curl, program, python, run},
};
use serde_json::{Value, json};
use std::process::Command;

const SERVICE: &str = "com.example.HelloWorld";
const OWN_HOST: &str = "helloworld.example.com.localhost";
const DOMAIN_HOST: &str = "example.com.localhost";

fn deployed() -> Cloud {
    let cloud = Cloud::start();
    let (proto, component) =
        (guest("hello-wasm-grpc-rust/hello.proto"), guest("hello-wasm-grpc-rust/1.0/component.wasm"));
    let version = format!("{SERVICE}@1.0");
    cloud.ok(&["push", proto.to_str().expect("a path"), component.to_str().expect("a path"), &version]);
    cloud.ok(&["deploy", &version, "100%"]);
    cloud
}

struct Said {
    status: u16,
    version: String,
    body: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// What curl is answered.
fn ask(cloud: &Cloud, host: &str, path: &str, arguments: &[&str]) -> Said {
    let (url, host) = (format!("http://{}{path}", cloud.http), format!("Host: {host}"));
    let mut all = vec!["-H", &host, "-w", "\n%{http_code} %header{tutti-version}", &url];
    all.extend(arguments);
    let said = curl(&all);
    assert_eq!(said.code, 0, "{}", said.err);
    let (body, last) = said.out.rsplit_once('\n').expect("what curl says last");
    let (status, version) = last.split_once(' ').unwrap_or((last, ""));
    Said { status: status.parse().expect("a status"), version: version.to_owned(), body: body.to_owned() }
}

fn post(cloud: &Cloud, host: &str, text: &str) -> Said {
    let path = format!("/{SERVICE}/SayHello");
    ask(cloud, host, &path, &["-H", "content-type: application/json", "-d", text])
}

/// A client that finds out about services by reflection only.
fn reflect(cloud: &Cloud, host: &str, arguments: &[&str]) -> Value {
    let mut command: Command = clean(python());
    command.arg(program("grpc_api.py")).arg(cloud.http.to_string()).args(arguments);
    let out = run(command.env("GRPC_AUTHORITY", host));
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[test]
fn curl_calls_it_with_json() {
    let cloud = deployed();
    for host in [OWN_HOST, DOMAIN_HOST, "127.0.0.1"] {
        let said = post(&cloud, host, r#"{"name": "Ada"}"#);
        assert_eq!((said.status, said.json()), (200, json!({ "talkToMe": true })), "{host}");
        assert_eq!(said.version, "1.0");
    }
    let said = post(&cloud, OWN_HOST, r#"{"nam": "Ada"}"#);
    assert_eq!((said.status, &said.json()["code"]), (400, &json!(3)));
    assert!(said.body.contains("did you mean \\\"name\\\"?"), "{}", said.body);
    let said = ask(&cloud, OWN_HOST, &format!("/{SERVICE}/SayHello"), &["-d", "name=Ada"]);
    assert_eq!(said.status, 415, "{}", said.body);
    let said = ask(&cloud, OWN_HOST, "/nothing", &[]);
    assert_eq!((said.status, &said.json()["code"]), (404, &json!(5)));

    let document = ask(&cloud, OWN_HOST, "/.well-known/openapi.json", &[]);
    let below = ask(&cloud, DOMAIN_HOST, &format!("/{SERVICE}/openapi.json"), &[]);
    assert_eq!((document.status, document.json()), (200, below.json()));
    assert_eq!(document.json()["openapi"], "3.1.0");
    assert!(document.json()["paths"][format!("/{SERVICE}/SayHello")]["post"].is_object());
}

#[test]
fn a_stock_client_calls_it_by_reflection() {
    let cloud = deployed();
    let call = ["call", "", "com.example.HelloWorld/SayHello", r#"{"name": "Ada"}"#];
    for host in [OWN_HOST, DOMAIN_HOST, "127.0.0.1"] {
        for services in ["services", "services-v1"] {
            assert_eq!(reflect(&cloud, host, &[services]), json!([SERVICE]), "{host}");
        }
        let said = reflect(&cloud, host, &call);
        assert_eq!(
            (&said["code"], &said["answers"]),
            (&json!("OK"), &json!([{ "talk_to_me": true }])),
            "{host}"
        );
    }
}

#[test]
fn the_json_mapping_is_that_of_pythons_protobuf() {
    let folder = root().join("crates/proto/tests/json");
    let set = std::env::temp_dir().join(format!("tutti-vectors-{}.binpb", std::process::id()));
    let mut compile = clean(python());
    compile.args(["-m", "grpc_tools.protoc", "--include_imports", "-I"]).arg(&folder);
    run(compile.arg(format!("--descriptor_set_out={}", set.display())).arg(folder.join("vectors.proto")));
    let said = run(clean(python()).arg(folder.join("compare.py")).arg(&set));
    std::fs::remove_file(&set).expect("the set is removed");
    assert!(said.contains("0 differ"), "{said}");
}
