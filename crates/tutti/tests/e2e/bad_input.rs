//! Wrong names, shares, manifests, paths and tokens: one clear line that says what and where, a hint with the nearest
//! right thing, the exit code of its kind; and nothing has changed.

use crate::harness::{Cloud, Said, request, wait_until};
use serde_json::{Value, json};

/// Exit codes by kind.
const USAGE: i32 = 2;
const INVALID: i32 = 3;
const UNAUTHENTICATED: i32 = 4;
const FORBIDDEN: i32 = 5;
const NOT_FOUND: i32 = 6;
const ALREADY_EXISTS: i32 = 7;
const CONFLICT: i32 = 8;

/// A cloud in which 1.0 serves, 1.1 waits, and a token is expired.
fn cloud() -> Cloud {
    let cloud = Cloud::start();
    cloud.push_wasm("example.com:web@1.0", &[("VERSION", "1.0")]);
    cloud.push_wasm("example.com:web@1.1", &[("VERSION", "1.1")]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    cloud
}

/// What is stored, once nothing moves any more; the revision tells of any write at all.
fn at_rest(cloud: &Cloud) -> Value {
    let (mut last, mut same) = (Value::Null, 0);
    wait_until("everything is at rest", || {
        let status = cloud.json(&["status"]);
        same = if status == last { same + 1 } else { 0 };
        last = status;
        if same >= 5 { Ok(()) } else { Err(last.to_string()) }
    });
    last
}

/// Refused with this exit code, one line that has all of `words`, and at most a hint beside it.
fn refused(cloud: &Cloud, arguments: &[&str], code: i32, words: &[&str]) -> Said {
    let said = cloud.tutti(arguments);
    let what = format!("tutti {}\n{}{}", arguments.join(" "), said.out, said.err);
    assert_eq!(said.code, code, "{what}");
    assert_eq!(said.out, "", "{what}");
    for word in words {
        assert!(said.err.contains(word), "no {word:?}: {what}");
    }
    let mut lines = said.err.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("error: ")), "{what}");
    assert!(lines.all(|line| line.starts_with("  hint: ") || line.starts_with("error: ")), "{what}");
    said
}

