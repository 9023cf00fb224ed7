//! From a push to weights, and back.

use super::*;

#[tokio::test]
async fn push_deploy_look_and_lock() {
    let api = Api::start().await;
    let pushed = api.push("example.com:web@1.0").await.expect(201);
    assert_eq!(pushed.body["name"], "example.com:web@1.0");
    api.get("/v1/services/example.com:web").await.expect(200);
    // The first gets everything, whatever is asked.
    let first = api.deploy("example.com:web@1.0", "10%").await.expect(201);
    assert_eq!(first.body["status"]["phase"], "placing");
    assert!(first.body["status"]["message"].as_str().unwrap().contains("gets 100%"), "{}", first.body);
    assert_eq!(first.body["status"]["history"][1]["text"], "took the lock on example.com:web");
    let id = first.body["name"].as_str().unwrap().to_owned();
    let service = api.get("/v1/services/example.com:web").await;
    assert_eq!(service.body["status"]["deployment"], id.as_str(), "it is the lock");
    assert_eq!(service.body["revision"], first.body["revision"], "in one transaction");
    let locked = api.deploy("example.com:web@1.0", "100%").await.expect(409);
    assert_eq!(locked.body["code"], "conflict");
    assert_eq!(
        locked.detail(),
        format!("service \"example.com:web\" has the running deployment {id} (placing)")
    );
    assert!(locked.hint().contains(&format!("tutti deployment abort {id}")));
    api.finish("example.com:web").await;
    api.deploy("example.com:web@1.0", "100%").await.expect(201);
}

#[tokio::test]
async fn what_is_not_there_is_named_with_the_nearest() {
    let api = Api::start().await;
    api.push("example.com:web@1.0").await.expect(201);
    let got = api.deploy("example.com:web@1.1", "100%").await.expect(404);
    assert_eq!(
        (got.detail(), got.hint()),
        ("version \"example.com:web@1.1\" not found", "did you mean \"example.com:web@1.0\"?")
    );
    let got = api.deploy("example.com:wbe@1.0", "100%").await.expect(404);
    assert_eq!(
        (got.detail(), got.hint()),
        ("service \"example.com:wbe\" not found", "did you mean \"example.com:web\"?")
    );
    let got = api.deploy("exmaple.com:web@1.0", "100%").await.expect(404);
    assert_eq!(
        (got.detail(), got.hint()),
        ("domain \"exmaple.com\" not found", "did you mean \"example.com:web\"?")
    );
    let got = api.deploy("web@1.0", "100%").await.expect(400);
    assert!(got.hint().contains("example.com:web"), "{}", got.body);
}

