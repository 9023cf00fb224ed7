use super::*;

#[test]
fn reads_every_key() {
    let manifest = Manifest::from_toml(
        r#"
        [service]
        isolate = "process"
        run = "python3 main.py --fast"
        port = 9000
        env = { GREETING = "hi", COUNT = 3 }
        secrets = { API_KEY = "api-key", DB_PASSWORD = "db" }
        memory = "64Mi"
        cpu = 0.5
        bandwidth = "10Mbit"
        concurrency = 7
        health = { http = "/up", start = "9s", interval = "1s", timeout = "500ms", failures = 2 }
        min = 2
        max = 4
        standby = "1m"
        drain = "5s"
        grace = "10s"
        timeout = "3s"
        state = true
        outgoing = ["api.example.org", "*.example.net:8080", "10.0.0.7", "[fd00::1]:9000"]
        grpc = { max_message = "4Mi" }
        "#,
    )
    .unwrap();
    insta::assert_json_snapshot!(manifest);
}

#[test]
fn an_empty_manifest_is_the_default() {
    assert_eq!(Manifest::from_toml("").unwrap(), Manifest::default());
    assert!(Manifest::default().faults().is_empty());
}

#[test]
fn a_singleton_has_one_worker_and_is_a_process() {
    let read = |lines: &str| Manifest::from_toml(&format!("[service]\nsingleton = true\n{lines}"));
    let manifest = read("").unwrap();
    assert_eq!((manifest.singleton, manifest.min, manifest.max), (true, 1, 1));
    let faults = read("max = 2\nisolate = \"wasm\"").unwrap_err();
    let faults: Vec<&str> = faults.iter().map(|fault| fault.detail.as_str()).collect();
    assert_eq!(faults[0], "[service] max: a singleton has 1 worker, and max is 2");
    assert!(faults[1].starts_with("[service] singleton: only a process can be one"), "{faults:?}");
    assert!(Manifest::from_toml("[service]\nsingelton = true").unwrap_err()[0].hint.is_some());
}

#[test]
fn every_fault_is_reported_at_once() {
    let faults = Manifest::from_toml(
        r#"
        [service]
        memroy = "64Mi"
        cpu = "fast"
        port = 70000
        min = 3
        max = 2
        concurrency = 0
        standby = "5 minutes"
        env = { PORT = "1", "A-B" = "x", TWICE = "x" }
        secrets = { PORT = "a", "C-D" = "b", TWICE = "c", KEY = "Not A Name", NUMBER = 7 }
        health = { http = "/", tcp = true, retries = 1 }
        state = "yes"
        outgoing = ["http://example.com/", "*", 7, "example.com:0"]
        grpc = { max_message = "1Gi", max = 1 }
        "#,
    )
    .unwrap_err();
    let lines: Vec<String> = faults
        .iter()
        .map(|fault| match &fault.hint {
            Some(hint) => format!("{fault} ({hint})"),
            None => fault.to_string(),
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_syntax_error_names_its_line() {
    let faults = Manifest::from_toml("[service]\nmemory = \n").unwrap_err();
    assert!(faults[0].detail.starts_with("line 2 is not TOML"), "{}", faults[0]);
}

#[test]
fn what_is_stored_may_have_keys_that_nobody_knows_and_what_is_asked_for_may_not() {
    let mut json = serde_json::to_value(Manifest::default()).unwrap();
    assert_eq!(Manifest::unknown_key(&json), None);
    json["health"]["not_known_yet"] = 1.into();
    assert_eq!(Manifest::unknown_key(&json).as_deref(), Some("health.not_known_yet"));
    json["not_known_yet"] = 1.into();
    assert_eq!(Manifest::unknown_key(&json).as_deref(), Some("not_known_yet"));
    assert_eq!(serde_json::from_value::<Manifest>(json).unwrap(), Manifest::default());
}