#[test]
fn wrong_arguments_are_one_clear_line_and_change_nothing() {
    let cloud = cloud();
    let before = at_rest(&cloud);
    let web = "example.com:web";
    let cases: &[(&[&str], i32, &[&str])] = &[
        (
            &["deploy", "example.com:web@1.0", "0%"],
            INVALID,
            &["a share of 0% deploys nothing", "deploy another"],
        ),
        (
            &["deploy", "example.com:web@1.0", "-5%"],
            USAGE,
            &["tutti deploy: \"-5%\" is negative", "did you mean 5%?"],
        ),
        (
            &["deploy", "example.com:web@1.0"],
            USAGE,
            &["tutti deploy: SHARE is missing", "such as 100%, 10% or 0.1%", "write tutti deploy"],
        ),
        (&["deplyo", "example.com:web@1.0"], USAGE, &["no command \"deplyo\"", "did you mean tutti deploy?"]),
        (
            &["route", "crate", "a.b", web],
            USAGE,
            &["no command \"crate\"", "did you mean tutti route create?"],
        ),
        (&["push", "."], USAGE, &["tutti push: NAME@VERSION is missing"]),
        (&["dev", "--htp", ":0"], USAGE, &["tutti dev has no option --htp", "did you mean --http?"]),
        (&["status", web], USAGE, &["tutti status takes no \"example.com:web\""]),
        (&["scale", web, "-1"], USAGE, &["\"-1\" is negative", "did you mean 1?"]),
        (&["deploy", "example.com:web@1.0", "101%"], USAGE, &["\"101%\" is more than 100%"]),
        (
            &["deploy", "example.com:web@1.0", "10"],
            USAGE,
            &["\"10\" is not a percentage", "did you mean 10%?"],
        ),
        (
            &["deploy", "example.com:web@1.2", "10%"],
            NOT_FOUND,
            &["\"example.com:web@1.2\" not found", "did you mean \"example.com:web@1."],
        ),
        (
            &["deploy", "example.com:wep@1.0", "10%"],
            NOT_FOUND,
            &["\"example.com:wep\" not found", "did you mean \"example.com:web\"?"],
        ),
        (
            &["deploy", "example.co:web@1.0", "10%"],
            NOT_FOUND,
            &["\"example.co\" not found", "did you mean \"example.com"],
        ),
        (&["deploy", "example.com:web@one", "10%"], USAGE, &["version \"one\"", "such as 1.0"]),
        (&["deploy", "Example.com:web@1.0", "10%"], USAGE, &["upper-case", "write \"example.com\""]),
        (&["deploy", web, "10%"], USAGE, &["has no version", "@1.0"]),
        (
            &["deploy", "example.com:web@1.1", "--steps", "50%,10%", "--every", "1s"],
            INVALID,
            &["10% comes after 50%"],
        ),
        (
            &["deploy", "example.com:web@1.1", "--steps", "50%,100%", "--every", "soon"],
            USAGE,
            &["\"soon\" is not a duration", "30s"],
        ),
        (
            &[
                "deploy",
                "example.com:web@1.1",
                "--steps",
                "50%,100%",
                "--every",
                "1s",
                "--abort-if",
                "eror_rate>1%",
            ],
            USAGE,
            &["unknown metric \"eror_rate\"", "did you mean \"error_rate\"?"],
        ),
        (&["rollback", web], CONFLICT, &["there is nothing to return to", "tutti deploy"]),
        (&["deployment", "abort", web], NOT_FOUND, &["web"]),
        (&["deployment", "show", "d-nonsense"], INVALID, &["d-nonsense"]),
        (&["instance", "show", "i-xx"], USAGE, &["\"i-xx\" is not an id"]),
        (&["scale", web, "0"], USAGE, &["\"0\" is neither a number of workers"]),
        (&["domain", "create", "nodot"], USAGE, &["\"nodot\" has one label", "example.com"]),
        (&["domain", "create", "Bad_Domain.com"], USAGE, &["upper-case", "write \"bad-domain.com\""]),
        (&["domain", "create", "example.com"], ALREADY_EXISTS, &["\"example.com\" already exists"]),
        (&["domain", "delete", "example.com"], CONFLICT, &["example.com"]),
        (&["route", "create", "bad host", web], USAGE, &["\"bad host\"", "DNS name"]),
        (
            &["route", "create", "shop.example.com", "example.com:webb"],
            NOT_FOUND,
            &["did you mean \"example.com:web\"?"],
        ),
        (&["route", "delete", "shop.example.com"], NOT_FOUND, &["shop.example.com"]),
        (&["version", "delete", "example.com:web@1.0"], CONFLICT, &["1.0"]),
        (&["service", "show", "example.com:webb"], NOT_FOUND, &["did you mean \"example.com:web\"?"]),
        (&["logs", "example.com:webb"], NOT_FOUND, &["did you mean \"example.com:web\"?"]),
        (&["explain", "service/example.com:webb"], NOT_FOUND, &["did you mean \"example.com:web\"?"]),
        (&["node", "cordon", "nowhere"], NOT_FOUND, &["node \"nowhere\" not found"]),
        (
            &["token", "create", "ci", "--role", "boss"],
            USAGE,
            &["\"boss\" is not one of admin, owner, deployer, viewer"],
        ),
        (&["token", "create", "ci", "--role", "owner"], INVALID, &["domain"]),
        (&["push", "/nonexistent", "example.com:web@2.0"], INVALID, &["\"/nonexistent\""]),
        (&["status", "--token", "wrong"], UNAUTHENTICATED, &["token is unknown", "TUTTI_TOKEN"]),
        (&["status", "--context", "nowhere"], NOT_FOUND, &["nowhere"]),
    ];
    for (arguments, code, words) in cases {
        refused(&cloud, arguments, *code, words);
        assert_eq!(cloud.json(&["status"]), before, "tutti {} has changed something", arguments.join(" "));
    }
}