#[tokio::test]
async fn a_qualified_name_finds_its_domain() {
    let api = Api::start().await;
    let pushed = api.push("com.example.HelloWorld@1.0").await.expect(201);
    assert_eq!(pushed.body["name"], "example.com:com.example.HelloWorld@1.0");
    api.get("/v1/services/com.example.HelloWorld").await.expect(200);
    api.deploy("com.example.HelloWorld@1.0", "100%").await.expect(201);
    let listed = api.get("/v1/versions?service=com.example.HelloWorld").await.expect(200);
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_version_never_changes() {
    let api = Api::start().await;
    let first = api.push("example.com:web@1.0").await.expect(201);
    let again = api.push("example.com:web@1.0").await.expect(200);
    assert_eq!(again.body["uid"], first.body["uid"]);
    let other = api.post("/v1/versions", pushing("example.com:web@1.0", PUSHED_TOO)).await.expect(409);
    assert_eq!(other.body["code"], "already_exists");
    assert!(other.detail().contains(PUSHED) && other.detail().contains(PUSHED_TOO), "{}", other.detail());
    assert!(other.hint().contains("push under a new one"));
    let mut body = pushing("example.com:web@1.0", PUSHED);
    body["manifest"]["min"] = json!(7);
    assert!(api.post("/v1/versions", body).await.expect(409).detail().contains("another manifest"));
    let mut body = pushing("example.com:web@2.0", PUSHED);
    body["artifact"] = json!(PUSHED.replace("e3b0", "0000"));
    let got = api.post("/v1/versions", body).await.expect(404);
    assert!(got.hint().contains("tutti push"), "{}", got.body);
    let mut body = pushing("example.com:web@2.0", PUSHED);
    body["manifest"]["cpu"] = json!("0");
    body["manifest"]["concurrency"] = json!(0);
    let got = api.post("/v1/versions", body).await.expect(400);
    assert_eq!(got.body["faults"].as_array().unwrap().len(), 2, "{}", got.body);
    assert_eq!(api.get("/v1/versions").await.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn steps_are_checked_before_anything_happens() {
    let api = Api::start().await;
    api.push("example.com:web@1.0").await.expect(201);
    for (body, wanted) in [
        (json!({ "steps": [] }), "needs a share"),
        (json!({ "steps": ["0%"] }), "deploys nothing"),
        (json!({ "steps": ["50%", "10%"], "every": "1s" }), "must rise"),
        (json!({ "steps": ["10%", "100%"] }), "how long each is observed"),
        (json!({ "steps": ["10%"], "abort_if": ["error_rate>1%"] }), "not judged"),
        (json!({ "steps": ["10%"], "abort_if": ["eror_rate>1%"] }), "unknown metric"),
        (json!({ "steps": ["10"] }), "not a percentage"),
    ] {
        let mut body = body;
        body["version"] = json!("example.com:web@1.0");
        let got = api.post("/v1/deployments", body.clone()).await.expect(400);
        assert!(got.detail().contains(wanted), "{body}: {}", got.body);
    }
    assert_eq!(api.get("/v1/deployments").await.body["items"], json!([]));
}

#[tokio::test]
async fn a_running_deployment_is_steered() {
    let api = Api::start().await;
    let (id, _) = api.populate().await;
    let act = async |verb: &str, body: Option<Value>| {
        api.call("admin", Method::POST, &format!("/v1/deployments/{id}/{verb}"), body).await
    };
    let paused = act("pause", None).await.expect(200);
    assert_eq!((&paused.body["spec"]["intent"], &paused.body["generation"]), (&json!("pause"), &json!(2)));
    assert_eq!(act("pause", None).await.expect(200).body["generation"], 2, "once more changes nothing");
    assert_eq!(act("resume", None).await.expect(200).body["spec"]["intent"], "proceed");
    assert_eq!(act("promote", None).await.expect(200).body["spec"]["promoted"], 1);
    assert_eq!(act("promote", Some(json!({ "full": true }))).await.expect(200).body["spec"]["promoted"], 1);
    assert_eq!(act("abort", None).await.expect(200).body["spec"]["intent"], "abort");
    assert!(act("pause", None).await.expect(409).detail().contains("is being aborted"));
    act("resume", None).await.expect(409);
    act("promote", None).await.expect(409);
    api.finish("example.com:web").await;
    let over = act("abort", None).await.expect(409);
    assert_eq!(over.detail(), format!("deployment \"{id}\" is done"));
    assert!(over.hint().contains("tutti rollback example.com:web"));
}

#[tokio::test]
async fn rollback_returns_or_aborts_or_says_why_not() {
    let api = Api::start().await;
    let rollback =
        async || api.call("admin", Method::POST, "/v1/services/example.com:web/rollback", None).await;
    api.push("example.com:web@1.0").await.expect(201);
    assert!(rollback().await.expect(409).detail().contains("never served"));
    api.deploy("example.com:web@1.0", "100%").await.expect(201);
    assert_eq!(rollback().await.expect(200).body["spec"]["intent"], "abort", "one was running");
    api.finish("example.com:web").await;
    assert!(rollback().await.expect(409).detail().contains("served nothing but 1.0 100%"));
    api.push("example.com:web@2.0").await.expect(201);
    api.deploy("example.com:web@2.0", "10%").await.expect(201);
    api.finish("example.com:web").await;
    let back = rollback().await.expect(200);
    assert_eq!(back.body["spec"]["target"], json!({ "split": { "1.0": "100%" } }));
    assert_eq!(back.body["status"]["from"], json!({ "1.0": "90%", "2.0": "10%" }));
    api.finish("example.com:web").await;
    assert_eq!(
        api.get("/v1/services/example.com:web").await.body["status"]["split"],
        json!({ "1.0": "100%" })
    );
}

/// However many deploy at once, one holds the lock.
#[tokio::test]
async fn one_of_many_gets_the_lock() {
    let api = Arc::new(Api::start().await);
    api.push("example.com:web@1.0").await.expect(201);
    let tries = (0..16).map(|_| {
        let api = api.clone();
        tokio::spawn(async move { api.deploy("example.com:web@1.0", "100%").await.status })
    });
    let results = futures_util::future::join_all(tries).await;
    let made = results.iter().filter(|status| *status.as_ref().unwrap() == StatusCode::CREATED).count();
    assert_eq!(made, 1);
    assert_eq!(api.get("/v1/deployments").await.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_singleton_never_shares_its_traffic() {
    let api = Api::start().await;
    let singleton = |version: &str, isolate: &str| {
        let mut body = pushing(version, PUSHED);
        body["manifest"] = json!({ "singleton": true, "max": 1 });
        body["isolate"] = isolate.into();
        body
    };
    let refused = api.post("/v1/versions", singleton("example.com:web@9.0", "wasm")).await.expect(400);
    assert!(refused.detail().contains("only a process can be one"), "{}", refused.detail());
    api.push("example.com:web@1.0").await.expect(201);
    api.post("/v1/versions", singleton("example.com:web@2.0", "process")).await.expect(201);
    api.deploy("example.com:web@1.0", "100%").await.expect(201);
    api.finish("example.com:web").await;
    let refused = api.deploy("example.com:web@2.0", "10%").await.expect(400);
    assert_eq!(
        refused.detail(),
        "example.com:web@2.0 is a singleton and cannot share the traffic (1.0 90%, 2.0 10%): both versions would run"
    );
    assert!(refused.hint().contains("give one version 100%"));
    let steps = json!({ "version": "example.com:web@2.0", "steps": ["10%", "100%"], "every": "30s" });
    api.post("/v1/deployments", steps).await.expect(400);
    api.deploy("example.com:web@2.0", "100%").await.expect(201);
    api.finish("example.com:web").await;
    // Nor does another share it with the singleton.
    api.deploy("example.com:web@1.0", "50%").await.expect(400);
    api.deploy("example.com:web@1.0", "100%").await.expect(201);
}

#[tokio::test]
async fn versions_that_are_too_large_together_are_refused_before_anything_changes() {
    let api = Api::start().await;
    let large = |version: &str, bytes: usize| {
        let mut body = pushing(version, PUSHED);
        let values: BTreeMap<String, String> =
            (0..bytes / 1000).map(|number| (format!("V{number}"), "x".repeat(990))).collect();
        body["manifest"] = json!({ "env": values });
        body
    };
    let refused = api.post("/v1/versions", large("example.com:web@9.0", 70_000)).await.expect(429);
    assert!(refused.detail().contains("bytes where it is stored, more than"), "{}", refused.detail());
    for version in ["1.0", "1.1", "1.2"] {
        api.post("/v1/versions", large(&format!("example.com:web@{version}"), 62_000)).await.expect(201);
    }
    api.deploy("example.com:web@1.0", "100%").await.expect(201);
    api.finish("example.com:web").await;
    api.deploy("example.com:web@1.1", "50%").await.expect(201);
    api.finish("example.com:web").await;
    let before = api.get("/v1/services/example.com:web").await.body;
    let refused = api.deploy("example.com:web@1.2", "10%").await.expect(429);
    assert!(refused.detail().contains("the manifests of the 3 versions"), "{}", refused.detail());
    assert!(refused.hint().contains("to 100% first"), "{}", refused.hint());
    assert_eq!(api.get("/v1/services/example.com:web").await.body, before);
    // What the hint says helps, and so does the way back.
    api.deploy("example.com:web@1.1", "100%").await.expect(201);
    api.finish("example.com:web").await;
    api.post("/v1/services/example.com:web/rollback", Value::Null).await.expect(200);
    api.finish("example.com:web").await;
}

#[tokio::test]
async fn a_service_whose_only_deployment_failed_is_called_so() {
    let api = Api::start().await;
    api.push("example.com:web@1.0").await.expect(201);
    api.deploy("example.com:web@1.0", "100%").await.expect(201);
    let mut service = api.objects.get::<ServiceSpec>("example.com:web").await.unwrap();
    let id = service.status.deployment.take().unwrap();
    let mut deployment = api.objects.get::<DeploymentSpec>(id.as_str()).await.unwrap();
    deployment.status.phase = tutti_model::deployment::Phase::Failed;
    deployment.status.failure = Some(tutti_model::deployment::Failure {
        reason: "instance i-0000000000 of 1.0 failed: exited with code 7".to_owned(),
        instance: None,
        last_lines: Vec::new(),
    });
    api.objects.write().update(&service).update(&deployment).commit().await.unwrap().unwrap();
    let why = format!("deployment {id} failed: instance i-0000000000 of 1.0 failed: exited with code 7");
    let status = api.get("/v1/status").await.expect(200).body;
    assert_eq!(status["services"][0]["state"], "failed");
    assert_eq!(status["services"][0]["reason"], why);
    let said = format!("service example.com:web: {why}; see tutti explain example.com:web");
    assert!(status["problems"].as_array().unwrap().contains(&said.into()), "{status}");
    let summary = api.get("/v1/services/example.com:web/summary").await.expect(200).body;
    assert_eq!((&summary["state"], &summary["reason"]), (&json!("failed"), &json!(why)));
    let explained = api.get("/v1/explain/service/example.com:web").await.expect(200).body;
    assert_eq!(explained["well"], false);
    assert_eq!(explained["summary"], "nothing serves it, because its deployment failed");
}