#[test]
fn wrong_manifests_are_refused_whole_before_anything_is_sent() {
    let cloud = cloud();
    let before = at_rest(&cloud);
    let folder = cloud.scratch().join("wrong");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("main.py"), "print()").unwrap();
    let path = folder.to_str().unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("[service]\nrunn = \"x\"", &["[service] has no key \"runn\"", "did you mean \"run\"?"]),
        ("[servce]\nrun = \"x\"", &["[servce]", "did you mean [service]?"]),
        ("[service]\nrun = \"x\"\nmemory = \"12Q\"", &["[service] memory: \"12Q\" is not a size", "64Mi"]),
        ("[service]\nrun = \"x\"\nport = 0", &["[service] port: 0 is not a port"]),
        ("[service]\nrun = \"x\"\nmin = 3\nmax = 2", &["[service] max: 2 is below min, which is 3"]),
        ("[service]\nrun = \"x\"\nisolate = \"proces\"", &["isolate", "process"]),
        ("[service]\nrun = \"x\"\nhealth = { htp = \"/\" }", &["no key \"htp\"", "did you mean \"http\"?"]),
        ("[service]\nrun = \"x\"\nhealth = { http = \"healthz\" }", &["health.http", "starts with /"]),
        ("[service]\nrun = \"x\"\nenv = { PORT = \"1\" }", &["env: PORT is set by Tutti"]),
        ("[service]\nrun = \"x\"\ndrain = \"soon\"", &["[service] drain: \"soon\" is not a duration"]),
        ("[service\nrun = 1", &["line 1 is not TOML"]),
    ];
    for (text, words) in cases {
        std::fs::write(folder.join("tutti.toml"), text).unwrap();
        let said = refused(&cloud, &["push", path, "example.com:web@2.0"], INVALID, words);
        assert!(said.err.contains("tutti.toml"), "{}", said.err);
        assert_eq!(cloud.json(&["status"]), before, "{text}");
    }
    // Every fault at once.
    std::fs::write(folder.join("tutti.toml"), "[service]\nrunn = \"x\"\nmemory = \"12Q\"\ncpu = \"x\"")
        .unwrap();
    let said = refused(&cloud, &["push", path, "example.com:web@2.0"], INVALID, &["runn", "memory", "cpu"]);
    assert_eq!(said.err.lines().filter(|line| line.starts_with("error: ")).count(), 3, "{}", said.err);
}

#[test]
fn a_version_never_changes() {
    let cloud = cloud();
    let before = at_rest(&cloud);
    let file = cloud.scratch().join("example.com-web-1.0/hello.wasm");
    let path = file.to_str().unwrap();
    cloud.ok(&["push", path, "example.com:web@1.0"]);
    assert_eq!(cloud.json(&["status"]), before, "the same again is no change");
    // A custom section is the least that makes a component another one.
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend([0, 3, 1, b'x', b'y']);
    std::fs::write(&file, &bytes).unwrap();
    let words = ["\"example.com:web@1.0\" already exists with other bytes", "push under a new one"];
    refused(&cloud, &["push", path, "example.com:web@1.0"], ALREADY_EXISTS, &words);
    std::fs::write(file.with_file_name("tutti.toml"), "[service]\nconcurrency = 7\n").unwrap();
    bytes.truncate(bytes.len() - 5);
    std::fs::write(&file, &bytes).unwrap();
    refused(&cloud, &["push", path, "example.com:web@1.0"], ALREADY_EXISTS, &["example.com:web@1.0"]);
    assert_eq!(cloud.json(&["status"]), before);
    assert_eq!(cloud.get("web.example.com.localhost", "/").header("tutti-version"), Some("1.0"));
}

#[test]
fn a_second_deployment_names_the_first() {
    let cloud = cloud();
    cloud.ok(&["deploy", "example.com:web@1.1", "--steps", "10%,100%", "--every", "1h", "--no-wait"]);
    let mut running = String::new();
    wait_until("it is observed", || {
        let deployments = cloud.items("deployments");
        let found = deployments.iter().find(|found| found["status"]["phase"] == "observing");
        running = found.ok_or_else(|| format!("{deployments:?}"))?["name"].as_str().unwrap().to_owned();
        Ok(())
    });
    let before = at_rest(&cloud);
    let words = ["has the running deployment", &running, "tutti deployment abort"];
    refused(&cloud, &["deploy", "example.com:web@1.0", "100%"], CONFLICT, &words);
    assert_eq!(cloud.json(&["status"]), before);
}

#[test]
fn tokens_do_what_they_say_and_no_more() {
    let cloud = cloud();
    let secret = |arguments: &[&str]| {
        let made = cloud.json(&[&["token", "create"], arguments].concat());
        made["secret"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    };
    let expired = secret(&["late", "--role", "admin", "--expires-in", "1ms"]);
    let viewer = secret(&["viewer", "--role", "viewer", "--domain", "example.com"]);
    let revoked = secret(&["gone", "--role", "admin"]);
    cloud.ok(&["token", "delete", "gone"]);
    let before = at_rest(&cloud);
    refused(&cloud, &["status", "--token", &expired], UNAUTHENTICATED, &["expired"]);
    refused(&cloud, &["status", "--token", &revoked], UNAUTHENTICATED, &["deleted"]);
    cloud.ok(&["status", "--token", &viewer]);
    refused(&cloud, &["deploy", "example.com:web@1.1", "100%", "--token", &viewer], FORBIDDEN, &["deployer"]);
    refused(&cloud, &["domain", "create", "other.org", "--token", &viewer], FORBIDDEN, &["admin"]);
    assert_eq!(cloud.json(&["status"]), before);
}

#[test]
fn the_api_and_the_ingress_refuse_what_they_cannot_read() {
    let cloud = cloud();
    let before = at_rest(&cloud);
    let answer = cloud.get("nobody.example.com.localhost", "/");
    assert_eq!((answer.status, answer.header("content-type")), (404, Some("application/problem+json")));
    assert!(
        answer.body.contains("nobody.example.com.localhost") && answer.body.contains("tutti route create"),
        "{}",
        answer.body
    );

    // No route can be made for an address, so none is suggested.
    let answer = cloud.get(&cloud.http.to_string(), "/");
    assert_eq!(answer.status, 404);
    assert!(
        answer.body.contains("curl -H 'Host: HOST'") && !answer.body.contains("route create"),
        "{answer:?}"
    );

    let cases = [
        ("GET", "/v1/nothing", None, 404, "not_found"),
        ("GET", "/v1/services/example.com%3A..%2F..%2Fetc", None, 400, "invalid"),
        ("GET", "/v1/services?limit=many", None, 400, "invalid"),
        ("GET", "/v1/services?watch=soon", None, 400, "invalid"),
        ("POST", "/v1/domains", Some(json!({ "nam": "example.org" })), 400, "invalid"),
        ("POST", "/v1/domains", Some(json!({ "name": "-.org" })), 400, "invalid"),
        ("POST", "/v1/domains", Some(json!("example.org")), 400, "invalid"),
        (
            "POST",
            "/v1/deployments",
            Some(json!({ "version": "example.com:web@1.1", "steps": [] })),
            400,
            "invalid",
        ),
        (
            "POST",
            "/v1/deployments",
            Some(json!({ "version": "example.com:web@1.1", "steps": ["150%"] })),
            400,
            "invalid",
        ),
    ];
    for (method, path, body, status, code) in cases {
        let (found, problem) = cloud.try_call(method, path, body.as_ref()).unwrap();
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{method} {path}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
    }
    let nobody = request(cloud.api, "GET /v1/status HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n");
    assert_eq!(nobody.status, 401, "{nobody:?}");
    assert_eq!(cloud.json(&["status"]), before);
}
